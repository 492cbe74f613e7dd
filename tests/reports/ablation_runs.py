"""Runs of XingGAN written by hand, whose switches and whose value of every test pair are chosen: for ablations."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reports.records import Record
from xinggan.metrics.values import MetricValue

PROTOCOL = {"name": "clean"}
FULL = {"scale": "multi", "attention": "enhanced", "fusion": "dense"}


def configuration(seed: int = 0, **switches: Any) -> dict[str, Any]:
    """As `ablations.run` writes it: each switch for the method, and once more at the top."""
    chosen = FULL | switches
    method = {"_target_": "xinggan.model.generator.XingGAN", "architecture": chosen, "seed": seed}
    return {"method": method, "precision": "fp32", "budget": "images", **chosen}


def name(**switches: Any) -> str:
    """What the run is called: the method, and what is not as its preset says."""
    return " ".join(["xinggan", *(f"{key}={value}" for key, value in switches.items() if FULL.get(key) != value)])


def recorded(seed=0, digest="d1", training=None, measured=True, **switches) -> Record:
    """A run in memory, scored or not."""
    config = {"name": name(**switches), "seed": seed, **configuration(seed, **switches)}
    config["training"] = {"steps": 100, "batch": 8, "log_every": 10} | (training or {})
    label = "-".join([*map(str, switches.values()), str(seed), digest, *map(str, (training or {}).values())])
    record = Record(Path(f"runs/{label}"), config, {"state": "finished", "dataset_digest": digest})
    record.__dict__["measurements"] = [MetricValue("ssim", 0.5, {"name": "clean"}, 10, None)] if measured else []
    return record


def scored(fabricate, values: dict[str, np.ndarray], seed: int = 0, people: int = 5, **switches: Any) -> Path:
    """A finished run with `values`: metric -> [pairs], as many of each person, or [] for one of a whole set."""
    directory = fabricate.run(
        name(**switches).replace(" ", "-"), name(**switches), seed=seed, **configuration(seed, **switches)
    )
    write_values(directory, values, people)
    return directory


def write_values(directory: Path, values: dict[str, np.ndarray], people: int) -> None:
    """metrics.json with the means, per_image.parquet with what there is of single pairs."""
    rows = [
        {"metric": metric, "value": float(np.mean(of_metric)), "protocol": PROTOCOL, "n": np.size(of_metric)}
        for metric, of_metric in values.items()
    ]
    (directory / "metrics.json").write_text(json.dumps(rows))
    frames = [
        pd.DataFrame({"pair": range(len(of_pairs)), "identity": np.arange(len(of_pairs)) % people, "value": of_pairs})
        .assign(metric=metric)
        .assign(pair_id=lambda frame: [f"{pair}_a___{pair}_b" for pair in frame["pair"]])
        for metric, of_pairs in values.items()
        if np.ndim(of_pairs)
    ]
    pd.concat(frames).to_parquet(directory / "per_image.parquet")


def change(directory: Path, of: str, /, **changes: Any) -> None:
    """Change what metrics.json says of the metric `of`."""
    path = directory / "metrics.json"
    rows = [row | changes if row["metric"] == of else row for row in json.loads(path.read_text())]
    path.write_text(json.dumps(rows))


def list_study(folder: Path, study: str, rows: list[tuple[str, str]]) -> None:
    """runs/studies/<study>.json of titles and run directories' names."""
    (folder / "studies").mkdir(exist_ok=True)
    listing = [{"title": title, "run": run} for title, run in rows]
    (folder / "studies" / f"{study}.json").write_text(json.dumps(listing))
