"""Attention maps as pictures: where joints of the target attend in the source, a row a joint, a column a scale.

The source lies in pale grey under the weights, whose colours run from light to dark, so that they can be read in print
and without seeing hues; the joint has a ring in the target and, where the source shows it, a cross there.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from reports.grids import (
    INK,
    NARROW,
    PAPER,
    WIDE,
    GridLook,
    enlarged,
    example_path,
    letters,
    open_image,
    picture_rows,
    wrapped,
)
from reports.records import without_seed
from reports.run_directory import Record
from xinggan.data.poses import JOINTS
from xinggan.model.attention_maps import BRANCHES, FILE_NAME, AttentionMaps, read_attention

LOOKS = replace(WIDE, cell_width=64, font_size=12), replace(NARROW, cell_width=44, font_size=11)
COLOURS, PALE = "YlOrBr", 0.4  # matplotlib's name of the colours; how much contrast the source keeps
DRAWN = 3  # runs whose attention maps are on the page, each another variant
ROUNDING = 2**-10  # of float16: weights that are equal but for it are not told apart
MARK, HALO = "#0072B2", "#ffffff"
HOW_TO_READ = (
    "Each row is a joint of a target, ringed there. Its attention lies on the source, drawn in grey, in a column for "
    "each scale; the cross is the same joint in the source, where it is visible. Under a map stands the scale's share "
    "of the joint's attention; places with less than an equal share stay grey. In SA the appearance code at the ring "
    "takes up appearance from the coloured places; in AS the shape code at the ring is compared with the appearance "
    "code there. The first block meets the source as it is; from block to block the appearance code moves towards the "
    "target pose, so in the last block a place need no longer hold what the source shows there."
)


def with_maps(records: Sequence[Record]) -> tuple[list[tuple[Record, AttentionMaps]], list[str], dict[str, list[str]]]:
    """The first run with maps of each of the first DRAWN variants; titles of the others; reason -> titles without.

    A run needs the images of its example pairs, on which the maps are drawn.
    """
    drawn: dict[str, tuple[Record, AttentionMaps]] = {}
    others, without = [], {}  # type: ignore[var-annotated]
    for record in records:
        maps = kept_maps(record)
        if not isinstance(maps, str) and not any(_row_images(record, maps, query) for query in range(len(maps.joint))):
            maps = "its example images are not there"
        variant = without_seed(record.title)
        if isinstance(maps, str):
            without.setdefault(maps, []).append(record.title)
        elif variant in drawn or len(drawn) == DRAWN:
            others.append(record.title)
        else:
            drawn[variant] = record, maps
    return list(drawn.values()), others, without


def caption(record: Record, maps: AttentionMaps, block: int) -> str:
    """What the picture of one block (its number) shows."""
    branches = " and ".join(f"{name} ({BRANCHES[name]})" for name in maps.branches.tolist())
    return (
        f"Where joints of the target attend in the source: {record.title}, block {block} ({which(maps, block)}), "
        f"{branches}. Colour: the weight of a key in equal shares; grey: less than one."
    )


def which(maps: AttentionMaps, block: int) -> str:
    return "the last" if block == maps.blocks.max() else "the first"


def kept_maps(record: Record) -> AttentionMaps | str:
    """The run's attention maps, or in a few words why there are none."""
    try:
        return read_attention(record.directory / "generated" / "examples" / FILE_NAME)
    except ValueError as error:
        return str(error)
    except OSError:
        pass
    attention = record.facts.get("method.attention", record.facts.get("method.architecture.attention"))
    if attention is None:
        return "no cross-attention of appearance and shape code"
    if attention == "none":
        return "attention=none"
    if record.state != "finished":
        return record.state
    return "its record was made before maps were kept, or its first targets show no joint"


def attention_picture(record: Record, maps: AttentionMaps, block: int, look: GridLook) -> Image.Image | None:
    """All queries in one block (place in `maps.blocks`) and the colour bar; None where the run's images are missing.

    Branches stand below one another where a page has no room for both beside one another.
    """
    branches = list(range(len(maps.branches)))
    top = highest(maps)
    scales = [f"{rows}×{columns}" for rows, columns in maps.grids]
    room = look.page_width // (look.cell_width + look.gap) - 2  # columns beside target and source
    parts = []
    for shown in [branches] if len(branches) * len(scales) <= room else [[branch] for branch in branches]:
        rows = [_row(record, maps, query, block, shown, top, look) for query in range(len(maps.joint))]
        if not any(rows):
            return None
        heads = ["target", "source", *(f"{maps.branches[branch]} {scale}" for branch in shown for scale in scales)]
        cells = [row or [None] * len(heads) for row in rows]
        parts.append(picture_rows(heads, cells, given=2, look=look))
    return _stacked(
        [*parts, colour_bar(top, maps.weights.shape[-1], parts[0].width, look)], 4 * look.gap * look.density
    )


def highest(maps: AttentionMaps) -> int:
    """Where the colours end: the power of two, from 2, that no weight exceeds, in equal shares of 1/S."""
    largest = float(maps.weights.max()) * maps.weights.shape[-1]
    return 2 ** max(1, math.ceil(math.log2(max(largest, 1))))


def overlaid(source: Image.Image, shares: np.ndarray, top: int) -> Image.Image:
    """The source in pale grey under `shares` [rows, columns], weights in equal shares, coloured from 1 up to `top`."""
    grey = np.asarray(source.convert("L"), dtype=np.float32)[..., None]
    pale = 255 - PALE * (255 - grey)
    spread = Image.fromarray(shares.astype(np.float32)).resize(source.size, Image.Resampling.NEAREST)
    return Image.fromarray(_coloured(pale, np.asarray(spread), top))


def _coloured(pale: np.ndarray, shares: np.ndarray, top: int) -> np.ndarray:
    """pale: [H, W, 1] levels of grey; shares: [H, W]. Logarithmic, since a softmax is; uint8 [H, W, 3]."""
    import matplotlib

    strength = np.log2(np.maximum(shares, 1)) / math.log2(top)
    colour = matplotlib.colormaps[COLOURS](0.1 + 0.9 * strength)[..., :3]
    inked = pale * colour  # as ink on paper: it darkens whatever is there
    covered = np.where((shares > 1 + ROUNDING)[..., None], inked, pale)
    return covered.round().astype(np.uint8)


def _row(
    record: Record, maps: AttentionMaps, query: int, block: int, branches: list[int], top: int, look: GridLook
) -> list[Image.Image | None]:
    """Target, source, and for each branch and scale the source under its weights; empty where an image is missing."""
    images = _row_images(record, maps, query)
    if images is None:
        return []
    target, source = images
    size, keys = enlarged(source, look), maps.weights.shape[-1]
    at, source_at = ((place + 0.5) * size[0] / source.width for place in (maps.target[query], maps.source[query]))
    target, source = (image.resize(size, Image.Resampling.NEAREST) for image in (target, source))
    visible = maps.source[query, 0] >= 0
    cells = [(_marked(target, at, "ring", look), JOINTS[maps.joint[query]])]
    cells.append((_marked(source, source_at, "cross", look) if visible else source, f"pair {maps.pair[query] + 1}"))
    for branch in branches:
        for scale in range(len(maps.grids)):
            weights = maps.scale(scale)[branch, block, query]
            picture = overlaid(source, weights * keys, top)
            picture = _marked(picture, source_at, "cross", look) if visible else picture
            cells.append((picture, f"{weights.sum():.0%}" if len(maps.grids) > 1 else ""))
    return [_noted(picture, note, look) for picture, note in cells]


def _row_images(record: Record, maps: AttentionMaps, query: int) -> tuple[Image.Image, Image.Image] | None:
    """Target and source of a query's example pair; None where one of them is not there."""
    number = f"{maps.pair[query]:02d}"
    target, source = (open_image(example_path(record, number, kind)) for kind in ("target", "source"))
    return (target, source) if target is not None and source is not None else None


def _marked(image: Image.Image, at: np.ndarray, mark: str, look: GridLook) -> Image.Image:
    """The image with a blue ring or cross, seamed in white, around the pixel `at` (x, y)."""
    image, (x, y), unit = image.copy(), at.tolist(), look.density
    draw, reach = ImageDraw.Draw(image), 5 * unit
    for colour, width in ((HALO, 4 * unit), (MARK, 2 * unit)):
        if mark == "ring":
            grown = reach + width / 2
            draw.ellipse((x - grown, y - grown, x + grown, y + grown), outline=colour, width=width)
        else:
            grown = reach + (unit if colour == HALO else 0)
            draw.line((x - grown, y, x + grown, y), fill=colour, width=width)
            draw.line((x, y - grown, x, y + grown), fill=colour, width=width)
    return image


def _noted(image: Image.Image, note: str, look: GridLook) -> Image.Image:
    """The image with a note of up to two lines below it."""
    font = letters((look.font_size - 2) * look.density)
    cell = Image.new("RGB", (image.width, image.height + round(2.5 * font.size)), PAPER)
    cell.paste(image)
    lines = wrapped(note, font, image.width)
    at = image.width / 2, image.height + look.density
    ImageDraw.Draw(cell).multiline_text(at, lines, INK, font, anchor="ma", spacing=look.density, align="center")
    return cell


def colour_bar(top: int, keys: int, width: int, look: GridLook) -> Image.Image:
    """Which colour means which weight, in equal shares of one of S = `keys`; at most `width` pixels wide."""
    font, unit = letters(look.font_size * look.density), look.density
    length, thick = min(width - 40 * unit, 330 * unit), 12 * unit
    bar = Image.new("RGB", (width, round(3.2 * font.size) + thick), PAPER)
    draw = ImageDraw.Draw(bar)
    draw.text((0, 0), f"weight of a key ÷ equal share (1/{keys})", INK, font)
    upper, left = round(1.5 * font.size), 20 * unit
    shares = 2 ** (np.linspace(2 * ROUNDING, math.log2(top), length))
    drawn = _coloured(np.full((thick, length, 1), 230.0), np.broadcast_to(shares, (thick, length)), top)
    bar.paste(Image.fromarray(drawn), (left, upper))
    powers = round(math.log2(top))
    for power in range(0, powers + 1, math.ceil(powers / 6)):
        at = left + length * power / powers
        draw.text((at, upper + thick + unit), f"{2**power}", INK, font, anchor="ma")
    return bar


def _stacked(pictures: list[Image.Image], gap: int) -> Image.Image:
    """Pictures below one another, flush left, so many pixels apart."""
    height = sum(picture.height for picture in pictures) + gap * (len(pictures) - 1)
    stack, top = Image.new("RGB", (max(picture.width for picture in pictures), height), PAPER), 0
    for picture in pictures:
        stack.paste(picture, (0, top))
        top += picture.height + gap
    return stack
