"""Colours of bodies and backdrops: the place on a garment decides the ink, the direction of the surface the shade.

Texture coordinates belong to the solid, not to the image: a stripe keeps its place when the person turns. A world has
six fixed surveillance cameras, each with its own wall, floor, doors, light and white balance. Backdrops are plain, so
that clothes stand out, and nearly the same in all images of a camera, so that a method can learn them.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from xinggan.data.synthetic.figure import GARMENT, PARTS, Figures
from xinggan.data.synthetic.people import CAMERA, CLASSES, INK, Chance, Floats, Integers, People

Singles = NDArray[np.float32]
Mask = NDArray[np.bool_]

BAND, CHECK = 0.058, 0.075  # metres
PINSTRIPES = 20  # around the trunk
TWO_TONE_EDGE = 0.24  # metres below the shoulders
LOGO_MIDDLE, LOGO_SIZE = 0.19, 0.078  # metres below the shoulders
AMBIENT, DIFFUSE, FACING, DEPTH_CUE = 0.50, 0.42, 0.16, 0.22
CAMERAS = 6
SOFTNESS = 0.012  # image heights over which an edge of the backdrop fades


@dataclass(frozen=True)
class Spots:
    """k samples, all on one kind of garment."""

    image: Integers  # [k]
    part: NDArray[np.uint8]  # [k] index into PARTS
    down: Singles  # [k] metres along the garment from its top edge
    around: Singles  # [k] once round the limb: 0 in front, 1 on the left, +-2 behind, -1 on the right
    across: Singles  # [k] metres to the left of the middle

    def on(self, *parts: str) -> Mask:
        """[k] whether a spot is on one of these parts."""
        return np.isin(self.part, [PARTS.index(part) for part in parts])


def paint(people: People, figures: Figures, light: Floats, image: Integers, solid: Integers, point: Singles) -> Singles:
    """[3, m] colours in 0 .. 1 of m samples that lie on figures.

    Args: light: [n, 3] from the scene towards the light. image, solid: [m] of each sample. point: [3, m] metres in the
    axes of the view.
    """
    place = image * figures.length.shape[1] + solid  # row of a table with one row a solid
    own, normal = _own_coordinates(figures, point, place)
    ink = _inks(people, figures, image, solid, place, own)
    colour = np.take(people.palette.reshape(-1, 3).T, image * people.palette.shape[1] + ink, axis=1)  # [3, m]

    toward = np.take(light.T.astype(np.float32), image, axis=1)
    lit = np.maximum((normal * toward).sum(axis=0) * 0.65 + 0.35, 0)
    shade = AMBIENT + DIFFUSE * lit + FACING * normal[2]
    shade += DEPTH_CUE * np.clip(point[2], -0.4, 0.4)
    return colour * shade


def _own_coordinates(figures: Figures, point: Singles, place: Integers) -> tuple[Singles, Singles]:
    """[3, m] coordinates in the solid's own unstretched axes, and [3, m] unit normals in the axes of the view."""
    table = np.concatenate([figures.to_own().reshape(-1, 9), figures.start.reshape(-1, 3)], axis=1)
    rows = np.take(table.T.astype(np.float32), place, axis=1)
    matrix, start = rows[:9].reshape(3, 3, -1), rows[9:]
    x, y, z = point - start
    own = matrix[:, 0] * x + matrix[:, 1] * y + matrix[:, 2] * z

    slope = figures.slope().ravel()
    cone = np.stack([slope * figures.first_radius.ravel(), 1 / (1 - slope**2), figures.length.ravel()])
    shift, stretch, reach = np.take(cone.astype(np.float32), place, axis=1)
    ball = np.clip((-own[1] - shift) * stretch, 0, reach)  # how far along the segment the touched ball lies
    outwards = np.stack([own[0], own[1] + ball, own[2]])
    normal = matrix[0] * outwards[0] + matrix[1] * outwards[1] + matrix[2] * outwards[2]
    return own, normal / np.sqrt((normal**2).sum(axis=0))


def _inks(
    people: People, figures: Figures, image: Integers, solid: Integers, place: Integers, own: Singles
) -> Integers:
    """[m] index into INKS."""
    lengths = np.stack([figures.cut, figures.texture_start, figures.stretch[..., 0], figures.stretch[..., 1]])
    cut, begin, wide, tall = np.take(lengths.reshape(4, -1).astype(np.float32), place, axis=1)
    along = -own[1] * tall
    garment = np.where(along < cut, figures.garments[..., 0].ravel()[place], figures.garments[..., 1].ravel()[place])
    part = figures.part[solid]
    sideways = own[0] / (np.abs(own[0]) + np.abs(own[2]) + np.float32(1e-9))
    around = np.where(own[2] >= 0, sideways, np.where(own[0] >= 0, 2 - sideways, -2 - sideways))
    down, across = along + begin, own[0] * wide

    ink = np.full(len(place), INK["skin"])
    ink[garment == GARMENT["hair"]] = INK["hair"]
    ink[garment == GARMENT["hat"]] = INK["hat"]
    for name, draw in (("head", _head), ("upper", _upper), ("lower", _lower), ("shoe", _shoe), ("bag", _bag)):
        here = np.flatnonzero(garment == GARMENT[name])
        ink[here] = draw(people, Spots(image[here], part[here], down[here], around[here], across[here]))
    return ink


def _head(people: People, spots: Spots) -> Integers:
    """Eyes and mouth in front."""
    size = people.head.astype(np.float32)[spots.image]
    front = np.abs(spots.around) < 1
    aside, height = np.abs(spots.across) / size, -spots.down / size
    eye = front & (((aside - 0.036) / 0.0155) ** 2 + ((height - 0.016) / 0.0125) ** 2 < 1)
    mouth = front & ((aside / 0.026) ** 2 + ((height + 0.062) / 0.010) ** 2 < 1)
    return np.where(eye, INK["eye"], np.where(mouth, INK["lips"], INK["skin"]))


def _upper(people: People, spots: Spots) -> Integers:
    """The upper garment: its texture, then logos on chest and back, a jacket's zip, the straps of a bag."""
    down, around, across = spots.down, spots.around, spots.across
    trunk, front = spots.on("torso", "hips"), np.abs(around) < 1
    turns = (around + 2) * (PINSTRIPES / 4)
    pinstripe = (turns - np.floor(turns) < np.where(trunk, 0.34, 0.42)) & (trunk | (np.floor(turns) % 2 == 0))
    texture = {
        "stripes": np.floor(down / BAND) % 2 == 1,
        "pinstripes": pinstripe,
        "checks": (np.floor(down / CHECK) + np.floor((around + 2) * np.where(trunk, 2.0, 1.0))) % 2 == 1,
        "two-tone": trunk & (down > TWO_TONE_EDGE),
        "contrast sleeves": ~trunk,
    }
    ink = np.where(_drawn(people, spots, "upper_texture", texture), INK["upper second"], INK["upper"])

    below = down - LOGO_MIDDLE
    x, y = np.abs(across) / LOGO_SIZE, np.abs(below) / LOGO_SIZE
    logos = {
        "disc": x**2 + y**2 < 1,
        "band": y < 0.5,
        "diamond": x + y < 1.25,
        "cross": ((x < 0.36) | (y < 0.36)) & (x < 1.15) & (y < 1.15),
        "sash": np.abs(across + below) < 0.05,
    }
    ink[trunk & front & _drawn(people, spots, "front_logo", logos)] = INK["front logo"]
    ink[trunk & ~front & _drawn(people, spots, "back_logo", logos)] = INK["back logo"]
    zipped = people.is_a("upper_kind", "jacket", "coat")[spots.image] & (np.abs(across) < 0.011) & front
    ink[zipped] = INK["upper second"]
    straps = {
        "backpack": front & (np.abs(np.abs(across) - 0.105) < 0.021) & (down < 0.34),
        "shoulder bag": np.abs(across * 1.35 + down - 0.19) < 0.034,
    }
    ink[trunk & _drawn(people, spots, "bag", straps)] = INK["bag"]
    return ink


def _lower(people: People, spots: Spots) -> Integers:
    """Trousers, shorts or skirt with their texture."""
    down, around = spots.down, spots.around
    right, left = spots.on("right thigh", "right shin"), spots.on("left thigh", "left shin")
    leg = right | left
    outer = np.where(right, around < 0, np.where(left, around > 0, True))
    texture = {
        "side stripe": (np.abs(np.abs(around) - 1) < np.where(leg, 0.36, 0.15)) & outer,
        "checks": (np.floor(down / CHECK) + np.floor((around + 2) * np.where(leg, 1.0, 2.5))) % 2 == 1,
        "bands": np.floor(down / (2 * BAND)) % 2 == 1,
    }
    return np.where(_drawn(people, spots, "lower_texture", texture), INK["lower second"], INK["lower"])


def _shoe(people: People, spots: Spots) -> Integers:
    """Light soles: the foot's own front looks up."""
    return np.where(np.abs(spots.around) > 1.45, INK["soles"], INK["shoes"])


def _bag(people: People, spots: Spots) -> Integers:
    """A backpack has a pocket behind, a handbag a handle."""
    pocket = (spots.down > 0.09) & (spots.down < 0.25) & (np.abs(spots.across) < 0.075) & (np.abs(spots.around) > 1)
    second = _drawn(people, spots, "bag", {"backpack": pocket, "handbag": spots.down < 0.03})
    return np.where(second, INK["bag second"], INK["bag"])


def _drawn(people: People, spots: Spots, attribute: str, drawings: dict[str, Mask]) -> Mask:
    """[k] the drawing of the class that the person of each spot has; False for a class without a drawing."""
    classes = people.attributes[attribute][spots.image]
    chosen = [classes == CLASSES[attribute].index(name) for name in drawings]
    return np.select(chosen, list(drawings.values()), False)


@dataclass(frozen=True)
class Cameras:
    """The cameras of a world, one row each. Lengths in image heights, x from the image's middle and y from its top."""

    pitch: Floats  # [c] degrees that it looks down
    light: Floats  # [c, 3] unit vectors towards the light, in the axes of the view
    gain: Floats  # [c, 3] exposure times white balance
    wall: Floats  # [c, 3]
    floor: Floats  # [c, 3]
    horizon: Floats  # [c] where the floor begins
    blocks: Floats  # [c, 2, 4] left, right, top, bottom of two things on the wall
    block_colours: Floats  # [c, 2, 3]


@lru_cache(maxsize=8)
def cameras(seed: int) -> Cameras:
    """The cameras of the world `seed`."""
    chance = Chance(seed, CAMERA, np.arange(CAMERAS))

    def tinted(low: float, high: float, tint: float) -> Floats:
        """[c, 3] a brightness between low and high, each channel changed by up to `tint`."""
        grey = chance.between(low, high)[:, None]
        return grey * (1 + np.stack([chance.between(-tint, tint) for _ in range(3)], axis=-1))

    light = np.stack([chance.between(-0.8, 0.8), chance.between(0.5, 1.0), chance.between(0.5, 0.9)], axis=-1)
    gain = tinted(0.92, 1.06, 0.06)
    wall, floor = tinted(0.52, 0.80, 0.09), tinted(0.38, 0.66, 0.09)
    horizon = chance.between(0.52, 0.80)
    blocks, colours = np.zeros((CAMERAS, 2, 4)), np.zeros((CAMERAS, 2, 3))
    for index, side in enumerate((-1, 1)):
        near, wide = chance.between(0.02, 0.16), chance.between(0.10, 0.40)
        left = -near - wide if side < 0 else near
        top = np.where(chance.between(0, 1) < 0.5, -0.1, chance.between(0.1, 0.45))
        blocks[:, index] = np.stack([left, left + wide, top, horizon + chance.between(0.0, 0.06)], axis=-1)
        shade = chance.between(0.76, 1.10)[:, None]
        colours[:, index] = wall * shade * (1 + np.stack([chance.between(-0.05, 0.05) for _ in range(3)], axis=-1))
    unit = light / np.linalg.norm(light, axis=-1, keepdims=True)
    return Cameras(chance.between(3, 13), unit, gain, wall, floor, horizon, blocks, colours)


def paint_backdrop(
    seen_by: Cameras, camera: Integers, shift: Floats, shadow: Floats, height: int, width: int
) -> Singles:
    """[n, H, W, 3] the backdrops of the cameras numbered `camera` [n].

    Args: shift: [n, 2] by which the picture is moved. shadow: [n, 4] middle and half axes of the shadow on the floor.
    """
    x = (((np.arange(width) + 0.5 - width / 2) / height)[None] - shift[:, :1]).astype(np.float32)  # [n, W]
    y = (((np.arange(height) + 0.5) / height)[None] - shift[:, 1:]).astype(np.float32)  # [n, H]

    def beyond(position: Singles, edge: Singles) -> Singles:
        """0 .. 1 as `position` [n, k] passes `edge` [n]."""
        return np.clip((position - edge[:, None]) / np.float32(SOFTNESS) + np.float32(0.5), 0, 1)

    wall, floor, horizon, blocks, colours = (
        values[camera].astype(np.float32)
        for values in (seen_by.wall, seen_by.floor, seen_by.horizon, seen_by.blocks, seen_by.block_colours)
    )
    wall = wall[:, None] * (1.06 - 0.18 * y)[..., None]  # [n, H, 3]
    floor = floor[:, None] * (0.80 + 0.28 * y)[..., None]
    rows = wall + beyond(y, horizon)[..., None] * (floor - wall)
    picture = np.broadcast_to(rows[:, :, None], (len(camera), height, width, 3)).copy()
    for index in range(2):
        left, right, top, bottom = blocks[:, index].T
        columns = beyond(x, left) * (1 - beyond(x, right))
        cover = (beyond(y, top) * (1 - beyond(y, bottom)))[:, :, None] * columns[:, None]
        picture += cover[..., None] * (colours[:, index][:, None, None] - picture)

    middle_x, middle_y, half_x, half_y = shadow.astype(np.float32).T[..., None]
    across = (x + shift[:, :1].astype(np.float32) - middle_x) / half_x
    down = (y + shift[:, 1:].astype(np.float32) - middle_y) / half_y
    picture *= (1 - 0.45 * np.clip(1 - across[:, None] ** 2 - down[:, :, None] ** 2, 0, 1))[..., None]
    return picture
