"""What one training step costs at a given size: time and peak memory of variants, each in a process of its own.

    python -m xinggan.timing.step --height 256 --width 176 --batch 1 scale=multi scale=single

A variant is words of `xinggan.model.switches.Architecture`, joined by commas: `scale=single,attention=plain,blocks=3`.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import fields

COLUMNS = ("variant", "median step, ms", "first step, ms", "peak memory, MB", "parameters")


def main(arguments: list[str] | None = None) -> int:
    """Measure each variant and print one row for it; returns 1 if one of them failed."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m xinggan.timing.step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--height", type=int, default=128, help="pixels (128)")
    parser.add_argument("--width", type=int, default=64, help="pixels (64)")
    parser.add_argument("--batch", type=int, default=1, help="pairs a step (1)")
    parser.add_argument("--steps", type=int, default=5, help="steps measured after the first (5)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("variants", nargs="*", default=["scale=multi", "scale=single"], metavar="key=value,...")
    options = parser.parse_args(arguments)

    if options.here:
        (variant,) = options.variants
        print(json.dumps(measure(variant, options)))
        return 0
    print("  ".join(COLUMNS))
    failed = False
    for variant in options.variants:
        command = [sys.executable, "-m", "xinggan.timing.step", "--here", variant]
        for option in ("height", "width", "batch", "steps", "device", "precision"):
            command += [f"--{option}", str(getattr(options, option))]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            failed = True
            print(f"{variant}  failed: {reason_of(done)}", flush=True)
        else:
            print("  ".join(str(cell) for cell in json.loads(done.stdout.splitlines()[-1])), flush=True)
    return int(failed)


def reason_of(done: subprocess.CompletedProcess) -> str:
    """Why a variant's process failed: its signal, else the last line it wrote to standard error, else its status."""
    if done.returncode < 0:
        return f"killed by signal {-done.returncode}"
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit {done.returncode}"


def measure(variant: str, options: argparse.Namespace) -> list:
    """One row for a variant: the whole training step, discriminators, optimisers and perceptual loss included."""
    import statistics
    import time

    import torch

    from xinggan.data.batch import PosePair
    from xinggan.model.switches import Architecture
    from xinggan.model.xing import XingGAN
    from xinggan.timing.device import peak_memory_mb, process_peak_memory_mb, synchronise

    method = XingGAN(architecture_of(variant, Architecture), history=0).to(options.device)
    method.precision = options.precision
    random = torch.Generator().manual_seed(0)
    size = (options.batch, options.height, options.width, 3)
    images = [torch.randint(0, 256, size, generator=random, dtype=torch.uint8).permute(0, 3, 1, 2) for _ in range(2)]
    corner = torch.tensor([options.width, options.height])
    poses = [torch.rand(options.batch, 18, 2, generator=random) * corner for _ in range(2)]
    poses = [torch.cat([pose, torch.ones(options.batch, 18, 1)], dim=2) for pose in poses]
    mask, numbers = torch.ones(options.batch, 1, *size[1:3], dtype=torch.bool), torch.arange(options.batch)
    batch = PosePair(images[0], poses[0], images[1], poses[1], mask, numbers, numbers).to(options.device)

    times = []
    for step in range(options.steps + 1):
        began = time.perf_counter()
        method.training_step(batch, step)
        synchronise(options.device)
        times.append(1000 * (time.perf_counter() - began))
    parameters = sum(p.numel() for p in method.generator.parameters())
    memory = round(peak_memory_mb(options.device) or process_peak_memory_mb())
    return [variant, round(statistics.median(times[1:])), round(times[0]), memory, parameters]


def architecture_of(variant: str, kind: type):
    """`scale=single,blocks=3` -> Architecture. Raises ValueError for an unknown key or value."""
    types = {field.name: field.type for field in fields(kind)}
    values = {}
    for word in filter(None, variant.split(",")):
        key, _, value = word.partition("=")
        if key not in types or key == "pyramid":
            raise ValueError(f"{word!r}: accepted keys are {', '.join(k for k in types if k != 'pyramid')}")
        convert = types[key]
        if convert is bool and value not in ("true", "false"):
            raise ValueError(f"{word!r}: accepted values are true and false")
        values[key] = value == "true" if convert is bool else convert(value)  # type: ignore[operator]
    return kind(**values)


if __name__ == "__main__":
    sys.exit(main())
