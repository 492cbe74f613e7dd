"""The body of a posed person: about thirty solids, each a rounded cone that may be stretched.

A rounded cone is all balls whose centres lie on a segment and whose radius changes evenly along it; a segment of no
length is an ellipsoid. The segment runs down the solid's own -y, as its bone does. The garment on a solid changes at
`cut`, a distance along it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xinggan.data.synthetic.people import Floats, People
from xinggan.data.synthetic.posture import Length, Skeletons, rotation, turn

PARTS: tuple[str, ...] = (
    "background", "face", "hair", "neck", "torso", "hips",
    "right upper arm", "right forearm", "right hand", "left upper arm", "left forearm", "left hand",
    "right thigh", "right shin", "right foot", "left thigh", "left shin", "left foot", "skirt", "bag",
)  # fmt: skip
GARMENTS = ("skin", "head", "hair", "hat", "upper", "lower", "shoe", "bag")
GARMENT = {name: index for index, name in enumerate(GARMENTS)}
COAT_TAIL = 0.36  # metres of a coat below the waist
TAIL_TILT, FOOT_TILT = rotation(0, np.array([24.0, -80.0]))[:, None]  # [1, 3, 3] each: back and forwards
STEEPEST = 0.98  # of a cone, as the change of radius along its length: at 1 one ball would hide inside the other


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

    def to_own(self) -> Floats:
        """[n, S, 3, 3] from the axes of the view to each solid's own unstretched axes."""
        return np.swapaxes(self.frame, 2, 3) / self.stretch[..., None]

    def slope(self) -> Floats:
        """[n, S] by how much the radius shrinks along a metre of the solid."""
        long = self.length > 0
        change = (self.first_radius - self.last_radius) / np.where(long, self.length, 1)
        return np.clip(np.where(long, change, 0), -STEEPEST, STEEPEST)

    def bounds(self) -> tuple[Floats, Floats]:
        """[n, S, 2] lowest and [n, S, 2] highest x and y of each solid."""
        reach = np.linalg.norm(self.frame * self.stretch[..., None, :], axis=-1)[..., :2]  # of a ball of radius 1
        first = self.start[..., :2]
        last = first - self.frame[..., :2, 1] * (self.stretch[..., 1] * self.length)[..., None]
        first_reach, last_reach = reach * self.first_radius[..., None], reach * self.last_radius[..., None]
        return np.minimum(first - first_reach, last - last_reach), np.maximum(first + first_reach, last + last_reach)


@dataclass(frozen=True)
class Solid:
    """A solid of all people. A number is the same for all of them, or [n]."""

    part: str
    bone: str
    at: tuple[Length, Length, Length]  # centre of the first ball, in metres of the bone's frame
    length: Length
    radii: tuple[Length, Length]  # of first and last ball
    wear: str | tuple[Any, Any]  # garment, or those before and after `cut`: names, or indices [n]
    stretch: tuple[Length, Length, Length] = (1, 1, 1)
    tilt: Floats | None = None  # [1, 3, 3] or [n, 3, 3] rotation against the bone
    cut: Length = np.inf
    floor: Length = np.inf
    texture_start: Length = 0.0
    present: NDArray[np.bool_] | bool = True


def build_figures(people: People, skeletons: Skeletons) -> Figures:
    """The solids of n posed people."""
    n = len(people.girth)
    solids = [*_head(people), *_trunk(people)]
    for side in ("right", "left"):
        solids += [*_arm(people, side), *_leg(people, side)]
    solids += _bags(people, skeletons)

    def each(*values: Any) -> NDArray:
        """[n, values]"""
        return np.stack([np.broadcast_to(value, n) for value in values], axis=-1)

    frames = [skeletons.frames[solid.bone] for solid in solids]
    starts = [
        skeletons.starts[solid.bone] + turn(frame, each(*solid.at)) for solid, frame in zip(solids, frames, strict=True)
    ]
    tilted = [frame if solid.tilt is None else frame @ solid.tilt for solid, frame in zip(solids, frames, strict=True)]
    worn = [(solid.wear, solid.wear) if isinstance(solid.wear, str) else solid.wear for solid in solids]
    garments = [each(*(GARMENT[name] if isinstance(name, str) else name for name in pair)) for pair in worn]
    return Figures(
        start=np.stack(starts, axis=1),
        frame=np.stack(tilted, axis=1),
        stretch=np.stack([each(*solid.stretch) for solid in solids], axis=1),
        length=each(*(solid.length for solid in solids)),
        first_radius=each(*(np.where(solid.present, solid.radii[0], 0.0) for solid in solids)),
        last_radius=each(*(solid.radii[1] for solid in solids)),
        floor=each(*(solid.floor for solid in solids)),
        part=np.array([PARTS.index(solid.part) for solid in solids], np.uint8),
        garments=np.stack(garments, axis=1).astype(np.uint8),
        cut=each(*(solid.cut for solid in solids)),
        texture_start=each(*(solid.texture_start for solid in solids)),
    )


def _head(people: People) -> list[Solid]:
    size = people.head
    cropped, cap = people.is_a("hair", "cropped"), people.is_a("hair", "cap")
    on_top = np.where(cap, GARMENT["hat"], GARMENT["hair"])
    crown = np.where(cropped, 0.0, 0.006) * size

    def at(x: float, y: float, z: float) -> tuple[Length, Length, Length]:
        return (x * size, y * size, z * size)

    ear = (0.012, 0.026, 0.018)
    return [
        Solid("neck", "head", (0, 0.02, -0.005), 0.10, (0.052, 0.056), "skin"),
        Solid("face", "head", at(0, 0.125, 0.03), 0.0, (size, size), "head", stretch=(0.082, 0.118, 0.100)),
        Solid("face", "head", at(0, 0.112, 0.132), 0.016, (0.010 * size, 0.017 * size), "skin"),
        Solid("face", "head", at(-0.084, 0.118, 0.018), 0.0, (size, size), "skin", stretch=ear),
        Solid("face", "head", at(0.084, 0.118, 0.018), 0.0, (size, size), "skin", stretch=ear),
        Solid("hair", "head", (0, 0.147 * size + crown, 0.012 * size), 0.0, (size, size), (on_top, on_top),
              stretch=(0.087, 0.108, 0.103)),
        Solid("hair", "head", at(0, 0.10, -0.02), 0.0, (size, size), "hair", stretch=(0.080, 0.085, 0.066),
              present=~cropped),
        Solid("hair", "head", at(0, 0.13, -0.038), 0.17, (0.078, 0.070), "hair", stretch=(1.12, 1, 0.72),
              present=people.is_a("hair", "long")),
        Solid("hair", "head", at(0, 0.235, -0.06), 0.0, (0.05, 0.05), "hair", present=people.is_a("hair", "bun")),
        Solid("hair", "head", at(0, 0.17, -0.10), 0.20, (0.032, 0.018), "hair", tilt=TAIL_TILT,
              present=people.is_a("hair", "ponytail")),
        Solid("hair", "head", at(0, 0.185, 0.10), 0.0, (size, size), "hat", stretch=(0.070, 0.012, 0.085), present=cap),
    ]  # fmt: skip


def _trunk(people: People) -> list[Solid]:
    girth, hem = people.girth, people.hem
    wide, hips = people.shoulders / 0.178, people.hips / 0.095
    loose = np.where(people.is_a("upper_kind", "jacket", "coat"), 1.09, 1.0)
    yoke = (people.shoulders + 0.040) * loose, 0.083, 0.076 * girth * loose
    return [
        Solid("torso", "chest", (0, 0.255, 0), 0.23, (0.105 * girth, 0.100 * girth), "upper",
              stretch=(1.44 * wide * loose, 1, 1.04 * loose), texture_start=0.09),
        Solid("torso", "chest", (0, 0.302, 0), 0.0, (1.0, 1.0), "upper", stretch=yoke, texture_start=0.043),
        Solid("hips", "pelvis", (0, 0.12, 0), 0.11, (0.103 * girth, 0.105 * girth), ("upper", "lower"),
              stretch=(1.44 * hips * loose, 1, 1.10 * loose), texture_start=0.365,
              cut=np.where(people.is_a("upper_kind", "vest"), 0.03, 0.085)),
        Solid("skirt", "pelvis", (0, 0.06, 0), hem, (0.118 * girth, 0.118 * girth + 0.17 * hem), "lower",
              stretch=(1.40 * hips, 1, 1.14), floor=hem, present=people.is_a("lower_kind", "skirt", "long skirt")),
        Solid("skirt", "pelvis", (0, 0.10, 0), COAT_TAIL, (0.118 * girth, 0.155 * girth), "upper",
              stretch=(1.42 * hips, 1, 1.18), floor=COAT_TAIL, texture_start=0.385,
              present=people.is_a("upper_kind", "coat")),
    ]  # fmt: skip


def _arm(people: People, side: str) -> list[Solid]:
    girth, sleeves = people.girth, people.sleeves
    heavy = people.is_a("upper_kind", "jacket", "coat")
    sleeve = np.where(heavy, 0.009, np.where(sleeves > 0.3, 0.005, 0.0))
    upper, lower = 0.285 * people.arms, 0.25 * people.arms
    arm, forearm, hand = f"{side} upper arm", f"{side} forearm", f"{side} hand"
    return [
        Solid(arm, arm, (0, -0.012, 0), upper - 0.012, (0.048 * girth + sleeve, 0.040 * girth + sleeve),
              ("upper", "skin"), cut=sleeves, texture_start=0.07),
        Solid(forearm, forearm, (0, 0, 0), lower, (0.040 * girth + sleeve, 0.029 * girth + sleeve),
              ("upper", "skin"), cut=sleeves - upper, texture_start=0.06 + upper),
        Solid(hand, hand, (0, -0.015, 0), 0.07, (0.032, 0.026), "skin", stretch=(0.75, 1, 1.1)),
    ]  # fmt: skip


def _leg(people: People, side: str) -> list[Solid]:
    girth, coat = people.girth, people.is_a("upper_kind", "coat")
    cloth = np.where(people.is_a("lower_kind", "trousers"), 0.010, 0.0)
    upper, lower = 0.415 * people.legs, 0.405 * people.legs
    hem = people.hem - np.where(people.is_a("lower_kind", "skirt", "long skirt"), 0.08, 0.0)
    # a leg that pushes through a skirt or a coat's tail has the cloth's colour
    near = np.where(coat, GARMENT["upper"], GARMENT["lower"])
    far = np.where(coat, GARMENT["lower"], GARMENT["skin"])
    thigh, shin, foot = f"{side} thigh", f"{side} shin", f"{side} foot"
    return [
        Solid(thigh, thigh, (0, -0.01, 0), upper - 0.01, (0.084 * girth, 0.055 * girth + cloth), (near, far),
              cut=np.where(coat, COAT_TAIL - 0.12, hem), stretch=(1, 1, 1.04), texture_start=0.10),
        Solid(thigh, thigh, (0, -0.03, 0), hem - 0.03, (0.086 * girth, 0.066 * girth + 0.012), "lower",
              floor=hem - 0.03, texture_start=0.12, present=people.is_a("lower_kind", "shorts")),
        Solid(shin, shin, (0, 0, 0), lower - 0.02, (0.055 * girth + cloth, 0.037 * girth + 1.2 * cloth),
              ("lower", "skin"), cut=hem - upper, texture_start=0.10 + upper),
        Solid(foot, foot, (0, -0.035, -0.03), 0.15, (0.045, 0.036), "shoe", stretch=(0.95, 1, 1),
              tilt=FOOT_TILT),
    ]  # fmt: skip


def _bags(people: People, skeletons: Skeletons) -> list[Solid]:
    girth, frames = people.girth, skeletons.frames
    upright = np.swapaxes(frames["left hand"], 1, 2) @ frames["pelvis"]
    return [
        Solid("bag", "chest", (0, 0.25, -0.145 * girth), 0.20, (0.10, 0.115), "bag", stretch=(1.25, 1, 0.75),
              present=people.is_a("bag", "backpack")),
        Solid("bag", "pelvis", (-people.hips - 0.13 * girth, 0.03, -0.01), 0.11, (0.065, 0.075), "bag",
              stretch=(0.6, 1, 1.5), present=people.is_a("bag", "shoulder bag")),
        Solid("bag", "left hand", (0, -0.07, 0), 0.15, (0.028, 0.075), "bag", tilt=upright, stretch=(0.8, 1, 1.7),
              present=people.is_a("bag", "handbag")),
    ]  # fmt: skip
