"""Trainings that diverged, exploded or stopped are named with their step; others are not."""

import json
import statistics
import traceback
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reports.divergence import COLUMNS, EXPLODED, FEWEST, WINDOW, divergence_table, trained
from reports.records import load_records
from xinggan.distributed import Processes
from xinggan.training.loop import Divergence, _mean_losses

STEP, WHAT = COLUMNS.index("step"), COLUMNS.index("what happened")


def write_history(directory, losses: dict[str, list[float]]) -> None:
    names = list(losses)
    rows = [
        {"step": 10 * line, "losses": dict(zip(names, values, strict=True))}
        for line, values in enumerate(zip(*losses.values(), strict=True), start=1)
    ]
    (directory / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows_of(fabricate) -> list[list[str]]:
    return divergence_table(load_records(fabricate.folder)).to_numpy().tolist()


def falling(lines: int = 40, seed: int = 0) -> list[float]:
    rng = np.random.default_rng(seed)
    return (10 * np.exp(-np.arange(lines) / 20) * (1 + 0.2 * rng.random(lines))).tolist()


def test_what_the_trainer_raises_is_found_with_loss_and_step(fabricate):
    """The error's text is the trainer's own."""
    split = type("Split", (), {"__len__": lambda self: 9, "pair_id": lambda self, pair: f"a___{pair}"})()
    recent = [{"l1": torch.tensor(1.0)}, {"l1": torch.tensor(float("nan"))}]
    try:
        _mean_losses(recent, 8, 0, 2, SimpleNamespace(train=split), Processes())
    except Divergence as error:
        raised = "".join(traceback.format_exception(error))
    directory = fabricate.run(state="failed")
    status = json.loads((directory / "status.json").read_text())
    (directory / "status.json").write_text(json.dumps(status | {"error": raised}))
    (row,) = rows_of(fabricate)
    assert row[1:4] == ["diverged: l1 became nan", "7", "400"]


def test_other_failures_and_interruptions_are_named_with_the_step_they_reached(fabricate):
    fabricate.run("a", "a", state="failed")
    fabricate.run("b", "b", state="preempted")
    fabricate.run("c", "c", state="running")
    fabricate.run("d", "d")
    silent = fabricate.run("e", "e", state="failed") / "status.json"
    silent.write_text(json.dumps(json.loads(silent.read_text()) | {"error": " \n"}))
    rows = rows_of(fabricate)
    assert [row[0] for row in rows] == ["a", "b", "c", "e"] and {row[STEP] for row in rows} == {"120"}
    assert rows[3][WHAT] == "failed: the record does not say why"
    assert rows[0][WHAT] == "failed: FloatingPointError: <b>loss</b> is nan"
    assert "the same command continues" in rows[1][WHAT] and "still running, or killed" in rows[2][WHAT]


@pytest.mark.parametrize("back", [True, False])
def test_loss_that_explodes_is_found_where_a_slow_running_median_finds_it(fabricate, back):
    l1, adversarial = falling(), [0.7] * 40
    place = 25
    l1[place:] = [60.0, 80.0, *l1[place + 2 :]] if back else [60.0] * (40 - place)
    write_history(fabricate.run(), {"l1": l1, "adversarial": adversarial, "gradient_l1": [1.0, *[1e6] * 39]})
    total = [sum(pair) for pair in zip(l1, adversarial, strict=True)]
    medians = {line: statistics.median(total[max(0, line - WINDOW) : line]) for line in range(FEWEST, 40)}
    first = next(line for line, median in medians.items() if total[line] > EXPLODED * median)
    (row,) = rows_of(fabricate)
    assert first == place and row[STEP] == str(10 * (first + 1))
    assert row[WHAT] == f"exploded, most of it l1; {'came back' if back else 'did not come back'}"
    assert float(row[4]) == pytest.approx(total[first], rel=0.01)
    assert float(row[5]) == pytest.approx(medians[first], rel=0.01)


def test_training_in_stages_is_taken_stage_by_stage(fabricate):
    """The autoencoder's small losses end where the large ones of diffusion begin; the second stage then explodes."""
    vae = [0.02] * 20
    denoising = [0.9] * 20
    write_history(fabricate.run("a", "a"), {"vae": vae + [0.0] * 20, "denoising": [0.0] * 20 + denoising})
    assert rows_of(fabricate) == []
    write_history(
        fabricate.run("b", "b"), {"vae": vae + [0.0] * 20, "denoising": [0.0] * 20 + [*denoising[:15], *[9.0] * 5]}
    )
    (row,) = rows_of(fabricate)
    assert (row[0], row[STEP]) == ("b", "360") and "most of it denoising; did not come back" in row[WHAT]


def test_steady_trainings_and_short_ones_are_not_called_exploded(fabricate):
    write_history(fabricate.run("a", "a"), {"l1": falling(), "gradient_l1": [1.0, *[1e4] * 39]})
    write_history(fabricate.run("c", "c"), {"l1": [1.0, 9.0]})
    assert rows_of(fabricate) == []


def test_value_that_is_not_finite_in_a_history_is_found_even_if_the_run_went_on(fabricate):
    write_history(fabricate.run(), {"l1": [1.0, 0.9, float("nan"), 0.8], "perceptual": [1.0] * 4})
    (row,) = rows_of(fabricate)
    assert row[1:3] == ["diverged: l1 became nan", "30"]


def test_references_are_not_trained(fabricate):
    run = fabricate.run()
    fabricate.references()
    assert [record.run for record in trained(load_records(fabricate.folder))] == [run.name]
    assert rows_of(fabricate) == []
