"""Grids of pictures, a row a test pair: source, poses, target, and then what each run generated.

The pictures are the lossless images that every run keeps: the examples, and for the best and worst cases of a method
the generated image of any test pair. Pixels are enlarged by a whole factor, never smoothed.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from reports.comparison import Ranking
from reports.records import Record, Records
from reports.user_study.pictures import open_pictures
from xinggan.metrics import catalogue
from xinggan.pictures import tile

GIVEN = {"source": "source", "source_pose": "source pose", "target_pose": "target pose", "target": "target"}
INK, PAPER, ABSENT = "#222222", 255, 237
CAPTION = "What a method is given, the true target, then what each run generated."
CASES = 4  # test pairs shown of the best, and of the worst
CASES_BY = ("lpips", "perceptual_embedded", "ssim")  # the first of them that the runs have decides which they are

Row = Sequence[np.ndarray | None]  # uint8 [H, W, 3] images, None for one that is missing


@dataclass(frozen=True)
class GridLook:
    """Sizes in pixels of the page; `density` image pixels are drawn for each, for sharp letters on sharp screens."""

    page_width: int = 1070  # blocks of rows stand side by side as they fit (the page shrinks a little excess)
    cell_width: int = 96
    font_size: int = 13
    gap: int = 6
    density: int = 2


WIDE, NARROW = GridLook(), GridLook(page_width=358, cell_width=64, font_size=10)


def sample_grid(records: Records, look: GridLook = WIDE, rows: int = 8) -> Image.Image | None:
    """The grid of the runs of one test set that have examples, at most `rows` pairs below one another; or None."""
    runs = [record for record in records.methods if record.examples]
    cells: list[Row] = []
    for number in sorted({number for record in runs for number in record.examples}):
        given = [[open_image(example_path(run, number, kind)) for run in runs] for kind in GIVEN]
        row: Row = [next((image for image in images if image is not None), None) for images in given]
        cells.append([*row, *(open_image(example_path(run, number, "generated")) for run in runs)])
    return picture_rows([*GIVEN.values(), *(run.title for run in runs)], cells, len(GIVEN), look, rows)


def picture_rows(
    heads: Sequence[str], rows: Sequence[Row], given: int, look: GridLook = WIDE, most: int = 8
) -> Image.Image | None:
    """Rows of images under their heads, as many blocks of up to `most` rows side by side as fit; None without images.

    The first `given` columns stand apart, and a missing image is grey.
    """
    first = next((image for row in rows for image in row if image is not None), None)
    if first is None:
        return None
    times = max(1, round(look.density * look.cell_width / first.shape[1]))
    (width, gap), absent = (first.shape[1] * times, look.gap * look.density), np.full_like(first, ABSENT)
    lefts = [column * (width + gap) + (2 * gap if column >= given else 0) for column in range(len(heads))]
    head = _heads(heads, lefts, width, look)
    blocks = max(1, (look.page_width * look.density + 5 * gap) // (head.shape[1] + 5 * gap))
    rows = rows[: most * blocks]
    in_block = math.ceil(len(rows) / blocks)

    def block(part: Sequence[Row]) -> np.ndarray:
        images = [[absent if image is None else image for image in row] for row in part]
        cells = [[image.repeat(times, axis=0).repeat(times, axis=1) for image in row] for row in images]
        shown, generated = tile([row[:given] for row in cells], gap), tile([row[given:] for row in cells], gap)
        between = np.full((len(shown), 3 * gap, 3), PAPER, np.uint8)
        return np.vstack([head, np.hstack([shown, between, generated])])

    starts = range(0, len(rows), in_block)
    return Image.fromarray(tile([[block(rows[start : start + in_block]) for start in starts]], 5 * gap))


def _heads(heads: Sequence[str], lefts: Sequence[int], width: int, look: GridLook) -> np.ndarray:
    """Heads above columns that begin at `lefts` and are `width` wide, in lines that fit them: uint8 [h, W, 3]."""
    import matplotlib

    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"  # the font of the figures
    font = ImageFont.truetype(file, look.font_size * look.density)
    characters = max(4, int(width / (font.getlength("abcdefghij=") / 11)))
    labels = [_wrapped(text, characters) for text in heads]
    gap = look.gap * look.density
    height = max(label.count("\n") + 1 for label in labels) * round(font.size * 1.25) + gap
    image = Image.new("RGB", (lefts[-1] + width, height), (PAPER,) * 3)
    for left, label in zip(lefts, labels, strict=True):
        at, spacing = (left + width / 2, height - gap), 2 * look.density
        ImageDraw.Draw(image).multiline_text(at, label, INK, font, anchor="md", spacing=spacing, align="center")
    return np.asarray(image)


def _wrapped(text: str, characters: int) -> str:
    """Break `text` into lines of so many characters; a long `key=value` after its equals sign."""
    words = (word if len(word) <= characters else word.replace("=", "= ") for word in text.split())
    return textwrap.fill(" ".join(words), characters, break_on_hyphens=False)


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

    def picture(self, look: GridLook) -> Image.Image | None:
        return picture_rows(self.heads, self.rows, given=3, look=look)


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
    values = best.per_image(metric).set_index("pair")["value"].dropna().sort_values()
    best_first = values.index[::-1] if catalogue.higher_is_better(metric) is not False else values.index
    heads = ["source", "target pose", "target", *(record.title for record in runs)]
    found = {}
    try:
        pictures = open_pictures([record.directory for record in runs])
        pairs = {pair.pair: pair for pair in pictures.pairs}
        for kind, ordered in (("best", best_first), ("worst", best_first[::-1])):
            rows: list[Row] = [
                [pictures.given(pair, which) for which in ("source", "target_pose", "target")]
                + [pictures.made_by(pair, record.run) for record in runs]
                for pair in [pairs[number] for number in ordered if number in pairs][:CASES]
            ]
            told = f"The {len(rows)} test pairs on which {best.title} came out {kind} by {catalogue.title(metric)}."
            found[kind] = Cases(heads, rows, told)
    except ValueError:
        return {}
    return found
