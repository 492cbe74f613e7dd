"""The colour of every sample: where on the garment it lies says its ink, which way the surface faces how light it is.

Texture coordinates belong to the solid, not to the image: `down` is metres along the garment from its top edge,
`around` goes once round the limb as 0 (front), 1 (left), +-2 (back), -1 (right), `across` is metres to the left of the
middle.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xinggan.data.synthetic.figure import GARMENT, PARTS, Figures
from xinggan.data.synthetic.people import BAGS, INK, LOGOS, LOWER_TEXTURES, UPPER_TEXTURES, People

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

BAND, PINSTRIPE_COUNT, CHECK = 0.058, 20, 0.075  # metres, stripes around, metres
TWO_TONE_EDGE = 0.24  # metres below the shoulders
LOGO_MIDDLE, LOGO_SIZE = 0.19, 0.078  # metres below the shoulders
AMBIENT, DIFFUSE, FACING, DEPTH_CUE = 0.50, 0.42, 0.16, 0.22


@dataclass(frozen=True)
class Samples:
    """m samples that lie on a figure."""

    image: NDArray[np.int64]  # [m]
    solid: NDArray[np.int64]  # [m]
    point: Floats  # [3, m] metres in the axes of the view


def paint(people: People, figures: Figures, light: NDArray[np.float64], samples: Samples) -> Floats:
    """[3, m] colours in 0 .. 1 of the samples of n people; `light` [n, 3] points from the scene towards the light."""
    count = figures.length.shape[1]
    place = samples.image * count + samples.solid  # row of a table with one row a solid
    own, normal = _own_coordinates(figures, samples, place)
    ink = _inks(people, figures, samples, place, own)
    colour = np.take(people.palette.reshape(-1, 3).T, samples.image * people.palette.shape[1] + ink, axis=1)  # [3, m]

    toward = np.take(light.T.astype(np.float32), samples.image, axis=1)
    lit = np.maximum((normal * toward).sum(axis=0) * 0.65 + 0.35, 0)
    shade = AMBIENT + DIFFUSE * lit + FACING * normal[2]
    shade += DEPTH_CUE * np.clip(samples.point[2], -0.4, 0.4)
    return colour * shade


def _own_coordinates(figures: Figures, samples: Samples, place: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """[3, m] coordinates in the solid's own unstretched axes, and [3, m] unit normals in the axes of the view."""
    to_own = np.swapaxes(figures.frame, 2, 3) / figures.stretch[..., None]  # [n, S, 3, 3]
    table = np.concatenate([to_own.reshape(-1, 9), figures.start.reshape(-1, 3)], axis=1).T.astype(np.float32)
    rows = np.take(table, place, axis=1)
    matrix, start = rows[:9].reshape(3, 3, -1), rows[9:]
    x, y, z = samples.point - start
    own = matrix[:, 0] * x + matrix[:, 1] * y + matrix[:, 2] * z

    first, length = figures.first_radius.ravel(), figures.length.ravel()
    slope = np.where(length > 0, (first - figures.last_radius.ravel()) / np.where(length > 0, length, 1), 0)
    cone = np.stack([slope * first, 1 / (1 - slope**2), length]).astype(np.float32)
    shift, stretch, reach = np.take(cone, place, axis=1)
    ball = np.clip((-own[1] - shift) * stretch, 0, reach)  # how far along the segment the touched ball lies
    outwards = np.stack([own[0], own[1] + ball, own[2]])
    normal = matrix[0] * outwards[0] + matrix[1] * outwards[1] + matrix[2] * outwards[2]
    return own, normal / np.sqrt((normal**2).sum(axis=0))


def _inks(
    people: People, figures: Figures, samples: Samples, place: NDArray[np.int64], own: Floats
) -> NDArray[np.int64]:
    """[m] index into INKS."""
    lengths = np.stack([figures.cut, figures.texture_start, figures.stretch[..., 0], figures.stretch[..., 1]])
    cut, begin, wide, tall = np.take(lengths.reshape(4, -1).astype(np.float32), place, axis=1)
    along = -own[1] * tall
    garment = np.where(along < cut, figures.garments[..., 0].ravel()[place], figures.garments[..., 1].ravel()[place])
    part = figures.part[samples.solid]
    sideways = own[0] / (np.abs(own[0]) + np.abs(own[2]) + np.float32(1e-9))
    around = np.where(own[2] >= 0, sideways, np.where(own[0] >= 0, 2 - sideways, -2 - sideways))
    down, across = along + begin, own[0] * wide

    ink = np.zeros(len(place), np.int64)  # skin
    for name, draw in (("head", _head), ("upper", _upper), ("lower", _lower), ("shoe", _shoe), ("bag", _bag)):
        here = np.flatnonzero(garment == GARMENT[name])
        ink[here] = draw(people, samples.image[here], part[here], down[here], around[here], across[here])
    ink[garment == GARMENT["hair"]] = INK["hair"]
    ink[garment == GARMENT["hat"]] = INK["hat"]
    return ink


def _head(
    people: People, image: NDArray, part: NDArray, down: Floats, around: Floats, across: Floats
) -> NDArray[np.int64]:
    """Eyes and mouth in front."""
    size = people.head.astype(np.float32)[image]
    front = np.abs(around) < 1
    aside, height = np.abs(across) / size, -down / size
    eye = front & (((aside - 0.036) / 0.0155) ** 2 + ((height - 0.016) / 0.0125) ** 2 < 1)
    mouth = front & ((aside / 0.026) ** 2 + ((height + 0.062) / 0.010) ** 2 < 1)
    return np.where(eye, INK["eye"], np.where(mouth, INK["lips"], INK["skin"]))


def _upper(
    people: People, image: NDArray, part: NDArray, down: Floats, around: Floats, across: Floats
) -> NDArray[np.int64]:
    """The upper garment: its texture, then logos on chest and back, a jacket's zip, the strap of a bag."""
    texture = people.attributes["upper_texture"][image]
    trunk = (part == PARTS.index("torso")) | (part == PARTS.index("hips"))
    band = np.floor(down / BAND).astype(np.int64) & 1
    turns = np.floor((around + 2) * (PINSTRIPE_COUNT / 4))
    pinstripe = ((around + 2) * (PINSTRIPE_COUNT / 4) - turns) < np.where(trunk, 0.34, 0.42)
    pinstripe &= trunk | (turns.astype(np.int64) % 2 == 0)
    check = (np.floor(down / CHECK) + np.floor((around + 2) * np.where(trunk, 2.0, 1.0))).astype(np.int64) & 1
    second = np.select(
        [
            texture == UPPER_TEXTURES.index(name)
            for name in ("stripes", "pinstripes", "checks", "two-tone", "contrast sleeves")
        ],
        [band == 1, pinstripe, check == 1, trunk & (down > TWO_TONE_EDGE), ~trunk],
        False,
    )
    ink = np.where(second, INK["upper second"], INK["upper"])

    front = np.abs(around) < 1
    for attribute, side in (("front_logo", front), ("back_logo", ~front)):
        shape = people.attributes[attribute][image]
        ink[trunk & side & _logo(shape, across, down - LOGO_MIDDLE)] = INK[attribute.replace("_", " ")]
    zipped = people.is_a("upper_kind", "jacket", "coat")[image] & (np.abs(across) < 0.011) & front
    ink[zipped & (part != PARTS.index("bag"))] = INK["upper second"]

    bag = people.attributes["bag"][image]
    straps = (bag == BAGS.index("backpack")) & front & (np.abs(np.abs(across) - 0.105) < 0.021) & (down < 0.34)
    diagonal = (bag == BAGS.index("shoulder bag")) & (np.abs(across * 1.35 + down - 0.19) < 0.034)
    ink[trunk & (straps | diagonal)] = INK["bag"]
    return ink


def _logo(shape: NDArray[np.int64], across: Floats, below: Floats) -> Mask:
    """Whether points lie on the logo of the given shape, centred at (0, 0)."""
    x, y = np.abs(across) / LOGO_SIZE, np.abs(below) / LOGO_SIZE
    return np.select(
        [shape == LOGOS.index(name) for name in ("disc", "band", "diamond", "cross", "sash")],
        [
            x**2 + y**2 < 1,
            y < 0.5,
            x + y < 1.25,
            ((x < 0.36) | (y < 0.36)) & (x < 1.15) & (y < 1.15),
            np.abs(across + below) < 0.05,
        ],
        False,
    )


def _lower(
    people: People, image: NDArray, part: NDArray, down: Floats, around: Floats, across: Floats
) -> NDArray[np.int64]:
    texture = people.attributes["lower_texture"][image]
    right = np.isin(part, [PARTS.index("right thigh"), PARTS.index("right shin")])
    left = np.isin(part, [PARTS.index("left thigh"), PARTS.index("left shin")])
    outer = np.where(right, around < 0, np.where(left, around > 0, True))
    side = (np.abs(np.abs(around) - 1) < np.where(right | left, 0.36, 0.15)) & outer
    check = (np.floor(down / CHECK) + np.floor((around + 2) * np.where(right | left, 1.0, 2.5))).astype(np.int64) & 1
    band = np.floor(down / (2 * BAND)).astype(np.int64) & 1
    second = np.select(
        [texture == LOWER_TEXTURES.index(name) for name in ("side stripe", "checks", "bands")],
        [side, check == 1, band == 1],
        False,
    )
    return np.where(second, INK["lower second"], INK["lower"])


def _shoe(
    people: People, image: NDArray, part: NDArray, down: Floats, around: Floats, across: Floats
) -> NDArray[np.int64]:
    """Light soles: the foot's own front looks up."""
    return np.where(np.abs(around) > 1.45, INK["soles"], INK["shoes"])


def _bag(
    people: People, image: NDArray, part: NDArray, down: Floats, around: Floats, across: Floats
) -> NDArray[np.int64]:
    """A backpack has a pocket behind, a handbag a handle."""
    kind = people.attributes["bag"][image]
    pocket = (kind == BAGS.index("backpack")) & (down > 0.09) & (down < 0.25) & (np.abs(across) < 0.075)
    handle = (kind == BAGS.index("handbag")) & (down < 0.03)
    return np.where((pocket & (np.abs(around) > 1)) | handle, INK["bag second"], INK["bag"])
