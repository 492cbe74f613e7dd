"""HTML for the report. Everything goes through `markupsafe.Markup`, which escapes whatever is not markup already, so
that a run's label or an error's text can hold any characters.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

EMPTY = Markup("")


@dataclass(frozen=True)
class Shown:
    """Markup as a notebook shows it."""

    markup: Markup

    def _repr_html_(self) -> str:
        return str(self.markup)


def join(parts: Iterable[Any], between: str = "") -> Markup:
    return Markup(between).join(escape(part) for part in parts)


def paragraph(text: Any, kind: str = "") -> Markup:
    return Markup('<p class="{}">{}</p>').format(kind, text) if kind else Markup("<p>{}</p>").format(text)


def details(summary: Any, content: Markup, is_open: bool = False) -> Markup:
    """Something to unfold."""
    return Markup("<details{}><summary>{}</summary>{}</details>").format(
        Markup(" open") if is_open else EMPTY, summary, content
    )


def table(heads: Sequence[Any], rows: Iterable[Sequence[Any]], caption: str, kind: str = "") -> Markup:
    """A table in a frame that scrolls sideways when the page is too narrow; a row's first cell is its heading.

    `kind` is a class of the style sheet: `numbers` sets the other cells flush right, `oneline` keeps each in one line.
    """
    head = join(Markup('<th scope="col">{}</th>').format(cell) for cell in heads)
    body = join(Markup('<tr><th scope="row">{}</th>{}</tr>').format(row[0], _cells(row[1:])) for row in rows)
    return Markup(
        '<p class="caption">{0}</p><div class="scroll" tabindex="0" role="region" aria-label="{0}"><table class="{1}">'
        "<thead><tr>{2}</tr></thead><tbody>{3}</tbody></table></div>"
    ).format(caption, kind, head, body)


def _cells(row: Sequence[Any]) -> Markup:
    return join(Markup("<td>{}</td>").format(cell) for cell in row)


def listing(items: Iterable[Any], kind: str = "") -> Markup:
    """A list, `kind` its class in the style sheet; nothing where there are no items."""
    rows = [Markup("<li>{}</li>").format(item) for item in items]
    opened = Markup('<ul class="{}">').format(kind) if kind else Markup("<ul>")
    return opened + join(rows) + Markup("</ul>") if rows else EMPTY
