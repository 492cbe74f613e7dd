"""Equal training compute: how many steps a method gets for a number of images, of seconds or of FLOPs.

`budget=images` (the default) counts training pairs, so the preset gives every method as many. `budget=seconds` measures
a step on this machine first; `budget=flops` counts one with PyTorch's counter, forward and backward. The plan is made
before the first step and kept in the run's plan.json, so that a run that is continued follows the same plan.
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from ablations.config import compose
from ablations.method import build_method
from ablations.settings import Budget
from xinggan.data.packed import PackedDataset
from xinggan.files import write_atomically
from xinggan.training.schedule import batch_indices, step_seed
from xinggan.training.settings import TrainingSettings

Measure = Callable[[Callable[[], object]], float]  # of a training step

PLAN = "plan.json"
STAGES = 4  # a method may train in stages of different cost: a step is looked at in the middle of each quarter
TIMED = 5  # steps timed in each of them, after one that warms up


def plan_training(config: DictConfig, data: PackedDataset, folder: Path, device: str) -> TrainingSettings:
    """The training that the configured budget allows, decay in proportion. Reads or writes `folder`/plan.json."""
    settings: TrainingSettings = OmegaConf.to_object(config.training)  # type: ignore[assignment]
    if config.budget == Budget.images and config.amount is None:
        return settings
    try:
        steps = json.loads((folder / PLAN).read_text())["steps"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        plan = _plan(config, settings, data, device)
        write_atomically(folder / PLAN, json.dumps(plan, indent=1) + "\n")
        steps = plan["steps"]
    return replace(settings, steps=steps, decay_steps=round(steps * settings.decay_steps / settings.steps))


def _plan(config: DictConfig, settings: TrainingSettings, data: PackedDataset, device: str) -> dict:
    """What is to be spent, what a step costs, and how many steps that makes, at least one."""
    amount = config.amount
    if config.budget == Budget.images:
        cost: float = settings.batch
    elif config.budget == Budget.seconds:
        cost = seconds_a_step(config, settings, data, device)
    else:
        cost = flops_a_step(config, settings, data, device)
        if amount is None:  # what XingGAN++ takes at this size
            usual = compose([f"preset={config.preset}", f"dataset={config.dataset.name}", "dataset.root=."])
            usual_settings: TrainingSettings = OmegaConf.to_object(usual.training)  # type: ignore[assignment]
            amount = usual_settings.steps * flops_a_step(usual, usual_settings, data, device)
    steps = max(1, round(amount / cost))
    return {"budget": str(config.budget), "amount": amount, "cost_of_a_step": cost, "steps": steps}


def flops_a_step(config: DictConfig, settings: TrainingSettings, data: PackedDataset, device: str) -> float:
    """Floating-point operations of a training step, all its forward and backward passes, averaged over STAGES."""
    from torch.utils.flop_counter import FlopCounterMode

    def counted(step: Callable[[], object]) -> float:
        with FlopCounterMode(display=False) as counter:
            step()
        return counter.get_total_flops()

    return statistics.fmean(_of_stages(config, settings, data, device, counted))


def seconds_a_step(config: DictConfig, settings: TrainingSettings, data: PackedDataset, device: str) -> float:
    """Seconds of a training step on this device, the median of TIMED, averaged over STAGES."""
    from xinggan.timing.device import synchronise

    def timed(step: Callable[[], object]) -> float:
        samples = []
        for _ in range(TIMED + 1):
            began = time.perf_counter()
            step()
            synchronise(device)
            samples.append(time.perf_counter() - began)
        return statistics.median(samples[1:])

    return statistics.fmean(_of_stages(config, settings, data, device, timed))


def _of_stages(
    config: DictConfig, settings: TrainingSettings, data: PackedDataset, device: str, measure: Measure
) -> list[float]:
    """`measure` of a step in the middle of each stage, on a method of its own that is thrown away afterwards."""
    method = build_method(config, device)
    method.planned_steps = settings.steps
    method.begin(data.train)
    method.train()
    measured = []
    for stage in range(STAGES):
        step = (2 * stage + 1) * settings.steps // (2 * STAGES)
        torch.manual_seed(step_seed(config.seed, step))
        batch = data.train.batch(batch_indices(config.seed, step, settings.batch, len(data.train))).to(device)
        measured.append(measure(partial(method.training_step, batch, step)))
    return measured
