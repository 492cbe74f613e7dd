"""Figures over run records. Each function takes records and a width in inches and gives a matplotlib figure, or None
when no record holds what it would draw.
"""

from typing import Any

import pandas
import seaborn
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import measures
from reports.panels import legend, logarithmic_if_wide, panels, title_of, wrap
from reports.records import Records
from reports.style import SETTINGS, WIDE_INCHES, Look, looks
from reports.timing import distributions, is_number, number

PANEL_INCHES = 2.4  # height of a panel with curves
LOSSES_THAT_SHOULD_FALL = ("l1", "perceptual")  # the adversarial ones balance: neither direction is better
Intervals = dict[str, tuple[float, float]]  # of each run
POINTS_TO_SMOOTH = 60  # curves with more points are drawn faintly, with their running median on top


@rc_context(SETTINGS)
def learning_curves(records: Records, inches: float = WIDE_INCHES) -> Figure | None:
    """Every loss, then every gradient norm, by training step: one panel each, one line a run."""
    points = series(records, "losses")
    names = sorted(dict.fromkeys(name for _, name in points), key=is_gradient)
    if not names:
        return None
    figure, every = curve_panels(records, points, names, inches)
    for name, axes in zip(names, every, strict=True):
        label = "loss, lower is better ↓" if name in LOSSES_THAT_SHOULD_FALL else "loss"
        axes.set(title=name.replace("_", " "), xlabel="training step")
        axes.set_ylabel("gradient norm" if is_gradient(name) else label)
        logarithmic_if_wide(axes, "y", [v for (_, of), curve in points.items() if of == name for v in curve.values()])
    return figure


@rc_context(SETTINGS)
def evaluation_curves(records: Records, inches: float = WIDE_INCHES) -> Figure | None:
    """Metrics measured during training by step, one panel a metric, one line a run."""
    points = series(records, "evaluation")
    names = measures.in_order(name for _, name in points)
    if not names:
        return None
    figure, every = curve_panels(records, points, names, inches)
    for name, axes in zip(names, every, strict=True):
        axes.set(title=title_of(measures.heading(name)), xlabel="training step", ylabel=measures.quantity(name))
    return figure


def curve_panels(
    records: Records, points: dict[tuple[str, str], dict[int, float]], names: list[str], inches: float
) -> tuple[Figure, list[Axes]]:
    """One panel a name with its curve of every run (`points` as `series` gives them), and the legend of the runs."""
    figure, every = panels([PANEL_INCHES] * len(names), inches, per_row=3)
    style = looks(records)
    for name, axes in zip(names, every, strict=True):
        for (run, of), curve in points.items():
            if of == name:
                draw_curve(axes, curve, style[run])
    legend(figure, records.titles(), {run: style[run] for run in dict.fromkeys(run for run, _ in points)}, inches)
    return figure, every


def series(records: Records, entry: str) -> dict[tuple[str, str], dict[int, float]]:
    """(run, name) -> {step: value} of the `losses` or the `evaluation` of all histories; a step done again replaces."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for record in records:
        for row in record.history:
            values = row.get(entry)
            for name, value in values.items() if isinstance(values, dict) else ():
                if is_number(value):
                    found.setdefault((record.run, name), {})[row["step"]] = value
    return {key: dict(sorted(curve.items())) for key, curve in found.items()}


def draw_curve(axes: Axes, curve: dict[int, float], look: Look) -> None:
    """A line with a marker here and there; a long one faintly, with its running median on top."""
    steps, values = list(curve), list(curve.values())
    if len(curve) > POINTS_TO_SMOOTH:
        axes.plot(steps, values, linewidth=0.8, alpha=0.3, color=look.colour)
        values = pandas.Series(values).rolling(len(curve) // 20, center=True, min_periods=1).median().to_list()
    sparsely = max(1, len(curve) // 6)
    axes.plot(steps, values, look.marker, markevery=sparsely, markersize=4.5, color=look.colour, linestyle=look.dashes)


@rc_context(SETTINGS)
def metric_dots(
    records: Records, inches: float = WIDE_INCHES, intervals: dict[tuple[str, str], Intervals] | None = None
) -> Figure | None:
    """One panel a metric and protocol, one dot a run, in the order of the table, its interval as a line.

    A ground truth far from all other dots is named at the panel's edge instead of squeezing them together.
    """
    found: dict[tuple[str, str], dict[str, float]] = {}
    for record in records:
        for row in record.measurements:
            if row.value is not None and measures.group(row.metric) in measures.GROUPS[:2]:
                found.setdefault((row.metric, row.protocol_key), {})[record.run] = row.value
    if not found:
        return None
    runs = [record.run for record in records if any(record.run in values for values in found.values())]
    titles, style = records.titles(), looks(records)
    labels = [wrap(titles[run], inches, wide=24, narrow=16) for run in runs]
    lines = max(label.count("\n") + 1 for label in labels)
    figure, every = panels([0.8 + max(0.24, 0.17 * lines) * len(labels)] * len(found), inches, per_row=3, sharey=True)
    order = measures.in_order(metric for metric, _ in found)
    keys = sorted(found, key=lambda key: (order.index(key[0]), key[1]))
    for key, axes in zip(keys, every, strict=True):
        far = far_ground_truth(found[key], records)
        for run, value in found[key].items():
            if run == far:
                name_at_edge(axes, value, runs.index(run), to_the_right=value > max(set(found[key].values()) - {value}))
            else:
                axes.plot(value, runs.index(run), style[run].marker, color=style[run].colour, markersize=8)
                if of_run := (intervals or {}).get(key, {}).get(run):
                    axes.plot(of_run, [runs.index(run)] * 2, color=style[run].colour, linewidth=1.6, zorder=1)
        axes.set_title(title_of(measures.heading(key[0])))
        axes.set_xlabel(measures.direction(key[0]), loc="right")
        axes.set_yticks(range(len(runs)), labels)
        axes.set_ylim(len(runs) - 0.5, -0.5)
        axes.margins(x=0.15)
        axes.locator_params(axis="x", nbins=5)
    return figure


def far_ground_truth(values: dict[str, float], records: Records) -> str | None:
    """The ground truth's run when it lies further from the other values than they lie apart."""
    truth = next((record.run for record in records if record.method == "ground_truth" and record.run in values), None)
    others = [value for run, value in values.items() if run != truth]
    if truth is None or len(others) < 2:
        return None
    distance = max(min(others) - values[truth], values[truth] - max(others))
    return truth if distance > max(others) - min(others) else None


def name_at_edge(axes: Axes, value: float, row: int, to_the_right: bool) -> None:
    """Write a value that lies outside the panel at the edge where it would be."""
    text, at, side = (f"{value:.4g} →", 0.99, "right") if to_the_right else (f"← {value:.4g}", 0.01, "left")
    axes.text(at, row, text, transform=axes.get_yaxis_transform(), ha=side, va="center", fontsize=9, color="#444444")


@rc_context(SETTINGS)
def timing_distributions(records: Records, inches: float = WIDE_INCHES) -> Figure | None:
    """Every raw sample as a dot, p5 to p95 as a line, the median as a bar; a panel for inference, one for training."""
    frame = timing_samples(records)
    kinds = [kind for kind in ("inference", "training") if (frame.kind == kind).any()]
    if not kinds:
        return None
    titles, style = records.titles(), looks(records)
    names = [f"{titles[run]}, {scenario}" for run, scenario in zip(frame.run, frame.scenario, strict=True)]
    frame["label"] = [wrap(name, inches, wide=26, narrow=18) for name in names]
    labels = [frame[frame.kind == kind].label.unique() for kind in kinds]
    lines = [max(label.count("\n") + 1 for label in of_kind) for of_kind in labels]
    heights = [1.0 + len(of_kind) * max(0.5, 0.17 * most) for of_kind, most in zip(labels, lines, strict=True)]
    figure, every = panels(heights, inches, per_row=2)
    for kind, axes in zip(kinds, every, strict=True):
        part = frame[frame.kind == kind]
        colours = {label: style[run].colour for label, run in zip(part.label, part.run, strict=True)}
        dots = {"hue": "label", "palette": colours, "size": 3, "alpha": 0.35, "jitter": 0.2, "legend": False}
        seaborn.stripplot(part, x="ms", y="label", ax=axes, **dots)
        for row, (label, samples) in enumerate(part.groupby("label", sort=False)["ms"]):
            low, median, high = samples.quantile([0.05, 0.5, 0.95])
            axes.plot([low, high], [row, row], color=colours[label], linewidth=2, solid_capstyle="butt")
            axes.plot([median, median], [row - 0.3, row + 0.3], color="#1a1a1a", linewidth=2)
            axes.text(
                median, row - 0.34, f"{number(median)} ms", ha="center", va="bottom", fontsize=8.5, color="#333333"
            )
        what = "batch" if kind == "inference" else "training step"
        axes.set(title=kind.capitalize(), ylabel="")
        axes.set_xlabel(f"← ms per {what}, lower is better", loc="right")
        if not logarithmic_if_wide(axes, "x", list(part.ms)):
            axes.set_xlim(left=0)
        axes.set_ylim(part.label.nunique() - 0.5, -0.8)
    return figure


def timing_samples(records: Records) -> pandas.DataFrame:
    """One row a raw timing sample of `distributions`: run, kind, scenario (batch, and what else differs), ms."""
    every = [(record.run, row) for record, row in distributions(records)]
    varying = ("device", "precision", "mode", "sampler", "sampling_steps")
    telling = [key for key in varying if len({str(scenario.get(key)) for _, scenario in every}) > 1]
    rows: list[dict[str, Any]] = []
    for run, scenario in every:
        words = [
            f"batch\u00a0{scenario.get('batch', '?')}",
            *(str(scenario[key]) for key in telling if scenario.get(key)),
        ]
        named = {"run": run, "kind": scenario.get("kind"), "scenario": ", ".join(words)}
        rows += [{**named, "ms": sample} for sample in scenario["samples_ms"] if is_number(sample)]
    return pandas.DataFrame(rows, columns=["run", "kind", "scenario", "ms"])


def is_gradient(name: str) -> bool:
    """Histories hold the norms of the networks' gradients beside the losses."""
    return name.startswith("gradient_")
