"""Sample grids: a row for each test pair: source, source pose, target pose, target, and then what each run generated.

Made with Pillow from the lossless examples that every run keeps. Pixels are enlarged by a whole factor, never smoothed.
"""

import hashlib
import math
import textwrap
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from reports.record import Record
from reports.records import Records

GIVEN = {"source": "source", "source_pose": "source pose", "target_pose": "target pose", "target": "target"}
INK, PAPER, ABSENT = "#222222", "#ffffff", "#ededed"


@dataclass(frozen=True)
class GridLook:
    """Sizes in pixels of the page; `density` image pixels are drawn for each, for sharp letters on sharp screens."""

    page_width: int = 1070  # blocks of rows stand side by side as they fit (the page shrinks a little excess)
    cell_width: int = 96
    font_size: int = 13
    gap: int = 6
    density: int = 2


WIDE, NARROW = GridLook(), GridLook(page_width=358, cell_width=64, font_size=10)


def sample_grid(records: Records, rows: int = 8, look: GridLook = WIDE) -> Image.Image | None:
    """The grid of the runs that have examples, at most `rows` pairs below one another; None when there are none.

    A run whose example was made from another source image or for another target is left grey: it is another test pair.
    """
    runs = [record for record in records.methods if record.examples]
    if not runs:
        return None
    numbers = sorted({number for record in runs for number in record.examples})
    images = (open_image(example_path(run, number, "generated")) for run in runs for number in run.examples)
    first = next((image for image in images if image is not None), None)
    if first is None:
        return None
    titles = records.titles()
    heads = [*GIVEN.values(), *(titles[record.run] for record in runs)]
    numbers = numbers[: rows * blocks_beside(len(heads), first, look)]
    cells = [
        [_given(runs, number, kind) for kind in GIVEN] + [_generated(runs, run, number) for run in runs]
        for number in numbers
    ]
    return picture_rows(heads, cells, len(GIVEN), look)


def blocks_beside(columns: int, image: Image.Image, look: GridLook) -> int:
    """How many rows of so many images have room beside one another."""
    gap, width = look.gap * look.density, enlarged(image, look)[0]
    return max(1, (look.page_width * look.density + 5 * gap) // (columns * (width + gap) + 6 * gap))


def picture_rows(
    heads: list[str], rows: list[list[Image.Image | None]], given: int, look: GridLook = WIDE
) -> Image.Image:
    """Rows of images under their heads; the first `given` columns stand apart, and an image that is not there is grey.

    Short rows stand side by side in as many blocks as fit.
    """
    first = next(image for row in rows for image in row if image is not None)
    (width, height), gap = enlarged(first, look), look.gap * look.density
    font = letters(look.font_size * look.density)
    labels = [wrapped(text, font, width) for text in heads]
    head = max(label.count("\n") + 1 for label in labels) * round(font.size * 1.25) + gap
    # what was given stands apart from what was generated, and a block from the next
    lefts = [column * (width + gap) + (2 * gap if column >= given else 0) for column in range(len(labels))]
    block_width = lefts[-1] + width + 5 * gap
    blocks = min(len(rows), blocks_beside(len(heads), first, look))
    in_block = math.ceil(len(rows) / blocks)

    grid = Image.new("RGB", (blocks * block_width - 5 * gap, head + in_block * (height + gap) - gap), PAPER)
    draw = ImageDraw.Draw(grid)
    for block in range(blocks):
        for left, label in zip(lefts, labels, strict=True):
            at = block * block_width + left + width / 2, head - gap
            draw.multiline_text(at, label, INK, font, anchor="md", spacing=2 * look.density, align="center")
    for place, cells in enumerate(rows):
        block, row = divmod(place, in_block)
        for left, cell in zip(lefts, cells, strict=True):
            corner = block * block_width + left, head + row * (height + gap)
            if cell is None:
                draw.rectangle((*corner, corner[0] + width - 1, corner[1] + height - 1), fill=ABSENT)
            else:
                grid.paste(cell.resize((width, height), Image.Resampling.NEAREST), corner)
    return grid


def enlarged(image: Image.Image, look: GridLook) -> tuple[int, int]:
    """Width and height in image pixels of a cell: whole multiples of the image's own."""
    times = max(1, round(look.density * look.cell_width / image.width))
    return image.width * times, image.height * times


def example_path(record: Record, number: str, kind: str) -> Path:
    """Where a run keeps a panel of its example pair `number` ("00", ...): "source", "target", "generated", ..."""
    return record.directory / "generated" / "examples" / f"{number}_{kind}.png"


def _given(runs: list[Record], number: str, kind: str) -> Image.Image | None:
    """The image that all runs were given, from the first run that has it."""
    found = (open_image(example_path(record, number, kind)) for record in runs)
    return next((image for image in found if image is not None), None)


def _generated(runs: list[Record], run: Record, number: str) -> Image.Image | None:
    """What `run` generated, if for the source and the target that stand in the row."""
    for kind in ("source", "target"):
        shown = next((digest for record in runs if (digest := _digest(example_path(record, number, kind)))), None)
        if _digest(example_path(run, number, kind)) not in (shown, None):
            return None
    return open_image(example_path(run, number, "generated"))


@lru_cache(maxsize=4096)
def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def open_image(path: Path) -> Image.Image | None:
    """None for an image that is missing or damaged: its cell stays grey."""
    try:
        return Image.open(path).convert("RGB")
    except OSError:
        return None


def letters(pixels: int) -> ImageFont.FreeTypeFont:
    """The font of the figures, which comes with matplotlib."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", pixels)


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Break `text` into lines that fit `width` pixels; a long `key=value` after its equals sign."""
    characters = max(4, int(width / (font.getlength("abcdefghij=") / 11)))
    words = (word if len(word) <= characters else word.replace("=", "= ") for word in text.split())
    return textwrap.fill(" ".join(words), characters, break_on_hyphens=False)
