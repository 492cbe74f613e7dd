"""One table in four formats: HTML for a page, and CSV, Markdown and LaTeX for papers, each written by pandas.

A cell is text; what follows its first line is small print. The first column names the rows. Heads may stand twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas
from markupsafe import Markup, escape

_TEX = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}"},
        **{">": "\\textgreater{}", "|": "\\textbar{}", "↑": "$\\uparrow$", "↓": "$\\downarrow$", "–": "--"},
        **{"−": "$-$", "×": "$\\times$", "≥": "$\\geq$", "·": "$\\cdot$", "→": "$\\to$", "←": "$\\leftarrow$"},
        **{"[": "{[}", "*": "{*}"},  # at the start of a row they would be arguments of the line end before it
    }
)


@dataclass(frozen=True)
class Format:
    """How a format writes text, a bold value and small print."""

    escape: Callable[[str], str]
    bold: str = "{}"
    small: str = " {}"

    def cell(self, text: str, bold: bool = False) -> str:
        first, *others = [self.escape(line) for line in text.splitlines()] or [""]
        return (self.bold.format(first) if bold else first) + "".join(map(self.small.format, others))

    def heads(self, frame: pandas.DataFrame) -> list[str]:
        return [self.cell(str(head)) for head in frame.columns]

    def cells(self, frame: pandas.DataFrame, bold: np.ndarray | None = None) -> pandas.DataFrame:
        """Every cell as the format writes it, the columns numbered. bold: [rows, columns]."""
        bold = np.zeros(frame.shape, bool) if bold is None else bold
        return pandas.DataFrame(
            [list(map(self.cell, *row)) for row in zip(frame.to_numpy().tolist(), bold, strict=True)]
        )


HTML = Format(lambda text: str(escape(text)), "<strong>{}</strong>", "<small>{}</small>")
CSV = Format(str)
MARKDOWN = Format(lambda text: str(escape(text)).replace("\\", "\\\\").replace("|", "\\|"), "**{}**")
LATEX = Format(lambda text: text.translate(_TEX), "\\textbf{{{}}}", " {{\\scriptsize {}}}")


def as_html(frame: pandas.DataFrame, bold: np.ndarray, kind: str) -> Markup:
    """A table whose class in the style sheet is `kind`; the cells of the first column are heads of their rows."""
    first, *heads = HTML.heads(frame)
    cells = HTML.cells(frame, bold).set_index(0).set_axis(heads, axis=1).rename_axis(index=None, columns=first)
    with pandas.option_context("display.max_colwidth", None):
        told = cells.to_html(escape=False, border=0, classes=kind, justify="left")
    head, body = told.split("<tbody>")
    return Markup(head.replace("<th>", '<th scope="col">') + "<tbody>" + body.replace("<th>", '<th scope="row">'))


def as_csv(frame: pandas.DataFrame) -> str:
    """Each cell in one line."""
    return CSV.cells(frame).to_csv(index=False, header=CSV.heads(frame))


def as_markdown(frame: pandas.DataFrame, caption: str, bold: np.ndarray, notes: Sequence[str] = ()) -> str:
    """A table as GitHub reads it, under its caption, with its notes below."""
    sides = ("left", *["right"] * (frame.shape[1] - 1))
    cells = MARKDOWN.cells(frame, bold).set_axis(MARKDOWN.heads(frame), axis=1)
    told = cells.to_markdown(index=False, disable_numparse=True, colalign=sides)
    listed = [f"[{place}] {escape(note)}" for place, note in enumerate(notes, start=1)]
    return "\n".join([f"**{escape(caption)}**", "", told, *([""] if notes else []), *listed]) + "\n"


def as_latex(frame: pandas.DataFrame, caption: str, bold: np.ndarray) -> str:
    """A float that needs the packages booktabs and graphicx; what is wider than the page is made to fit."""
    sides = "l" + "r" * (frame.shape[1] - 1)
    heads = [head.replace("{", "{{").replace("}", "}}") for head in LATEX.heads(frame)]  # pandas fills braces in heads
    told = LATEX.cells(frame, bold).to_latex(
        index=False, escape=False, header=heads, caption=LATEX.escape(caption), column_format=sides
    )
    fit = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n\\begin{tabular}"
    return told.replace("\\begin{tabular}", fit).replace("\\end{tabular}", "\\end{tabular}}")
