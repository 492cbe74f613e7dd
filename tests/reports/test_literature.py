"""Published numbers are read with every mistake named, shown with the range over their sources, and ranked only with
values of their own protocol.
"""

import json
import re

import pandas
import pytest

from reports.literature import (
    COSTS,
    ESTIMATOR_REASON,
    LITERATURE,
    NUMBER,
    WINDOW_REASON,
    beside,
    claim,
    conflict_table,
    cost_table,
    numbers,
    published_tables,
    ranking_table,
    read_literature,
)
from reports.records import Records, load_records

HEAD = "method,dataset,resolution,metric,value,protocol,status,source,note\n"
GOOD = "PATN,market1501,128x64,ssim,0.311,pose-transfer,quoted,a page,\n"
# One number of six sources, one that two papers round differently, one of a single source, and a cost.
SMALL = HEAD + (
    "PATN,market1501,128x64,ssim,0.310,pose-transfer,quoted,page A,\n"
    "PATN,market1501,128x64,ssim,0.27,pose-transfer,rerun,issue 1,old library\n"
    "PATN,market1501,128x64,ssim,0.30,pose-transfer,quoted,page B,\n"
    "PATN,market1501,128x64,ssim,0.28,pose-transfer,rerun,issue 2,\n"
    "PATN,market1501,128x64,ssim,0.33,pose-transfer,retrained,issue 3,own weights\n"
    "PIDM,market1501,128x64,fid,8.07,gfla,quoted,page A,\n"
    "PIDM,market1501,128x64,fid,8.0667,gfla,claimed,its paper,\n"
    "PATN,market1501,128x64,fid,20.5,gfla,rerun,issue 1,\n"
    "PIDM,market1501,128x64,inference_seconds,16.9,paper,claimed,its paper,A100\n"
)


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.csv"
    path.write_text(SMALL)
    return read_literature(path)


@pytest.fixture(scope="module")
def raw():
    """The committed file as pandas reads it, FID and SSIM of the tables of GFLA by their names in the suite."""
    frame = pandas.read_csv(LITERATURE, dtype={"value": str}, keep_default_na=False)
    of_gfla = frame["protocol"] == "gfla"
    frame["metric"] = frame["metric"].mask(of_gfla & (frame["metric"] == "fid"), "fid_imagenet")
    frame["metric"] = frame["metric"].mask(of_gfla & (frame["metric"] == "ssim"), "ssim_window51")
    return frame


# The file.


def test_committed_file_is_read_whole_and_every_number_says_where_it_is_from(raw):
    published = read_literature()
    assert len(published) == len(raw) == 300
    assert published[["source", "status", "protocol"]].all(axis=None)
    told = published.assign(value=published["printed"]).drop(columns="printed")
    pandas.testing.assert_frame_equal(told, raw, check_dtype=False)


def test_claims_of_the_paper_come_with_their_source():
    train, sample = (claim("XingGAN++", f"{what}_speedup_over_pidm") for what in ("training", "inference"))
    assert (train.value, sample.value) == (69.33, 18.04)
    assert train.source == sample.source and "arXiv 2501.08900" in train.source
    assert claim("PIDM", "training_gpu_days").note == "8xA100 for 5 days"


def test_rerun_or_quotation_is_never_a_claim():
    with pytest.raises(ValueError, match="0 claims of PATN, ssim, market1501, 128x64"):
        claim("PATN", "ssim", dataset="market1501", resolution="128x64")
    assert claim("X-MDPT-L", "fid_imagenet").value == 6.60  # others quote 6.25


def test_two_claims_are_named_rather_than_one_chosen():
    with pytest.raises(ValueError, match=r"2 claims of X-MDPT-B, inference_seconds.*1\.3.*README.*1\.2.*figure"):
        claim("X-MDPT-B", "inference_seconds")


def test_all_mistakes_are_named_at_once_with_their_rows(tmp_path):
    path = tmp_path / "literature.csv"
    bad = GOOD.replace("0.311", "much").replace("quoted", "believed")
    rows = [
        *(GOOD, bad, GOOD, "PATN,market1501\n", GOOD.replace("128x64", "small"), ",," + GOOD),
        *(
            GOOD.replace("0.311", "31.1"),
            GOOD.replace("a page,", "a page, note"),
            GOOD.replace("pose-transfer", "ours"),
        ),
        GOOD.replace("ssim,0.311", "inference_seconds,2"),
        GOOD.replace("ssim,0.311", "jab_percent,40").replace("pose-transfer", "paper"),
        GOOD.replace("ssim,0.311", "r2g_percent,140").replace("pose-transfer", "user study"),
    ]
    path.write_text(HEAD + "".join(rows))
    with pytest.raises(ValueError) as refused:
        read_literature(path)
    told = str(refused.value)
    for mistake in (
        "row 3: status 'believed' is none of claimed, quoted, rerun, retrained",
        *("row 3: value 'much'", "row 4: says the same as row 2", "row 5: 2 fields", "row 6: resolution 'small'"),
        *("row 7: 11 fields", "row 8: value 31.1 of ssim is above 1: a fraction is expected, not a percentage"),
        "row 9: space around the note ' note'",
        "row 10: protocol 'ours' is none of clean, pose-transfer, gfla, paper (of ssim)",
        "row 11: protocol 'pose-transfer' is none of paper (of inference_seconds)",
        "row 12: protocol 'paper' is none of user study (of jab_percent)",
        "row 13: value 140 of r2g_percent is above 100 %",
    ):
        assert mistake in told
    assert f"{len(told.splitlines()) - 1} mistakes" in told.splitlines()[0]


@pytest.mark.parametrize("content", ["", "method,value\nPATN,1\n", "\udcff"])
def test_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "literature.csv"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"not readable|the columns are"):
        read_literature(path)
    with pytest.raises(ValueError, match="not readable"):
        read_literature(tmp_path / "absent.csv")


# One number of several sources.


def test_number_of_several_sources_is_the_claim_or_else_what_others_quote_with_the_range_of_all(small):
    found = numbers(small).set_index(["method", "metric"])
    patn = found.loc["PATN", "ssim"]
    assert patn["value"] == pytest.approx(0.305) and patn["status"] == "quoted, median of 2"
    assert (patn["source"], patn["n"]) == ("page A; page B", 5)
    assert (patn["printed"], patn["statuses"]) == ("0.27–0.33", "2 quoted, 2 rerun, 1 retrained")
    pidm = found.loc["PIDM", "fid_imagenet"]
    assert (pidm["value"], pidm["status"], pidm["source"]) == (8.0667, "claimed", "its paper")
    alone = found.loc["PATN", "fid_imagenet"]
    assert (alone["value"], alone["status"], alone["printed"], alone["n"]) == (20.5, "rerun", "20.5", 1)


def test_number_that_two_sources_round_differently_is_no_conflict(small):
    found = numbers(small).set_index(["method", "metric"])["differs"]
    assert found["PATN", "ssim"] and not found["PIDM", "fid_imagenet"] and not found["PATN", "fid_imagenet"]
    other = small.assign(printed=small["printed"].replace("8.07", "8.06"))
    assert numbers(other).set_index(["method", "metric"])["differs"]["PIDM", "fid_imagenet"]


def test_ranges_of_the_committed_file_are_those_that_pandas_computes(raw):
    values = raw.assign(value=raw["value"].astype(float)).groupby(NUMBER)["value"].agg(["min", "max", "size"])
    found = numbers(read_literature()).set_index(NUMBER).sort_index()
    assert found[["low", "high", "n"]].to_numpy().tolist() == values.sort_index().to_numpy().tolist()
    assert found["value"].between(found["low"], found["high"]).all()


def test_conflicts_are_listed_with_every_source_and_its_note_the_widest_first(small):
    (row,) = conflict_table(small).to_dict("records")
    assert row["method"] == "PATN" and row["where"] == "market1501 128x64, protocol pose-transfer"
    assert row["range and sources"].splitlines() == [
        *("0.27–0.33, 22.2% apart", "0.30 quoted: page B", "0.310 quoted: page A"),
        *("0.27 rerun: issue 1: old library", "0.28 rerun: issue 2", "0.33 retrained: issue 3: own weights"),
    ]
    shares = conflict_table(read_literature())["range and sources"].str.extract(r"([\d.]+)% apart")[0].astype(float)
    assert len(shares) > 10 and shares.is_monotonic_decreasing


# The tables.


def test_tables_hold_methods_by_metrics_with_statuses_and_notes(small):
    tables = published_tables(small, beside(Records(), numbers(small))[1])
    assert [table.name for table in tables] == ["market1501-128x64-pose-transfer", "market1501-128x64-gfla"]
    transfer, gfla = tables
    assert transfer.cells.to_dict("records") == [
        {"method": "PATN", "SSIM ↑": "0.27–0.33\n2 quoted [1][3]\n2 rerun [2][4]\n1 retrained [5]"}
    ]
    assert transfer.notes == ["page A", "issue 1: old library", "page B", "issue 2", "issue 3: own weights"]
    assert dict(zip(gfla.cells["method"], gfla.cells["FID (ImageNet Inception) ↓"], strict=True)) == {
        "PATN": "20.5\nrerun [3]",
        "PIDM": "8.0667\n1 claimed [2]\n1 quoted [1]",
    }
    assert gfla.reasons == ["FID (ImageNet Inception): no run on market1501 128x64"]


def test_every_row_of_the_file_is_in_one_table(raw):
    published = read_literature()
    tables = published_tables(published, beside(Records(), numbers(published))[1])
    cells = [cell for table in tables for cell in table.cells.iloc[:, 1:].to_numpy().ravel() if cell != "–"]
    lines = [line for cell in cells for line in cell.splitlines()[1:]]
    shown = sum(int(re.match(r"\d*", line)[0] or 1) for line in lines)
    assert shown + len(cost_table(published)) == len(raw)
    assert len(cost_table(published)) == raw["metric"].isin(COSTS).sum()
    assert len({(table.place, table.name) for table in tables}) == len(tables)
    printed = {text for cell in cells for text in cell.splitlines()[0].split("–")}
    assert printed <= set(raw["value"])


# Beside measured values.


@pytest.fixture
def measured(fabricate):
    """Two seeds on Market-1501 whose SSIM is of the protocol `pose-transfer` and whose L1 is of `clean`."""
    market = {"name": "market1501", "height": 128, "width": 64}
    for seed, ssim in enumerate((0.30, 0.32)):
        path = fabricate.run("xinggan", "xinggan", seed=seed, dataset=market, metrics=(ssim, 0.1, 0.7)) / "metrics.json"
        rows = json.loads(path.read_text())
        rows[0]["protocol"] = {"name": "pose-transfer"}
        path.write_text(json.dumps(rows))
    return load_records(fabricate.folder)


def test_only_numbers_of_the_same_data_size_metric_and_protocol_are_ranked_together(measured, small):
    (ssim,), apart = beside(measured, numbers(small))
    assert ssim.attrs == {"dataset": "market1501 128x64", "metric": "ssim", "protocol": "pose-transfer"}
    assert list(ssim.name) == ["xinggan", "PATN"]
    own, patn = ssim.itertuples()
    assert own.value == pytest.approx(0.31) and own.n == 2 and own.low < own.value < own.high
    assert own.status == "measured here" and own.range == ""
    assert pandas.isna(patn.low) and pandas.isna(patn.n)
    assert patn.range == "0.27–0.33\n2 quoted, 2 rerun, 1 retrained"
    reasons = apart.set_index(["method", "metric"])["apart_because"]
    assert reasons["PIDM", "fid_imagenet"] == "no run on market1501 128x64 has a value of FID (ImageNet Inception)"
    assert "all that a cost depends on" in reasons["PIDM", "inference_seconds"] and len(reasons) == 3


def test_values_of_two_ways_to_measure_are_two_rows(measured, small):
    path = measured[1].directory / "metrics.json"
    rows = json.loads(path.read_text())
    rows[0]["protocol"]["data_range"] = 255
    path.write_text(json.dumps(rows))
    (ssim,), _ = beside(load_records(path.parent.parent), numbers(small))
    assert sorted(ssim.value[ssim.status == "measured here"]) == [0.30, 0.32]


def test_ranking_of_the_committed_file_has_a_row_a_method_best_first(measured, raw):
    published = numbers(read_literature())
    (ssim,), apart = beside(measured, published)
    here = raw[(raw[["dataset", "metric", "protocol"]] == ["market1501", "ssim", "pose-transfer"]).all(axis=1)]
    assert set(ssim.name) == {*here["method"], "xinggan"} and len(ssim) == here["method"].nunique() + 1
    assert ssim["value"].is_monotonic_decreasing
    assert ssim.set_index("name").loc["PATN", ["value", "status"]].tolist() == [0.311, "quoted"]
    assert len(apart) + len(ssim) - 1 == len(published)
    assert "0.268–0.311" in ranking_table(ssim)["range over sources"].str.cat()


def test_another_protocol_is_never_ranked(measured):
    path = measured[0].directory.parent
    for metrics in path.glob("*/metrics.json"):
        metrics.write_text(metrics.read_text().replace("pose-transfer", "clean"))
    rankings, apart = beside(load_records(path), numbers(read_literature()))
    assert rankings == []
    assert "published under the protocol pose-transfer, measured under clean" in set(apart.apart_because)


def test_number_of_an_unknown_estimator_or_window_is_never_ranked(measured):
    for path in measured[0].directory.parent.glob("*/metrics.json"):
        rows = [
            {"metric": metric, "value": 0.5, "n": 48, "protocol": {"name": protocol}}
            for metric, protocol in (("pckh", "pose-transfer"), ("ssim_window51", "gfla"), ("lpips", "gfla"))
        ]
        path.write_text(json.dumps(rows))
    rankings, apart = beside(load_records(measured[0].directory.parent), numbers(read_literature()))
    assert [ranking.attrs["metric"] for ranking in rankings] == ["lpips"]
    here = apart[apart["dataset"] == "market1501"].set_index("metric")["apart_because"]
    assert set(here["pckh"]) == {ESTIMATOR_REASON} and set(here["ssim_window51"]) == {WINDOW_REASON}
