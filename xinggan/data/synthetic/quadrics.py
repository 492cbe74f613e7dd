"""A solid as surfaces that a parallel ray meets in closed form.

A rounded cone is three quadrics: its two end balls and the cone that touches both. Seen along z, the surface of a
quadric is z = (linear in x, y) + sqrt(quadratic in x, y); this file works out these coefficients once for every figure.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xinggan.data.synthetic.figure import Figures

Floats = NDArray[np.float64]
STEEPEST = 0.98  # of a cone, as the change of radius along its length: at 1 one ball would hide inside the other
FLATTEST = 1e-6  # leading coefficient of a quadric, below which a ray only grazes it


@dataclass(frozen=True)
class Surfaces:
    """For each solid its quadrics (first ball, last ball, cone); lengths in metres from the solid's start."""

    linear: Floats  # [n, S, 3, 3] coefficients of (x, y, 1)
    quadratic: Floats  # [n, S, 3, 3, 3] symmetric, of (x, y, 1)
    cone_sign: Floats  # [n, S] of the cone's root: -1 where one looks into it rather than at its side
    touched: (
        Floats  # [n, S, 4] of (x, y, z, 1): how far along the segment the ball lies that touches a point of the cone
    )
    down: Floats  # [n, S, 3] of (x, y, z): how far along the solid a point lies
    box: Floats  # [n, S, 4] left, right, bottom, top of what is seen


def surfaces_of(figures: Figures) -> Surfaces:
    """The surfaces of n figures. Absent solids have some too, of no meaning."""
    first, last, length = figures.first_radius, figures.last_radius, figures.length
    to_own = np.swapaxes(figures.frame, 2, 3) / figures.stretch[..., None]  # [n, S, 3, 3] view -> own, unstretched
    slope = cone_slope(figures)
    cosine2 = 1 - slope**2

    quadrics = np.zeros((*length.shape, 3, 4, 4))  # symmetric, of (own x, own y, own z, 1)
    quadrics[..., :2, (0, 1, 2), (0, 1, 2)] = 1
    quadrics[..., 0, 3, 3] = -(first**2)
    quadrics[..., 1, 1, 3] = quadrics[..., 1, 3, 1] = length
    quadrics[..., 1, 3, 3] = length**2 - last**2
    quadrics[..., 2, 0, 0] = quadrics[..., 2, 2, 2] = cosine2
    quadrics[..., 2, 1, 1] = -(slope**2)
    quadrics[..., 2, 1, 3] = quadrics[..., 2, 3, 1] = -slope * first
    quadrics[..., 2, 3, 3] = -(first**2)

    change = np.zeros((*length.shape, 1, 4, 4))
    change[..., 0, :3, :3] = to_own
    change[..., 0, 3, 3] = 1
    seen = np.swapaxes(change, -1, -2) @ quadrics @ change  # of (x, y, z, 1)
    flat = (0, 1, 3)
    lead = seen[..., 2, 2]  # [n, S, 3]
    lead = np.where(np.abs(lead) < FLATTEST, FLATTEST, lead)[..., None]
    linear = -seen[..., 2, flat] / lead
    quadratic = linear[..., :, None] * linear[..., None, :] - seen[..., flat, :][..., flat] / lead[..., None]

    down = -to_own[..., 1, :]
    touched = np.concatenate([down, -(slope * first)[..., None]], axis=-1) / cosine2[..., None]
    low, high = bounds(figures)
    start = figures.start[..., :2]
    box = np.concatenate([low - start, high - start], axis=-1)[..., (0, 2, 1, 3)]
    return Surfaces(linear, quadratic, np.sign(lead[..., 2, 0]), touched, down, box)


def cone_slope(figures: Figures) -> Floats:
    """[n, S] by how much the radius shrinks along a metre of the solid."""
    long = figures.length > 0
    change = (figures.first_radius - figures.last_radius) / np.where(long, figures.length, 1)
    return np.clip(np.where(long, change, 0), -STEEPEST, STEEPEST)


def bounds(figures: Figures) -> tuple[Floats, Floats]:
    """[n, S, 2] lowest and [n, S, 2] highest x and y of each solid, in metres of the view."""
    reach = np.linalg.norm(figures.frame * figures.stretch[..., None, :], axis=-1)[..., :2]  # of a ball of radius 1
    first = figures.start[..., :2]
    last = first - figures.frame[..., :2, 1] * (figures.stretch[..., 1] * figures.length)[..., None]
    first_reach, last_reach = reach * figures.first_radius[..., None], reach * figures.last_radius[..., None]
    return np.minimum(first - first_reach, last - last_reach), np.maximum(first + first_reach, last + last_reach)
