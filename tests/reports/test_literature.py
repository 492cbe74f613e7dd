"""Published numbers are read with every mistake named, and ranked only with values of their own protocol."""

import json

import pytest

from reports.literature import LITERATURE, beside, read_literature
from reports.records import load_records

HEAD = "method,dataset,resolution,metric,value,protocol,status,source\n"
GOOD = "PATN,market1501,128x64,ssim,0.311,pose-transfer,quoted,a page\n"


def test_committed_file_is_valid_and_every_number_says_where_it_is_from():
    published = read_literature()
    assert len(published) == len(LITERATURE.read_text().splitlines()) - 1
    assert published[["source", "status", "protocol"]].all(axis=None)
    speed = published[published["method"] == "XingGAN++"].set_index("metric")["value"]
    assert speed.to_dict() == {"training_speedup_over_pidm": 69.33, "inference_speedup_over_pidm": 18.04}


def test_all_mistakes_are_named_at_once_with_their_rows(tmp_path):
    path = tmp_path / "literature.csv"
    bad = GOOD.replace("0.311", "much").replace("quoted", "believed")
    path.write_text(HEAD + GOOD + bad + GOOD + "PATN,market1501\n" + GOOD.replace("128x64", "small") + ",," + GOOD)
    with pytest.raises(ValueError) as refused:
        read_literature(path)
    told = str(refused.value)
    for mistake in (
        *("row 3: status 'believed' is none of claimed", "row 3: value 'much'", "row 4: says the same as row 2"),
        *("row 5: 2 fields", "row 6: resolution 'small'", "row 7"),
    ):
        assert mistake in told


@pytest.mark.parametrize("content", ["", "method,value\nPATN,1\n", "\udcff"])
def test_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "literature.csv"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"not readable|the columns are"):
        read_literature(path)
    with pytest.raises(ValueError, match="not readable"):
        read_literature(tmp_path / "absent.csv")


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


def test_only_numbers_of_the_same_data_size_metric_and_protocol_are_ranked_together(measured):
    published = read_literature()
    rankings, apart = beside(measured, published)
    (ssim,) = rankings
    assert ssim.attrs == {"dataset": "market1501 128x64", "metric": "ssim", "protocol": "pose-transfer"}
    assert list(ssim.name) == ["BiGraphGAN", "PATN", "xinggan", "PATN"]
    own = ssim[ssim.status == "measured here"].iloc[0]
    assert own.value == pytest.approx(0.31) and own.n == 2 and own.low < own.value < own.high
    assert ssim[ssim.status != "measured here"].low.isna().all()
    assert len(apart) + 3 == len(published)
    reasons = apart.groupby("apart_because").size()
    assert reasons["no run on deepfashion 256x176"] == 13 and any("a time depends on" in why for why in reasons.index)
    assert reasons["no run on market1501 128x64 has a value of mask_ssim"] == 1


def test_another_protocol_is_never_ranked(measured):
    path = measured[0].directory.parent
    for metrics in path.glob("*/metrics.json"):
        metrics.write_text(metrics.read_text().replace("pose-transfer", "clean"))
    rankings, apart = beside(load_records(path), read_literature())
    assert rankings == []
    assert "published under the protocol pose-transfer, measured under clean" in set(apart.apart_because)
