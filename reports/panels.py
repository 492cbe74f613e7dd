"""What all figures share: a grid of panels that becomes one column on a narrow page, a legend above it, and axes that
turn logarithmic when they have to.
"""

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from reports.style import NARROW_INCHES, Look

LOGARITHMIC_ABOVE = 30.0  # largest over smallest value
LEGEND_LINE_INCHES = 0.215
TITLE_CHARACTERS = 27  # a third of a page less the labels beside it, and a narrow page


def panels(
    heights_inches: Sequence[float], inches: float, per_row: int, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each height, up to `per_row` beside one another, all in one column on a narrow page."""
    columns = 1 if inches <= NARROW_INCHES else min(per_row, max(len(heights_inches), 2))
    starts = range(0, len(heights_inches), columns)
    rows = [max(heights_inches[start : start + columns]) for start in starts]
    figure = Figure(figsize=(inches, sum(rows) + 0.3))
    every = list(figure.subplots(len(rows), columns, sharey=sharey, squeeze=False, height_ratios=rows).flat)
    for surplus in every[len(heights_inches) :]:
        surplus.set_axis_off()
    return figure, every[: len(heights_inches)]


def wrap(text: str, inches: float, wide: int, narrow: int) -> str:
    """Break a label into lines of so many characters, fewer of them on a narrow page."""
    return _filled(text, wide if inches > NARROW_INCHES else narrow)


def title_of(text: str) -> str:
    """Break a panel's title into lines that fit every panel: the layout makes no room for what is wider."""
    return _filled(text, TITLE_CHARACTERS)


def _filled(text: str, characters: int) -> str:
    return textwrap.fill(text, characters, break_long_words=False, break_on_hyphens=False)


def legend(figure: Figure, titles: dict[str, str], looks: dict[str, Look], inches: float) -> None:
    """Name the runs above the panels, in as many columns as there is room for; the figure grows by what that takes."""
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, linestyle=look.dashes, linewidth=1.8, markersize=5)
        for look in looks.values()
    ]
    names = [wrap(titles[run], inches, wide=44, narrow=40) for run in looks]
    longest = max((len(line) for name in names for line in name.splitlines()), default=1)
    columns = max(1, min(len(names), int(inches * 12 / (longest + 7))))
    in_column = math.ceil(len(names) / columns)
    starts = range(0, len(names), in_column)
    lines = max(sum(name.count("\n") + 1 for name in names[start : start + in_column]) for start in starts)
    figure.set_figheight(figure.get_figheight() + LEGEND_LINE_INCHES * lines)
    figure.legend(handles, names, loc="outside upper left", ncols=columns)


def logarithmic_if_wide(axes: Axes, axis: str, values: Sequence[float]) -> bool:
    """Make `axis` ("x" or "y") logarithmic when the values are positive and span more than LOGARITHMIC_ABOVE."""
    wide = len(values) > 1 and min(values) > 0 and max(values) / min(values) > LOGARITHMIC_ABOVE
    if wide:
        axes.set(**{f"{axis}scale": "log"})
        ticks = axes.xaxis if axis == "x" else axes.yaxis
        within_two_decades = max(values) / min(values) <= 100
        ticks.set_major_locator(LogLocator(subs=(1, 2, 5) if within_two_decades else (1,)))
        ticks.set_major_formatter(StrMethodFormatter("{x:g}"))
        ticks.set_minor_locator(NullLocator())
    return wide
