"""The timing tables: what generating and training cost, a row for each scenario, those that failed with the reason."""

import math
from collections.abc import Sequence
from typing import Any

from reports.measures import as_text
from reports.record import Record
from reports.records import Records

CIRCUMSTANCES = (
    "device",
    "precision",
    "mode",
    "height",
    "width",
    "evaluations",
)  # a column each only where they differ
TIMING_HEADS = (
    "run",
    "what",
    "batch",
    "median [ms] ↓",
    "p5 [ms]",
    "p95 [ms]",
    "p99 [ms]",
    "first call [ms]",
    "images/s ↑",
    "peak memory [MB] ↓",
    "samples",
)
MEASURED = ("median_ms", "p5_ms", "p95_ms", "p99_ms", "first_call_ms", "images_per_second", "peak_memory_mb")
COST_HEADS = ("run", "parameters", "GMACs an image", "training time", "steps", "images/s while training ↑")


def timing_table(records: Records) -> tuple[list[str], list[list[str]], list[str]]:
    """Heads, rows, and a sentence for each scenario that could not be timed."""
    titles, telling = records.titles(), varying(records)
    rows, failed = [], []
    for record in records:
        for scenario in record.scenarios:
            name = titles[record.run]
            if is_timed(scenario):
                named = [as_text(scenario.get(key, "–")) for key in ("kind", "batch", *telling)]
                measured = [number(scenario.get(key)) for key in MEASURED]
                rows.append([name, *named, *measured, str(len(scenario.get("samples_ms") or ()))])
            else:
                circumstances = (
                    f"{key} {as_text(scenario[key])}"
                    for key in ("batch", "device", "precision", "mode")
                    if key in scenario
                )
                reason = scenario.get("unavailable_because") or "the record gives no reason"
                failed.append(
                    f"{name}, {', '.join([str(scenario.get('kind')), *circumstances])}: unavailable: {reason}"
                )
    return [*TIMING_HEADS[:3], *telling, *TIMING_HEADS[3:]], rows, failed


def varying(records: Records) -> list[str]:
    """Those circumstances that are not the same in all timed scenarios."""
    timed = [scenario for record in records for scenario in record.scenarios if is_timed(scenario)]
    return [key for key in CIRCUMSTANCES if len({str(scenario.get(key)) for scenario in timed}) > 1]


def common_circumstances(records: Records) -> str:
    """What is the same in all timed scenarios, such as `device cpu, precision fp32, mode eager`."""
    scenario = next(scenario for record in records for scenario in record.scenarios if is_timed(scenario))
    told = varying(records)
    return ", ".join(f"{key} {as_text(scenario[key])}" for key in CIRCUMSTANCES if key in scenario and key not in told)


def is_timed(scenario: dict[str, Any]) -> bool:
    return not scenario.get("unavailable_because") and is_number(scenario.get("median_ms"))


def cost_rows(records: Records) -> list[list[str]]:
    """Cells under COST_HEADS: the size of each network and what its training took."""
    titles = records.titles()
    rows = []
    for record in records.methods:
        speeds = [row["images_per_second"] for row in record.history if is_number(row.get("images_per_second"))]
        macs = record.timing.get("macs_per_image")
        cells = [
            count(record.timing.get("parameters")),
            number(macs / 1e9) if isinstance(macs, (int, float)) else "–",
            duration(record.status.get("seconds")),
            f"{count(record.step)} of {count(record.status.get('steps'))}",
            number(median(speeds)) if speeds else "–",
        ]
        rows.append([titles[record.run], *cells])
    return rows


def latency(record: Record) -> dict[str, Any] | None:
    """The timed inference scenario of the smallest batch."""
    timed = [row for row in record.scenarios if row.get("kind") == "inference" and is_timed(row)]
    return min(timed, key=lambda row: row.get("batch") or 0, default=None)


def duration(seconds: Any) -> str:
    """250 -> 4 min 10 s; a dash when nothing was recorded."""
    if not is_number(seconds):
        return "–"
    minutes, left = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {left:02d} s" if minutes else f"{seconds:.1f} s"


def number(value: Any) -> str:
    """Three significant digits, never an exponent."""
    if not is_number(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "–"


def median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
