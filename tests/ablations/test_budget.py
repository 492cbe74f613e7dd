"""Equal training compute: steps from images, seconds or FLOPs, planned once for a run."""

import json

import pytest

from ablations.budget import flops_a_step, flops_of_parts, flops_until, plan_training
from ablations.config import compose
from ablations.run import main

SMOKE = ["preset=smoke", "dataset.height=32", "dataset.width=16"]


def planned(people, folder, *words):
    folder.mkdir(exist_ok=True)
    return plan_training(compose([*SMOKE, *words]), people, folder, "cpu")


def test_without_a_budget_the_preset_decides(people, tmp_path):
    settings = planned(people, tmp_path)
    assert (settings.steps, settings.decay_steps) == (6, 3)
    assert not (tmp_path / "plan.json").exists()


def test_images_are_steps_of_batches_and_the_decay_keeps_its_share(people, tmp_path):
    settings = planned(people, tmp_path, "amount=80", "training.batch=4")
    assert (settings.steps, settings.decay_steps) == (20, 10)


def test_flops_are_what_xinggan_plus_plus_takes_and_a_cheaper_method_gets_more_steps(people, tmp_path):
    usual = planned(people, tmp_path / "usual", "budget=flops")
    assert usual.steps == 6
    cheaper = ["blocks=1", "discriminators=none"]
    more = planned(people, tmp_path / "cheaper", "budget=flops", *cheaper)
    plan = json.loads((tmp_path / "cheaper" / "plan.json").read_text())
    config = compose([*SMOKE, *cheaper])
    assert more.steps > usual.steps
    assert plan["cost_of_a_step"] == flops_a_step(config, more, people, "cpu")
    assert abs(more.steps * plan["cost_of_a_step"] - plan["amount"]) <= plan["cost_of_a_step"] / 2


def test_operations_of_a_training_in_stages_are_those_of_the_stages_it_has_gone_through(people):
    config = compose([*SMOKE, "method=gfla", "training.steps=40", "training.decay_steps=0"])
    parts = flops_of_parts(config, config.training, people, "cpu")
    assert parts == pytest.approx([parts[0]] * 5 + [parts[-1]] * 15, rel=1e-2)  # a quarter trains the flow alone
    assert parts[0] < 0.9 * parts[-1]
    parts = [1.0] * 5 + [3.0] * 15
    assert flops_until(4, 40, 0, parts) == pytest.approx(4)
    assert flops_until(13, 40, 0, parts) == pytest.approx(10 + 3 * 3)
    assert flops_until(40, 40, 0, parts) == pytest.approx(10 + 30 * 3)
    assert flops_until(13, 40, 20, parts) == pytest.approx(13 * 2.5)  # within the added steps, which count as the mean
    assert flops_until(24, 40, 20, parts) == pytest.approx(20 * 2.5 + 4)


def test_a_continued_run_follows_the_plan_that_it_began_with(people, tmp_path):
    first = planned(people, tmp_path, "budget=seconds", "amount=0.5")
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert first.steps == plan["steps"] == max(1, round(0.5 / plan["cost_of_a_step"]))
    plan["steps"] = 7  # as if a slower machine had planned
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert planned(people, tmp_path, "budget=seconds", "amount=0.5").steps == 7


def test_a_run_trains_for_its_budget(tmp_path):
    words = [*SMOKE, "dataset.mask_radius=1", "device=cpu", f"runs={tmp_path / 'runs'}", f"cache={tmp_path / 'data'}"]
    assert main(["--no-report", *words, "amount=8"]) == 0
    (folder,) = (tmp_path / "runs").glob("xinggan-*")
    status = json.loads((folder / "status.json").read_text())
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert status["steps"] == max(line["step"] for line in history) == 2
