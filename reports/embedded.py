"""Figures, pictures and tables on a page of the report, each with its files beside the page.

Pictures are inside the page, so that a page can be sent alone; every figure is also kept as SVG and PDF, every table as
CSV, Markdown and LaTeX, for papers.
"""

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from reports.grids import WIDE
from reports.markup import join, table
from reports.records import Records
from reports.style import NARROW_INCHES, SETTINGS, WIDE_INCHES
from reports.table_files import FORMATS, write_table
from xinggan.files import write_atomically

NARROW_PAGE_PX = 640


def figure(
    draw: Callable[[Records, float], Figure | None], records: Records, output: Path, name: str, caption: str
) -> Markup:
    """The figure drawn for a wide and for a narrow page, or nothing; the wide one is kept in <output>/figures."""
    wide, narrow = draw(records, WIDE_INCHES), draw(records, NARROW_INCHES)
    if wide is None or narrow is None:
        return Markup("")
    drawn = _saved(wide, "svg")
    write_atomically(output / "figures" / f"{name}.svg", drawn)
    write_atomically(output / "figures" / f"{name}.pdf", _saved(wide, "pdf"))
    shown = picture(_image("image/svg+xml", drawn), _image("image/svg+xml", _saved(narrow, "svg")), caption)
    links = _links(f"figures/{name}", ("svg", "pdf"))
    return Markup("<figure>{}<figcaption>{} {}</figcaption></figure>").format(shown, caption, links)


def grid(wide: Image.Image, narrow: Image.Image, output: Path, name: str, caption: str) -> Markup:
    """A grid of images drawn for both pages, in a frame that scrolls; the wide one is kept in <output>/figures."""
    drawn = _png(wide)
    write_atomically(output / "figures" / f"{name}.png", drawn)
    shown = picture(_image("image/png", drawn, wide.size), _image("image/png", _png(narrow), narrow.size), caption)
    return Markup(
        '<figure><div class="scroll" tabindex="0" role="region" aria-label="{0}">{1}</div>'
        "<figcaption>{0} {2}</figcaption></figure>"
    ).format(caption, shown, _links(f"figures/{name}", ("png",)))


def kept_table(
    output: Path, name: str, heads: Sequence[Any], rows: Sequence[Sequence[Any]], caption: str, kind: str = "numbers"
) -> Markup:
    """A table of the page, kept in <output>/tables in every format; nothing where it has no rows."""
    if not rows:
        return Markup("")
    write_table(output / "tables" / name, heads, rows, caption)
    return table(heads, rows, caption, kind) + table_links(name)


def table_links(name: str) -> Markup:
    return Markup('<p class="files">{}</p>').format(_links(f"tables/{name}", FORMATS))


def _links(stem: str, endings: Sequence[str]) -> Markup:
    names = {"csv": "CSV", "md": "Markdown", "tex": "LaTeX", "svg": "SVG", "pdf": "PDF", "png": "PNG"}
    every = (Markup('<a href="{}.{}">{}</a>').format(stem, ending, names[ending]) for ending in endings)
    return Markup('<span class="links">{}</span>').format(join(every, " "))


def picture(wide: Markup, narrow: Markup, alternative: str) -> Markup:
    """One image of two; `wide` and `narrow` are attributes that name the image and its size on the page."""
    return Markup('<picture><source media="(max-width: {}px)" srcset={}><img alt="{}" src={}></picture>').format(
        NARROW_PAGE_PX, narrow, alternative, wide
    )


def _image(kind: str, content: bytes, size: tuple[int, int] | None = None) -> Markup:
    """The value of src or srcset, then width and height in pixels of the page when they are not the image's own."""
    dimensions = Markup(' width="{}" height="{}"').format(*(side // WIDE.density for side in size)) if size else ""
    return Markup('"data:{};base64,{}"{}').format(kind, base64.b64encode(content).decode(), dimensions)


def _saved(figure: Figure, kind: str) -> bytes:
    """The same figure gives the same bytes: no date, and identifiers from a fixed salt."""
    drawn = io.BytesIO()
    with rc_context(SETTINGS):
        figure.savefig(drawn, format=kind, metadata={"Date" if kind == "svg" else "CreationDate": None})
    return drawn.getvalue()


def _png(image: Image.Image) -> bytes:
    drawn = io.BytesIO()
    image.save(drawn, format="png")  # optimize=True saves 4 % of the bytes and takes four times as long
    return drawn.getvalue()
