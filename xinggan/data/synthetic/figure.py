"""Flesh and clothes on the bones: a figure is about thirty solids, each a rounded cone that may be stretched.

A rounded cone is all balls whose centres lie on a segment and whose radius changes evenly along it; a segment of no
length is an ellipsoid. The segment runs down the solid's own -y, as its bone does. The garment on a solid changes at
`cut`, a distance along it.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xinggan.data.synthetic.motion import BONE, Skeletons, turn
from xinggan.data.synthetic.people import People

Floats = NDArray[np.float64]
Length = Floats | float

PARTS: tuple[str, ...] = (
    "background", "face", "hair", "neck", "torso", "hips",
    "right upper arm", "right forearm", "right hand", "left upper arm", "left forearm", "left hand",
    "right thigh", "right shin", "right foot", "left thigh", "left shin", "left foot", "skirt", "bag",
)  # fmt: skip
GARMENTS = ("skin", "head", "hair", "hat", "upper", "lower", "shoe", "bag")
COAT_TAIL = 0.36  # metres of a coat below the waist
GARMENT = {name: index for index, name in enumerate(GARMENTS)}


@dataclass(frozen=True)
class Figures:
    """n figures of S solids, in metres and the axes of the view."""

    start: Floats  # [n, S, 3] centre of the first ball
    frame: Floats  # [n, S, 3, 3] columns: own left, up, front
    stretch: Floats  # [n, S, 3] factor along each of the own axes
    length: Floats  # [n, S] from the first ball's centre to the last one's, before stretching
    first_radius: Floats  # [n, S]; 0: this person has no such solid
    last_radius: Floats  # [n, S]
    floor: Floats  # [n, S] nothing of the solid is further along it than this (where a skirt ends)
    part: NDArray[np.uint8]  # [S] index into PARTS
    garments: NDArray[np.uint8]  # [n, S, 2] on the near and the far side of `cut`
    cut: Floats  # [n, S]
    texture_start: Floats  # [n, S] metres from the garment's top edge to the solid's start, so that bands run through


@dataclass
class _Maker:
    """Collects solids one after the other; every argument may be a number or one number a person."""

    people: People
    skeletons: Skeletons
    columns: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        part: str,
        bone: str,
        at: tuple[Length, Length, Length],
        length: Length,
        radii: tuple[Length, Length],
        wear: tuple[str | NDArray[np.uint8], str | NDArray[np.uint8]] | str,
        *,
        stretch: tuple[Length, Length, Length] = (1, 1, 1),
        tilt: Floats | None = None,
        cut: Length = np.inf,
        floor: Length = np.inf,
        texture_start: Length = 0.0,
        present: NDArray[np.bool_] | bool = True,
    ) -> None:
        n = len(self.people.girth)

        def each(value: object) -> NDArray:
            return np.broadcast_to(np.asarray(value), n)

        near, far = (wear, wear) if isinstance(wear, str) else wear
        garments = [each(GARMENT[worn] if isinstance(worn, str) else worn) for worn in (near, far)]
        frame = self.skeletons.frames[:, BONE[bone]]
        offset = np.stack([each(value) for value in at], axis=-1)
        self.columns.append(
            {
                "start": self.skeletons.starts[:, BONE[bone]] + turn(frame, offset),
                "frame": frame if tilt is None else frame @ tilt,
                "stretch": np.stack([each(value) for value in stretch], axis=-1),
                "length": each(length),
                "first_radius": np.where(present, each(radii[0]), 0.0),
                "last_radius": each(radii[1]),
                "floor": each(floor),
                "part": PARTS.index(part),
                "garments": np.stack(garments, axis=-1).astype(np.uint8),
                "cut": each(cut),
                "texture_start": each(texture_start),
            }
        )

    def figures(self) -> Figures:
        part = np.array([column.pop("part") for column in self.columns], np.uint8)
        stacked: dict[str, Any] = {
            name: np.stack([column[name] for column in self.columns], axis=1) for name in self.columns[0]
        }
        return Figures(part=part, **stacked)


def build_figures(people: People, skeletons: Skeletons) -> Figures:
    """The solids of n posed people."""
    maker = _Maker(people, skeletons)
    _add_head(maker)
    _add_trunk(maker)
    for side in ("right", "left"):
        _add_arm(maker, side)
        _add_leg(maker, side)
    _add_bags(maker)
    return maker.figures()


def _add_head(maker: _Maker) -> None:
    people, size = maker.people, maker.people.head
    cap, long = people.is_a("hair", "cap"), people.is_a("hair", "long")
    on_top = np.where(cap, GARMENT["hat"], GARMENT["hair"]).astype(np.uint8)

    def at(x: float, y: float, z: float) -> tuple[Length, Length, Length]:
        return (x * size, y * size, z * size)

    maker.add("neck", "head", (0, 0.02, -0.005), 0.10, (0.052, 0.056), "skin")
    maker.add("face", "head", at(0, 0.125, 0.03), 0.0, (size, size), "head", stretch=(0.082, 0.118, 0.100))
    maker.add("face", "head", at(0, 0.112, 0.132), 0.016, (0.010 * size, 0.017 * size), "skin")
    for sign in (-1, 1):
        maker.add(
            "face", "head", at(sign * 0.084, 0.118, 0.018), 0.0, (size, size), "skin", stretch=(0.012, 0.026, 0.018)
        )
    crown = np.where(people.is_a("hair", "cropped"), 0.0, 0.006) * size
    maker.add(
        "hair",
        "head",
        (0, 0.147 * size + crown, 0.012 * size),
        0.0,
        (size, size),
        (on_top, on_top),
        stretch=(0.087, 0.108, 0.103),
    )
    maker.add(
        "hair",
        "head",
        at(0, 0.10, -0.02),
        0.0,
        (size, size),
        "hair",
        stretch=(0.080, 0.085, 0.066),
        present=~people.is_a("hair", "cropped"),
    )
    maker.add("hair", "head", at(0, 0.13, -0.038), 0.17, (0.078, 0.070), "hair", stretch=(1.12, 1, 0.72), present=long)
    maker.add("hair", "head", at(0, 0.235, -0.06), 0.0, (0.05, 0.05), "hair", present=people.is_a("hair", "bun"))
    tail = np.broadcast_to(_tilted_back(24.0), (len(size), 3, 3))
    maker.add(
        "hair",
        "head",
        at(0, 0.17, -0.10),
        0.20,
        (0.032, 0.018),
        "hair",
        tilt=tail,
        present=people.is_a("hair", "ponytail"),
    )
    maker.add("hair", "head", at(0, 0.185, 0.10), 0.0, (size, size), "hat", stretch=(0.070, 0.012, 0.085), present=cap)


def _add_trunk(maker: _Maker) -> None:
    people, girth = maker.people, maker.people.girth
    wide, hips = people.shoulders / 0.178, people.hips / 0.095
    loose = np.where(people.is_a("upper_kind", "jacket", "coat"), 1.09, 1.0)
    maker.add(
        "torso", "chest", (0, 0.255, 0), 0.23, (0.105 * girth, 0.100 * girth), "upper",
        stretch=(1.44 * wide * loose, 1, 1.04 * loose), texture_start=0.09,
    )  # fmt: skip
    yoke = (people.shoulders + 0.040) * loose, 0.083, 0.076 * girth * loose
    maker.add("torso", "chest", (0, 0.302, 0), 0.0, (1.0, 1.0), "upper", stretch=yoke, texture_start=0.043)
    maker.add(
        "hips", "pelvis", (0, 0.12, 0), 0.11, (0.103 * girth, 0.105 * girth), ("upper", "lower"),
        stretch=(1.44 * hips * loose, 1, 1.10 * loose), texture_start=0.365,
        cut=np.where(people.is_a("upper_kind", "vest"), 0.03, 0.085),
    )  # fmt: skip
    maker.add(
        "skirt", "pelvis", (0, 0.06, 0), people.hem, (0.118 * girth, 0.118 * girth + 0.17 * people.hem), "lower",
        stretch=(1.40 * hips, 1, 1.14), floor=people.hem, present=people.is_a("lower_kind", "skirt", "long skirt"),
    )  # fmt: skip
    maker.add(
        "skirt", "pelvis", (0, 0.10, 0), COAT_TAIL, (0.118 * girth, 0.155 * girth), "upper",
        stretch=(1.42 * hips, 1, 1.18), floor=COAT_TAIL, texture_start=0.385, present=people.is_a("upper_kind", "coat"),
    )  # fmt: skip


def _add_arm(maker: _Maker, side: str) -> None:
    people, girth = maker.people, maker.people.girth
    heavy = people.is_a("upper_kind", "jacket", "coat")
    sleeve = np.where(heavy, 0.009, np.where(people.sleeves > 0.3, 0.005, 0.0))
    upper, lower = 0.285 * people.arms, 0.25 * people.arms
    maker.add(
        f"{side} upper arm", f"{side} upper arm", (0, -0.012, 0), upper - 0.012,
        (0.048 * girth + sleeve, 0.040 * girth + sleeve), ("upper", "skin"), cut=people.sleeves, texture_start=0.07,
    )  # fmt: skip
    maker.add(
        f"{side} forearm", f"{side} forearm", (0, 0, 0), lower, (0.040 * girth + sleeve, 0.029 * girth + sleeve),
        ("upper", "skin"), cut=people.sleeves - upper, texture_start=0.06 + upper,
    )  # fmt: skip
    maker.add(f"{side} hand", f"{side} hand", (0, -0.015, 0), 0.07, (0.032, 0.026), "skin", stretch=(0.75, 1, 1.1))


def _add_leg(maker: _Maker, side: str) -> None:
    people, girth = maker.people, maker.people.girth
    cloth = np.where(people.is_a("lower_kind", "trousers"), 0.010, 0.0)
    thigh, shin = 0.415 * people.legs, 0.405 * people.legs
    skirt, coat = people.is_a("lower_kind", "skirt", "long skirt"), people.is_a("upper_kind", "coat")
    hem = people.hem - np.where(skirt, 0.08, 0.0)
    # a leg that pushes through a skirt or a coat's tail is seen in the cloth's colour
    near = np.where(coat, GARMENT["upper"], GARMENT["lower"])
    far = np.where(coat, GARMENT["lower"], GARMENT["skin"])
    maker.add(
        f"{side} thigh", f"{side} thigh", (0, -0.01, 0), thigh - 0.01, (0.084 * girth, 0.055 * girth + cloth),
        (near, far), cut=np.where(coat, COAT_TAIL - 0.12, hem), stretch=(1, 1, 1.04), texture_start=0.10,
    )  # fmt: skip
    maker.add(
        f"{side} thigh", f"{side} thigh", (0, -0.03, 0), hem - 0.03, (0.086 * girth, 0.066 * girth + 0.012),
        "lower", floor=hem - 0.03, texture_start=0.12, present=people.is_a("lower_kind", "shorts"),
    )  # fmt: skip
    maker.add(
        f"{side} shin", f"{side} shin", (0, 0, 0), shin - 0.02, (0.055 * girth + cloth, 0.037 * girth + 1.2 * cloth),
        ("lower", "skin"), cut=hem - thigh, texture_start=0.10 + thigh,
    )  # fmt: skip
    toes = np.broadcast_to(_tilted_back(-80.0), (len(girth), 3, 3))
    foot = f"{side} foot"
    maker.add(foot, foot, (0, -0.035, -0.03), 0.15, (0.045, 0.036), "shoe", stretch=(0.95, 1, 1), tilt=toes)


def _add_bags(maker: _Maker) -> None:
    people, frames = maker.people, maker.skeletons.frames
    maker.add(
        "bag", "chest", (0, 0.25, -0.145 * people.girth), 0.20, (0.10, 0.115), "bag",
        stretch=(1.25, 1, 0.75), present=people.is_a("bag", "backpack"),
    )  # fmt: skip
    maker.add(
        "bag", "pelvis", (-people.hips - 0.13 * people.girth, 0.03, -0.01), 0.11, (0.065, 0.075), "bag",
        stretch=(0.6, 1, 1.5), present=people.is_a("bag", "shoulder bag"),
    )  # fmt: skip
    upright = np.swapaxes(frames[:, BONE["left hand"]], 1, 2) @ frames[:, BONE["pelvis"]]
    maker.add(
        "bag", "left hand", (0, -0.07, 0), 0.15, (0.028, 0.075), "bag",
        tilt=upright, stretch=(0.8, 1, 1.7), present=people.is_a("bag", "handbag"),
    )  # fmt: skip


def _tilted_back(degrees: float) -> Floats:
    """[3, 3] a turn about the own left axis that takes the hanging direction towards the back."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
