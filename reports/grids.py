"""Grids of pictures, a row a test pair: source, poses, target, and then what each run generated.

Made with Pillow from the lossless images that every run keeps: the examples, and for the best and worst cases of a
method the generated image of any test pair. Pixels are enlarged by a whole factor, never smoothed.
"""

import hashlib
import json
import math
import textwrap
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from reports.comparison import rankings
from reports.records import Records
from reports.run_directory import Record
from xinggan.metrics import catalogue

if TYPE_CHECKING:
    from xinggan.data.packed import PackedSplit

GIVEN = {"source": "source", "source_pose": "source pose", "target_pose": "target pose", "target": "target"}
INK, PAPER, ABSENT = "#222222", "#ffffff", "#ededed"
CAPTION = "What a method is given, the true target, then what each run generated."
CASES = 4  # test pairs shown of the best, and of the worst
CASES_BY = ("lpips", "perceptual_embedded", "ssim")  # the first of them that the runs have decides which they are


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
    heads = [*GIVEN.values(), *(record.title for record in runs)]
    numbers = numbers[: rows * blocks_beside(len(heads), first, look)]
    cells = [
        [_example(runs, number, kind) for kind in GIVEN] + [_generated(runs, run, number) for run in runs]
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


def _example(runs: list[Record], number: str, kind: str) -> Image.Image | None:
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


@dataclass(frozen=True)
class Cases:
    """The test pairs on which a run came out best or worst: rows of pictures under their heads."""

    heads: list[str]
    rows: list[list[Image.Image | None]]
    caption: str

    def picture(self, look: GridLook) -> Image.Image:
        return picture_rows(self.heads, self.rows, given=3, look=look)


def cases(records: Records, kind: str) -> Cases | None:
    """The test pairs on which the best run of one test set came out `best` or `worst`, with what all runs made of them.

    None where no run has values of single images, or the pictures are not there.
    """
    measured = records.methods.metrics()
    metric = next((name for name in CASES_BY if name in measured), None)
    if metric is None:
        return None
    ranking = max(rankings(records.metric(metric)), key=lambda one: len(one.by_variant))
    best = next((record for record in records.methods if record.variant == ranking.best), None)
    pictures = {record.run: (record, _manifest(record)) for record in records.methods}
    pictures = {run: (record, manifest) for run, (record, manifest) in pictures.items() if manifest}
    if best is None or best.run not in pictures:
        return None
    values = best.per_image(metric).set_index("pair")["value"].dropna().sort_values()
    higher = catalogue.higher_is_better(metric) is not False
    ordered = list(values.index[::-1] if higher == (kind == "best") else values.index)
    shared, split = set.intersection(*(set(manifest) for _, manifest in pictures.values())), _test_split(best)
    places = {pair: place for place, pair in enumerate(pictures[best.run][1])}
    there = [pair for pair in ordered if pair in shared and (split or places[pair] < len(best.examples))]
    rows: list[list[Image.Image | None]] = []
    for pair in there[:CASES]:
        row = _given(best, split, places[pair], pictures[best.run][1][pair])
        row += [_scored_image(record, manifest[pair]) for record, manifest in pictures.values()]
        if any(image is None for image in row):
            return None
        rows.append(row)
    heads = ["source", "target pose", "target", *(record.title for record, _ in pictures.values())]
    caption = f"The {len(rows)} test pairs on which {best.title} came out {kind} by {catalogue.title(metric)}."
    return Cases(heads, rows, caption) if rows else None


def _manifest(record: Record) -> dict[int, dict[str, Any]]:
    """Test pair -> its row of generated/manifest.json, in the test set's order; empty where it cannot be used."""
    try:
        rows = json.loads((record.directory / "generated" / "manifest.json").read_bytes())
        return {int(row["pair"]): row for row in rows if PurePath(str(row["file"])).name == row["file"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _scored_image(record: Record, row: dict[str, Any]) -> Image.Image | None:
    """The generated image of a manifest's row; None where it is not the one that was scored (another SHA-256)."""
    path = record.directory / "generated" / row["file"]
    return open_image(path) if _digest(path) == row.get("sha256") else None


def _test_split(record: Record) -> "PackedSplit | None":
    """The packed test set that the run was scored on, where it left it; None where it is not on this machine."""
    from xinggan.data.packed import open_packed, packed_directory

    digest, cache, name = record.dataset_digest, record.config.get("cache"), record.facts.get("dataset.name")
    try:
        packed = open_packed(packed_directory(str(cache), str(name), str(digest)))
    except (OSError, ValueError):
        return None
    return packed.test if packed.digest == digest else None


def _given(record: Record, split: "PackedSplit | None", place: int, row: dict[str, Any]) -> list[Image.Image | None]:
    """Source, target pose and target of a manifest's row: from the packed test set, else from the run's examples."""
    if split is not None and row["pair"] < len(split) and split.pair_id(row["pair"]) == row.get("pair_id"):
        from xinggan.data.poses import draw_skeleton

        source, target = split.pairs[row["pair"]]
        skeleton = draw_skeleton(split.poses[target], split.height, split.width)
        return [Image.fromarray(image) for image in (split.images[source], skeleton, split.images[target])]
    return [open_image(example_path(record, f"{place:02d}", kind)) for kind in ("source", "target_pose", "target")]
