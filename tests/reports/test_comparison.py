"""Answers to queries give value, interval and n of runs written by hand, and refuse what has no common mean; who is
best is decided by the metric's direction, bold by a test; tables say every value, or why it is not there.
"""

import numpy as np
import pandas
import pytest
import scipy.stats
from ablation_runs import change, write_values

from reports import statistics
from reports.comparison import metric_tables, rankings, unavailable, with_intervals
from reports.formats import interval, p_text
from reports.records import load_records

PEOPLE, PAIRS = 10, 40
IDENTITIES = np.arange(PAIRS) % PEOPLE


def around(mean: float, seed: int = 0) -> np.ndarray:
    """[PAIRS] of exactly this mean."""
    noise = 0.02 * np.random.default_rng(seed).standard_normal(PAIRS)
    return mean + noise - noise.mean()


def scored(fabricate, name="xinggan scale=single", noise=None, seed=0, means=(), **facts):
    """A run whose values of every pair have these means; the same noise for all, plus a little of the run's own."""
    own = sum(map(ord, name)) + seed if noise is None else noise
    values = {metric: around(mean) + 0.1 * around(0, own) for metric, mean in dict(means).items()}
    directory = fabricate.run(name.split()[0], name, seed=seed, **facts)
    write_values(directory, values, PEOPLE)
    return directory, values


def query(fabricate, metric="ssim", **of):
    return load_records(fabricate.folder).metric(metric, **of)


# Means and their intervals.


def test_runs_of_several_seeds_have_an_interval_over_seeds(fabricate):
    values = [0.41, 0.43, 0.44]
    for seed, value in enumerate(values):
        fabricate.run(seed=seed, metrics=(value, 0.1, 0.7))
    fabricate.run(seed=3, state="running")
    row = query(fabricate).by("scale").loc["single"]
    low, high = scipy.stats.t.interval(0.95, 2, np.mean(values), scipy.stats.sem(values))
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert (row["n"], row["missing"], row["over"]) == (3, 1, "seeds")


def test_single_runs_have_an_interval_over_the_people_of_the_test_set(fabricate):
    _, values = scored(fabricate, means={"ssim": 0.4})
    expected = statistics.mean_by_identity(values["ssim"], IDENTITIES)
    row = query(fabricate).by("scale", "seed").loc[("single", 0)]
    assert (row["value"], row["low"], row["high"]) == pytest.approx((expected.estimate, expected.low, expected.high))
    assert row["over"] == "identities" and row["n"] == 1


def test_runs_that_differ_in_more_than_the_seed_have_no_interval_over_seeds(fabricate):
    for scale in ("single", "multi"):
        fabricate.run(scale=scale)
    with pytest.warns(UserWarning, match="scale"):
        row = query(fabricate).by().iloc[0]
    assert row["n"] == 2 and np.isnan(row["low"])


def test_values_of_different_data_or_protocols_have_no_common_mean(fabricate):
    first, other = fabricate.run(), fabricate.run(digest="e2" * 32, seed=1)
    with pytest.raises(ValueError, match=r"2 different data sets.*dataset_digest"):
        query(fabricate).by("scale")
    assert list(query(fabricate).by("dataset_digest")["n"]) == [1, 1]
    change(first, "ssim", protocol={"name": "pose-transfer", "library": "another"})
    with pytest.raises(ValueError, match="2 different protocols"):
        query(fabricate).by("scale")
    assert query(fabricate, protocol="pose-transfer").by("scale")["n"].item() == 1
    assert query(fabricate, protocol={"library": "batched torch"}).values["run"].tolist() == [other.name]


def test_unknown_metric_protocol_and_key_are_refused_with_those_that_are_there(fabricate):
    fabricate.run()
    assert load_records(fabricate.folder).metrics() == {"ssim": 1, "l1": 1, "pckh_embedded": 1}
    with pytest.raises(ValueError, match=r"'sssim'; like it: ssim.*These runs have: ssim, l1"):
        query(fabricate, "sssim")
    with pytest.raises(ValueError, match="there are: clean"):
        query(fabricate, protocol="gfla")
    with pytest.raises(ValueError, match="in no record"):
        query(fabricate).by("scales")
    with pytest.raises(ValueError, match="seeds or identities"):
        query(fabricate).by("scale", over="people")


def test_metric_that_no_run_has_yet_is_an_empty_answer(fabricate):
    fabricate.run(state="running")
    row = query(fabricate, "lpips").by("scale").loc["single"]
    assert row["n"] == 0 and row["missing"] == 1 and np.isnan(row["value"])


def test_values_by_pair_are_those_of_the_metric_alone(fabricate):
    written = dict(scored(fabricate, seed=seed, means={"ssim": 0.4, "l1": 0.1}) for seed in (0, 1))
    for run, group in query(fabricate).per_image().groupby("run"):
        assert group["value"].to_list() == pytest.approx(written[fabricate.folder / run]["ssim"])


# Differences.


def test_differences_are_paired_corrected_and_have_a_verdict(fabricate):
    values = {}
    for number, (scale, mean) in enumerate({"multi": 0.4, "single": 0.3, "other": 0.4001}.items()):
        _, of_metric = scored(fabricate, f"xinggan scale={scale}", number, means={"ssim": mean}, scale=scale)
        values[scale] = of_metric["ssim"]
    table = query(fabricate).against(scale="multi")
    expected = statistics.difference(values["single"], values["multi"], IDENTITIES)
    single, other = table.loc["single"], table.loc["other"]
    assert (single["difference"], single["low"]) == pytest.approx((expected.estimate, expected.low))
    assert single["p_holm"] == pytest.approx(2 * expected.p_value) and single["verdict"] == "worse"
    assert other["verdict"] == "not shown" and set(table.index) == {"single", "other"}
    assert single["better_pairs"] < 0.1 and np.isnan(single["better_runs"])


def test_of_a_pooled_metric_difference_and_test_are_those_of_the_values_that_tables_print(fabricate):
    pooled = {"name": "clean", "value": "pooled over joints"}
    for number, (scale, value) in enumerate({"multi": 0.47, "single": 0.30}.items()):
        directory, _ = scored(fabricate, f"x scale={scale}", number, means={"ssim": 0.4 - 0.1 * number}, scale=scale)
        change(directory, "ssim", metric="pckh_embedded", value=value, protocol=pooled)
        pairs = pandas.read_parquet(directory / "per_image.parquet").assign(metric="pckh_embedded")
        pairs.to_parquet(directory / "per_image.parquet")
    row = query(fabricate, "pckh_embedded").against(scale="multi").loc["single"]
    assert row["difference"] == pytest.approx(-0.17) and row["low"] < -0.17 < row["high"] < -0.1
    assert row["verdict"] == "worse"


def test_several_seeds_are_compared_over_people_and_seeds_and_lower_may_be_better(fabricate):
    for scale, gain in (("multi", 0.1), ("single", 0.0)):
        for seed in range(3):
            means = {"ssim": 0.4 + gain, "l1": 0.11 - 0.3 * gain + 0.001 * seed}
            directory, _ = scored(fabricate, seed=seed, means=means, scale=scale)
            (directory / "per_image.parquet").rename(directory / "kept") if scale == "multi" else None
    l1 = query(fabricate, "l1").against(scale="single").loc["multi"]
    assert l1["over"] == "seeds" and l1["verdict"] == "better" and l1["better_runs"] == 1 and l1["seeds"] == "3, 3"
    for kept in fabricate.folder.glob("*/kept"):
        kept.rename(kept.parent / "per_image.parquet")
    ssim = query(fabricate).against(scale="single").loc["multi"]
    assert ssim["over"] == "identities and seeds" and ssim["verdict"] == "better"


def test_comparison_refuses_mixtures_other_protocols_and_absent_baselines(fabricate):
    fabricate.run(scale="multi")
    other = fabricate.run(scale="single")
    with pytest.raises(ValueError, match="no run of scale=none"):
        query(fabricate).against(scale="none")
    with pytest.raises(ValueError, match="more than their seed"):
        query(fabricate).against(seed=0)
    change(other, "ssim", protocol={"name": "gfla"})
    with pytest.raises(ValueError, match="different protocols"):
        query(fabricate).against(scale="multi")


# The rank order.


def test_best_is_the_highest_or_the_lowest_as_the_metric_says(fabricate):
    scored(fabricate, "patn", means={"ssim": 0.5, "l1": 0.2, "novelty": 0.5})
    scored(fabricate, "pidm", means={"ssim": 0.4, "l1": 0.1, "novelty": 0.4})
    for metric, best, behind in (("ssim", "patn", "pidm"), ("l1", "pidm", "patn")):
        (found,) = rankings(query(fabricate, metric))
        assert found.best == best and list(found.behind.index) == [behind]
    (found,) = rankings(query(fabricate, "novelty"))  # nobody knows its direction
    assert found.best is None and found.behind is None


def test_references_are_neither_best_nor_compared(fabricate):
    scored(fabricate, "patn", means={"ssim": 0.5})
    for name in ("ground_truth", "copy_source"):
        scored(fabricate, name, means={"ssim": 0.9})
    (found,) = rankings(query(fabricate))
    assert found.best == "patn" and found.behind is None and not found.is_clear
    assert len(with_intervals([query(fabricate)])) == 3


@pytest.mark.parametrize(("second", "clear"), [(0.4, True), (0.4999, False)])
def test_bold_is_who_is_better_than_every_other_by_a_test(fabricate, second, clear):
    for name, ssim in (("patn", 0.5), ("pidm", second), ("gfla", 0.2)):
        scored(fabricate, name, means={"ssim": ssim})
    (found,), (table,) = rankings(query(fabricate)), tables(fabricate)
    assert found.best == "patn" and found.is_clear is clear
    bold = {(row, column) for row, column in zip(*table.bold.nonzero(), strict=True)}
    assert bold == ({(list(table.cells["run"]).index("patn"), 1)} if clear else set())


def test_runs_that_differ_in_more_than_the_seed_are_rows_of_their_own(fabricate):
    for steps in (100, 200):
        scored(fabricate, "patn", means={"ssim": 0.4}, steps=steps)
    assert len(rankings(query(fabricate))[0].by_variant) == 2


def test_protocols_stand_apart(fabricate):
    scored(fabricate, "patn", means={"ssim": 0.5})
    change(scored(fabricate, "pidm", means={"ssim": 0.5})[0], "ssim", protocol={"name": "gfla"}, n=12)
    found = rankings(query(fabricate))
    assert [(one.best, one.behind) for one in found] == [("patn", None), ("pidm", None)]
    (table,) = tables(fabricate)
    assert [head.splitlines()[1] for head in table.cells.columns[1:]] == ["clean, n = 40", "gfla, n = 12"]
    assert (column(table, 1), column(table, 2)) == (["0.5000", "– [1]"], ["– [1]", "0.5000"])


# Tables.


def tables(fabricate):
    records = load_records(fabricate.folder)
    metrics = [records.metric(name) for name in records.metrics()]
    ranked = [rank for values in metrics for rank in rankings(values)]
    return metric_tables(with_intervals(metrics), ranked, list(records.titles().values()))


def column(table, place) -> list[str]:
    return [cell.splitlines()[0] for cell in table.cells.iloc[:, place]]


def test_rows_are_runs_then_references_and_columns_point_to_better(fabricate):
    fabricate.run()
    fabricate.references()
    (table,) = tables(fabricate)
    assert list(table.cells["run"]) == ["xinggan scale=single", "copy_source", "mean_image", "ground_truth"]
    assert list(table.cells.columns[1:]) == [
        f"{head}\nclean, n = 48" for head in ("SSIM\u00a0↑", "L1\u00a0↓", "PCKh (embedded)\u00a0↑")
    ]
    assert [column(table, place)[1] for place in (1, 2, 3)] == ["0.3100", "0.1200", "0.4200"]
    assert "sigma px: 1.5" in table.protocols[0] and not table.bold.any()
    (missing,) = unavailable(load_records(fabricate.folder).values)
    assert missing.startswith("FID: unavailable: weights-inception")


def test_value_that_is_missing_in_one_run_has_a_footnote_with_the_reason(fabricate):
    fabricate.run("a", "a")
    change(fabricate.run("b", "b"), "ssim", value=None, unavailable_because="image smaller than the window")
    change(fabricate.run("c", "c"), "ssim", metric="psnr", value=14.0)
    (table,) = tables(fabricate)
    assert column(table, 1) == ["0.4100", "– [1]", "– [2]"]
    assert table.notes == ["unavailable: image smaller than the window", "not computed by this run"]


def test_pairs_without_a_value_are_a_footnote_and_no_protocol_of_their_own(fabricate):
    for seed, told in enumerate(("0 pairs: no body mask", "1 pairs: no body mask")):
        protocol = {"name": "clean", "library": f"torch 2.13.{seed}, computing", "left_out": told}
        change(fabricate.run(seed=seed), "ssim", protocol=protocol)
    assert query(fabricate).by()["n"].tolist() == [2]
    (table,) = tables(fabricate)
    assert column(table, 1) == ["0.4100", "0.4100 [1]"] and table.notes[0] == "without 1 pairs: no body mask"


def test_value_of_too_few_images_or_below_zero_is_marked_and_says_so(fabricate):
    for name, changes in (("a", {}), ("b", {"metric": "kid", "value": -0.002})):
        change(fabricate.run(name, name), "fid", **{"value": 16.04, "n": 2, "unavailable_because": None} | changes)
    table = tables(fabricate)[-1]
    assert column(table, 1) == ["16.040 [1]", "– [2]"] and column(table, 2) == ["– [2]", "-0.0020 [3]"]
    assert "from 2 images, fewer than the network's 2048 features" in table.notes[0] and "below zero" in table.notes[2]


@pytest.mark.parametrize(
    ("value", "text"), [(0.41237, "0.4124"), (17.4567, "17.457"), (123.456, "123.46"), (4321.23, "4321.2")]
)
def test_decimals_follow_the_largest_value(fabricate, value, text):
    change(fabricate.run(), "l1", value=value)
    (table,) = tables(fabricate)
    assert column(table, 2) == [text]


def test_nothing_scored_is_no_table(fabricate):
    fabricate.run(state="failed")
    assert tables(fabricate) == [] and unavailable(load_records(fabricate.folder).values) == []


def test_p_values_and_intervals_read_as_people_write_them():
    texts = [p_text(p_value) for p_value in (0.0004, 0.0234, float("nan"))]
    assert texts == ["p < 0.001", "p = 0.023", "not tested"]
    assert interval(0.51249, 0.6, ".3f") == "[0.512, 0.600]"
    assert interval(float("nan"), 0.6, ".3f") == ""
