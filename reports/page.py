"""What a page of the report shows: sentences, lists, tables, figures and grids of pictures.

Everything goes through `markupsafe.Markup`, which escapes whatever is not markup already, so that a run's label or an
error's text can hold any characters. Pictures are inside the page, so that a page can be sent alone; every figure is
also kept as SVG and PDF, every table as CSV, Markdown and LaTeX beside the page, for papers.
"""

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from reports.figures import NARROW_INCHES, SETTINGS, WIDE_INCHES
from reports.grids import NARROW, WIDE
from xinggan.files import write_atomically

NARROW_PAGE_PX = 640
_TEX: Any = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}"},
    **{">": "\\textgreater{}", "|": "\\textbar{}", "↑": "$\\uparrow$", "↓": "$\\downarrow$", "–": "--"},
    **{"−": "$-$", "×": "$\\times$", "≥": "$\\geq$", "·": "$\\cdot$", "→": "$\\to$", "←": "$\\leftarrow$"},
    **{"[": "{[}", "*": "{*}"},  # at the start of a row they would be arguments of the line end before it
}


class Shown(Markup):
    """Markup that a notebook shows as HTML."""

    def _repr_html_(self) -> str:
        return str(self)


def show(*parts: Any) -> None:
    """Show parts below a notebook's cell, one after another; nothing where all are empty."""
    from IPython.display import display

    if told := join(parts):
        display(told)


# Text.


def join(parts: Iterable[Any], between: str = "") -> Shown:
    """Parts one after another; what is not markup is escaped."""
    return Shown(Markup(between).join(escape(part) for part in parts))


def heading(text: str) -> Shown:
    return Shown(Markup("<h3>{}</h3>").format(text))


def paragraph(text: Any, kind: str = "") -> Shown:
    """A paragraph; `kind` is a class of the style sheet (lead, warning, faint)."""
    return Shown(Markup('<p class="{}">{}</p>').format(kind, text) if kind else Markup("<p>{}</p>").format(text))


def preformatted(text: str) -> Shown:
    return Shown(Markup("<pre>{}</pre>").format(text))


def listing(items: Iterable[Any], kind: str = "") -> Shown:
    """A list, `kind` its class in the style sheet; nothing where there are no items."""
    rows = [Markup("<li>{}</li>").format(item) for item in items]
    opened = Markup('<ul class="{}">').format(kind) if kind else Markup("<ul>")
    return Shown(opened + join(rows) + Markup("</ul>")) if rows else Shown()


def details(summary: Any, *content: Any) -> Shown:
    """Something to unfold; nothing where there is no content."""
    inside = join(content)
    return Shown(Markup("<details><summary>{}</summary>{}</details>").format(summary, inside)) if inside else Shown()


# Tables. A cell is text; what follows its first line is small print. The first column names the rows.


def table(
    frame: pandas.DataFrame,
    caption: str,
    output: Path | str | None = None,
    name: str = "",
    bold: Any = None,
    notes: Sequence[str] = (),
    kind: str = "numbers",
) -> Shown:
    """A table on the page, kept as <output>/tables/<name>.csv, .md and .tex where `output` is given; nothing if empty.

    `bold`: [rows, columns], true where a cell is bold (only ever behind a test). `notes` are what `[1]` ... in cells
    refer to. `kind` is a class of the style sheet: `numbers` sets all columns but the first flush right, `oneline`
    keeps each cell in one line, `close` saves room.
    """
    if frame.empty:
        return Shown()
    frame = frame.map(lambda cell: "\n".join(str(cell).splitlines()))
    bold = np.zeros(frame.shape, bool) if bold is None else np.asarray(bold, bool)
    links = Shown()
    if output is not None:
        stem = Path(output) / "tables" / name
        write_atomically(stem.with_name(f"{name}.csv"), as_csv(frame))
        write_atomically(stem.with_name(f"{name}.md"), as_markdown(frame, caption, bold, notes))
        write_atomically(stem.with_name(f"{name}.tex"), as_latex(frame, caption, bold))
        links = Shown(Markup('<p class="files">{}</p>').format(_links(f"tables/{name}", ("csv", "md", "tex"))))
    listed = Markup('<ol class="notes">{}</ol>').format(join(Markup("<li>{}</li>").format(note) for note in notes))
    return join([as_html(frame, caption, bold, kind), listed if notes else "", links])


def csv_file(frame: pandas.DataFrame, output: Path | str, name: str, told: str) -> Shown:
    """Keep a frame unrounded as <output>/tables/<name>.csv; a link to it."""
    write_atomically(Path(output) / "tables" / f"{name}.csv", frame.to_csv(index=False))
    return Shown(Markup('<p class="files">{}: <a href="tables/{}.csv">CSV</a></p>').format(told, name))


def as_html(frame: pandas.DataFrame, caption: str, bold: np.ndarray, kind: str) -> Shown:
    """A table with its caption, in a frame that scrolls sideways when the page is too narrow."""
    first, *heads = [_html(str(head)) for head in frame.columns]
    cells = _cells(frame, bold, _html).set_index(0).set_axis(heads, axis=1).rename_axis(index=None, columns=first)
    with pandas.option_context("display.max_colwidth", None):
        told = cells.to_html(escape=False, border=0, classes=kind, justify="left")
    head, body = told.split("<tbody>")
    told = head.replace("<th>", '<th scope="col">') + "<tbody>" + body.replace("<th>", '<th scope="row">')
    return Shown(
        Markup(
            '<p class="caption">{0}</p><div class="scroll" tabindex="0" role="region" aria-label="{0}">{1}</div>'
        ).format(caption, Markup(told))
    )


def as_csv(frame: pandas.DataFrame) -> str:
    """Each cell in one line."""
    return _cells(frame, None, _one_line).to_csv(index=False, header=[_one_line(str(head)) for head in frame.columns])


def as_markdown(frame: pandas.DataFrame, caption: str, bold: np.ndarray, notes: Sequence[str] = ()) -> str:
    """A table as GitHub reads it, under its caption, with its notes below."""
    sides = ("left", *["right"] * (frame.shape[1] - 1))
    cells = _cells(frame, bold, _markdown).set_axis([_markdown(str(head)) for head in frame.columns], axis=1)
    told = cells.to_markdown(index=False, disable_numparse=True, colalign=sides)
    listed = [f"[{place}] {escape(note)}" for place, note in enumerate(notes, start=1)]
    return "\n".join([f"**{escape(caption)}**", "", told, *([""] if notes else []), *listed]) + "\n"


def as_latex(frame: pandas.DataFrame, caption: str, bold: np.ndarray) -> str:
    """A float that needs the packages booktabs and graphicx; what is wider than the page is made to fit."""
    sides = "l" + "r" * (frame.shape[1] - 1)
    cells = _cells(frame, bold, _latex)
    told = cells.to_latex(index=False, escape=False, caption=_tex(caption), column_format=sides)
    numbered, heads = (" & ".join(row) for row in (map(str, cells.columns), map(_latex, map(str, frame.columns))))
    told = told.replace(f"\\toprule\n{numbered} ", f"\\toprule\n{heads} ", 1)
    fit = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n\\begin{tabular}"
    return told.replace("\\begin{tabular}", fit).replace("\\end{tabular}", "\\end{tabular}}")


def _cells(frame: pandas.DataFrame, bold: np.ndarray | None, form: Callable[..., str]) -> pandas.DataFrame:
    """Every cell by `form`, the columns numbered: their names may stand twice."""
    bold = np.zeros(frame.shape, bool) if bold is None else bold
    rows = zip(frame.to_numpy().tolist(), bold, strict=True)
    return pandas.DataFrame([[form(c, b) for c, b in zip(cells, is_bold, strict=True)] for cells, is_bold in rows])


def _one_line(cell: str, bold: bool = False) -> str:
    return " ".join(cell.splitlines())


def _html(cell: str, bold: bool = False) -> str:
    first, *small = [str(escape(line)) for line in cell.splitlines()] or [""]
    first = f"<strong>{first}</strong>" if bold else first
    return first + "".join(f"<small>{line}</small>" for line in small)


def _markdown(cell: str, bold: bool = False) -> str:
    first, *small = [str(escape(line)).replace("\\", "\\\\").replace("|", "\\|") for line in cell.splitlines() or [""]]
    return " ".join([f"**{first}**" if bold else first, *small])


def _latex(cell: str, bold: bool = False) -> str:
    first, *small = [_tex(line) for line in cell.splitlines() or [""]]
    return " ".join([f"\\textbf{{{first}}}" if bold else first, *(f"{{\\scriptsize {line}}}" for line in small)])


def _tex(text: str) -> str:
    return text.translate(str.maketrans(_TEX))


# Figures and pictures.


def figure(draw: Callable[..., Figure | None], *data: Any, output: Path | str, name: str, caption: str) -> Shown:
    """The figure `draw(*data, inches)` for a wide and for a narrow page; nothing where it is None.

    The wide one is kept as <output>/figures/<name>.svg and .pdf.
    """
    with rc_context(SETTINGS):
        wide, narrow = draw(*data, WIDE_INCHES), draw(*data, NARROW_INCHES)
        if wide is None or narrow is None:
            return Shown()
        drawn = save_figure(wide, output, name)
        small = _drawn(narrow, "svg")
    image = _picture(_data("image/svg+xml", drawn), _data("image/svg+xml", small), caption)
    links = _links(f"figures/{name}", ("svg", "pdf"))
    told = "<figure>{}<figcaption>{} {}</figcaption></figure>"
    return Shown(Markup(told).format(image, caption, links))


def save_figure(figure: Figure, output: Path | str, name: str) -> bytes:
    """Write <output>/figures/<name>.svg for a page and .pdf for a paper; returns the former."""
    folder, drawn = Path(output) / "figures", _drawn(figure, "svg")
    write_atomically(folder / f"{name}.svg", drawn)
    write_atomically(folder / f"{name}.pdf", _drawn(figure, "pdf"))
    return drawn


def pictures(draw: Callable[..., Image.Image | None], *data: Any, output: Path | str, name: str, caption: str) -> Shown:
    """The grid of images `draw(*data, look)` for a wide and for a narrow page; nothing where it is None.

    It scrolls where the page is narrower. The wide one is kept as <output>/figures/<name>.png.
    """
    wide, narrow = (draw(*data, look) for look in (WIDE, NARROW))
    if wide is None or narrow is None:
        return Shown()
    drawn = _png(wide)
    write_atomically(Path(output) / "figures" / f"{name}.png", drawn)
    large, small = (_data("image/png", png, image.size) for png, image in ((drawn, wide), (_png(narrow), narrow)))
    return Shown(
        Markup(
            '<figure><div class="scroll" tabindex="0" role="region" aria-label="{0}">{1}</div>'
            "<figcaption>{0} {2}</figcaption></figure>"
        ).format(caption, _picture(large, small, caption), _links(f"figures/{name}", ("png",)))
    )


def _links(stem: str, endings: Sequence[str]) -> Markup:
    names = {"csv": "CSV", "md": "Markdown", "tex": "LaTeX", "svg": "SVG", "pdf": "PDF", "png": "PNG"}
    every = (Markup('<a href="{}.{}">{}</a>').format(stem, ending, names[ending]) for ending in endings)
    return Markup('<span class="links">{}</span>').format(join(every, " "))


def _picture(wide: Markup, narrow: Markup, alternative: str) -> Markup:
    """One image of two; `wide` and `narrow` are attributes that name the image and its size on the page."""
    return Markup('<picture><source media="(max-width: {}px)" srcset={}><img alt="{}" src={}></picture>').format(
        NARROW_PAGE_PX, narrow, alternative, wide
    )


def _data(kind: str, content: bytes, size: tuple[int, int] | None = None) -> Markup:
    """The value of src or srcset, then width and height in pixels of the page when they are not the image's own."""
    dimensions = Markup(' width="{}" height="{}"').format(*(side // WIDE.density for side in size)) if size else ""
    return Markup('"data:{};base64,{}"{}').format(kind, base64.b64encode(content).decode(), dimensions)


def _drawn(figure: Figure, kind: str) -> bytes:
    """The same figure gives the same bytes: no date, and identifiers from a fixed salt."""
    drawn = io.BytesIO()
    with rc_context(SETTINGS):
        figure.savefig(drawn, format=kind, metadata={"Date" if kind == "svg" else "CreationDate": None})
    return drawn.getvalue()


def _png(image: Image.Image) -> bytes:
    drawn = io.BytesIO()
    image.save(drawn, format="png")  # optimize=True saves 4 % of the bytes and takes four times as long
    return drawn.getvalue()
