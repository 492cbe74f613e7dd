"""The figures of a report: curves of training, values with intervals, single images, effects, latencies, throughput,
quality against time, and the answer to a question of one's own.

Each takes a tidy table, the looks of the runs and a width in inches, and gives a figure, or None for no rows.
"""

import json
from typing import Any

import numpy as np
import pandas
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports import speed, timing
from reports.figures import (
    TITLE_CHARACTERS,
    Looks,
    line_look,
    logarithmic_if_wide,
    looks,
    metric_title,
    panels,
    row_panels,
    styled,
    with_legend,
    wrap,
)
from reports.formats import number
from reports.records import Records
from reports.statistics import LEVEL
from xinggan.metrics import catalogue

INK, GREY = "#1a1a1a", "#8a8a8a"
PANEL_INCHES = 2.8
POINTS_TO_SMOOTH = 60  # curves with more points are drawn faintly, with their running median on top
VERDICTS = {  # colour and marker say the same, so that nothing depends on seeing colour
    "better": (f"better (p < {LEVEL}, Holm)", "#0072B2", "o"),
    "worse": (f"worse (p < {LEVEL}, Holm)", "#D55E00", "s"),
    "not shown": ("no difference shown", "#7a7a7a", "D"),
    "not tested": ("not tested: one seed", "#7a7a7a", "x"),
}
VERDICT_LOOKS: Looks = {
    "palette": {words: colour for words, colour, _ in VERDICTS.values()},
    "markers": {words: marker for words, _, marker in VERDICTS.values()},
    "dashes": {words: "" for words, _, _ in VERDICTS.values()},
}


@styled
def curves(history: pandas.DataFrame, style: Looks, inches: float) -> Figure | None:
    """A panel for each `name` of a history (`Records.history`), a line for each run in it.

    A curve has a marker here and there; a long one is drawn faintly, with its running median on top.
    """
    history = history[np.isfinite(history["value"])]
    if history.empty:
        return None
    by_name = history.groupby(["entry", "name"], sort=False)
    figure, every = panels([2.4] * by_name.ngroups, inches)
    for ((entry, name), part), axes in zip(by_name, every, strict=True):
        for title, run in part.groupby("title", sort=False):
            steps, values = run["step"], run["value"]
            if len(run) > POINTS_TO_SMOOTH:
                axes.plot(steps, values, color=style["palette"][title], linewidth=0.8, alpha=0.3)
                values = values.rolling(len(run) // 20, center=True, min_periods=1).median()
            axes.plot(steps, values, markevery=0.2, markeredgewidth=0, **line_look(style, title))
        axes.set_xlabel("training step")
        if entry == "evaluation":
            axes.set(title=metric_title(name), ylabel=catalogue.title(name))
            continue
        falls = name in ("l1", "perceptual")  # the adversarial losses balance: neither direction is better
        loss = "loss, lower is better ↓" if falls else "loss"
        axes.set(title=wrap(name.replace("_", " "), inches, TITLE_CHARACTERS, TITLE_CHARACTERS))
        axes.set_ylabel("gradient norm" if name.startswith("gradient_") else loss)
        logarithmic_if_wide(axes, "y", part["value"])
    return with_legend(figure, style, inches, history["title"])


@styled
def metric_dots(values: pandas.DataFrame, style: Looks, inches: float) -> Figure:
    """One panel a metric and protocol, one dot a run, its interval as a line.

    values: title, method, metric, protocol, value, low, high, n, in the order of the table. A ground truth far from all
    other dots is named at the panel's edge instead of squeezing them together. A dot is hollow where
    `catalogue.caution` has something to say of its value.
    """
    rows = {title: row for row, title in enumerate(t for t in style["palette"] if t in set(values["title"]))}
    columns = values.groupby(["metric", "protocol"], sort=False)
    figure, every = row_panels([wrap(title, inches) for title in rows], columns.ngroups, inches)
    protocols = values.groupby("metric")["protocol"].nunique()
    for ((metric, protocol), part), axes in zip(columns, every, strict=True):
        truth, others = part[part["method"] == "ground_truth"], part[part["method"] != "ground_truth"]
        if is_far(truth["value"], others["value"]):
            value, beyond = truth["value"].iloc[0], truth["value"].iloc[0] > others["value"].max()
            text, at, side = (f"{value:.4g} →", 0.99, "right") if beyond else (f"← {value:.4g}", 0.01, "left")
            place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "ha": side, "va": "center"}
            axes.text(at, rows[truth["title"].iloc[0]], text, fontsize=9, color="#444444", **place)
            part = others
        for row in part.itertuples():
            dot = _dot_with_interval(axes, row.value, rows[row.title], row, style, row.title)
            if catalogue.caution(metric, row.value, row.n):
                dot.set_markerfacecolor("white")
        axes.margins(x=0.15)
        _name_metric(axes, metric)
        if protocols[metric] > 1:
            axes.set_title(f"{metric_title(metric)}\n{json.loads(protocol).get('name')}")
    return figure


def is_far(truth: pandas.Series, others: pandas.Series) -> bool:
    """Whether the ground truth's value lies further from the other runs' than they lie apart."""
    if truth.empty or len(others) < 2:
        return False
    return max(others.min() - truth.iloc[0], truth.iloc[0] - others.max()) > others.max() - others.min()


def _dot_with_interval(axes: Axes, value: float, place: float, row: Any, style: Looks, title: str) -> Line2D:
    colour = style["palette"][title]
    axes.plot([row.low, row.high], [place, place], color=colour, linewidth=1.8, zorder=1.5)
    return axes.plot(value, place, style["markers"][title], color=colour, markersize=7.5)[0]


def _name_metric(axes: Axes, metric: str) -> None:
    axes.set(title=metric_title(metric), ylabel="")
    axes.set_xlabel(catalogue.direction(metric), loc="right")


@styled
def violins(pairs: pandas.DataFrame, style: Looks, inches: float) -> Figure | None:
    """One panel a metric, one violin a run with its median and quartiles.

    pairs: title, metric, value, a row a test pair. Runs whose values are all alike have no violin.
    """
    pairs = pairs.dropna(subset=["value"])
    pairs = pairs[pairs.groupby(["title", "metric"])["value"].transform("nunique") > 1]
    if pairs.empty:
        return None
    titles = [title for title in style["palette"] if title in set(pairs["title"])]
    by_metric = pairs.groupby("metric", sort=False)
    figure, every = row_panels([wrap(title, inches) for title in titles], by_metric.ngroups, inches, row_inches=0.36)
    look: dict[str, Any] = {"order": titles, "hue_order": titles, "palette": style["palette"], "alpha": 0.5}
    look |= {"density_norm": "width", "width": 0.85, "cut": 0, "inner": "quart", "linewidth": 1, "legend": False}
    for (metric, part), axes in zip(by_metric, every, strict=True):
        seaborn.violinplot(part, x="value", y="title", hue="title", ax=axes, **look)
        _name_metric(axes, metric)
    every[0].set_yticks(range(len(titles)), [wrap(title, inches) for title in titles])
    return figure


@styled
def forest(effects: pandas.DataFrame, inches: float) -> Figure:
    """One panel a metric, one line a contrast with its 95 % interval beside zero (`reports.effects.effects`)."""
    effects = effects.assign(verdict=[VERDICTS[verdict][0] for verdict in effects["verdict"]])
    labels = list(effects["title"].unique())
    by_metric = effects.groupby("metric", sort=False)
    wrapped = [wrap(label, inches, wide=30, narrow=19) for label in labels]
    figure, every = row_panels(wrapped, by_metric.ngroups, inches, row_inches=0.34, per_row=2)
    for (metric, part), axes in zip(by_metric, every, strict=True):
        axes.axvline(0, color=INK, linewidth=1, zorder=1)
        for effect in part.itertuples():
            place = labels.index(effect.title)
            _dot_with_interval(axes, effect.difference, place, effect, VERDICT_LOOKS, effect.verdict)
        low, high = axes.get_xlim()
        reach = max(abs(low), abs(high))
        axes.set_xlim(min(low, -0.12 * reach), max(high, 0.12 * reach))  # zero with some room on either side
        grows = catalogue.higher_is_better(metric) is not False
        axes.set_title(metric_title(metric))
        axes.set_xlabel("difference, better →" if grows else "← better, difference", loc="right" if grows else "left")
    return with_legend(figure, VERDICT_LOOKS, inches, effects["verdict"])


@styled
def latencies(samples: pandas.DataFrame, style: Looks, inches: float) -> Figure:
    """Every raw sample as a dot, p5 to p95 as a line, the median as a bar; a panel for inference, one for training.

    samples: title, kind, scenario, ms, a row a sample (`reports.timing.samples`).
    """
    names = samples["title"] + ", " + samples["scenario"]
    samples = samples.assign(label=[wrap(name, inches, wide=26, narrow=18) for name in names])
    by_kind = dict(iter(samples.groupby("kind")))  # inference, then training
    heights = []
    for part in by_kind.values():
        labels = part["label"].unique()
        heights.append(1.0 + len(labels) * max(0.5, 0.17 * max(label.count("\n") + 1 for label in labels)))
    figure, every = panels(heights, inches, per_row=2)
    for (kind, part), axes in zip(by_kind.items(), every, strict=True):
        jitter, rows = np.random.default_rng(0), list(part.groupby(["label", "title"], sort=False)["ms"])
        for row, ((_, title), ms) in enumerate(rows):
            colour = style["palette"][title]
            axes.scatter(ms, row + jitter.uniform(-0.2, 0.2, len(ms)), s=9, alpha=0.35, color=colour, linewidths=0)
            low, median, high = ms.quantile([0.05, 0.5, 0.95])
            axes.plot([low, high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot([median, median], [row - 0.3, row + 0.3], color=INK, linewidth=2)
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


@styled
def throughput(timings: pandas.DataFrame, style: Looks, inches: float) -> Figure | None:
    """Images a second by batch, one panel for each precision and mode, one line a run; runs with one batch are dots."""
    place = ["precision", "mode"]
    timed = timing.own_sampler(timings).drop_duplicates([*place, "title", "batch"], keep="last")
    several = timed.groupby([*place, "title"])["batch"].transform("size") > 1
    timed = timed[several.groupby([timed[key] for key in place]).transform("any").astype(bool)]
    if timed.empty:
        return None
    by_place = timed.groupby(place, sort=False)
    figure, every = panels([PANEL_INCHES] * by_place.ngroups, inches, sharey=True)
    for (words, part), axes in zip(by_place, every, strict=True):
        for title, run in part.sort_values("batch").groupby("title", sort=False):
            axes.plot(run["batch"], run["images_per_second"], markeredgewidth=0, **line_look(style, title))
        batches = sorted(part["batch"].unique())
        axes.set(title=" ".join(map(str, words)), xlabel="batch", ylabel="images/s, higher is better ↑")
        axes.set_xscale("log", base=2)
        axes.set_xticks(batches, [f"{batch:g}" for batch in batches])
        axes.minorticks_off()
        logarithmic_if_wide(axes, "y", part["images_per_second"])
    return with_legend(figure, style, inches, timed["title"])


@styled
def quality_against_time(records: Records, inches: float) -> Figure | None:
    """One panel a metric, one marker a run at its latency; the line is the best that each latency can buy."""
    points, same, style = speed.quality_points(records), speed.common_circumstances(records.timings), looks(records)
    if points.empty or same is None:
        return None
    by_metric = points.groupby("metric", sort=False)
    figure, every = panels([PANEL_INCHES] * by_metric.ngroups, inches)
    dots: dict[str, Any] = {"hue": "title", "palette": style["palette"], "style": "title", "markers": style["markers"]}
    for (metric, part), axes in zip(by_metric, every, strict=True):
        front = speed.pareto_front(part, bool(catalogue.higher_is_better(metric)))
        reach = [*front["latency_ms"], 1.15 * part["latency_ms"].max()]
        heights = [*front["quality"], front["quality"].iloc[-1]]
        axes.plot(reach, heights, drawstyle="steps-post", color=GREY, linewidth=1.4, zorder=1)
        seaborn.scatterplot(part, x="latency_ms", y="quality", s=64, linewidth=0, legend=False, ax=axes, **dots)
        unit = catalogue.unit(metric)
        axes.set(title=metric_title(metric), ylabel=catalogue.title(metric) + (f" in {unit}" if unit else ""))
        axes.set_xlabel(f"← ms a batch of {same['batch']:g}, lower is better", loc="right")
        logarithmic_if_wide(axes, "x", part["latency_ms"])
        axes.margins(y=0.12)
    return with_legend(figure, style, inches, points["title"])


@styled
def dots(answer: pandas.DataFrame, metric: str, inches: float = 6.0) -> Figure:
    """A dot a group of `records.metric(...).by(...)`, its 95 % interval as a line, from top to bottom."""
    names = [", ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in answer.index]
    labels = [f"{name}  (n = {count})" for name, count in zip(names, answer["n"], strict=True)]
    figure, (axes,) = row_panels(labels, 1, inches, row_inches=0.3, per_row=1)
    one_look: Looks = {"palette": {"": "#0072B2"}, "markers": {"": "o"}}
    for place, row in enumerate(answer.itertuples()):
        _dot_with_interval(axes, row.value, place, row, one_look, "")
    axes.set(title=f"{catalogue.heading(metric)} by {', '.join(map(str, answer.index.names))}")
    over = " and ".join(dict.fromkeys(answer["over"]))
    axes.set_xlabel(f"mean and 95 % interval over {over}; {catalogue.direction(metric)}", loc="right")
    return figure
