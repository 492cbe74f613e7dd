"""Finished runs as points of quality and time: those that were timed under one and the same circumstances and scored
under one and the same protocol, and the tables made of them.
"""

from collections import Counter
from typing import Any

from reports import measures
from reports.pareto import Point, best_at_each_latency, pareto_front, speed_up_at_matched_quality
from reports.records import Records
from reports.timing import is_timed, number

QUALITIES = ("ssim", "lpips", "perceptual_embedded", "fid", "fd_embedded", "pckh_embedded")
SAME = ("device", "precision", "mode", "batch", "height", "width")  # what must agree for two latencies to be compared
FRONT_HEADS = ("metric", "run", "latency [ms] ↓", "value", "best for whoever can wait", "PIDM at matched quality")


def circumstances(records: Records) -> dict[str, Any] | None:
    """The circumstances that most of the runs were timed under, of those the smallest batch, fp32 before bf16."""
    found: Counter[tuple[Any, ...]] = Counter()
    for record in records:
        found.update({tuple(row.get(key) for key in SAME) for row in record.scenarios if _is_plain(row)})
    if not found:
        return None

    def preferred(key: tuple[Any, ...]) -> tuple[Any, ...]:
        told = dict(zip(SAME, key, strict=True))
        return -found[key], told["batch"] or 0, told["mode"] != "eager", told["precision"] != "fp32", str(key)

    first = min(found, key=preferred)
    return dict(zip(SAME, first, strict=True))


def latencies(records: Records) -> dict[str, float]:
    """Run -> median milliseconds of a call, of the runs timed under `circumstances`."""
    same = circumstances(records)
    return {
        record.run: row["median_ms"]
        for record in records
        for row in record.scenarios
        if same is not None and _is_plain(row) and all(row.get(key) == value for key, value in same.items())
    }


def _is_plain(row: dict[str, Any]) -> bool:
    """A timed inference scenario with the method's own sampler and steps, as its scores were made."""
    return row.get("kind") == "inference" and is_timed(row) and row.get("sampling_steps") is None


def quality_points(records: Records) -> dict[str, list[Point]]:
    """Metric -> a point for each run (by directory name), for each of QUALITIES that two runs or more have.

    Where values stand under several protocols, those of the protocol that most runs have.
    """
    taken = latencies(records)
    points: dict[str, list[Point]] = {}
    for metric in QUALITIES:
        found = [(record, row) for record, row in records.metric(metric).found if row.value is not None]
        found = [(record, row) for record, row in found if record.run in taken]
        if not found:
            continue
        protocol, _ = Counter(row.protocol_key for _, row in found).most_common(1)[0]
        of_metric = {
            record.run: Point(record.run, taken[record.run], row.value)
            for record, row in found
            if row.protocol_key == protocol and row.value is not None
        }
        if len(of_metric) > 1:
            points[metric] = list(of_metric.values())
    return points


def front_rows(records: Records) -> list[list[str]]:
    """Cells under FRONT_HEADS: for each metric its front, with the speed-up over PIDM's run at PIDM's quality."""
    titles, rows = records.titles(), []
    diffusion = [record.run for record in records if record.method == "pidm"]
    for metric, points in quality_points(records).items():
        higher = bool(measures.higher_is_better(metric))
        until = {reign.point.name: reign.until_ms for reign in best_at_each_latency(points, higher)}
        reference = next((point for point in points if point.name in diffusion), None)
        for point in pareto_front(points, higher):
            end = until.get(point.name)
            wait = f"{number(point.latency_ms)} ms" + (f" to {number(end)} ms" if end is not None else " and more")
            factor = None
            if reference is not None and point.name not in diffusion:
                factor = speed_up_at_matched_quality([point], reference, higher)
            told = "–" if reference is None or point.name in diffusion else matched(factor)
            cells = [titles[point.name], number(point.latency_ms), f"{point.quality:.4f}", wait, told]
            rows.append([measures.heading(metric), *cells])
    return rows


def matched(factor: float | None) -> str:
    """`3.2 times faster`, or that the other's quality is not reached."""
    if factor is None:
        return "not reached"
    return f"{number(factor)} times faster" if factor >= 1 else f"{number(1 / factor)} times slower"
