"""The colour of every sample: where on the garment it lies says its ink, which way the surface faces how light it is.

Texture coordinates belong to the solid, not to the image, so a stripe stays where it was when the person turns.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xinggan.data.synthetic.figure import GARMENT, PARTS, Figures
from xinggan.data.synthetic.people import BAGS, INK, LOGOS, LOWER_TEXTURES, UPPER_TEXTURES, People
from xinggan.data.synthetic.quadrics import cone_slope

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

BAND, CHECK = 0.058, 0.075  # metres
PINSTRIPES = 20  # around the trunk
TWO_TONE_EDGE = 0.24  # metres below the shoulders
LOGO_MIDDLE, LOGO_SIZE = 0.19, 0.078  # metres below the shoulders
AMBIENT, DIFFUSE, FACING, DEPTH_CUE = 0.50, 0.42, 0.16, 0.22


@dataclass(frozen=True)
class Samples:
    """m samples that lie on a figure."""

    image: NDArray[np.int64]  # [m]
    solid: NDArray[np.int64]  # [m]
    point: Floats  # [3, m] metres in the axes of the view


@dataclass(frozen=True)
class Spots:
    """k of the samples, all on one kind of garment."""

    image: NDArray[np.int64]  # [k]
    part: NDArray[np.uint8]  # [k] index into PARTS
    down: Floats  # [k] metres along the garment from its top edge
    around: Floats  # [k] once round the limb: 0 in front, 1 on the left, +-2 behind, -1 on the right
    across: Floats  # [k] metres to the left of the middle

    def on(self, *parts: str) -> Mask:
        """[k] whether a spot is on one of these parts."""
        return np.isin(self.part, [PARTS.index(part) for part in parts])


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

    slope = cone_slope(figures).ravel()
    cone = np.stack([slope * figures.first_radius.ravel(), 1 / (1 - slope**2), figures.length.ravel()])
    shift, stretch, reach = np.take(cone.astype(np.float32), place, axis=1)
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

    ink = np.full(len(place), INK["skin"])
    ink[garment == GARMENT["hair"]] = INK["hair"]
    ink[garment == GARMENT["hat"]] = INK["hat"]
    for name, draw in (("head", _head), ("upper", _upper), ("lower", _lower), ("shoe", _shoe), ("bag", _bag)):
        here = np.flatnonzero(garment == GARMENT[name])
        ink[here] = draw(people, Spots(samples.image[here], part[here], down[here], around[here], across[here]))
    return ink


def _head(people: People, spots: Spots) -> NDArray[np.int64]:
    """Eyes and mouth in front."""
    size = people.head.astype(np.float32)[spots.image]
    front = np.abs(spots.around) < 1
    aside, height = np.abs(spots.across) / size, -spots.down / size
    eye = front & (((aside - 0.036) / 0.0155) ** 2 + ((height - 0.016) / 0.0125) ** 2 < 1)
    mouth = front & ((aside / 0.026) ** 2 + ((height + 0.062) / 0.010) ** 2 < 1)
    return np.where(eye, INK["eye"], np.where(mouth, INK["lips"], INK["skin"]))


def _upper(people: People, spots: Spots) -> NDArray[np.int64]:
    """The upper garment: its texture, then logos on chest and back, a jacket's zip, the straps of a bag."""
    down, around, across = spots.down, spots.around, spots.across
    trunk = spots.on("torso", "hips")
    turns = (around + 2) * (PINSTRIPES / 4)
    pinstripe = (turns - np.floor(turns) < np.where(trunk, 0.34, 0.42)) & (trunk | (np.floor(turns) % 2 == 0))
    texture = people.attributes["upper_texture"][spots.image]
    drawings = {
        "stripes": np.floor(down / BAND) % 2 == 1,
        "pinstripes": pinstripe,
        "checks": (np.floor(down / CHECK) + np.floor((around + 2) * np.where(trunk, 2.0, 1.0))) % 2 == 1,
        "two-tone": trunk & (down > TWO_TONE_EDGE),
        "contrast sleeves": ~trunk,
    }
    ink = np.where(_drawn(texture, UPPER_TEXTURES, drawings), INK["upper second"], INK["upper"])

    front = np.abs(around) < 1
    for attribute, side in (("front_logo", front), ("back_logo", ~front)):
        shape = people.attributes[attribute][spots.image]
        ink[trunk & side & _logo(shape, across, down - LOGO_MIDDLE)] = INK[attribute.replace("_", " ")]
    zipped = people.is_a("upper_kind", "jacket", "coat")[spots.image] & (np.abs(across) < 0.011) & front
    ink[zipped] = INK["upper second"]

    straps = front & (np.abs(np.abs(across) - 0.105) < 0.021) & (down < 0.34)
    diagonal = np.abs(across * 1.35 + down - 0.19) < 0.034
    worn = _drawn(people.attributes["bag"][spots.image], BAGS, {"backpack": straps, "shoulder bag": diagonal})
    ink[trunk & worn] = INK["bag"]
    return ink


def _logo(shape: NDArray[np.int64], across: Floats, below: Floats) -> Mask:
    """Whether points lie on the logo of the given shape, centred at (0, 0)."""
    x, y = np.abs(across) / LOGO_SIZE, np.abs(below) / LOGO_SIZE
    drawings = {
        "disc": x**2 + y**2 < 1,
        "band": y < 0.5,
        "diamond": x + y < 1.25,
        "cross": ((x < 0.36) | (y < 0.36)) & (x < 1.15) & (y < 1.15),
        "sash": np.abs(across + below) < 0.05,
    }
    return _drawn(shape, LOGOS, drawings)


def _lower(people: People, spots: Spots) -> NDArray[np.int64]:
    """Trousers, shorts or skirt with their texture."""
    down, around = spots.down, spots.around
    right, left = spots.on("right thigh", "right shin"), spots.on("left thigh", "left shin")
    leg = right | left
    outer = np.where(right, around < 0, np.where(left, around > 0, True))
    drawings = {
        "side stripe": (np.abs(np.abs(around) - 1) < np.where(leg, 0.36, 0.15)) & outer,
        "checks": (np.floor(down / CHECK) + np.floor((around + 2) * np.where(leg, 1.0, 2.5))) % 2 == 1,
        "bands": np.floor(down / (2 * BAND)) % 2 == 1,
    }
    second = _drawn(people.attributes["lower_texture"][spots.image], LOWER_TEXTURES, drawings)
    return np.where(second, INK["lower second"], INK["lower"])


def _shoe(people: People, spots: Spots) -> NDArray[np.int64]:
    """Light soles: the foot's own front looks up."""
    return np.where(np.abs(spots.around) > 1.45, INK["soles"], INK["shoes"])


def _bag(people: People, spots: Spots) -> NDArray[np.int64]:
    """A backpack has a pocket behind, a handbag a handle."""
    pocket = (spots.down > 0.09) & (spots.down < 0.25) & (np.abs(spots.across) < 0.075) & (np.abs(spots.around) > 1)
    kind = people.attributes["bag"][spots.image]
    second = _drawn(kind, BAGS, {"backpack": pocket, "handbag": spots.down < 0.03})
    return np.where(second, INK["bag second"], INK["bag"])


def _drawn(classes: NDArray[np.int64], names: tuple[str, ...], drawings: dict[str, Mask]) -> Mask:
    """For each spot the drawing of its own class; classes without one have nothing drawn."""
    return np.select([classes == names.index(name) for name in drawings], list(drawings.values()), False)
