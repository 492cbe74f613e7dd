"""The timing tables: what generating and training cost, a row for each scenario, those that failed with the reason."""

import math
from collections.abc import Sequence
from typing import Any

from reports.measures import as_text
from reports.record import Record
from reports.records import Records

# A column each only where they differ.
CIRCUMSTANCES = ("device", "precision", "mode", "height", "width", "sampler", "sampling_steps", "evaluations")
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
    "halves differ by",
)
MEASURED = ("median_ms", "p5_ms", "p95_ms", "p99_ms", "first_call_ms", "images_per_second", "peak_memory_mb")
WHEN_MEASURED = {"device_median_ms": "device median [ms] ↓", "joules_per_image": "energy [J/image] ↓"}
DISTRIBUTIONS = 24  # scenarios that a figure of distributions has room for
COST_HEADS = (
    *("run", "parameters", "GMACs an image", "training time", "steps", "images/s while training ↑"),
    "peak memory of training [MB] ↓",
)


def timing_table(records: Records) -> tuple[list[str], list[list[str]], list[str]]:
    """Heads, rows, and a sentence for each scenario that could not be timed."""
    titles, telling = records.titles(), varying(records)
    timed = [(record, row) for record in records for row in record.scenarios if is_timed(row)]
    extra = [key for key in WHEN_MEASURED if any(when_measured(row, key) is not None for _, row in timed)]
    rows = []
    for record, row in timed:
        named = [told(row.get(key)) for key in ("kind", "batch", *telling)]
        measured = [number(row.get(key)) for key in MEASURED]
        differ = row.get("halves_differ_by")
        steadiness = [str(len(row.get("samples_ms") or ())), f"{differ:.1%}" if is_number(differ) else "–"]
        further = [number(when_measured(row, key)) for key in extra]
        rows.append([titles[record.run], *named, *measured, *steadiness, *further])
    heads = [*TIMING_HEADS[:3], *(key.replace("_", " ") for key in telling), *TIMING_HEADS[3:]]
    return [*heads, *(WHEN_MEASURED[key] for key in extra)], rows, failures(records)


def failures(records: Records) -> list[str]:
    """A sentence for each reason and circumstances in which something was not timed, with the runs it holds for."""
    titles = records.titles()
    runs: dict[tuple[str, str], list[str]] = {}
    for record in records:
        for row in record.scenarios:
            if not is_timed(row):
                keys = ("batch", "device", "precision", "mode", "sampler", "sampling_steps")
                circumstances = (
                    f"{key.replace('_', ' ')} {as_text(row[key])}" for key in keys if row.get(key) is not None
                )
                place = ", ".join([str(row.get("kind")), *circumstances])
                reason = str(row.get("unavailable_because") or "the record gives no reason")
                runs.setdefault((place, reason), []).append(titles[record.run])
    return [f"{', '.join(names)}, {place}: unavailable: {reason}" for (place, reason), names in runs.items()]


def told(value: Any) -> str:
    return "–" if value is None else as_text(value)


def when_measured(scenario: dict[str, Any], key: str) -> float | None:
    """A measurement that only some devices give."""
    if key == "device_median_ms":
        samples = [value for value in scenario.get("device_ms") or () if is_number(value)]
        return median(samples) if samples else None
    value = scenario.get(key)
    return value if is_number(value) else None


def noise(records: Records) -> list[str]:
    """What the records say about how noisy the machine was: a sentence each for quiet, noisy and unjudged runs."""
    titles, quiet, noisy, unjudged, worst, limit = records.titles(), [], [], [], 0.0, 0.0
    for record in records:
        verdict = record.timing.get("noise")
        if not isinstance(verdict, dict) or not all(is_number(verdict.get(key)) for key in ("limit", "judged")):
            continue
        title, limit = titles[record.run], verdict["limit"]
        if not is_number(verdict.get("worst")):
            unjudged.append(title)
        elif verdict.get("too_noisy"):
            reasons = []
            if verdict.get("unsteady"):
                reasons.append(
                    f"{verdict['unsteady']} of {verdict['judged']} scenarios, by up to {verdict['worst']:.0%}"
                )
            if is_number(drift := verdict.get("machine_differs_by")) and drift > limit:
                reasons.append(f"the machine itself was {drift:.0%} slower at times")
            noisy.append(f"{title} ({'; '.join(reasons)})")
        else:
            quiet.append(title)
            worst = max(worst, verdict["worst"])
    rounds = "the medians of the earlier and the later rounds"
    agree = f"in all scenarios {rounds} agree within {limit:.0%}, the worst differ by {worst:.1%}"
    told = {
        f"Quiet, {agree}": quiet,
        f"Too noisy for medians that repeat within {limit:.0%}, by {rounds} or by a fixed computation": noisy,
        "Not judged, since nothing was measured in two rounds": unjudged,
    }
    return [f"{says}: {', '.join(names)}" for says, names in told.items() if names]


def distributions(records: Records) -> list[tuple[Record, dict[str, Any]]]:
    """The scenarios whose samples are drawn: all, or where that is too many, those of the first precision and mode,
    at each run's smallest batch and with its own sampler.
    """
    every = [(record, row) for record in records for row in record.scenarios if row.get("samples_ms")]
    if len(every) <= DISTRIBUTIONS:
        return every
    plain = [(record, row) for record, row in every if row.get("sampling_steps") is None]
    first = next(
        (row for _, row in plain if row.get("mode") == "eager" and row.get("precision") == "fp32"), every[0][1]
    )
    same = [(r, row) for r, row in plain if all(row.get(key) == first.get(key) for key in ("precision", "mode"))]
    smallest: dict[tuple, tuple[Record, dict[str, Any]]] = {}
    for record, row in same:
        key = (record.run, row.get("kind"))
        if key not in smallest or (row.get("batch") or 0) < (smallest[key][1].get("batch") or 0):
            smallest[key] = record, row
    return list(smallest.values())


def varying(records: Records) -> list[str]:
    """Those circumstances that are not the same in all timed scenarios."""
    timed = [scenario for record in records for scenario in record.scenarios if is_timed(scenario)]
    found = {key: {str(row[key]) for row in timed if row.get(key) is not None} for key in CIRCUMSTANCES}
    partly = {key for key in ("sampler", "sampling_steps") if any(row.get(key) is None for row in timed)}
    return [key for key in CIRCUMSTANCES if len(found[key]) > 1 or (key in partly and found[key])]


def common_circumstances(records: Records) -> str:
    """What is the same in all timed scenarios, such as `device cpu, precision fp32, mode eager`."""
    scenario = next(scenario for record in records for scenario in record.scenarios if is_timed(scenario))
    apart = varying(records)
    return ", ".join(
        f"{key} {as_text(scenario[key])}" for key in CIRCUMSTANCES if scenario.get(key) is not None and key not in apart
    )


def is_timed(scenario: dict[str, Any]) -> bool:
    return not scenario.get("unavailable_because") and is_number(scenario.get("median_ms"))


def cost_rows(records: Records) -> list[list[str]]:
    """Cells under COST_HEADS: the size of each network and what its training took."""
    titles = records.titles()
    rows = []
    for record in records.methods:
        macs = record.timing.get("macs_per_image")
        trained = not record.is_timing_only
        cells = [
            count(record.timing.get("parameters")),
            number(macs / 1e9) if isinstance(macs, (int, float)) else "–",
            duration(training_seconds(record)) if trained else "not trained",
            f"{count(record.step)} of {count(record.status.get('steps'))}" if trained else "–",
            number(training_speed(record)),
            number(training_memory_mb(record)) if trained else "–",
        ]
        rows.append([titles[record.run], *cells])
    return rows


def training_seconds(record: Record) -> float | None:
    """Time spent in training, without the generating and scoring that follow; what was interrupted adds up."""
    return next((row["seconds"] for row in reversed(record.history) if is_number(row.get("seconds"))), None)


def training_speed(record: Record) -> float | None:
    """Images a second while training, the median of what the history tells."""
    speeds = [row["images_per_second"] for row in record.history if is_number(row.get("images_per_second"))]
    return median(speeds) if speeds else None


def training_memory_mb(record: Record) -> float | None:
    """Peak memory of the run's own training: the device's, or on a CPU the process's."""
    training = [row for row in record.scenarios if row.get("kind") == "training" and is_timed(row)]
    return max((row["peak_memory_mb"] for row in training if is_number(row.get("peak_memory_mb"))), default=None)


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
