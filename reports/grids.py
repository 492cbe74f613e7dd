"""Grids of pictures as figures: rows of images under their heads; samples, and the best and worst cases of a method.

The pictures are the lossless images that every run keeps: the examples, and for the best and worst cases of a method
the generated image of any test pair. Pixels are enlarged, never smoothed.
"""

import json
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image

from reports.comparison import Ranking
from reports.figures import styled
from reports.records import Record, Records
from reports.user_study.pictures import open_pictures
from xinggan.metrics import catalogue

GIVEN = {"source": "source", "source_pose": "source pose", "target_pose": "target pose", "target": "target"}
CAPTION = "What a method is given, the true target, then what each run generated."
CASES = 4  # test pairs shown of the best, and of the worst
CASES_BY = ("lpips", "perceptual_embedded", "ssim")  # the first of them that the runs have decides which they are
SMALLEST_INCHES, GAP_INCHES = 0.55, 0.06  # widths: of an image with the gap to the next, and of the gap
ABSENT = np.full((1, 1, 3), 237, np.uint8)


@dataclass(frozen=True)
class Cell:
    """One image of a grid, uint8 [H, W, 3] or None for one that is missing; what stands below, and a mark on it."""

    image: np.ndarray | None
    note: str = ""
    mark: str = ""  # matplotlib's marker
    at: Sequence[float] = (-1, -1)  # the pixel (x, y) of the mark; negative: no mark


Row = Sequence[Cell]
Section = tuple[Sequence[str], Sequence[Row]]  # the heads of the columns, and rows of as many cells


@styled
def picture_grid(
    sections: Sequence[Section],
    inches: float,
    given: int,
    usual_inches: float = 0.9,
    most: int = 8,
    note_inches: float = 0.0,
    foot_inches: float = 0.0,
) -> Figure | None:
    """Sections below one another, each with as many blocks of up to `most` rows side by side as fit; None of no image.

    The first `given` columns stand apart. Images are about `usual_inches` wide, and not so small that nobody sees them:
    a grid of many columns is wider than `inches`. Each image has room for a note, the figure for something at its foot.
    """
    first = next((cell.image for _, rows in sections for row in rows for cell in row if cell.image is not None), None)
    if first is None:
        return None
    columns, count = len(sections[0][0]), len(sections[0][1])
    beside = min(count, max(1, int(inches / (usual_inches * columns))))
    in_block = min(most, math.ceil(count / beside))
    pitch = min(1.1 * usual_inches, max(SMALLEST_INCHES, inches / (beside * (columns + 0.5))))
    width = pitch - GAP_INCHES
    height = width * first.shape[0] / first.shape[1]
    row_inches = height + (note_inches or GAP_INCHES)
    longest = max(len(word) for heads, _ in sections for head in heads for word in head.replace("=", "= ").split())
    fitting = max(7, width * 72 / (0.57 * longest))  # the longest word is not broken unless it is very long
    text: dict[str, Any] = {"ha": "center", "fontsize": min(9, 11 * width, fitting)}
    characters = max(4, int(width / (0.57 * text["fontsize"] / 72)))
    labels = [[wrapped(head, characters) for head in heads] for heads, _ in sections]
    head_inches = 0.1 + 1.3 / 72 * text["fontsize"] * max(label.count("\n") + 1 for some in labels for label in some)
    section_inches = head_inches + in_block * row_inches
    size = ((beside * (columns + 0.5) - 0.3) * pitch, len(sections) * section_inches + foot_inches)
    figure = Figure(figsize=size)
    page = figure.add_axes((0, 0, 1, 1))  # its units are inches, from the upper left
    page.set(xlim=(0, size[0]), ylim=(size[1], 0))
    page.set_axis_off()
    for number, (_, rows) in enumerate(sections):
        for place, row in enumerate(rows[: in_block * beside]):
            block, line = divmod(place, in_block)
            top = number * section_inches + head_inches + line * row_inches
            for column, cell in enumerate(row):
                left = (block * (columns + 0.5) + column + (0.2 if column >= given else 0)) * pitch
                if line == 0:
                    page.text(left + width / 2, top - 0.05, labels[number][column], va="bottom", **text)
                image = ABSENT if cell.image is None else cell.image
                extent = (left, left + width, top + height, top)
                page.imshow(image, extent=extent, aspect="auto", interpolation="none")
                page.text(left + width / 2, top + height + 0.03, cell.note, va="top", **text)
                if cell.at[0] >= 0:
                    x, y = (np.asarray(cell.at) + 0.5) * width / image.shape[1] + (left, top)
                    mark: dict[str, Any] = {"markersize": 8, "markeredgewidth": 1.6, "markerfacecolor": "none"}
                    halo = [withStroke(linewidth=3.5, foreground="white")]
                    page.plot(x, y, cell.mark, markeredgecolor="#0072B2", path_effects=halo, **mark)
    return figure


def wrapped(text: str, characters: int) -> str:
    """Break `text` into lines of so many characters; a long `key=value` after its equals sign."""
    words = (word if len(word) <= characters else word.replace("=", "= ") for word in text.split())
    return textwrap.fill(" ".join(words), characters, break_on_hyphens=False)


def sample_grid(records: Records, inches: float, rows: int = 8) -> Figure | None:
    """The grid of the runs of one test set that have examples, at most `rows` pairs below one another; or None."""
    runs = [record for record in records.methods if record.examples]
    cells: list[Row] = []
    for number in sorted({number for record in runs for number in record.examples}):
        given = [[open_image(example_path(run, number, kind)) for run in runs] for kind in GIVEN]
        images = [next((image for image in of_kind if image is not None), None) for of_kind in given]
        images += [open_image(example_path(run, number, "generated")) for run in runs]
        cells.append([Cell(image) for image in images])
    one_seed = len({run.variant for run in runs}) == len(runs)
    heads = [*GIVEN.values(), *(run.variant if one_seed else run.title for run in runs)]
    return picture_grid([(heads, cells)], inches, len(GIVEN), most=rows)


def example_path(record: Record, number: str, kind: str) -> Path:
    """Where a run keeps a panel of its example pair `number` ("00", ...): "source", "target", "generated", ..."""
    return record.directory / "generated" / "examples" / f"{number}_{kind}.png"


def open_image(path: Path) -> np.ndarray | None:
    """uint8 [H, W, 3], or None for an image that is missing or damaged."""
    try:
        return np.asarray(Image.open(path).convert("RGB"))
    except OSError:
        return None


@dataclass(frozen=True)
class Cases:
    """The test pairs on which a run came out best or worst: rows of pictures under their heads."""

    heads: list[str]
    rows: list[Row]
    caption: str

    def picture(self, inches: float) -> Figure | None:
        return picture_grid([(self.heads, self.rows)], inches, given=3)


def cases(records: Records, ranks: Sequence[Ranking]) -> dict[str, Cases]:
    """Test pairs on which the best run of one test set came out `best` and `worst`, with what all runs made of them.

    ranks: `comparison.rankings` of the metrics of `records`. Empty where no run has values of single images, or the
    pictures are not there or not those that were scored.
    """
    metric = next((name for name in CASES_BY if name in records.methods.metrics()), None)
    if metric is None:
        return {}
    ranking = max((rank for rank in ranks if rank.metric == metric), key=lambda rank: len(rank.by_variant))
    runs = [record for record in records.methods if (record.directory / "generated" / "manifest.json").is_file()]
    best = next((record for record in runs if record.variant == ranking.best), None)
    if best is None:
        return {}
    values = (
        best.per_image(metric, json.loads(ranking.protocol).get("name"))
        .set_index("pair")["value"]
        .dropna()
        .sort_values()
    )
    best_first = values.index[::-1] if catalogue.higher_is_better(metric) is not False else values.index
    heads = ["source", "target pose", "target", *(record.title for record in runs)]
    found = {}
    try:
        pictures = open_pictures([record.directory for record in runs])
        pairs = {pair.pair: pair for pair in pictures.pairs}
        for kind, ordered in (("best", best_first), ("worst", best_first[::-1])):
            rows: list[Row] = [
                [Cell(pictures.given(pair, which)) for which in ("source", "target_pose", "target")]
                + [Cell(pictures.made_by(pair, record.run)) for record in runs]
                for pair in [pairs[number] for number in ordered if number in pairs][:CASES]
            ]
            told = f"The {len(rows)} test pairs on which {best.title} came out {kind} by {catalogue.title(metric)}."
            found[kind] = Cases(heads, rows, told)
    except ValueError:
        return {}
    return found
