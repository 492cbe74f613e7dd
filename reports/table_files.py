"""A table of the report as files for other programs: CSV, Markdown, and LaTeX with the rules of booktabs.

Cells are text or markup; of markup only bold survives and, in LaTeX, that small print stands below; text is escaped as
each format needs it.
"""

import csv
import html
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from xinggan.files import write_atomically

FORMATS = ("csv", "md", "tex")
_TEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}"},
    **{">": "\\textgreater{}", "|": "\\textbar{}", "↑": "$\\uparrow$", "↓": "$\\downarrow$", "–": "--"},
    **{
        "−": "$-$",
        "×": "$\\times$",
        "\u00a0": "~",
        "≥": "$\\geq$",
        "·": "$\\cdot$",
        "→": "$\\to$",
        "←": "$\\leftarrow$",
    },
}


def write_table(stem: Path, heads: Sequence[Any], rows: Sequence[Sequence[Any]], caption: str) -> None:
    """Write <stem>.csv, .md and .tex."""
    write_atomically(stem.with_name(f"{stem.name}.csv"), as_csv(heads, rows))
    write_atomically(stem.with_name(f"{stem.name}.md"), as_markdown(heads, rows, caption))
    write_atomically(stem.with_name(f"{stem.name}.tex"), as_latex(heads, rows, caption))


def as_csv(heads: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows([_plain(cell) for cell in row] for row in [heads, *rows])
    return written.getvalue()


def as_markdown(heads: Sequence[Any], rows: Sequence[Sequence[Any]], caption: str) -> str:
    ruler = "|---" + "|---:" * (len(heads) - 1) + "|"
    lines = [markdown_row(heads), ruler, *map(markdown_row, rows)]
    return "\n".join([f"**{escape(caption)}**", "", *lines]) + "\n"


def as_latex(heads: Sequence[Any], rows: Sequence[Sequence[Any]], caption: str) -> str:
    """A float that needs the packages booktabs and graphicx; what is wider than the page is made to fit."""
    inside = ["\\toprule", _tex_row(heads), "\\midrule", *map(_tex_row, rows), "\\bottomrule"]
    fit = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%"
    table = [fit, f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", *inside, "\\end{tabular}}"]
    return "\n".join(["\\begin{table}", "\\centering", f"\\caption{{{_tex(caption)}}}", *table, "\\end{table}"]) + "\n"


def _parts(cell: Any) -> tuple[str, str]:
    """A cell and its small print without markup: a footnote's number in brackets, a line break as a space."""
    if not isinstance(cell, Markup):
        return " ".join(str(cell).splitlines()), ""
    first, _, small = re.sub(r"<sup>(.*?)</sup>", r" [\1]", str(cell)).partition("<small>")
    plain = (html.unescape(" ".join(re.sub(r"<[^>]*>", " ", part).split())) for part in (first, small))
    return next(plain), next(plain)


def _plain(cell: Any) -> str:
    return " ".join(filter(None, _parts(cell)))


def _is_bold(cell: Any) -> bool:
    return isinstance(cell, Markup) and cell.startswith("<strong>")


def markdown_row(row: Sequence[Any]) -> str:
    return f"| {' | '.join(map(_markdown, row))} |"


def _markdown(cell: Any) -> str:
    first, small = (str(escape(part)).replace("\\", "\\\\").replace("|", "\\|") for part in _parts(cell))
    return " ".join(filter(None, [f"**{first}**" if _is_bold(cell) else first, small]))


def _tex_row(row: Sequence[Any]) -> str:
    sides = ["l", *"r" * (len(row) - 1)]
    return f"{' & '.join(_tex(cell, side) for cell, side in zip(row, sides, strict=True))} \\\\"


def _tex(cell: Any, side: str = "l") -> str:
    first, small = ("".join(_TEX.get(sign, sign) for sign in part) for part in _parts(cell))
    if first.startswith(("[", "*")):  # at the start of a row they would be arguments of the line end before it
        first = f"{{}}{first}"
    first = f"\\textbf{{{first}}}" if _is_bold(cell) else first
    below = f"\\begin{{tabular}}[t]{{@{{}}{side}@{{}}}}{first}\\\\{{\\scriptsize {small}}}\\end{{tabular}}"
    return below if small else first
