"""A table of the report as files for other programs: CSV, Markdown, and LaTeX with the rules of booktabs.

Cells are text or markup; of markup only bold survives, and text is escaped as each format needs it.
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
    body = [f"{' & '.join(map(_tex, row))} \\\\" for row in rows]
    head = f"{' & '.join(map(_tex, heads))} \\\\"
    inside = ["\\toprule", head, "\\midrule", *body, "\\bottomrule"]
    fit = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%"
    table = [fit, f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", *inside, "\\end{tabular}}"]
    return "\n".join(["\\begin{table}", "\\centering", f"\\caption{{{_tex(caption)}}}", *table, "\\end{table}"]) + "\n"


def _plain(cell: Any) -> str:
    """Without markup: a footnote's number in brackets, a line break as a space."""
    if not isinstance(cell, Markup):
        return " ".join(str(cell).splitlines())
    text = re.sub(r"<sup>(.*?)</sup>", r" [\1]", str(cell))
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", text).split()))


def _is_bold(cell: Any) -> bool:
    return isinstance(cell, Markup) and cell.startswith("<strong>")


def markdown_row(row: Sequence[Any]) -> str:
    cells = (str(escape(_plain(cell))).replace("\\", "\\\\").replace("|", "\\|") for cell in row)
    marked = (f"**{text}**" if _is_bold(cell) else text for text, cell in zip(cells, row, strict=True))
    return f"| {' | '.join(marked)} |"


def _tex(cell: Any) -> str:
    text = "".join(_TEX.get(sign, sign) for sign in _plain(cell))
    if text.startswith(("[", "*")):  # at the start of a row they would be arguments of the line end before it
        text = f"{{}}{text}"
    return f"\\textbf{{{text}}}" if _is_bold(cell) else text
