"""Figures of what generating costs: throughput against batch, and quality against time with the Pareto front.

As those of `figures`: each takes records and a width in inches and gives a figure, or None where nothing can be drawn.
"""

from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from reports import measures
from reports.panels import legend, logarithmic_if_wide, panels, title_of
from reports.pareto import pareto_front
from reports.quality_time import circumstances, quality_points
from reports.records import Records
from reports.style import SETTINGS, WIDE_INCHES, looks
from reports.timing import is_timed

PANEL_INCHES = 2.8


@rc_context(SETTINGS)
def throughput(records: Records, inches: float = WIDE_INCHES) -> Figure | None:
    """Images a second by batch, one panel for each precision and mode, one line a run; runs with one batch are dots."""
    curves: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    for record in records:
        for row in record.scenarios:
            if row.get("kind") == "inference" and is_timed(row) and row.get("sampling_steps") is None:
                place = (str(row.get("precision")), str(row.get("mode")))
                curves.setdefault(place, {}).setdefault(record.run, {})[row["batch"]] = row["images_per_second"]
    curves = {place: runs for place, runs in curves.items() if any(len(curve) > 1 for curve in runs.values())}
    if not curves:
        return None
    figure, every = panels([PANEL_INCHES] * len(curves), inches, per_row=3, sharey=True)
    style = looks(records)
    for (place, runs), axes in zip(curves.items(), every, strict=True):
        for run, curve in runs.items():
            look, ordered = style[run], dict(sorted(curve.items()))
            line: dict[str, Any] = {"color": look.colour, "linestyle": look.dashes, "markersize": 5}
            axes.plot(list(ordered), list(ordered.values()), marker=look.marker, **line)
        batches = sorted({batch for curve in runs.values() for batch in curve})
        axes.set(title=" ".join(place), xlabel="batch", ylabel="images/s, higher is better ↑")
        axes.set_xscale("log", base=2)
        axes.set_xticks(batches, [str(batch) for batch in batches])
        axes.minorticks_off()
        logarithmic_if_wide(axes, "y", [speed for curve in runs.values() for speed in curve.values()])
    drawn = dict.fromkeys(run for runs in curves.values() for run in runs)
    legend(figure, records.titles(), {run: style[run] for run in drawn}, inches)
    return figure


@rc_context(SETTINGS)
def quality_against_time(records: Records, inches: float = WIDE_INCHES) -> Figure | None:
    """One panel a metric, one marker a run at its latency; the line is the best that each latency can buy."""
    points = quality_points(records)
    same = circumstances(records)
    if not points or same is None:
        return None
    figure, every = panels([PANEL_INCHES] * len(points), inches, per_row=3)
    style = looks(records)
    for (metric, of_metric), axes in zip(points.items(), every, strict=True):
        front = pareto_front(of_metric, bool(measures.higher_is_better(metric)))
        times = [point.latency_ms for point in of_metric]
        reach = [*(point.latency_ms for point in front), 1.15 * max(times)]
        heights = [*(point.quality for point in front), front[-1].quality]
        axes.plot(reach, heights, drawstyle="steps-post", color="#8a8a8a", linewidth=1.4, zorder=1)
        for point in of_metric:
            look = style[point.name]
            axes.plot(point.latency_ms, point.quality, look.marker, color=look.colour, markersize=8)
        axes.set(title=title_of(measures.heading(metric)), ylabel=measures.quantity(metric))
        axes.set_xlabel(f"← ms a batch of {same['batch']}, lower is better", loc="right")
        logarithmic_if_wide(axes, "x", times)
        axes.margins(y=0.12)
    drawn = dict.fromkeys(point.name for of_metric in points.values() for point in of_metric)
    legend(figure, records.titles(), {run: style[run] for run in drawn}, inches)
    return figure
