"""Scenarios on a terminal: one line each, those that could not be measured with the reason, and how noisy it was."""

from collections.abc import Iterable, Sequence
from typing import Any

from xinggan.timing.scenario import noise_verdict

HEADS = ("method", "what", "precision", "mode", "batch", "median ms", "p5", "p95", "p99", "first ms", "images/s", "MB",
         "evaluations", "halves differ")  # fmt: skip
LEFT_ALIGNED = 4  # columns


def print_timing(rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """rows: (title, timing.json's content). Prints one table over all methods, then reasons, then the verdict."""
    scenarios = [(title, one) for title, timing in rows for one in timing.get("scenarios", ())]
    timed = [(title, one) for title, one in scenarios if one["median_ms"] is not None]
    timed.sort(key=lambda row: (row[1]["kind"], row[1]["batch"], row[1]["precision"], row[1]["mode"]))
    print()
    for line in aligned([HEADS, *(cells(title, one) for title, one in timed)]):
        print(line)
    reasons: dict[str, list[str]] = {}
    for title, one in scenarios:
        if one["unavailable_because"]:
            where = f"{one['kind']} {one['precision']} {one['mode']} {what_steps(one)}batch {one['batch']}"
            reasons.setdefault(f"{where}: {one['unavailable_because']}", []).append(title)
    for reason, titles in reasons.items():
        print(f"unavailable: {', '.join(titles)}, {reason}")
    print(f"noise: {noise_verdict([one for _, one in scenarios])['says']}")


def cells(title: str, scenario: dict[str, Any]) -> tuple[str, ...]:
    """A line of the table under HEADS."""
    numbers = [scenario[key] for key in ("median_ms", "p5_ms", "p95_ms", "p99_ms", "first_call_ms")]
    numbers += [scenario["images_per_second"], scenario["peak_memory_mb"], scenario["evaluations"]]
    differ = scenario["halves_differ_by"]
    return (
        title, f"{scenario['kind']} {what_steps(scenario)}".strip(), scenario["precision"], scenario["mode"],
        str(scenario["batch"]), *map(brief, numbers), "-" if differ is None else f"{differ:.1%}",
    )  # fmt: skip


def what_steps(scenario: dict[str, Any]) -> str:
    """`ddim 20 ` for a scenario of the sweep."""
    steps = scenario.get("sampling_steps")
    return "" if steps is None else f"{scenario.get('sampler') or ''} {steps} ".lstrip()


def brief(value: float | None) -> str:
    """Three digits or more, no exponent."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines with columns under one another, numbers to the right."""
    rows = list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = [
            cell.ljust(width) if place < LEFT_ALIGNED else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return lines
