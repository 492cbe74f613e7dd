"""The last lines of a run: the numbers that matter, beside the trivial references on the same test set."""

import json
from pathlib import Path

from xinggan.metrics.catalogue import METRICS

SHOWN = ("ssim", "perceptual_embedded", "lpips", "pckh_embedded", "fd_embedded")


def values_of(folder: Path) -> dict[str, float]:
    """metric -> value of a run record, without what was unavailable."""
    metrics = json.loads((folder / "metrics.json").read_text())
    return {entry["metric"]: entry["value"] for entry in metrics if entry["value"] is not None}


def print_table(rows: list[tuple[str, Path]]) -> None:
    """One line a run, one column a metric that any of them has; arrows point to better."""
    values = [(title, values_of(folder)) for title, folder in rows]
    columns = [metric for metric in SHOWN if any(metric in found for _, found in values)]
    if any("lpips" not in found for _, found in values):
        columns.append("l1")
    heads = [f"{METRICS[metric].title} {'↑' if METRICS[metric].higher_is_better else '↓'}" for metric in columns]
    width = max(len(title) for title, _ in rows)
    print("\n" + " " * width + "".join(f"  {head:>{max(len(head), 8)}}" for head in heads))
    for title, found in values:
        cells = [f"{found[metric]:.4f}" if metric in found else "-" for metric in columns]
        print(
            f"{title:<{width}}" + "".join(f"  {cell:>{max(len(h), 8)}}" for cell, h in zip(cells, heads, strict=True))
        )


def print_summary(outcome, references: list) -> None:
    """Table of metrics with the finished references, then latency and training cost."""
    rows = [(outcome.name, outcome.folder)]
    rows += [(r.name, r.folder) for r in references]
    print_table(rows)
    timing = json.loads((outcome.folder / "timing.json").read_text())
    print()
    for scenario in timing["scenarios"]:
        median, speed = scenario["median_ms"], scenario["images_per_second"]
        where = f"({scenario['device']}, {scenario['precision']}, {scenario['height']}x{scenario['width']})"
        if median is not None and scenario["kind"] == "inference" and scenario["batch"] == 1:
            print(f"latency   {median:.1f} ms an image at batch 1, median of {len(scenario['samples_ms'])} {where}")
        if median is not None and scenario["kind"] == "training":
            print(f"training  {median:.0f} ms a step of {scenario['batch']} pairs, {speed:.1f} images/s {where}")
    print(f"record    {outcome.folder}")
