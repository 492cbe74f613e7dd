"""The larger figures of a report: values with intervals, single images, effects, latencies, throughput, quality
against time. Each takes tidy tables and a width in inches and gives a matplotlib figure, or None for no rows.
"""

from typing import Any

import numpy as np
import pandas
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import timing
from reports.figures import (
    SETTINGS,
    Look,
    logarithmic_if_wide,
    looks,
    metric_title,
    panels,
    row_panels,
    with_legend,
    wrap,
)
from reports.formats import is_number, number
from reports.records import Records
from reports.statistics import LEVEL
from xinggan.metrics import catalogue

PANEL_INCHES = 2.8
VERDICTS = {  # colour and marker say the same, so that nothing depends on seeing colour
    "better": (f"better (p < {LEVEL}, Holm)", Look("#0072B2", "o", "solid")),
    "worse": (f"worse (p < {LEVEL}, Holm)", Look("#D55E00", "s", "solid")),
    "not shown": ("no difference shown", Look("#7a7a7a", "D", "solid")),
    "not tested": ("not tested: one seed", Look("#7a7a7a", "x", "none")),
}


@rc_context(SETTINGS)
def metric_dots(values: pandas.DataFrame, style: dict[str, Look], inches: float) -> Figure | None:
    """One panel a metric and protocol, one dot a run, its interval as a line.

    values: title, method, metric, protocol, value, low, high, in the order of the table. A ground truth far from all
    other dots is named at the panel's edge instead of squeezing them together.
    """
    if values.empty:
        return None
    titles = list(values["title"].unique())
    rows = {title: place for place, title in enumerate(t for t in style if t in titles)}
    columns = values.groupby(["metric", "protocol"], sort=False)
    figure, every = row_panels([wrap(title, inches) for title in rows], columns.ngroups, inches)
    for ((metric, _), part), axes in zip(columns, every, strict=True):
        far = far_ground_truth(part)
        for row in part.itertuples():
            place, look = rows[row.title], style[row.title]
            if row.title == far:
                _name_at_edge(
                    axes, row.value, place, to_the_right=row.value > part.loc[part.title != far, "value"].max()
                )
                continue
            axes.plot(row.value, place, look.marker, color=look.colour, markersize=8)
            axes.plot([row.low, row.high], [place] * 2, color=look.colour, linewidth=1.6, zorder=1)
        axes.set_title(metric_title(metric))
        axes.set_xlabel(catalogue.direction(metric), loc="right")
        axes.margins(x=0.15)
    return figure


def far_ground_truth(part: pandas.DataFrame) -> str | None:
    """The ground truth's title when it lies further from the other values than they lie apart."""
    truth, others = part[part["method"] == "ground_truth"], part.loc[part["method"] != "ground_truth", "value"]
    if truth.empty or len(others) < 2:
        return None
    value = truth["value"].iloc[0]
    distance = max(others.min() - value, value - others.max())
    return str(truth["title"].iloc[0]) if distance > others.max() - others.min() else None


def _name_at_edge(axes: Axes, value: float, row: int, to_the_right: bool) -> None:
    """Write a value that lies outside the panel at the edge where it would be."""
    text, at, side = (f"{value:.4g} →", 0.99, "right") if to_the_right else (f"← {value:.4g}", 0.01, "left")
    axes.text(at, row, text, transform=axes.get_yaxis_transform(), ha=side, va="center", fontsize=9, color="#444444")


@rc_context(SETTINGS)
def violins(pairs: pandas.DataFrame, style: dict[str, Look], inches: float) -> Figure | None:
    """One panel a metric, one violin a run with its median. pairs: title, metric, value, a row a test pair.

    Runs whose values are all alike have no violin.
    """
    pairs = pairs.dropna(subset=["value"]) if len(pairs) else pairs
    if pairs.empty:
        return None
    pairs = pairs[pairs.groupby(["title", "metric"])["value"].transform("nunique") > 1]
    if pairs.empty:
        return None
    titles = [title for title in style if title in set(pairs["title"])]
    by_metric = pairs.groupby("metric", sort=False)
    figure, every = row_panels([wrap(title, inches) for title in titles], by_metric.ngroups, inches, row_inches=0.36)
    for (metric, part), axes in zip(by_metric, every, strict=True):
        for title, values in part.groupby("title")["value"]:
            place, colour = titles.index(title), style[title].colour
            drawn = axes.violinplot(values, [place], orientation="horizontal", widths=0.85, showextrema=False)
            for body in drawn["bodies"]:
                body.set(facecolor=colour, alpha=0.45, edgecolor=colour)
            axes.plot([values.median()] * 2, [place - 0.3, place + 0.3], color="#1a1a1a", linewidth=1.8)
        axes.set(title=metric_title(metric))
        axes.set_xlabel(catalogue.direction(metric), loc="right")
    return figure


@rc_context(SETTINGS)
def forest(effects: pandas.DataFrame, inches: float) -> Figure | None:
    """One panel a metric, one line a contrast with its 95 % interval beside zero (`reports.effects.effects`)."""
    if effects.empty:
        return None
    labels = list(effects["title"].unique())
    by_metric = effects.groupby("metric", sort=False)
    wrapped = [wrap(label, inches, wide=30, narrow=19) for label in labels]
    figure, every = row_panels(wrapped, by_metric.ngroups, inches, row_inches=0.34, per_row=2)
    for (metric, part), axes in zip(by_metric, every, strict=True):
        axes.axvline(0, color="#1a1a1a", linewidth=1, zorder=1)
        for effect in part.itertuples():
            place, (_, look) = labels.index(effect.title), VERDICTS[effect.verdict]
            if is_number(effect.low):
                line = {"color": look.colour, "linewidth": 2, "solid_capstyle": "butt"}
                axes.plot([effect.low, effect.high], [place, place], **line)
            axes.plot(effect.difference, place, look.marker, color=look.colour, markersize=7)
        low, high = axes.get_xlim()
        reach = max(abs(low), abs(high))
        axes.set_xlim(min(low, -0.12 * reach), max(high, 0.12 * reach))  # zero with some room on either side
        axes.set_title(metric_title(metric))
        grows = catalogue.higher_is_better(metric) is not False
        axes.set_xlabel("difference, better →" if grows else "← better, difference", loc="right" if grows else "left")
    told = dict(look for verdict, look in VERDICTS.items() if verdict in set(effects["verdict"]))
    return with_legend(figure, told, inches)


@rc_context(SETTINGS)
def latencies(samples: pandas.DataFrame, style: dict[str, Look], inches: float) -> Figure | None:
    """Every raw sample as a dot, p5 to p95 as a line, the median as a bar; a panel for inference, one for training.

    samples: title, kind, scenario, ms, a row a sample (`reports.timing.samples`).
    """
    kinds = [kind for kind in ("inference", "training") if (samples["kind"] == kind).any()]
    if not kinds:
        return None
    names = [f"{title}, {scenario}" for title, scenario in zip(samples["title"], samples["scenario"], strict=True)]
    samples = samples.assign(label=[wrap(name, inches, wide=26, narrow=18) for name in names])
    heights = []
    for kind in kinds:
        labels = samples.loc[samples["kind"] == kind, "label"].unique()
        heights.append(1.0 + len(labels) * max(0.5, 0.17 * max(label.count("\n") + 1 for label in labels)))
    figure, every = panels(heights, inches, per_row=2)
    for kind, axes in zip(kinds, every, strict=True):
        part = samples[samples["kind"] == kind]
        jitter, rows = np.random.default_rng(0), list(part.groupby(["label", "title"], sort=False)["ms"])
        for row, ((_, title), ms) in enumerate(rows):
            colour = style[title].colour
            axes.scatter(ms, row + jitter.uniform(-0.2, 0.2, len(ms)), s=9, alpha=0.35, color=colour, linewidths=0)
            low, median, high = ms.quantile([0.05, 0.5, 0.95])
            axes.plot([low, high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot([median, median], [row - 0.3, row + 0.3], color="#1a1a1a", linewidth=2)
            place: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 8.5, "color": "#333333"}
            axes.text(median, row - 0.34, f"{number(median)} ms", **place)
        axes.set_title(kind.capitalize())
        axes.set_xlabel(f"← ms per {'batch' if kind == 'inference' else 'training step'}, lower is better", loc="right")
        if not logarithmic_if_wide(axes, "x", part["ms"]):
            axes.set_xlim(left=0)
        axes.set_yticks(range(len(rows)), [label for (label, _), _ in rows])
        axes.grid(False, axis="y")
        axes.set_ylim(len(rows) - 0.5, -0.8)
    return figure


@rc_context(SETTINGS)
def throughput(timings: pandas.DataFrame, style: dict[str, Look], inches: float) -> Figure | None:
    """Images a second by batch, one panel for each precision and mode, one line a run; runs with one batch are dots."""
    timed = timing.own_sampler(timings)
    several = timed.groupby(["precision", "mode", "title"])["batch"].transform("nunique") > 1
    timed = timed[several.groupby([timed["precision"], timed["mode"]]).transform("any")] if len(timed) else timed
    if timed.empty:
        return None
    by_place = timed.groupby(["precision", "mode"], sort=False)
    figure, every = panels([PANEL_INCHES] * by_place.ngroups, inches, sharey=True)
    for (place, part), axes in zip(by_place, every, strict=True):
        for title, curve in part.groupby("title", sort=False):
            look, curve = style[str(title)], curve.drop_duplicates("batch", keep="last").sort_values("batch")
            line: dict[str, Any] = {"color": look.colour, "linestyle": look.dashes, "markersize": 5}
            axes.plot(curve["batch"], curve["images_per_second"], marker=look.marker, **line)
        batches = sorted(part["batch"].unique())
        axes.set(title=" ".join(map(str, place)), xlabel="batch", ylabel="images/s, higher is better ↑")
        axes.set_xscale("log", base=2)
        axes.set_xticks(batches, [f"{batch:g}" for batch in batches])
        axes.minorticks_off()
        logarithmic_if_wide(axes, "y", part["images_per_second"])
    return with_legend(figure, style, inches, timed["title"])


@rc_context(SETTINGS)
def quality_against_time(records: Records, inches: float) -> Figure | None:
    """One panel a metric, one marker a run at its latency; the line is the best that each latency can buy."""
    points, same, style = timing.quality_points(records), timing.common_circumstances(records.timings), looks(records)
    if points.empty or same is None:
        return None
    by_metric = points.groupby("metric", sort=False)
    figure, every = panels([PANEL_INCHES] * by_metric.ngroups, inches)
    for (metric, part), axes in zip(by_metric, every, strict=True):
        front = timing.pareto_front(part, bool(catalogue.higher_is_better(metric)))
        reach = [*front["latency_ms"], 1.15 * part["latency_ms"].max()]
        heights = [*front["quality"], front["quality"].iloc[-1]]
        axes.plot(reach, heights, drawstyle="steps-post", color="#8a8a8a", linewidth=1.4, zorder=1)
        for point in part.itertuples():
            look = style[point.title]
            axes.plot(point.latency_ms, point.quality, look.marker, color=look.colour, markersize=8)
        unit = catalogue.unit(metric)
        axes.set(title=metric_title(metric), ylabel=catalogue.title(metric) + (f" in {unit}" if unit else ""))
        axes.set_xlabel(f"← ms a batch of {same['batch']:g}, lower is better", loc="right")
        logarithmic_if_wide(axes, "x", part["latency_ms"])
        axes.margins(y=0.12)
    return with_legend(figure, style, inches, points["title"])
