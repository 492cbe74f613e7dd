"""Attention maps as pictures: where joints of the target attend in the source, a row a joint, a column a scale.

The source lies in pale grey under the weights, whose colours run from light to dark, so that they can be read in print
and without seeing hues; the joint has a ring in the target and, where the source shows it, a cross there.
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from PIL import Image

from ablations.record import without_seed
from reports.figures import styled
from reports.grids import SMALLEST_INCHES, Cell, example_path, open_image, picture_grid
from reports.records import Record
from xinggan.data.poses import JOINTS
from xinggan.model.attention_maps import BRANCHES, FILE_NAME, AttentionMaps, read_attention

COLOURS = ListedColormap(colormaps["YlOrBr"](np.linspace(0.1, 1, 256)))
PALE = 0.4  # how much contrast the source keeps under the colours
DRAWN = 3  # runs whose attention maps are on the page, each another variant
ROUNDING = 2**-10  # of float16: weights that are equal but for it are not told apart
USUAL_INCHES = 0.72  # width of an image
NOTE_INCHES, BAR_INCHES = 0.34, 0.6  # heights: of what stands under an image, and of the colour bar
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
    others: list[str] = []
    without: dict[str, list[str]] = {}
    for record in records:
        maps, variant = kept_maps(record), without_seed(record.title)
        if isinstance(maps, str):
            without.setdefault(maps, []).append(record.title)
        elif variant in drawn or len(drawn) == DRAWN:
            others.append(record.title)
        else:
            drawn[variant] = record, maps
    return list(drawn.values()), others, without


def kept_maps(record: Record) -> AttentionMaps | str:
    """The run's attention maps, or in a few words why there are none that can be drawn."""
    try:
        maps = read_attention(record.directory / "generated" / "examples" / FILE_NAME)
    except ValueError as error:
        return str(error)
    except OSError:
        attention = record.facts.get("method.attention", record.facts.get("method.architecture.attention"))
        if attention is None:
            return "no cross-attention of appearance and shape code"
        if attention == "none":
            return "attention=none"
        if record.state != "finished":
            return record.state
        return "its record was made before maps were kept, or its first targets show no joint"
    images = (example_image(record, pair, kind) for pair in set(maps.pair.tolist()) for kind in ("target", "source"))
    return "its example images are not there" if any(image is None for image in images) else maps


def example_image(record: Record, pair: int, kind: str) -> np.ndarray | None:
    """The `source` or `target` of an example pair: uint8 [H, W, 3]; None where it is missing."""
    return open_image(example_path(record, f"{pair:02d}", kind))


def caption(record: Record, maps: AttentionMaps, block: int) -> str:
    """What the picture of one block (its number) shows."""
    branches = " and ".join(f"{name} ({BRANCHES[name]})" for name in maps.branches.tolist())
    return (
        f"Where joints of the target attend in the source: {record.title}, block {block} ({which(maps, block)}), "
        f"{branches}. Colour: the weight of a key in equal shares; grey: less than one."
    )


def which(maps: AttentionMaps, block: int) -> str:
    """Whether a block (its number) is the first or the last of those with maps."""
    return "the last" if block == maps.blocks.max() else "the first"


def highest(maps: AttentionMaps) -> int:
    """Where the colours end: the power of two, from 2, that no weight exceeds, in equal shares of 1/S."""
    largest = float(maps.weights.max()) * maps.weights.shape[-1]
    return 2 ** max(1, math.ceil(math.log2(max(largest, 1))))


def overlaid(source: np.ndarray, shares: np.ndarray, top: int) -> np.ndarray:
    """The source (uint8 [H, W, 3]) in pale grey under `shares` [rows, columns], coloured from 1 up to `top`.

    shares: weights in equal shares. The colours are logarithmic, since a softmax is, and lie on the source as ink on
    paper: they darken whatever is there.
    """
    image = Image.fromarray(source)
    pale = 255 - PALE * (255 - np.asarray(image.convert("L"), dtype=np.float32)[..., None])
    spread = np.asarray(Image.fromarray(shares.astype(np.float32)).resize(image.size, Image.Resampling.NEAREST))
    colour = COLOURS(LogNorm(1, top)(np.maximum(spread, 1)))[..., :3]
    return np.where((spread > 1 + ROUNDING)[..., None], pale * colour, pale).round().astype(np.uint8)


def query_cells(record: Record, maps: AttentionMaps, query: int, block: int, branches: Sequence[int]) -> list[Cell]:
    """Target, source, and for each branch and scale the source under the weights of one query in one block."""
    pair = int(maps.pair[query])
    target, source = (example_image(record, pair, kind) for kind in ("target", "source"))
    assert target is not None and source is not None  # kept_maps has seen them
    at, keys, top = maps.source[query], maps.weights.shape[-1], highest(maps)
    cells = [
        Cell(target, JOINTS[maps.joint[query]].replace(" ", "\n"), "o", maps.target[query]),
        Cell(source, f"pair {pair + 1}", "+", at),
    ]
    for branch in branches:
        for scale in range(len(maps.grids)):
            weights = maps.scale(scale)[branch, block, query]
            share = f"{weights.sum():.0%}" if len(maps.grids) > 1 else ""
            cells.append(Cell(overlaid(source, weights * keys, top), share, "+", at))
    return cells


@styled
def attention_figure(record: Record, maps: AttentionMaps, block: int, inches: float) -> Figure:
    """All queries in one block (place in `maps.blocks`), a row each, and the colour bar.

    Branches stand below one another where both have no room in a row.
    """
    branches = range(len(maps.branches))
    together = 2 + len(branches) * len(maps.grids) <= inches / SMALLEST_INCHES
    sections = []
    for shown in [list(branches)] if together else [[branch] for branch in branches]:
        heads = ["target", "source", *(f"{maps.branches[b]} {rows}×{cols}" for b in shown for rows, cols in maps.grids)]
        queries = range(len(maps.joint))
        sections.append((heads, [query_cells(record, maps, query, block, shown) for query in queries]))
    room = {"usual_inches": USUAL_INCHES, "note_inches": NOTE_INCHES, "foot_inches": BAR_INCHES}
    figure = picture_grid(sections, inches, given=2, most=len(maps.joint), **room)
    _colour_bar(figure, highest(maps), maps.weights.shape[-1])
    return figure


def _colour_bar(figure: Figure, top: int, keys: int) -> None:
    """Which colour means which weight, in equal shares of one of S = `keys`, along the lower edge."""
    width, height = figure.get_size_inches()
    place = figure.add_axes((0.2 / width, 0.22 / height, min(width - 0.5, 3.4) / width, 0.12 / height))
    powers = round(math.log2(top))
    bar = figure.colorbar(ScalarMappable(LogNorm(1, top), COLOURS), cax=place, orientation="horizontal")
    bar.set_ticks([2**power for power in range(0, powers + 1, math.ceil(powers / 6))], minor=False)
    bar.ax.minorticks_off()
    bar.ax.xaxis.set_major_formatter("{x:g}")
    bar.ax.set_title(f"weight of a key ÷ equal share (1/{keys})", fontsize=9, fontweight="normal")
