"""Equal training compute: how many steps a method gets for a number of images, of seconds or of FLOPs.

`budget=images` (the default) counts training pairs, so the preset gives every method as many. `budget=seconds` measures
a step on this machine first; `budget=flops` counts one with PyTorch's counter, forward and backward. The plan is made
before the first step and kept in the run's plan.json, so that a run that is continued follows the same plan.
"""

import math
import statistics
from dataclasses import replace
from functools import cache
from pathlib import Path

from ablations.config import Budget, Experiment, build_method, compose
from ablations.record import RunRecord
from xinggan.data.packed import PackedDataset
from xinggan.timing.counts import operations
from xinggan.timing.measurement import measure_here, training_calls
from xinggan.timing.scenario import Task
from xinggan.training.settings import TrainingSettings

PARTS = 20  # of a training whose operations are counted: stages of training take multiples of 5 % of the steps
SAME_STAGE = 0.01  # by how much, relatively, the operations of two steps of one stage may differ


def plan_training(config: Experiment, data: PackedDataset, folder: Path, device: str) -> TrainingSettings:
    """The training that the configured budget allows, decay in proportion. Reads or writes `folder`/plan.json."""
    settings = config.training
    assert settings is not None  # what is not trained has no budget
    if config.budget == Budget.images and config.amount is None:
        return settings
    record = RunRecord(folder)
    plan = record.read("plan.json", {})
    if "steps" not in plan:
        amount = config.amount
        if config.budget == Budget.images:
            cost: float = settings.batch
        elif config.budget == Budget.seconds:
            cost = seconds_a_step(config, settings, data, device)
        else:
            cost = flops_a_step(config, settings, data, device)
            if amount is None:  # what XingGAN++ takes at this size
                usual = compose([f"preset={config.preset}", f"dataset={config.dataset.name}", "dataset.root=."])
                assert usual.training is not None
                amount = usual.training.steps * flops_a_step(usual, usual.training, data, device)
        assert amount is not None  # the configuration refuses budget=seconds without one
        steps = max(1, round(amount / cost))
        plan = {"budget": str(config.budget), "amount": amount, "cost_of_a_step": cost, "steps": steps}
        record.write("plan.json", plan)
    steps = plan["steps"]
    return replace(settings, steps=steps, decay_steps=round(steps * settings.decay_steps / settings.steps))


def flops_a_step(config: Experiment, settings: TrainingSettings, data: PackedDataset, device: str) -> float:
    """Floating-point operations of a training step, forward and backward, the mean over the training."""
    return statistics.fmean(flops_of_parts(config, settings, data, device))


def flops_of_parts(config: Experiment, settings: TrainingSettings, data: PackedDataset, device: str) -> list[float]:
    """Floating-point operations of a training step, forward and backward, in each of PARTS equal parts of training.

    Stages follow one another, so parts between two that take the same (to SAME_STAGE) are not counted themselves.
    """
    method = build_method(config, device)
    where = (settings.batch, settings.steps, settings.decay_steps, PARTS)
    steps = training_calls(method, data.train, device, *where)

    @cache
    def of_step_in(part: int) -> int:
        return operations(method, steps[part])

    def of_parts(first: int, end: int) -> list[float]:
        if math.isclose(of_step_in(first), of_step_in(end - 1), rel_tol=SAME_STAGE):
            return [of_step_in(first)] * (end - first)
        middle = (first + end) // 2
        return of_parts(first, middle) + of_parts(middle, end)

    return of_parts(0, PARTS)


def flops_until(step: int, steps: int, added: int, parts: list[float]) -> float:
    """Floating-point operations of a training up to `step`, of `steps` planned ones after `added` that a method adds.

    parts: those of a step in each of equal parts of the planned ones. Of the added ones each counts as the mean.
    """
    place = max(0, step - added) / steps * len(parts)
    whole = int(place)
    planned = sum(parts[:whole]) + (parts[whole] * (place - whole) if whole < len(parts) else 0.0)
    return planned * steps / len(parts) + min(step, added) * statistics.fmean(parts)


def seconds_a_step(config: Experiment, settings: TrainingSettings, data: PackedDataset, device: str) -> float:
    """Seconds of a training step on this device, the median of a few samples, each the mean over the stages."""
    task = Task(
        "training", config.method_name, {}, "", device, batch=settings.batch,
        training_steps=settings.steps, decay_steps=settings.decay_steps,
    )  # fmt: skip
    scenario = measure_here(task, build_method(config, device), data, calls=5)
    return statistics.median(scenario.samples_ms) / 1000
