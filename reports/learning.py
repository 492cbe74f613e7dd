"""How fast methods learn: what their averaged weights score after ever more training, who overtakes whom, and tuning.

From runs with `evaluation.halvings`, which are scored on all test pairs after 1/2, 1/4, ... of their training, too.
What training costs is counted in training pairs, in seconds of training on the run's machine (evaluations are not
training), and in floating-point operations, forward and backward. What was tuned before is the grid of the study
`tuning`.
"""

from typing import Any

import numpy as np
import pandas
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, NullFormatter

from ablations.tuning import FACTORS, Point, choose, deciding_metric, read_grid
from reports.figures import Looks, line_look, metric_title, panels, styled, with_legend
from reports.formats import DASH, joined, number
from reports.records import Records
from xinggan.metrics import catalogue

STAGES_FIRST = (
    "Some methods train in stages (GFLA's flow first, a latent method's autoencoder, the teacher of a distilled one): "
    "until the last stage begins, their values are those of an unfinished method."
)
COSTS = {"images": "training pairs", "seconds": "seconds of training", "flops": "floating-point operations"}
COLUMNS = ["run", "title", "method", "diffusion", "machine", "metric", "protocol", "step", *COSTS, "value"]


def learning_curves(records: Records) -> pandas.DataFrame:
    """A row a run, main metric and evaluated step: COLUMNS.

    `diffusion`: whether the method is a diffusion model. `machine`: on what and in which precision it was trained.
    """
    metrics, rows = records.main_metrics(), []
    for record in records.methods:
        about: dict[str, Any] = {"run": record.run, "title": record.title, "method": record.method}
        about["diffusion"] = ".diffusion." in str(record.facts.get("method._target_"))
        compiled = ", compiled" * bool(record.facts.get("compile"))
        about["machine"] = f"{record.machine}, {record.facts.get('precision', 'fp32')}{compiled}"
        rows += [about | row for row in record.learning if row["metric"] in metrics]
    frame = pandas.DataFrame(rows, columns=COLUMNS)
    return frame.sort_values("metric", key=lambda names: names.map(metrics.index), kind="stable", ignore_index=True)


@styled
def curves(learning: pandas.DataFrame, style: Looks, inches: float) -> Figure:
    """For each metric three panels, the value against each of COSTS, a line a run. learning: of `learning_curves`."""
    metrics = list(learning["metric"].unique())
    figure, every = panels([2.6] * (len(metrics) * len(COSTS)), inches)
    for place, axes in enumerate(every):
        metric, cost = metrics[place // len(COSTS)], list(COSTS)[place % len(COSTS)]
        for title, run in learning[learning["metric"] == metric].groupby("title", sort=False):
            axes.plot(run[cost], run["value"], markeredgecolor="white", **line_look(style, title))
        axes.set(title=metric_title(metric), xlabel=COSTS[cost], ylabel="", xscale="log")
        axes.xaxis.set_minor_formatter(NullFormatter())  # between powers of ten labels run into each other
        if cost == "images":
            points = learning["images"]
            halvings = np.arange(min(int(np.log2(points.max() / points.min())), 7) + 1)
            axes.xaxis.set(major_locator=FixedLocator(points.max() / 2**halvings), major_formatter=EngFormatter(sep=""))
    return with_legend(figure, style, inches, learning["title"])


def overtaking(learning: pandas.DataFrame) -> pandas.DataFrame:
    """For each metric, diffusion model and other method: from how much training on the first is the better one.

    Both are compared after equal training, along straight lines between the evaluated points on a logarithmic axis.
    Columns: metric, diffusion, other, same_machine (else their seconds are not compared), and for each of COSTS the
    least from which on the diffusion model stays better; 0 where it always was, NaN where it is not at the end of what
    both were trained for. Runs under different protocols are not compared.
    """
    rows = []
    for (metric, _), part in learning.groupby(["metric", "protocol"], sort=False):
        sign = 1 if catalogue.higher_is_better(str(metric)) else -1
        runs = {title: own.sort_values("step") for title, own in part.groupby("title", sort=False)}
        for title, own in runs.items():
            for other, rival in runs.items():
                if own["diffusion"].iloc[0] and not rival["diffusion"].iloc[0]:
                    same = own["machine"].iloc[0] == rival["machine"].iloc[0]
                    places = [crossing(own, rival, c, sign) if same or c != "seconds" else np.nan for c in COSTS]
                    rows.append([metric, title, other, same, *places])
    return pandas.DataFrame(rows, columns=["metric", "diffusion", "other", "same_machine", *COSTS])


def crossing(own: pandas.DataFrame, rival: pandas.DataFrame, cost: str, sign: int) -> float:
    """The least cost from which on `own` stays better than `rival`; 0 if it always is, NaN if it is not at the end."""
    first, last = (choose(own[cost].iloc[end], rival[cost].iloc[end]) for end, choose in ((0, max), (-1, min)))
    both = np.union1d(own[cost], rival[cost])
    if first > last:
        return np.nan
    grid = np.unique(np.concatenate([[first], both[(both > first) & (both < last)], [last]]))
    ours, theirs = (np.interp(np.log(grid), np.log(run[cost]), run["value"]) for run in (own, rival))
    gain = sign * (ours - theirs)
    behind = np.flatnonzero(gain <= 0)
    if not len(behind):
        return 0.0
    place = behind[-1]
    if place == len(grid) - 1:
        return np.nan
    share = -gain[place] / (gain[place + 1] - gain[place])
    return float(np.exp(np.interp(share, [0, 1], np.log(grid[place : place + 2]))))


def overtaking_table(found: pandas.DataFrame) -> pandas.DataFrame:
    """`overtaking` as text: a row a metric and diffusion model: whom it overtakes, and where by each of COSTS."""
    table = [
        {
            "metric": catalogue.heading(str(metric)),
            "diffusion model": diffusion,
            **{f"is better than, by {title}": _overtaken(part, cost) for cost, title in COSTS.items()},
        }
        for (metric, diffusion), part in found.groupby(["metric", "diffusion"], sort=False)
    ]
    return pandas.DataFrame(table)


def _overtaken(part: pandas.DataFrame, cost: str) -> str:
    """The methods that one diffusion model overtakes by one metric, each with the cost from which on it is better."""
    told, throughout = [], []
    for row in part.to_dict("records"):
        if cost == "seconds" and not row["same_machine"]:
            told.append(f"{row['other']}: trained on another machine")
        elif row[cost] == 0:
            throughout.append(row["other"])
        elif not np.isnan(row[cost]):
            start = f"{row[cost]:.3g}" if row[cost] >= 1e6 else number(row[cost])
            told.append(f"{row['other']} from {start}")
    return "; ".join([*([f"{joined(throughout)} throughout"] if throughout else []), *told]) or "none"


def machines_sentence(learning: pandas.DataFrame) -> str:
    """Which runs were trained on which machine, where their seconds are not of one; else ""."""
    titles = learning.groupby("machine", sort=False)["title"].unique()
    if len(titles) < 2:
        return ""
    told = "; ".join(f"{joined(list(own))} on {machine}" for machine, own in titles.items())
    return f"Seconds are not comparable between machines: {told}."


# Tuning.


def tuning_grid(records: Records) -> dict[str, list[Point]]:
    """Row of the comparison -> the points of its grid, of rows with a run among the records and those that never ran.

    Empty where no record is of the grid.
    """
    there = {record.run for record in records}
    try:
        grid = read_grid(records[0].directory.parent)
    except ValueError:
        return {}
    selected = [row for row, points in grid.items() if there & {point.run for point in points}]
    never_ran = [row for row, points in grid.items() if all(point.state == "missing" for point in points)]
    return {row: points for row, points in grid.items() if selected and row in (*selected, *never_ran)}


def tuning_table(grid: dict[str, list[Point]]) -> pandas.DataFrame:
    """What each learning rate scored, as text: a row a method and parametrisation, a column a rate; * is chosen."""
    rows = []
    for row, points in grid.items():
        metric, chosen = deciding_metric(points), _chosen(points)
        for name in dict.fromkeys(point.parametrisation for point in points):
            own = {point.factor: point for point in points if point.parametrisation == name}
            cells = {f"rate ×{factor}": _cell(own.get(factor), metric, chosen) for factor in FACTORS}
            heading = catalogue.heading(metric) if metric else DASH
            rows.append({"method": f"{row}\n{name}", **cells, "metric": heading})
    return pandas.DataFrame(rows)


def _chosen(points: list[Point]) -> Point | None:
    try:
        return choose(points)
    except ValueError:
        return None


def _cell(point: Point | None, metric: str | None, chosen: Point | None) -> str:
    """The distance with its mark and, in small print, the rate; the state of a run without a result."""
    if point is None or not point.config:
        return "missing"
    told = f"{point.scores[metric]:.4f}" if metric and metric in point.scores else point.state
    return f"{told}{' *' if point is chosen else ''}\nat {point.config['method']['learning_rate']:g}"


def tuning_sentences(grid: dict[str, list[Point]]) -> list[str]:
    """Methods whose choice lies at the grid's edge, and those without one, each with the reason."""
    edges, told = [], []
    for row, points in grid.items():
        try:
            if (point := choose(points)).at_edge:
                edges.append(f"{row} (×{point.factor})")
        except ValueError as error:
            told.append(f"{row}: nothing is chosen; {error}.")
    if edges:
        told.insert(0, f"At the edge of the grid, so that a rate outside may be better: {'; '.join(edges)}.")
    return told
