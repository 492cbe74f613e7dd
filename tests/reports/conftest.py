"""Run records written by hand in the suite's format, with small drawn images: finished and failed runs, references.

And the browser that pages are opened in."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image, ImageDraw

PROTOCOLS = {
    "ssim": {"name": "clean", "library": "batched torch", "ssim": {"sigma_px": 1.5, "data_range": 255.0}},
    "l1": {"name": "clean", "l1": {"low": 0.0, "high": 1.0}},
    "pckh_embedded": {"name": "clean", "network": "pose_estimator", "weights_sha256": "ab" * 32},
    "fid": {"name": "clean", "library": "torch-fidelity", "reference": "real test targets"},
}
NO_INCEPTION = "weights-inception-2015-12-05.pth is not in the torch-fidelity cache; put it there"
FLOORS = {"copy_source": (0.31, 0.12, 0.42), "mean_image": (0.34, 0.14, 0.08), "ground_truth": (1.0, 0.0, 0.97)}
LOSSES = ("l1", "adversarial_appearance", "adversarial_shape", "perceptual")


def person(rng: np.random.Generator, height: int = 64, width: int = 32, blur: bool = False) -> Image.Image:
    """A coloured stick of a person: enough to see whether the right image stands in the right place."""
    upper, lower, ground = (tuple(int(v) for v in rng.integers(40, 230, 3)) for _ in range(3))
    image = Image.new("RGB", (width, height), ground)
    draw, middle = ImageDraw.Draw(image), width // 2 + int(rng.integers(-3, 4))
    draw.ellipse((middle - 4, 4, middle + 4, 13), fill=(224, 184, 150))
    draw.rectangle((middle - 7, 14, middle + 7, 36), fill=upper)
    draw.rectangle((middle - 6, 37, middle + 6, 60), fill=lower)
    return image.resize((width // 4, height // 4)).resize((width, height)) if blur else image


def write_examples(folder: Path, seed: int, count: int = 12) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        for kind in ("source", "source_pose", "target_pose", "target", "generated"):
            blur = kind == "generated"
            rng = np.random.default_rng([number, seed if blur else len(kind)])
            image = person(rng, blur=blur)
            if kind.endswith("pose"):
                image = image.point(lambda level: 255 if level > 150 else 0)
            image.save(folder / f"{number:02d}_{kind}.png")


def measurements(ssim: float, l1: float, pckh: float) -> list[dict[str, Any]]:
    values = {"ssim": ssim, "l1": l1, "pckh_embedded": pckh, "fid": None}
    return [
        {"metric": metric, "value": value, "protocol": PROTOCOLS[metric], "n": 48}
        | {"unavailable_because": NO_INCEPTION if value is None else None}
        for metric, value in values.items()
    ]


def history(rng: np.random.Generator, steps: int) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for step in range(10, steps + 1, 10):
        losses = {name: float(np.exp(-step / steps) + 0.05 * rng.standard_normal()) for name in LOSSES}
        entries.append({"step": step, "seconds": step * 0.2, "images_per_second": 80.0, "losses": losses})
        if step % 100 == 0:
            entries.append({"step": step, "evaluation": {"ssim": 0.3 + 0.1 * step / steps, "l1": 0.12}})
    return entries


def timing(rng: np.random.Generator, median_ms: float, name: str) -> dict[str, Any]:
    scenarios = []
    for kind, batch in (("inference", 1), ("inference", 8), ("training", 8)):
        samples = median_ms * batch**0.7 * (1 + 0.08 * rng.standard_exponential(30)) * (3 if kind == "training" else 1)
        p5, p50, p95, p99 = np.percentile(samples, [5, 50, 95, 99])
        scenarios.append(
            {
                **{"kind": kind, "method": name, "device": "cpu", "precision": "fp32", "mode": "eager"},
                **{"batch": batch, "height": 64, "width": 32, "evaluations": 1, "first_call_ms": 4 * p50},
                **{
                    "samples_ms": samples.round(3).tolist(),
                    "median_ms": p50,
                    "p5_ms": p5,
                    "p95_ms": p95,
                    "p99_ms": p99,
                },
                **{"images_per_second": 1000 * batch / p50, "peak_memory_mb": 512.0, "unavailable_because": None},
            }
        )
    scenarios.append({**scenarios[0], "precision": "bf16", "samples_ms": [], "unavailable_because": "no bf16 here"})
    return {"parameters": 1_234_567, "macs_per_image": 9_876_543_210, "scenarios": scenarios}


class Fabricator:
    """Writes run directories into `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder

    def run(
        self,
        label: str = "xinggan-scale-single",
        name: str = "xinggan scale=single",
        state: str = "finished",
        seed: int = 0,
        metrics: tuple[float, float, float] | None = (0.41, 0.09, 0.71),
        steps: int = 400,
        digest: str | None = "d1" * 32,
        **config: Any,
    ) -> Path:
        """One run directory of a method; `metrics` None leaves metrics.json out, state `failed` adds a traceback."""
        number = len(list(self.folder.iterdir())) if self.folder.is_dir() else 0
        rng = np.random.default_rng(number)
        run_id = f"{number:02x}" + "0a1b2c3d4e"
        directory = self.folder / f"{label}-{run_id}"
        directory.mkdir(parents=True)
        configuration = {
            "method": {"_target_": "xinggan.model.generator.XingGAN", "blocks": 3},
            "name": name,
            "scale": "single",
            "attention": "enhanced",
            "preset": "smoke",
            "seed": seed,
            "dataset": {"name": "synthetic", "height": 64, "width": 32, "people_test": 6},
            "training": {"steps": steps, "batch": 8, "learning_rate": 0.0002},
            **config,
        }
        status = {
            **{"state": state, "attempts": 1, "started": "2025-11-23T18:00:00", "ended": "2025-11-23T18:04:10"},
            **{"seconds": 250.0, "step": steps if state == "finished" else 120, "steps": steps, "error": None},
            **{"label": label, "run_id": run_id, "schema": 1, "dataset_digest": digest},
        }
        if state == "failed":
            status["error"] = (
                'Traceback (most recent call last):\n  File "loop.py"\nFloatingPointError: <b>loss</b> is nan'
            )
        environment = {
            **{"commit": "0123456789abcdef", "dirty": False, "packages": {"torch": "2.13.0", "numpy": "2.4.6"}},
            **{"python": "3.11.7", "device": "cpu", "cpu": "a processor", "threads": 2, "driver": None},
        }
        (directory / "config.yaml").write_text(yaml.safe_dump(configuration, sort_keys=False))
        (directory / "status.json").write_text(json.dumps(status))
        (directory / "environment.json").write_text(json.dumps(environment))
        lines = history(rng, status["step"])
        (directory / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        if state == "finished":
            (directory / "timing.json").write_text(json.dumps(timing(rng, 12.0 + 3 * number, name)))
            write_examples(directory / "generated" / "examples", seed=number)
        if metrics is not None and state == "finished":
            (directory / "metrics.json").write_text(json.dumps(measurements(*metrics)))
            per_image = pd.DataFrame(
                {"pair": range(48), "pair_id": "a___b", "identity": 1, "metric": "ssim", "value": 0.4}
            )
            per_image.to_parquet(directory / "per_image.parquet")
        return directory

    def references(self, digest: str = "d1" * 32) -> None:
        """Records of the three trivial methods on the same test set."""
        for method, values in FLOORS.items():
            target = f"baselines.trivial.{method.title().replace('_', '')}"
            directory = self.run(method, method, metrics=values, digest=digest, method={"_target_": target})
            for name in ("history.jsonl", "timing.json"):
                (directory / name).unlink()


@pytest.fixture
def fabricate(tmp_path: Path) -> Fabricator:
    return Fabricator(tmp_path / "runs")


@pytest.fixture(scope="session")
def fabricator() -> type[Fabricator]:
    """For fixtures of a wider scope, which choose their own folder."""
    return Fabricator


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium by Playwright, which downloads none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not chromium:
        pytest.skip("no Chromium: apt-get install chromium, or name one by the environment variable CHROMIUM")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()
