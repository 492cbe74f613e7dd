"""Timing of one method as it stands: inference latency at a batch size, and the training steps of the run.

A scenario says under what it was measured; every raw sample is kept, the first call (autotuning, compilation) apart.
"""

import resource
import sys
import time
from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from xinggan.data.packed import PackedSplit
from xinggan.model.method import Method
from xinggan.training.schedule import image_seeds

WARM_UP_CALLS = 3
CALLS = 20
SECONDS = 5.0  # a slow scenario stops after this long, but not before it has five samples


@dataclass
class Scenario:
    """One measurement; times in milliseconds a call (`inference`: a batch; `training`: a step)."""

    kind: str  # inference | training
    method: str
    device: str
    precision: str
    batch: int
    height: int
    width: int
    mode: str = "eager"
    evaluations: int = 1  # network evaluations an image
    threads: int = 0
    first_call_ms: float | None = None
    samples_ms: list[float] = field(default_factory=list)
    peak_memory_mb: float | None = None
    unavailable_because: str | None = None

    def record(self) -> dict:
        """As in timing.json: with median, percentiles and images a second, null where nothing was measured."""
        samples = np.array(self.samples_ms)
        summary: dict[str, float | None] = dict.fromkeys(
            ("median_ms", "p5_ms", "p95_ms", "p99_ms", "images_per_second")
        )
        if len(samples):
            p5, median, p95, p99 = np.percentile(samples, [5, 50, 95, 99]).tolist()
            speed = 1000 * self.batch / median
            summary = {"median_ms": median, "p5_ms": p5, "p95_ms": p95, "p99_ms": p99, "images_per_second": speed}
        return asdict(self) | summary


@torch.no_grad()
def time_inference(method: Method, name: str, split: PackedSplit, device: str, batch: int) -> Scenario:
    """Time `generate` on a batch already on the device: bytes and keypoints in, images out, heatmaps included."""
    scenario = Scenario(
        "inference", name, device_name(device), method.precision, batch, split.height, split.width,
        threads=torch.get_num_threads(),
    )  # fmt: skip
    rows = np.arange(batch) % len(split)
    pairs, seeds = split.batch(rows).to(device), torch.from_numpy(image_seeds(0, rows)).to(device)
    method.eval()

    def call_ms() -> float:
        began = time.perf_counter()
        method.generate_pairs(pairs, seeds)
        synchronise(device)
        return 1000 * (time.perf_counter() - began)

    reset_peak_memory(device)
    scenario.first_call_ms = call_ms()
    warm_up = min(WARM_UP_CALLS, int(1000 * SECONDS / scenario.first_call_ms) + 1)
    for _ in range(warm_up):
        call_ms()
    began = time.perf_counter()
    while len(scenario.samples_ms) < CALLS:
        scenario.samples_ms.append(call_ms())
        if len(scenario.samples_ms) >= 5 and time.perf_counter() - began > SECONDS:
            break
    scenario.peak_memory_mb = peak_memory_mb(device)
    return scenario


def synchronise(device: str) -> None:
    """Wait until the device has done what it was asked."""
    if str(device).startswith("cuda"):
        torch.cuda.synchronize(device)


def reset_peak_memory(device: str) -> None:
    """Forget the peak so far, where the device can."""
    if str(device).startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mb(device: str) -> float | None:
    """Peak memory of the device's allocator since the last reset; None on a CPU, which keeps no such count."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if str(device).startswith("cuda") else None


def process_peak_memory_mb() -> float:
    """Peak memory of this process since it began: what a process that does one thing alone needed for it."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def device_name(device: str) -> str:
    """The accelerator's name, or `cpu`."""
    return torch.cuda.get_device_name(device) if str(device).startswith("cuda") else str(device)


def multiply_accumulates(method: Method, split: PackedSplit, device: str) -> int | None:
    """Multiply-accumulates of one generated image (PyTorch's FLOP counter, halved); None where it counts none."""
    from torch.utils.flop_counter import FlopCounterMode

    method.eval()
    batch, seeds = split.batch([0]).to(device), torch.zeros(1, dtype=torch.int64, device=device)
    learnt = [parameter for parameter in method.parameters() if parameter.requires_grad]
    try:
        for parameter in learnt:  # the counter fails on a parameter that a module is given as its input
            parameter.requires_grad_(False)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            method.generate_pairs(batch, seeds)
    finally:
        for parameter in learnt:
            parameter.requires_grad_(True)
    return counter.get_total_flops() // 2 or None
