"""A figure of any answer that `records.metric(...).by(...)` gives: a dot a group, its 95 % interval as a line."""

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib import rc_context
from matplotlib.figure import Figure

from reports import measures
from reports.style import SETTINGS
from xinggan.files import atomic_path

if TYPE_CHECKING:
    import pandas


@rc_context(SETTINGS)
def dots(answer: "pandas.DataFrame", metric: str, inches: float = 6.0) -> Figure:
    """Groups from top to bottom in the order of the answer; the axis says what the line is an interval over."""
    names = [", ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in answer.index]
    figure = Figure(figsize=(inches, 0.9 + 0.3 * len(answer)))
    axes = figure.subplots()
    for place, (_, row) in enumerate(answer.iterrows()):
        axes.plot([row["low"], row["high"]], [place, place], color="#0072B2", linewidth=2, solid_capstyle="butt")
        axes.plot(row["value"], place, "o", color="#0072B2", markersize=7)
    keys = ", ".join(str(name) for name in answer.index.names)
    axes.set_yticks(range(len(names)), [f"{n}  (n = {count})" for n, count in zip(names, answer["n"], strict=True)])
    axes.set_ylim(len(names) - 0.5, -0.5)
    over = " and ".join(dict.fromkeys(answer["over"]))
    axes.set(title=f"{measures.heading(metric)} by {keys}")
    axes.set_xlabel(f"mean and 95 % interval over {over}; {measures.direction(metric)}", loc="right")
    return figure


def save(figure: Figure, folder: Path | str, name: str) -> Path:
    """Write <folder>/<name>.pdf for a paper and <name>.svg for a page; returns the first."""
    for ending in ("svg", "pdf"):
        with atomic_path(Path(folder) / f"{name}.{ending}") as path, rc_context(SETTINGS):
            date = {"Date": None} if ending == "svg" else {"CreationDate": None}
            figure.savefig(path, format=ending, metadata=date)
    return Path(folder) / f"{name}.pdf"
