"""Sample grids: a row for each test pair: source, source pose, target pose, target, and then what each run generated.

Made with Pillow from the lossless examples that every run keeps. Pixels are enlarged by a whole factor, never smoothed.
"""

import hashlib
import textwrap
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from reports.records import Records

GIVEN = {"source": "source", "source_pose": "source pose", "target_pose": "target pose", "target": "target"}
GAP = 6  # pixels between cells
INK, PAPER, ABSENT = "#222222", "#ffffff", "#ededed"


def sample_grid(
    records: Records, rows: int = 8, cell_width: int = 96, font_size: int = 13, density: int = 2
) -> Image.Image | None:
    """The grid of the runs that have examples, None when there are none.

    A cell is about `cell_width` pixels wide; `density` multiplies all sizes, for sharp letters on sharp screens. A run
    whose example was made from another source image or for another target is left grey: it is another test pair.
    """
    runs = [record for record in records.methods if record.examples]
    if not runs:
        return None
    numbers = sorted({number for record in runs for number in record.examples})[:rows]
    first = Image.open(_path(runs[0].directory, runs[0].examples[0], "generated"))
    enlarged = max(1, round(density * cell_width / first.width))
    width, height, gap = first.width * enlarged, first.height * enlarged, GAP * density
    font = _font(font_size * density)
    titles = records.titles()
    labels = [_wrapped(text, font, width) for text in [*GIVEN.values(), *(titles[record.run] for record in runs)]]
    head = max(label.count("\n") + 1 for label in labels) * round(font_size * density * 1.25) + gap
    divider = 2 * gap  # what was given stands apart from what was generated
    grid = Image.new("RGB", (len(labels) * (width + gap) + divider - gap, head + len(numbers) * (height + gap)), PAPER)
    draw = ImageDraw.Draw(grid)
    for column, label in enumerate(labels):
        x = column * (width + gap) + (divider if column >= len(GIVEN) else 0)
        draw.multiline_text(
            (x + width / 2, head - gap), label, INK, font, anchor="md", spacing=2 * density, align="center"
        )
        for row, number in enumerate(numbers):
            y = head + row * (height + gap)
            cell = _given(runs, number, list(GIVEN)[column]) if column < len(GIVEN) else None
            if column >= len(GIVEN) and _same_pair(runs, runs[column - len(GIVEN)].directory, number):
                cell = _open(_path(runs[column - len(GIVEN)].directory, number, "generated"))
            if cell is None:
                draw.rectangle((x, y, x + width - 1, y + height - 1), fill=ABSENT)
            else:
                grid.paste(cell.resize((width, height), Image.Resampling.NEAREST), (x, y))
    return grid


def _path(directory: Path, number: str, kind: str) -> Path:
    return directory / "generated" / "examples" / f"{number}_{kind}.png"


def _given(runs: list, number: str, kind: str) -> Image.Image | None:
    """The image that all runs were given, from the first run that has it."""
    found = (_open(_path(record.directory, number, kind)) for record in runs)
    return next((image for image in found if image is not None), None)


def _same_pair(runs: list, directory: Path, number: str) -> bool:
    """Whether this run's example has the source and target that stand in the row."""
    for kind in ("source", "target"):
        there = [digest for record in runs if (digest := _digest(_path(record.directory, number, kind)))]
        if there and _digest(_path(directory, number, kind)) not in (there[0], None):
            return False
    return True


@lru_cache(maxsize=4096)
def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _open(path: Path) -> Image.Image | None:
    """None for an image that is missing or damaged: its cell stays grey."""
    try:
        return Image.open(path).convert("RGB")
    except OSError:
        return None


def _font(pixels: int) -> ImageFont.FreeTypeFont:
    """The font of the figures, which comes with matplotlib."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", pixels)


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Break `text` into lines that fit `width` pixels; a long `key=value` after its equals sign."""
    characters = max(4, int(width / (font.getlength("abcdefghij=") / 11)))
    words = (word if len(word) <= characters else word.replace("=", "= ") for word in text.split())
    return textwrap.fill(" ".join(words), characters, break_on_hyphens=False)
