"""Who: a person's proportions, skin, hair, clothes and bag, drawn from the person's own stream of chance.

Everything visible about a person is here and nothing about a view is, so a person seen again is the same person.
Colours are a palette of inks; where an ink goes is the business of `clothes`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xinggan.data.synthetic.chance import PERSON, Chance

UPPER_KINDS = ("vest", "t-shirt", "pullover", "jacket", "coat")
LOWER_KINDS = ("trousers", "shorts", "skirt", "long skirt")
UPPER_TEXTURES = ("plain", "stripes", "pinstripes", "checks", "two-tone", "contrast sleeves")
LOWER_TEXTURES = ("plain", "side stripe", "checks", "bands")
LOGOS = ("none", "disc", "band", "diamond", "cross", "sash")
HAIR_STYLES = ("cropped", "short", "long", "bun", "ponytail", "cap")
BAGS = ("none", "backpack", "shoulder bag", "handbag")

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
BAG_COLOURS = ((150, 76, 30), (28, 30, 36), (222, 60, 60), (40, 110, 190), (236, 190, 60), (60, 140, 80))

ATTRIBUTES: dict[str, int] = {
    "upper_kind": len(UPPER_KINDS),
    "upper_colour": len(UPPER_COLOURS),
    "upper_texture": len(UPPER_TEXTURES),
    "front_logo": len(LOGOS),
    "back_logo": len(LOGOS),
    "lower_kind": len(LOWER_KINDS),
    "lower_colour": len(LOWER_COLOURS),
    "lower_texture": len(LOWER_TEXTURES),
    "shoes": len(SHOE_COLOURS),
    "hair": len(HAIR_STYLES),
    "hair_colour": len(HAIR_COLOURS),
    "skin": len(SKIN_COLOURS),
    "bag": len(BAGS),
}

INKS = (
    "skin", "lips", "eye", "hair", "hat", "upper", "upper second", "front logo", "back logo",
    "lower", "lower second", "shoes", "soles", "bag", "bag second",
)  # fmt: skip
INK = {name: index for index, name in enumerate(INKS)}


@dataclass(frozen=True)
class People:
    """n people. Lengths in metres of a figure about 1.75 m tall, colours in 0 .. 1."""

    attributes: dict[str, NDArray[np.int64]]  # [n] each, classes as counted by ATTRIBUTES
    palette: NDArray[np.float32]  # [n, inks, 3]
    shoulders: NDArray[np.float64]  # [n] half the distance between the shoulder joints
    hips: NDArray[np.float64]  # [n] half the distance between the hip joints
    girth: NDArray[np.float64]  # [n] factor on every radius
    legs: NDArray[np.float64]  # [n] factor on the lengths of thigh and shin
    arms: NDArray[np.float64]  # [n] factor on the lengths of arm and forearm
    head: NDArray[np.float64]  # [n] factor on the head's size
    sleeves: NDArray[np.float64]  # [n] metres of arm covered, from the shoulder
    hem: NDArray[np.float64]  # [n] metres of leg covered by shorts, trousers or skirt, from the hip

    def is_a(self, attribute: str, *names: str) -> NDArray[np.bool_]:
        """[n] whether the person's `attribute` (upper_kind, lower_kind, hair or bag) is one of `names`."""
        classes = {"upper_kind": UPPER_KINDS, "lower_kind": LOWER_KINDS, "hair": HAIR_STYLES, "bag": BAGS}[attribute]
        return np.isin(self.attributes[attribute], [classes.index(name) for name in names])


def draw_people(seed: int, people: NDArray[np.int64]) -> People:
    """The people numbered `people` [n] of the world `seed`."""
    chance = Chance(seed, PERSON, people)
    attributes = {name: chance.below(count) for name, count in ATTRIBUTES.items()}
    attributes["upper_texture"] = chance.choose((3, 2, 1, 2, 1, 1))
    attributes["lower_texture"] = chance.choose((5, 2, 1, 1))
    attributes["lower_kind"] = chance.choose((5, 3, 2, 1))
    attributes["bag"] = chance.choose((5, 2, 2, 2))
    coat = attributes["upper_kind"] == UPPER_KINDS.index("coat")
    attributes["lower_kind"] = np.where(coat, LOWER_KINDS.index("trousers"), attributes["lower_kind"])

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


def _palette(attributes: dict[str, NDArray[np.int64]], chance: Chance) -> NDArray[np.float32]:
    """[n, inks, 3]: the classes' colours, each a shade apart from one person to the next."""

    def colours(table: Colours, index: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array(list(table.values()))[index] / 255

    n = len(attributes["skin"])
    upper, lower = attributes["upper_colour"], attributes["lower_colour"]
    inks = np.zeros((n, len(INKS), 3))
    inks[:, INK["skin"]] = colours(SKIN_COLOURS, attributes["skin"])
    inks[:, INK["lips"]] = inks[:, INK["skin"]] * (0.82, 0.5, 0.5)
    inks[:, INK["eye"]] = (0.10, 0.09, 0.10)
    inks[:, INK["hair"]] = colours(HAIR_COLOURS, attributes["hair_colour"])
    inks[:, INK["hat"]] = colours(UPPER_COLOURS, chance.below(len(UPPER_COLOURS)))
    inks[:, INK["upper"]] = colours(UPPER_COLOURS, upper)
    inks[:, INK["upper second"]] = colours(UPPER_COLOURS, _another(upper, chance, len(UPPER_COLOURS)))
    inks[:, INK["front logo"]] = colours(UPPER_COLOURS, _another(upper, chance, len(UPPER_COLOURS)))
    inks[:, INK["back logo"]] = colours(UPPER_COLOURS, _another(upper, chance, len(UPPER_COLOURS)))
    inks[:, INK["lower"]] = colours(LOWER_COLOURS, lower)
    inks[:, INK["lower second"]] = colours(LOWER_COLOURS, _another(lower, chance, len(LOWER_COLOURS)))
    inks[:, INK["shoes"]] = colours(SHOE_COLOURS, attributes["shoes"])
    inks[:, INK["soles"]] = (0.92, 0.92, 0.90)
    bag = chance.below(len(BAG_COLOURS))
    inks[:, INK["bag"]] = np.array(BAG_COLOURS)[bag] / 255
    inks[:, INK["bag second"]] = np.array(BAG_COLOURS)[_another(bag, chance, len(BAG_COLOURS))] / 255

    for garment in ("skin", "hair", "upper", "upper second", "lower", "lower second"):
        inks[:, INK[garment]] *= chance.between(0.90, 1.06)[:, None]
    return np.clip(inks, 0.02, 0.98).astype(np.float32)


def _another(classes: NDArray[np.int64], chance: Chance, count: int) -> NDArray[np.int64]:
    """[n] classes, each different from the given one."""
    return (classes + 1 + chance.below(count - 1)) % count
