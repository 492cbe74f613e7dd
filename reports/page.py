"""What a page of the report shows: sentences, lists, tables, figures and grids of pictures.

Everything goes through `markupsafe.Markup`, which escapes whatever is not markup already, so that a run's label or an
error's text can hold any characters. Pictures are inside the page, so that a page can be sent alone; every figure is
also kept as SVG and PDF, every table as CSV, Markdown and LaTeX beside the page, for papers.
"""

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from reports.figures import NARROW_INCHES, WIDE_INCHES, styled
from xinggan.files import write_atomically

NARROW_PAGE_PX = 640
SCROLLING = Markup('<div class="scroll" tabindex="0" role="region" aria-label="{}">{}</div>')
PICTURE = Markup(
    '<picture><source media="(max-width: {}px)" srcset="data:image/svg+xml;base64,{}">'
    '<img alt="{}" src="data:image/svg+xml;base64,{}"></picture>'
)
FILES = {"csv": "CSV", "md": "Markdown", "tex": "LaTeX", "svg": "SVG", "pdf": "PDF"}

_TEX = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}"},
        **{">": "\\textgreater{}", "|": "\\textbar{}", "↑": "$\\uparrow$", "↓": "$\\downarrow$", "–": "--"},
        **{"−": "$-$", "×": "$\\times$", "≥": "$\\geq$", "·": "$\\cdot$", "→": "$\\to$", "←": "$\\leftarrow$"},
        **{"[": "{[}", "*": "{*}"},  # at the start of a row they would be arguments of the line end before it
    }
)


def show(*parts: Any) -> None:
    """Show parts below a notebook's cell, one after another; nothing where all are empty."""
    from IPython.display import HTML, display

    if told := join(parts):
        display(HTML(told))


# Text.


def join(parts: Iterable[Any], between: str = "") -> Markup:
    """Parts one after another; what is not markup is escaped."""
    return Markup(between).join(escape(part) for part in parts)


def heading(text: str) -> Markup:
    return Markup("<h3>{}</h3>").format(text)


def paragraph(text: Any, kind: str = "") -> Markup:
    """A paragraph; `kind` is a class of the style sheet (lead, warning, faint)."""
    return Markup('<p class="{}">{}</p>').format(kind, text) if kind else Markup("<p>{}</p>").format(text)


def preformatted(text: str) -> Markup:
    return Markup("<pre>{}</pre>").format(text)


def listing(items: Iterable[Any], kind: str = "") -> Markup:
    """A list, `kind` its class in the style sheet; nothing where there are no items."""
    rows = join(Markup("<li>{}</li>").format(item) for item in items)
    return Markup('<ul class="{}">{}</ul>').format(kind, rows) if rows else Markup()


def details(summary: Any, *content: Any) -> Markup:
    """Something to unfold; nothing where there is no content."""
    inside = join(content)
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, inside) if inside else Markup()


# Tables.


def table(
    frame: pandas.DataFrame,
    caption: str,
    output: Path | str | None = None,
    name: str = "",
    bold: Any = None,
    notes: Sequence[str] = (),
    kind: str = "numbers",
) -> Markup:
    """A table on the page, kept as <output>/tables/<name>.csv, .md and .tex where `output` is given; nothing if empty.

    A cell is text; what follows its first line is small print. `bold`: [rows, columns], true where a cell is bold (only
    ever behind a test). `notes` are what `[1]` ... in cells refer to. `kind` is a class of the style sheet: `numbers`
    sets all columns but the first flush right, `oneline` keeps each cell in one line, `close` saves room.
    """
    if frame.empty:
        return Markup()
    frame = frame.map(lambda cell: "\n".join(str(cell).splitlines()))
    bold = np.zeros(frame.shape, bool) if bold is None else np.asarray(bold, bool)
    links = Markup()
    if output is not None:
        texts = {"csv": as_csv(frame), "md": as_markdown(frame, caption, bold, notes)}
        texts["tex"] = as_latex(frame, caption, bold)
        for ending, text in texts.items():
            write_atomically(Path(output) / "tables" / f"{name}.{ending}", text)
        links = Markup('<p class="files">{}</p>').format(_links(f"tables/{name}", texts))
    listed = join(Markup("<li>{}</li>").format(note) for note in notes)
    shown = Markup('<p class="caption">{}</p>').format(caption) + SCROLLING.format(caption, as_html(frame, bold, kind))
    return shown + (Markup('<ol class="notes">{}</ol>').format(listed) if notes else "") + links


def csv_file(frame: pandas.DataFrame, output: Path | str, name: str, told: str) -> Markup:
    """Keep a frame unrounded as <output>/tables/<name>.csv; a link to it."""
    write_atomically(Path(output) / "tables" / f"{name}.csv", frame.to_csv(index=False))
    return Markup('<p class="files">{}: {}</p>').format(told, _links(f"tables/{name}", ["csv"]))


# A table in four formats, each written by pandas. Heads may stand twice.


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
    """A table as GitHub reads it, under its caption if there is one, with its notes below."""
    sides = ("left", *["right"] * (frame.shape[1] - 1))
    cells = MARKDOWN.cells(frame, bold).set_axis(MARKDOWN.heads(frame), axis=1)
    told = cells.to_markdown(index=False, disable_numparse=True, colalign=sides)
    listed = [f"[{place}] {escape(note)}" for place, note in enumerate(notes, start=1)]
    above = [f"**{escape(caption)}**", ""] if caption else []
    return "\n".join([*above, told, *([""] if notes else []), *listed]) + "\n"


def as_latex(frame: pandas.DataFrame, caption: str, bold: np.ndarray) -> str:
    """A float that needs the packages booktabs and graphicx; what is wider than the page is made to fit."""
    sides = "l" + "r" * (frame.shape[1] - 1)
    heads = [head.replace("{", "{{").replace("}", "}}") for head in LATEX.heads(frame)]  # pandas fills braces in heads
    told = LATEX.cells(frame, bold).to_latex(
        index=False, escape=False, header=heads, caption=LATEX.escape(caption), column_format=sides
    )
    fit = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n\\begin{tabular}"
    return told.replace("\\begin{tabular}", fit).replace("\\end{tabular}", "\\end{tabular}}")


# Figures.


def figure(draw: Callable[..., Figure | None], *data: Any, output: Path | str, name: str, caption: str) -> Markup:
    """The figure `draw(*data, inches)` for a wide and for a narrow page, where it scrolls if it is wider.

    Nothing where it is None. The wide one is kept as <output>/figures/<name>.svg and .pdf.
    """
    wide, narrow = (draw(*data, inches) for inches in (WIDE_INCHES, NARROW_INCHES))
    if wide is None or narrow is None:
        return Markup()
    small, large = (base64.b64encode(svg).decode() for svg in (drawn(narrow, "svg"), save_figure(wide, output, name)))
    picture = PICTURE.format(NARROW_PAGE_PX, small, caption, large)
    picture = SCROLLING.format(caption, picture) if narrow.get_figwidth() > NARROW_INCHES else picture
    links = _links(f"figures/{name}", ("svg", "pdf"))
    return Markup("<figure>{}<figcaption>{} {}</figcaption></figure>").format(picture, caption, links)


def save_figure(figure: Figure, output: Path | str, name: str) -> bytes:
    """Write <output>/figures/<name>.svg for a page and .pdf for a paper; returns the SVG."""
    files = {"svg": drawn(figure, "svg")}
    figure.set_layout_engine("none")  # the same places again need no second search for them
    files["pdf"] = drawn(figure, "pdf")
    for ending, content in files.items():
        write_atomically(Path(output) / "figures" / f"{name}.{ending}", content)
    return files["svg"]


@styled
def drawn(figure: Figure, kind: str) -> bytes:
    """The file of a figure. The same figure gives the same bytes: no date, and identifiers from a fixed salt."""
    file = io.BytesIO()
    figure.savefig(file, format=kind, metadata={"Date" if kind == "svg" else "CreationDate": None})
    return file.getvalue()


def _links(stem: str, endings: Iterable[str]) -> Markup:
    every = (Markup('<a href="{}.{}">{}</a>').format(stem, ending, FILES[ending]) for ending in endings)
    return Markup('<span class="links">{}</span>').format(join(every, " "))
