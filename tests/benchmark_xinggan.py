"""How much faster the suite's XingGAN is than the plain one, and XingGAN++ against XingGAN: ratios from one run.

    python tests/benchmark_xinggan.py [--only inference|training|memory] [--rounds 5]

At full width: 128x64 with batch 8 and BatchNorm (Market-1501), 256x176 with batch 1 and InstanceNorm (DeepFashion).
Each round calls all of them in turn, so that a machine that slows down slows all alike; printed are medians and ratios.
Memory is the peak of a process of its own over two training steps.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from plain_xinggan import PlainTraining, plain_generator

from xinggan.data.batch import PosePair, images_to_float
from xinggan.model.generator import XingGenerator, initialise_generator, xinggan
from xinggan.model.method import Method
from xinggan.model.switches import Architecture, LossWeights, Norm
from xinggan.model.xing import XingGAN
from xinggan.timing.device import process_peak_memory_mb

SIZES = {"128x64": (8, 128, 64, Norm.batch), "256x176": (1, 256, 176, Norm.instance)}


def random_batch(count: int, height: int, width: int) -> PosePair:
    """Noise in place of people; joints anywhere, all seen."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, count, 3, height, width), generator=random, dtype=torch.uint8)
    places = torch.rand(2, count, 18, 2, generator=random) * torch.tensor([width, height])
    poses = torch.cat([places, torch.ones(2, count, 18, 1)], dim=-1)
    numbers = torch.arange(count)
    mask = torch.ones(count, 1, height, width, dtype=torch.bool)
    return PosePair(images[0], poses[0], images[1], poses[1], mask, numbers, numbers)


def architectures(norm: Norm) -> dict[str, Architecture]:
    return {"XingGAN": xinggan(norm=norm), "XingGAN++": Architecture(norm=norm)}


def inference(size: str) -> dict[str, Callable[[], object]]:
    """Name -> a call of the generator on inputs that lie ready."""
    count, height, width, norm = SIZES[size]
    batch = random_batch(count, height, width)
    calls: dict[str, Callable[[], object]] = {}
    for name, architecture in architectures(norm).items():
        generator = XingGenerator(architecture).eval()
        initialise_generator(generator, 0)
        inputs = [images_to_float(batch.source_image), *torch.rand(2, count, 18, height, width)]
        if name == "XingGAN":
            calls["plain"] = _call(plain_generator(generator), inputs)
        generator = generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = [tensor.contiguous(memory_format=torch.channels_last) for tensor in inputs]
        calls[name] = _call(generator, inputs)
        calls[f"{name}, bfloat16"] = _call(generator, inputs, torch.bfloat16)
    return calls


def _call(generator: torch.nn.Module, inputs: list, dtype: torch.dtype | None = None) -> Callable[[], object]:
    def call() -> object:
        with torch.no_grad(), torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            return generator(*inputs)

    return call


def training(size: str) -> dict[str, Callable[[], object]]:
    """Name -> a step of generator and both discriminators: losses, gradients, optimisers."""
    count, height, width, norm = SIZES[size]
    batch = random_batch(count, height, width)
    calls: dict[str, Callable[[], object]] = {}
    for name, architecture in architectures(norm).items():
        for precision in ("fp32", "bf16"):
            method = method_of(architecture, precision)
            label = f"{name}, bfloat16" if precision == "bf16" else name
            calls[label] = lambda method=method: method.training_step(batch, 0)
            if label == "XingGAN":
                calls = {"plain": plain_step(method, batch), **calls}
    return calls


def method_of(architecture: Architecture, precision: str) -> Method:
    method = XingGAN(architecture, LossWeights(perceptual=0), history=0).train()
    method.precision = precision
    return method


def plain_step(method: XingGAN, batch: PosePair) -> Callable[[], object]:
    source, target = images_to_float(batch.source_image), images_to_float(batch.target_image)
    maps = [method._maps(pose, source).contiguous() for pose in (batch.source_pose, batch.target_pose)]
    plain, inputs = PlainTraining(method), [source.contiguous(), *maps, target.contiguous()]
    return lambda: plain.step(*inputs)


def measure(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each round, after one round that is not counted."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if number:
                samples[name].append(time.perf_counter() - began)
    return samples


def report(title: str, samples: dict[str, list[float]]) -> None:
    plain = statistics.median(samples["plain"])
    print(f"\n{title}")
    for name, seconds in samples.items():
        median = statistics.median(seconds)
        print(f"  {name:<22} {1000 * median:9.0f} ms   {plain / median:5.2f} times the plain one's speed", flush=True)
    for suffix in ("", ", bfloat16"):
        ratio = statistics.median(samples[f"XingGAN++{suffix}"]) / statistics.median(samples[f"XingGAN{suffix}"])
        print(f"  XingGAN++{suffix} takes {ratio:.2f} times XingGAN's time")


def report_memory(size: str) -> None:
    """Peak memory of a process that makes two training steps, less that of one that has only imported."""
    print(f"\npeak memory of training at {size}, above a process that only imports")
    peaks = {}
    for kind in ("nothing", "plain", "XingGAN", "XingGAN, bfloat16", "XingGAN++", "XingGAN++, bfloat16"):
        answer = subprocess.run([sys.executable, __file__, "--peak", size, kind], capture_output=True, check=True)
        peaks[kind] = float(answer.stdout)
        if kind != "nothing":
            peaks[kind] -= peaks["nothing"]
            share = peaks[kind] / peaks["plain"]
            print(f"  {kind:<22} {peaks[kind]:9.0f} MB   {share:5.2f} of the plain one's", flush=True)


def peak_mb(size: str, kind: str) -> float:
    count, height, width, norm = SIZES[size]
    if kind != "nothing":
        name, _, low = kind.partition(", ")
        batch = random_batch(count, height, width)
        method = method_of(architectures(norm)["XingGAN" if name == "plain" else name], "bf16" if low else "fp32")
        call = plain_step(method, batch) if name == "plain" else (lambda: method.training_step(batch, 0))
        call()
        call()
    return process_peak_memory_mb()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["inference", "training", "memory"])
    parser.add_argument("--size", choices=SIZES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak", nargs=2, metavar=("SIZE", "KIND"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print(peak_mb(*options.peak))
        return
    from ablations.record import environment

    found = environment()
    print(f"{found['cpu']}, {found['threads']} threads, PyTorch {torch.__version__}")
    for size in [options.size] if options.size else SIZES:
        count = SIZES[size][0]
        if options.only in (None, "inference"):
            with torch.autocast("cpu", enabled=False):  # around all calls, so that weights are cast to bfloat16 once
                report(f"inference at {size}, batch {count}", measure(inference(size), options.rounds))
        if options.only in (None, "training"):
            report(f"a training step at {size}, batch {count}", measure(training(size), options.rounds))
        if options.only in (None, "memory"):
            report_memory(size)


if __name__ == "__main__":
    main()
