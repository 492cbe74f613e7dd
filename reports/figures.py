"""How figures look: readable in print and for colour-blind readers, a run the same in every figure of a report.

Colours are those of Okabe and Ito (2008) and of Tol's sets; a marker says the same a second time, so that nothing
depends on seeing colour. A figure is a grid of panels that becomes one column on a narrow page, a legend above it, and
axes that turn logarithmic when they have to.
"""

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

import pandas
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from reports.records import Record
from xinggan.metrics import catalogue

WIDE_INCHES, NARROW_INCHES = 10.4, 3.7  # at 96 pixels an inch: the page's column on a desk, the page on a phone
METHOD_COLOURS = {
    **{"xinggan": "#0072B2", "pidm": "#D55E00", "gfla": "#009E73", "patn": "#CC79A7", "cfld": "#E69F00"},
    **{"bigraph": "#56B4E9", "pocold": "#882255", "deform": "#44AA99", "pg2": "#999933", "pix2pix": "#332288"},
    **{"dptn": "#88CCEE", "nted": "#B8860B", "xmdpt": "#6A3D9A"},
    **{"copy_source": "#7a7a7a", "mean_image": "#a8a8a8", "vae_roundtrip": "#525252", "ground_truth": "#1a1a1a"},
}
FURTHER_COLOURS = ("#117733", "#AA4499", "#CC6677", "#6699CC", "#661100", "#DDAA33", "#004488", "#BB5566")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "p")
DASHES = ("", (4, 1.5), (1.5, 1), (6, 1.5, 1.5, 1.5))  # as seaborn writes them; "" is a solid line
LOGARITHMIC_ABOVE = 30.0  # largest over smallest value
LEGEND_LINE_INCHES = 0.215
TITLE_CHARACTERS = 27  # a third of a page less the labels beside it, and a narrow page

SETTINGS: Any = {
    **{"figure.dpi": 96, "font.size": 10},
    **{"axes.titlesize": 10.5, "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.titley": 1.0},
    **{"axes.labelsize": 9.5, "axes.labelcolor": "#333333", "axes.edgecolor": "#8a8a8a"},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True},
    **{"axes.formatter.useoffset": False, "grid.color": "#e6e6e6", "grid.linewidth": 0.8},
    **{"xtick.labelsize": 9, "ytick.labelsize": 9, "xtick.color": "#555555", "ytick.color": "#555555"},
    **{"legend.frameon": False, "legend.fontsize": 9.5, "lines.markersize": 5},
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3 fonts
    "svg.hashsalt": "report",  # the same records give the same file
}
Looks = dict[str, dict[str, Any]]  # palette, markers and dashes, each by a run's title: what seaborn takes


def styled(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Draw in the report's style, whatever the matplotlibrc of this machine says; nothing of a table without rows."""

    @wraps(draw)
    def drawn(data: Any, *others: Any, **options: Any) -> Any:
        if isinstance(data, pandas.DataFrame) and data.empty:
            return None
        with style.context(SETTINGS, after_reset=True):
            return draw(data, *others, **options)

    return drawn


def looks(records: Iterable[Record]) -> Looks:
    """Colour, marker and dashes of each run, the same in every figure of the report, by its title.

    A method's first run has the method's colour.
    """
    found: Looks = {"palette": {}, "markers": {}, "dashes": {}}
    for record in records:
        own = METHOD_COLOURS.get(record.method) if record.leads_its_method else None
        found["palette"][record.title] = own or FURTHER_COLOURS[record.number % len(FURTHER_COLOURS)]
        found["markers"][record.title] = MARKERS[record.number % len(MARKERS)]
        found["dashes"][record.title] = DASHES[record.number // len(MARKERS) % len(DASHES)]
    return found


def line_look(looks: Looks, title: str) -> dict[str, Any]:
    """A run's line, for matplotlib: seaborn's lineplot tries every colour with every dash, of twenty runs 400 pairs."""
    dashes = looks["dashes"][title]
    style = (0, dashes) if dashes else "solid"
    return {"color": looks["palette"][title], "marker": looks["markers"][title], "linestyle": style}


def panels(
    heights_inches: Sequence[float], inches: float, per_row: int = 3, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each height, up to `per_row` beside one another, all in one column on a narrow page."""
    columns = 1 if inches <= NARROW_INCHES else min(per_row, max(len(heights_inches), 2))
    starts = range(0, len(heights_inches), columns)
    rows = [max(heights_inches[start : start + columns]) for start in starts]
    figure = Figure(figsize=(inches, sum(rows) + 0.3), layout="constrained")
    every = list(figure.subplots(len(rows), columns, sharey=sharey, squeeze=False, height_ratios=rows).flat)
    for surplus in every[len(heights_inches) :]:
        surplus.set_axis_off()
    return figure, every[: len(heights_inches)]


def row_panels(labels: Sequence[str], count: int, inches: float, row_inches: float = 0.24, per_row: int = 3):
    """`panels` with a labelled row for each label, shared by `count` panels beside one another."""
    lines = max(label.count("\n") + 1 for label in labels)
    height = 0.8 + max(row_inches, 0.17 * lines) * len(labels)
    figure, every = panels([height] * count, inches, per_row, sharey=True)
    every[0].set_yticks(range(len(labels)), labels)
    every[0].set_ylim(len(labels) - 0.5, -0.5)
    for axes in every:
        axes.locator_params(axis="x", nbins=5)
    return figure, every


def wrap(text: str, inches: float, wide: int = 24, narrow: int = 16) -> str:
    """Break a label into lines of so many characters, fewer of them on a narrow page."""
    characters = wide if inches > NARROW_INCHES else narrow
    return textwrap.fill(text, characters, break_long_words=False, break_on_hyphens=False)


def metric_title(metric: str) -> str:
    """A panel's title in lines that fit every panel: the layout makes no room for what is wider."""
    return wrap(catalogue.heading(metric), WIDE_INCHES, TITLE_CHARACTERS)


def with_legend(figure: Figure, looks: Looks, inches: float, titles: Iterable[str]) -> Figure:
    """Name the looks of these titles above the panels in as many columns as there is room for.

    The figure grows by what that takes.
    """
    shown = [title for title in looks["palette"] if title in set(titles)]
    handles = [Line2D([], [], linewidth=1.8, **line_look(looks, title)) for title in shown]
    names = [wrap(title, inches, wide=44, narrow=40) for title in shown]
    longest = max((len(line) for name in names for line in name.splitlines()), default=1)
    columns = max(1, min(len(names), int(inches * 12 / (longest + 7))))
    in_column = math.ceil(len(names) / columns)
    starts = range(0, len(names), in_column)
    lines = max(sum(name.count("\n") + 1 for name in names[start : start + in_column]) for start in starts)
    figure.set_figheight(figure.get_figheight() + LEGEND_LINE_INCHES * lines)
    figure.legend(handles, names, loc="outside upper left", ncols=columns)
    return figure


def logarithmic_if_wide(axes: Axes, axis: str, values: Iterable[float]) -> bool:
    """Make `axis` ("x" or "y") logarithmic when the values are positive and span more than LOGARITHMIC_ABOVE."""
    values = list(values)
    wide = len(values) > 1 and min(values) > 0 and max(values) / min(values) > LOGARITHMIC_ABOVE
    if wide:
        axes.set(**{f"{axis}scale": "log"})
        ticks = axes.xaxis if axis == "x" else axes.yaxis
        within_two_decades = max(values) / min(values) <= 100
        ticks.set_major_locator(LogLocator(subs=(1, 2, 5) if within_two_decades else (1,)))
        ticks.set_major_formatter(StrMethodFormatter("{x:g}"))
        ticks.set_minor_locator(NullLocator())
    return wide
