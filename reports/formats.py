"""Numbers and settings as text, alike in all tables and sentences of a report."""

import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeGuard

import pandas

DASH, MINUS = "–", "\u2212"


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a finite number (records hold anything)."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any) -> str:
    """Three significant digits, never an exponent; a dash for what is no number."""
    if not is_number(value):
        return DASH
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def count(value: Any) -> str:
    return f"{value:,.0f}" if is_number(value) and value == int(value) else DASH


def plural(many: int, one: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{many} {one if many == 1 else one + 's'}"


def duration(seconds: Any) -> str:
    """250 -> 4 min 10 s; a dash when nothing was recorded."""
    if not is_number(seconds):
        return DASH
    minutes, left = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {left:02d} s" if minutes else f"{seconds:.1f} s"


def decimals_for(largest: float) -> int:
    """Decimals of a column whose largest value this is: four for values up to 2, fewer for larger ones."""
    return next((decimals for limit, decimals in ((2, 4), (20, 3), (200, 2)) if largest <= limit), 1)


def interval(low: float, high: float, form: str) -> str:
    """`[0.512, 0.561]` with each end formatted by `form`, or nothing where there is no interval."""
    return f"[{low:{form}}, {high:{form}}]" if math.isfinite(low) and math.isfinite(high) else ""


def signed(text: str) -> str:
    """A formatted number with a minus sign instead of a hyphen."""
    return text.replace("-", MINUS)


def p_text(p_value: float | None) -> str:
    """`p < 0.001`, `p = 0.023`, or that no test was possible."""
    if p_value is None or not math.isfinite(p_value):
        return "not tested"
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def as_text(value: Any) -> str:
    """A value of a configuration or a protocol as on a command line: true, null, 0.0002, 1 for 1.0, [1, 3, 6, 8]."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(as_text, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def joined(words: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    between = "; " if any("," in word for word in words) else ", "
    return f" {last} ".join(filter(None, [between.join(words[:-1]), *words[-1:]]))


def or_dash(value: Any) -> str:
    """`as_text` of a value of a table, a dash where there is none (None, NaN)."""
    return as_text(value) if isinstance(value, (list, tuple)) or pandas.notna(value) else DASH


def share(value: Any) -> str:
    """0.1234 -> 12.3%; a dash for what is no number."""
    return f"{value:.1%}" if is_number(value) else DASH


Columns = Mapping[str, tuple[str, Callable[[Any], str]]]


def text_table(rows: pandas.DataFrame, columns: Columns, on_some: Iterable[str] = ()) -> pandas.DataFrame:
    """A table of text, a row of `rows` each. `columns`: head -> (key, formatter).

    A column named in `on_some` is left out where all its cells are a dash.
    """
    table = pandas.DataFrame({head: [form(value) for value in rows[key]] for head, (key, form) in columns.items()})
    return table.drop(columns=[head for head in on_some if (table[head] == DASH).all()])
