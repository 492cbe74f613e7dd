"""Learning curves: read from records, compared after equal training, and a page of their own."""

import json

import numpy as np
import pandas
import pytest

from reports.build import build_report
from reports.learning import COLUMNS, crossing, learning_curves, overtaking, overtaking_table, sentences
from reports.records import load_records

TARGETS = {"xinggan": "xinggan.model.generator.XingGAN", "pidm": "baselines.diffusion.pidm.PIDM"}
SSIM = {"xinggan": (0.40, 0.48, 0.50), "pidm": (0.30, 0.45, 0.60)}
PROTOCOL = {"name": "clean"}


def write_curve(run, ssim, seconds_a_step):
    points = [
        {"step": step, "seconds": seconds_a_step * step,
         "metrics": [{"metric": "ssim", "value": value, "protocol": PROTOCOL, "n": 48, "unavailable_because": None}]}
        for step, value in zip((100, 200, 400), ssim, strict=True)
    ]  # fmt: skip
    (run / "learning.json").write_text(json.dumps({"batch": 8, "flops_a_step": 1e9, "points": points}))


@pytest.fixture
def runs(fabricate):
    for name, ssim in SSIM.items():
        run = fabricate.run(name, name, method={"_target_": TARGETS[name]})
        write_curve(run, ssim, seconds_a_step={"xinggan": 0.1, "pidm": 0.3}[name])
    return fabricate.folder


def test_curves_of_a_record_count_pairs_seconds_and_operations(runs):
    curves = learning_curves(load_records(runs))
    assert list(curves.columns) == COLUMNS
    pidm = curves[curves["method"] == "pidm"]
    assert pidm["diffusion"].all()
    assert pidm[["images", "seconds", "flops", "value"]].to_numpy().tolist() == [
        [800, 30, 1e11, 0.30], [1600, 60, 2e11, 0.45], [3200, 120, 4e11, 0.60],
    ]  # fmt: skip


def test_a_method_overtakes_where_its_curve_crosses_the_other_one_for_good(runs):
    (row,) = overtaking(learning_curves(load_records(runs))).itertuples()
    # Between 1600 and 3200 pairs the lead falls from 0.03 to -0.1: the curves meet at 3/13 of that on a log axis.
    assert row.images == pytest.approx(1600 * 2 ** (3 / 13))
    assert np.isnan(row.seconds)  # after 40 s, where XingGAN ends, PIDM is behind
    told = overtaking_table(pandas.DataFrame([row._asdict()]).drop(columns="Index"))
    assert told.iloc[0].tolist()[1:] == ["pidm", "xinggan", "from 1,878", "not within this training", "from 2.35e+11"]
    assert sentences(overtaking(learning_curves(load_records(runs)))) == [
        "SSIM, after as many training pairs: better at the end: pidm than xinggan."
    ]


@pytest.mark.parametrize(
    ("ours", "place"), [((3, 3, 3), 0), ((0, 3, 1), np.nan), ((1, 3, 1), np.nan), ((3, 0, 3), 2 * 2**0.5)]
)
def test_the_last_crossing_counts(ours, place):
    own, rival = (pandas.DataFrame({"images": [1, 2, 4], "value": value}) for value in (ours, (1.5, 1.5, 1.5)))
    assert crossing(own, rival, "images", 1) == pytest.approx(place, nan_ok=True)


def test_curves_have_a_page_and_a_damaged_one_is_named(runs, tmp_path):
    build_report(runs, tmp_path / "report")
    text = (tmp_path / "report" / "learning.html").read_text()
    assert "Who overtakes whom" in text
    assert "from 1,878" in text
    damaged = next(runs.glob("pidm*"))
    (damaged / "learning.json").write_text('{"points": [{"step": 3}]}')
    record = next(record for record in load_records(runs) if record.method == "pidm")
    assert record.learning == []
    assert any("learning.json" in problem for problem in record.problems)
