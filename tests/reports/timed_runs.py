"""Run records whose timing scenarios are chosen."""

import json
from pathlib import Path
from typing import Any

from reports.records import Records, load_records

PAPER = {"preset": "paper", "dataset": {"name": "deepfashion", "height": 256, "width": 176}}
PIDM = {"_target_": "baselines.diffusion.pidm.PIDM", "sampler": "ddim", "steps": 50}


def scenario(kind: str = "inference", median_ms: float = 10.0, batch: int = 1, **others: Any) -> dict[str, Any]:
    samples = [median_ms * factor for factor in (0.9, 1.0, 1.1)]
    percentiles = {"median_ms": median_ms, "p5_ms": samples[0], "p95_ms": samples[2], "p99_ms": samples[2]}
    place = {"device": "cpu", "precision": "fp32", "mode": "eager", "height": 64, "width": 32, "batch": batch}
    speed = {"images_per_second": 1000 * batch / median_ms, "samples_ms": samples, "sampling_steps": None}
    return {"kind": kind, **place, **percentiles, **speed, "unavailable_because": None, **others}


def write(directory: Path, scenarios: list[dict[str, Any]], **facts: Any) -> None:
    (directory / "timing.json").write_text(json.dumps({"scenarios": scenarios, **facts}))


def three(fabricate, names: tuple[str, str, str] = ("xinggan", "patn", "pidm"), **config: Any) -> Records:
    """XingGAN++ fast and good, PATN faster and worse, PIDM slow and in between; PIDM with two samplers more."""
    values = ((0.6, 10, 20), (0.4, 5, 10), (0.5, 200, 600))
    for name, (quality, ms, hours) in zip(names, values, strict=True):
        is_pidm = name.startswith("pidm")
        facts = {"method": PIDM} if is_pidm else {}
        directory = fabricate.run(name, name, metrics=(quality, 1 - quality, quality), **facts, **config)
        schedule = {"dataset": "deepfashion", "steps": 1000, "batch": 8, "hours": hours, "published": name != "patn"}
        evaluated = {"evaluations": 100 if is_pidm else 1}
        scenarios = [
            scenario(median_ms=ms, **evaluated),
            scenario(median_ms=3 * ms, batch=4, **evaluated),
            scenario(median_ms=ms / 2, precision="bf16", mode="compiled", **evaluated),
            scenario("training", median_ms=2 * ms, batch=8, schedule=schedule),
        ]
        if is_pidm:
            for sampler, steps, branches in (("ddim", 20, 2), ("dpmsolver++", 10, 1)):
                sweep = {"sampler": sampler, "sampling_steps": steps, "evaluations": steps * branches}
                scenarios.append(scenario(median_ms=ms * steps * branches / 100, **sweep))
        noise = {"worst": 0.034, "too_noisy": False, "says": "quiet"}
        write(directory, scenarios, noise=noise)
    return load_records(fabricate.folder)
