"""A person's proportions, skin, hair, clothes and bag, drawn from the person's own stream of random numbers.

Nothing here depends on the view, so a person seen again is the same person. Colours are a palette of inks; `paint`
places them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

PERSON, VIEW, CAMERA = 1, 2, 3  # kinds of random stream
DRAWS_PER_STREAM = 96

Colours = dict[str, tuple[int, int, int]]
UPPER_COLOURS: Colours = {
    "red": (214, 39, 40), "orange": (245, 130, 32), "yellow": (250, 208, 44), "green": (44, 160, 66),
    "teal": (20, 165, 165), "blue": (35, 90, 205), "purple": (126, 60, 175), "pink": (240, 110, 170),
    "white": (240, 240, 236), "black": (38, 38, 44),
}  # fmt: skip
LOWER_COLOURS: Colours = {
    "black": (40, 40, 46), "denim": (58, 92, 150), "grey": (128, 130, 136), "beige": (205, 178, 130),
    "brown": (112, 72, 44), "white": (232, 230, 224), "olive": (94, 110, 48), "crimson": (160, 28, 60),
}  # fmt: skip
SHOE_COLOURS: Colours = {
    "black": (34, 34, 38), "white": (236, 236, 236), "brown": (120, 70, 36), "red": (200, 40, 44),
    "blue": (40, 80, 190),
}  # fmt: skip
HAIR_COLOURS: Colours = {
    "black": (32, 26, 26), "brown": (94, 58, 34), "blond": (222, 180, 92), "ginger": (176, 78, 30),
    "grey": (160, 160, 162),
}  # fmt: skip
SKIN_COLOURS: Colours = {
    "pale": (248, 214, 190), "light": (236, 188, 152), "tan": (205, 150, 108), "brown": (150, 98, 64),
    "dark": (98, 62, 44),
}  # fmt: skip
BAG_COLOURS: Colours = {
    "brown": (150, 76, 30), "black": (28, 30, 36), "red": (222, 60, 60), "blue": (40, 110, 190),
    "yellow": (236, 190, 60), "green": (60, 140, 80),
}  # fmt: skip

LOGOS = ("none", "disc", "band", "diamond", "cross", "sash")
CLASSES: dict[str, tuple[str, ...]] = {
    "upper_kind": ("vest", "t-shirt", "pullover", "jacket", "coat"),
    "upper_colour": tuple(UPPER_COLOURS),
    "upper_texture": ("plain", "stripes", "pinstripes", "checks", "two-tone", "contrast sleeves"),
    "front_logo": LOGOS,
    "back_logo": LOGOS,
    "lower_kind": ("trousers", "shorts", "skirt", "long skirt"),
    "lower_colour": tuple(LOWER_COLOURS),
    "lower_texture": ("plain", "side stripe", "checks", "bands"),
    "shoes": tuple(SHOE_COLOURS),
    "hair": ("cropped", "short", "long", "bun", "ponytail", "cap"),
    "hair_colour": tuple(HAIR_COLOURS),
    "skin": tuple(SKIN_COLOURS),
    "bag": ("none", "backpack", "shoulder bag", "handbag"),
}
ATTRIBUTES: dict[str, int] = {attribute: len(classes) for attribute, classes in CLASSES.items()}

INKS = (
    "skin", "lips", "eye", "hair", "hat", "upper", "upper second", "front logo", "back logo",
    "lower", "lower second", "shoes", "soles", "bag", "bag second",
)  # fmt: skip
INK = {name: index for index, name in enumerate(INKS)}


class Chance:
    """Uniform random numbers of n streams; each method takes the next column of them and returns n values.

    Every person, view and camera has its own stream: Philox, a counter-based generator, with the seed and the kind of
    stream as key and (first, second) as counter. The numbers of a view do not depend on other views, nor, being made of
    raw 64-bit words, on the version of NumPy.
    """

    def __init__(self, seed: int, kind: int, first: Integers, second: Integers | None = None):
        """Streams (seed, kind, first[i], second[i]): for example the view second[i] of the person first[i]."""
        second = np.zeros_like(first) if second is None else second
        words = np.empty((len(first), DRAWS_PER_STREAM), dtype=np.uint64)
        for row, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
            stream = np.random.Philox(key=np.array([seed, kind], np.uint64), counter=np.array([0, 0, a, b], np.uint64))
            words[row] = stream.random_raw(DRAWS_PER_STREAM)
        uniform = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53  # the upper 53 bits: [0, 1)
        self._columns = iter(uniform.T)  # each [n]

    def between(self, low: float, high: float) -> Floats:
        """[n] uniform in [low, high)."""
        return low + (high - low) * next(self._columns)

    def around(self, middle: float, spread: float) -> Floats:
        """[n] bell-shaped around `middle` with standard deviation `spread`, never more than three of them away."""
        return middle + 2 * spread * (next(self._columns) + next(self._columns) + next(self._columns) - 1.5)

    def below(self, count: int) -> Integers:
        """[n] integers in 0 .. count - 1, all equally likely."""
        return np.minimum((next(self._columns) * count).astype(np.int64), count - 1)

    def choose(self, weights: Sequence[float]) -> Integers:
        """[n] integers, i with a probability proportional to weights[i]."""
        steps = np.cumsum(weights)
        return np.minimum(np.searchsorted(steps, next(self._columns) * steps[-1], side="right"), len(weights) - 1)

    def another(self, classes: Integers, count: int) -> Integers:
        """[n] integers in 0 .. count - 1, each different from the given one."""
        return (classes + 1 + self.below(count - 1)) % count


@dataclass(frozen=True)
class People:
    """n people. Lengths in metres of a figure about 1.75 m tall, colours in 0 .. 1."""

    attributes: dict[str, Integers]  # [n] each, an index into CLASSES[attribute]
    palette: NDArray[np.float32]  # [n, inks, 3]
    shoulders: Floats  # [n] half the distance between the shoulder joints
    hips: Floats  # [n] half the distance between the hip joints
    girth: Floats  # [n] factor on every radius
    legs: Floats  # [n] factor on the lengths of thigh and shin
    arms: Floats  # [n] factor on the lengths of arm and forearm
    head: Floats  # [n] factor on the head's size
    sleeves: Floats  # [n] metres of arm covered, from the shoulder
    hem: Floats  # [n] metres of leg covered by shorts, trousers or skirt, from the hip

    def is_a(self, attribute: str, *names: str) -> NDArray[np.bool_]:
        """[n] whether the person's `attribute` is one of the classes `names`."""
        return np.isin(self.attributes[attribute], [CLASSES[attribute].index(name) for name in names])


def draw_people(seed: int, people: Integers) -> People:
    """The people numbered `people` [n] of the world `seed`."""
    chance = Chance(seed, PERSON, people)
    attributes = {name: chance.below(count) for name, count in ATTRIBUTES.items()}
    attributes["upper_texture"] = chance.choose((3, 2, 1, 2, 1, 1))
    attributes["lower_texture"] = chance.choose((5, 2, 1, 1))
    attributes["lower_kind"] = chance.choose((5, 3, 2, 1))
    attributes["bag"] = chance.choose((5, 2, 2, 2))
    attributes["lower_kind"][attributes["upper_kind"] == CLASSES["upper_kind"].index("coat")] = 0  # trousers
    return People(
        attributes,
        palette=_palette(attributes, chance),
        shoulders=chance.between(0.160, 0.195),
        hips=chance.between(0.085, 0.105),
        girth=chance.between(0.90, 1.16),
        legs=chance.between(0.95, 1.06),
        arms=chance.between(0.94, 1.04),
        head=chance.between(0.98, 1.12),
        sleeves=np.array([0.0, 0.17, 0.56, 0.56, 0.56])[attributes["upper_kind"]] * chance.between(0.9, 1.05),
        hem=np.array([0.86, 0.30, 0.40, 0.68])[attributes["lower_kind"]] * chance.between(0.94, 1.06),
    )


def _palette(attributes: dict[str, Integers], chance: Chance) -> NDArray[np.float32]:
    """[n, inks, 3]: the classes' colours, each a shade apart from one person to the next."""

    def colours(table: Colours, classes: Integers) -> Floats:
        return np.array(list(table.values()))[classes] / 255

    def others(table: Colours, classes: Integers) -> Floats:
        return colours(table, chance.another(classes, len(table)))

    n = len(attributes["skin"])
    upper, lower = attributes["upper_colour"], attributes["lower_colour"]
    skin = colours(SKIN_COLOURS, attributes["skin"])
    inks = {  # in the order of INKS, which is that of the draws
        "skin": skin,
        "lips": skin * (0.82, 0.5, 0.5),
        "eye": np.tile((0.10, 0.09, 0.10), (n, 1)),
        "hair": colours(HAIR_COLOURS, attributes["hair_colour"]),
        "hat": colours(UPPER_COLOURS, chance.below(len(UPPER_COLOURS))),
        "upper": colours(UPPER_COLOURS, upper),
        "upper second": others(UPPER_COLOURS, upper),
        "front logo": others(UPPER_COLOURS, upper),
        "back logo": others(UPPER_COLOURS, upper),
        "lower": colours(LOWER_COLOURS, lower),
        "lower second": others(LOWER_COLOURS, lower),
        "shoes": colours(SHOE_COLOURS, attributes["shoes"]),
        "soles": np.tile((0.92, 0.92, 0.90), (n, 1)),
        "bag": colours(BAG_COLOURS, bag := chance.below(len(BAG_COLOURS))),
        "bag second": others(BAG_COLOURS, bag),
    }
    for garment in ("skin", "hair", "upper", "upper second", "lower", "lower second"):
        inks[garment] = inks[garment] * chance.between(0.90, 1.06)[:, None]
    return np.clip(np.stack([inks[ink] for ink in INKS], axis=1), 0.02, 0.98).astype(np.float32)
