"""What is timed: one call of `generate` on a batch, or one training step, with everything that belongs to it."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from xinggan.data.packed import PackedSplit
from xinggan.model.method import Method
from xinggan.timing.counts import evaluations, outermost_networks
from xinggan.timing.device import device_name, peak_memory_mb, reset_peak_memory, timed
from xinggan.timing.scenario import Scenario
from xinggan.training.schedule import batch_indices, image_seeds, learning_rate_factor, step_seed

WARM_UP_CALLS = 3
CALLS = 20
SECONDS = 5.0  # a slow scenario stops after this long, but not before it has five samples
STAGES = 4  # a method may train in stages of different cost: a step is timed in the middle of each quarter


def inference_call(method: Method, split: PackedSplit, device: str, batch: int) -> Callable[[], object]:
    """`generate` on a batch already on the device: bytes and keypoints in, images out, heatmaps included.

    So are source encoders and autoencoders, which every image needs anew.
    """
    rows = np.arange(batch) % len(split)
    pairs, seeds = split.batch(rows).to(device), torch.from_numpy(image_seeds(0, rows)).to(device)
    method.eval()

    def call() -> None:
        with torch.no_grad():
            method.generate_pairs(pairs, seeds)

    return call


def training_calls(
    method: Method, split: PackedSplit, device: str, batch: int, steps: int, decay_steps: int
) -> list[Callable[[], object]]:
    """A training step in the middle of each of STAGES parts of a training of so many steps, as the trainer takes it.

    From the packed data to the updated weights: batch to the device, heatmaps, losses, optimisers. Evaluation points,
    checkpoints and the moving average are not in it. Afterwards the weights are of no more use.
    """
    method.planned_steps, method.train_split = steps, split
    method.begin(split)
    method.train()

    def call(step: int) -> None:
        torch.manual_seed(step_seed(0, step))
        pairs = split.batch(batch_indices(0, step, batch, len(split))).to(device)
        method.scale_learning_rates(learning_rate_factor(step, steps, decay_steps))
        method.training_step(pairs, step)

    return [partial(call, (2 * stage + 1) * steps // (2 * STAGES)) for stage in range(STAGES)]


def yardstick_call(device: str) -> Callable[[], object]:
    """A large convolution, and many small ones whose cost is that of starting them: a few milliseconds of both.

    It is the same at all times, so that what it takes tells how fast the machine is at the moment. A machine may become
    slower in one of the two alone: small operations double where a second core has to be woken for each.
    """
    random = torch.Generator().manual_seed(0)
    large = torch.randn(1, 128, 64, 32, generator=random).to(device, memory_format=torch.channels_last)
    small = torch.randn(1, 16, 16, 8, generator=random).to(device, memory_format=torch.channels_last)
    weights = [torch.randn(c, c, 3, 3, generator=random).div(3 * c**0.5).to(device) for c in (128, 16)]

    def call() -> None:
        with torch.no_grad():
            torch.nn.functional.conv2d(large, weights[0], padding=1).relu_().add_(large)
            maps = small
            for _ in range(50):
                maps = torch.nn.functional.conv2d(maps, weights[1], padding=1).relu_()

    return call


def time_inference(method: Method, name: str, split: PackedSplit, device: str, batch: int) -> Scenario:
    """Time `generate` of a method as it stands, in this process."""
    scenario = Scenario(
        "inference", name, device_name(device), method.precision, batch, split.height, split.width,
        threads=torch.get_num_threads(),
    )  # fmt: skip
    call = inference_call(method, split, device, batch)
    reset_peak_memory(device)
    scenario.first_call_ms, _ = timed(call, device)
    for _ in range(min(WARM_UP_CALLS, int(1000 * SECONDS / scenario.first_call_ms) + 1)):
        timed(call, device)
    began = time.perf_counter()
    while len(scenario.samples_ms) < CALLS:
        wall_ms, device_ms = timed(call, device)
        scenario.samples_ms.append(wall_ms)
        scenario.device_ms += [] if device_ms is None else [device_ms]
        if len(scenario.samples_ms) >= 5 and time.perf_counter() - began > SECONDS:
            break
    scenario.rounds = [len(scenario.samples_ms)]
    scenario.peak_memory_mb = peak_memory_mb(device)
    scenario.memory_of = None if scenario.peak_memory_mb is None else "device"
    scenario.evaluations = evaluations(outermost_networks(method, call), batch)
    return scenario
