"""Learning curves: read from records, compared after equal training, with what was tuned before, and a page."""

import json
from dataclasses import replace

import numpy as np
import pandas
import pytest

from reports.build import NOTEBOOKS, without_empty_chapters
from reports.jupyter import run_notebooks
from reports.learning import (
    COLUMNS,
    crossing,
    learning_curves,
    machines_sentence,
    overtaking,
    overtaking_table,
    tuning_grid,
    tuning_sentences,
    tuning_table,
)
from reports.records import load_records

TARGETS = {"xinggan": "xinggan.model.generator.XingGAN", "pidm": "baselines.diffusion.pidm.PIDM"}
SSIM = {"xinggan": (0.40, 0.48, 0.50), "pidm": (0.30, 0.45, 0.60)}
PROTOCOL = {"name": "clean"}


def write_curve(run, ssim, seconds_a_step):
    points = [
        {"step": step, "seconds": seconds_a_step * step, "flops": 1e9 * step, "values": {"ssim": value}}
        for step, value in zip((100, 200, 400), ssim, strict=True)
    ]
    about = {"batch": 8, "protocols": {"ssim": PROTOCOL}}
    (run / "learning.json").write_text(json.dumps(about | {"points": points}))


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
    assert told.iloc[0].tolist() == [
        "SSIM ↑", "pidm", "xinggan from 1,878", "none", "xinggan from 2.35e+11",
    ]  # fmt: skip


def test_the_methods_that_a_diffusion_model_overtakes_share_a_row(runs, fabricate):
    for name, ssim in {"patn": (0.10, 0.20, 0.30), "gfla": (0.90, 0.90, 0.90)}.items():
        write_curve(fabricate.run(name, name, method={"_target_": TARGETS["xinggan"]}), ssim, seconds_a_step=0.1)
    table = overtaking_table(overtaking(learning_curves(load_records(runs))))
    assert table.iloc[:, 2].tolist() == ["patn throughout; xinggan from 1,878"]


def test_seconds_of_different_machines_are_not_compared(runs):
    here = learning_curves(load_records(runs))
    assert machines_sentence(here) == "" and here["machine"].unique().tolist() == ["a processor, 2 threads, fp32"]
    (run,) = (record.directory for record in load_records(runs) if record.name == "pidm")
    environment = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps(environment | {"cpu": "another", "threads": 1}))
    curves = learning_curves(load_records(runs))
    table = overtaking_table(overtaking(curves))
    told = ["xinggan from 1,878", "xinggan: trained on another machine", "xinggan from 2.35e+11"]
    assert table.iloc[0].tolist()[2:] == told
    assert machines_sentence(curves) == (
        "Seconds are not comparable between machines: pidm on another, 1 thread, fp32; "
        "xinggan on a processor, 2 threads, fp32."
    )


@pytest.mark.parametrize(
    ("ours", "place"), [((3, 3, 3), 0), ((0, 3, 1), np.nan), ((1, 3, 1), np.nan), ((3, 0, 3), 2 * 2**0.5)]
)
def test_the_last_crossing_counts(ours, place):
    own, rival = (pandas.DataFrame({"images": [1, 2, 4], "value": value}) for value in (ours, (1.5, 1.5, 1.5)))
    assert crossing(own, rival, "images", 1) == pytest.approx(place, nan_ok=True)


@pytest.fixture
def tuned(runs, fabricate):
    """Runs of the study `tuning` beside the others: those of one row have a curve, and one of them failed."""
    listing = []
    for factor, distance in {"1/4": 0.5, "1/2": 0.4, "1": 0.3, "2": None}.items():
        about = {"method": {"_target_": TARGETS["pidm"], "learning_rate": 4e-4}, "digest": "d2" * 32}
        about["state"] = "finished" if distance else "failed"
        run = fabricate.run("pidm-tuned", "pidm tuned", evaluation={"split": "validation"}, **about)
        if distance:
            entry = {"metric": "perceptual_embedded", "value": distance, "protocol": PROTOCOL, "n": 48}
            (run / "metrics.json").write_text(json.dumps([entry | {"unavailable_because": None}]))
            write_curve(run, (0.9, 0.9, 0.9), seconds_a_step=0.3)
        else:
            status = json.loads((run / "status.json").read_text()) | {"error": "Divergence: step 3: l1 is nan"}
            (run / "status.json").write_text(json.dumps(status))
        listing.append({"title": f"PIDM, v and min-SNR, rate x{factor}", "run": run.name})
    listing += [{"title": f"PATN, rate x{factor}", "run": "never-ran"} for factor in ("1", "2")]
    (runs / "studies").mkdir()
    (runs / "studies" / "tuning.json").write_text(json.dumps(listing))
    return runs


def test_the_grid_of_tuning_is_a_table_with_the_choice_and_what_is_missing(tuned):
    grid = tuning_grid(load_records(tuned))
    row, never_ran = tuning_table(grid).to_dict("records")
    assert row == {
        "method": "PIDM\nv and min-SNR",
        "rate ×1/4": "0.5000\nat 0.0004", "rate ×1/2": "0.4000\nat 0.0004", "rate ×1": "0.3000 *\nat 0.0004",
        "rate ×2": "failed\nat 0.0004", "metric": "Perceptual distance (embedded) ↓",
    }  # fmt: skip
    assert never_ran["method"] == "PATN\n" and never_ran["rate ×1/4"] == never_ran["rate ×1"] == "missing"
    assert tuning_sentences(grid) == ["PATN: nothing is chosen; none of 4 runs has a result."]
    incomplete = {"PIDM": grid["PIDM"][:3]}
    assert tuning_sentences(incomplete) == ["PIDM: nothing is chosen; 1 of 4 runs have no result (v and min-SNR x2)."]
    assert tuning_table(incomplete).iloc[0, -2] == "missing"
    at_edge = {"PIDM": [replace(point, scores={"lpips": 0.1 * number}) for number, point in enumerate(grid["PIDM"])]}
    assert tuning_sentences(at_edge) == ["At the edge of the grid, so that a rate outside may be better: PIDM (×1/4)."]
    assert tuning_grid(load_records(tuned, ["xinggan*"])) == {}


def test_values_of_validation_and_test_people_are_in_different_groups(tuned):
    groups = load_records(tuned).by_dataset()
    assert [heading.partition(" (")[0] for heading in groups] == ["synthetic 64x32", "synthetic 64x32, validation"]
    assert [{record.is_validation for record in group} for group in groups.values()] == [{False}, {True}]


def outputs_of(cell) -> str:
    return "".join(output["data"]["text/html"] for output in cell.get("outputs", ()))


def test_curves_have_a_page_and_a_damaged_one_is_named(tuned, tmp_path):
    paths = [NOTEBOOKS / f"{name}.ipynb" for name in ("learning", "ablation")]
    learning, ablation = run_notebooks(paths, {"runs": str(tuned), "output": str(tmp_path / "report")})
    told = "".join(map(outputs_of, learning.cells))
    headings = [cell.source for cell in without_empty_chapters(learning).cells if cell.cell_type == "markdown"]
    assert any("Who overtakes whom" in heading for heading in headings)
    assert "xinggan from 1,878" in told
    assert "xinggan throughout" not in told  # what the runs on validation people would say
    assert "0.3000 *" in told and "validation split" in told
    assert not any(map(outputs_of, ablation.cells))  # learning rates that were tried are no ablation
    (damaged,) = (record.directory for record in load_records(tuned) if record.name == "pidm")
    (damaged / "learning.json").write_text('{"points": [{"step": 3}]}')
    (record,) = (record for record in load_records(tuned) if record.name == "pidm")
    assert record.learning == []
    assert any("learning.json" in problem for problem in record.problems)
