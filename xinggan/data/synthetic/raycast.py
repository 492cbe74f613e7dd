"""Parallel projection of the solids: for every sample of the image the nearest solid and its depth.

A rounded cone is three quadrics, its two end balls and the cone that touches both. Seen along z, the surface of a
quadric is z = (linear in x, y) + sqrt(quadratic in x, y). Solids are drawn one after the other into a depth buffer,
each for all images at once and only where it can be: first the rows it spans, in each row the columns, then all samples
of all rows in one go.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xinggan.data.synthetic.figure import Figures
from xinggan.data.synthetic.people import Floats, Integers

FAR = np.float32(-1e9)
NOTHING = 255  # index of a solid that is none
FLATTEST = 1e-6  # leading coefficient of a quadric, below which a ray only grazes it


@dataclass(frozen=True)
class Views:
    """n parallel projections onto a sampling grid."""

    pixels_per_metre: Floats  # [n] of the sampling grid
    origin: Floats  # [n, 2] column and row, in pixels, where the point (0, 0, 0) falls

    def to_pixels(self, points: Floats) -> Floats:
        """[n, k, 3] points in metres -> [n, k, 2] columns and rows in pixels; the first pixel spans 0 .. 1."""
        return self.origin[:, None] + points[..., :2] * (1, -1) * self.pixels_per_metre[:, None, None]


@dataclass(frozen=True)
class Hits:
    """The nearest solid at every sample."""

    solid: NDArray[np.uint8]  # [n, H, W], NOTHING where no solid is hit
    depth: NDArray[np.float32]  # [n, H, W] metres towards the camera, FAR where no solid is hit


@dataclass(frozen=True)
class Surfaces:
    """The quadrics of each solid (first ball, last ball, cone); lengths in metres from the solid's start."""

    linear: Floats  # [n, S, 3, 3] coefficients of (x, y, 1)
    quadratic: Floats  # [n, S, 3, 3, 3] symmetric, of (x, y, 1)
    cone_sign: Floats  # [n, S] of the cone's root: -1 where the view is into the cone rather than at its side
    touched: Floats  # [n, S, 4] of (x, y, z, 1): how far along the segment lies the ball that touches a cone's point
    down: Floats  # [n, S, 3] of (x, y, z): how far along the solid a point lies
    box: Floats  # [n, S, 4] left, right, bottom, top of what is seen


def surfaces_of(figures: Figures) -> Surfaces:
    """The surfaces of n figures. Those of absent solids have no meaning."""
    first, last, length = figures.first_radius, figures.last_radius, figures.length
    to_own, slope = figures.to_own(), figures.slope()
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
    low, high = figures.bounds()
    start = figures.start[..., :2]
    box = np.concatenate([low - start, high - start], axis=-1)[..., (0, 2, 1, 3)]
    return Surfaces(linear, quadratic, np.sign(lead[..., 2, 0]), touched, down, box)


def cast(figures: Figures, views: Views, height: int, width: int) -> Hits:
    """Rays through the middles of height x width samples of each of n views."""
    surfaces = surfaces_of(figures)
    n, count = figures.length.shape
    solid = np.full(n * height * width, NOTHING, np.uint8)
    depth = np.full(n * height * width, FAR, np.float32)
    for index in range(count):
        sample, z = _depths(index, surfaces, figures, views, height, width)
        nearer = np.flatnonzero(z > depth[sample])
        depth[sample[nearer]] = z[nearer]
        solid[sample[nearer]] = index
    return Hits(solid.reshape(n, height, width), depth.reshape(n, height, width))


def _depths(
    index: int, surfaces: Surfaces, figures: Figures, views: Views, height: int, width: int
) -> tuple[Integers, NDArray[np.float32]]:
    """Flat index and depth of every sample where solid `index` can be, FAR where the ray misses it."""
    is_ball = not figures.length[:, index].any()
    scale = views.pixels_per_metre
    start = views.to_pixels(figures.start[:, index : index + 1])[:, 0]  # [n, 2]
    left, right, bottom, top = surfaces.box[:, index].T * scale
    first = np.clip(np.ceil(start[:, 1] - top - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.floor(start[:, 1] - bottom - 0.5), -1, height - 1).astype(np.int64)
    count = np.where(figures.first_radius[:, index] > 0, np.maximum(last - first + 1, 0), 0)  # [n] rows

    # the r rows of all images: inside the box, and between the edges of the cone, or of the only ball, in that row
    image = np.repeat(np.arange(len(count)), count)
    row = np.arange(len(image)) - np.repeat(np.cumsum(count) - count, count) + first[image]
    scale, start = scale[image], start[image]
    y = (start[:, 1] - row - 0.5) / scale  # metres from the solid's start
    low, high = _interval_of_positive(*_row_coefficients(surfaces.quadratic[image, index, 0 if is_ball else 2], y))
    low, high = np.maximum(low * scale, left[image]), np.minimum(high * scale, right[image])
    first_column = np.clip(np.ceil(start[:, 0] + low - 0.5), 0, width).astype(np.int64)
    last_column = np.clip(np.floor(start[:, 0] + high - 0.5), -1, width - 1).astype(np.int64)
    columns = np.maximum(last_column - first_column + 1, 0)

    # coefficients of each row
    kinds = 1 if is_ball else 3  # quadrics
    lines = surfaces.linear[image, index, :kinds]  # [r, kinds, 3]
    square, cross, rest = _row_coefficients(surfaces.quadratic[image, index, :kinds], y[:, None])
    affine = [lines[..., 0].T, (lines[..., 1] * y[:, None] + lines[..., 2]).T, square.T, cross.T, rest.T]
    single = [(first_column + 0.5 - start[:, 0]) / scale, 1 / scale, figures.start[image, index, 2]]
    if not is_ball:
        touched, down = surfaces.touched[image, index].T, surfaces.down[image, index].T
        single += [surfaces.cone_sign[image, index], figures.length[image, index], figures.floor[image, index]]
        single += [touched[0], touched[1] * y + touched[3], touched[2], down[0], down[1] * y, down[2]]
    spread = np.repeat(np.concatenate([*affine, single]).astype(np.float32), columns, axis=1)  # [.., samples]

    # depths of all samples of all rows
    slope, offset, bend, tilt, constant = spread[: 5 * kinds].reshape(5, kinds, -1)
    first_x, step, z_start, *others = spread[5 * kinds :]
    place = np.arange(columns.sum()) - np.repeat(np.cumsum(columns) - columns, columns)  # in the row
    sample = place + np.repeat((image * height + row) * width + first_column, columns)
    x = first_x + place.astype(np.float32) * step
    inside = (bend * x + tilt) * x + constant  # [kinds, samples]
    root = np.sqrt(np.maximum(inside, 0))
    if is_ball:
        return sample, np.where(inside[0] >= 0, slope[0] * x + offset[0] + root[0], FAR) + z_start
    sign, length, floor, *points = others
    root[2] *= sign
    z = np.where(inside >= 0, slope * x + offset + root, FAR)
    ball = points[0] * x + points[1] + points[2] * z[2]
    z[2] = np.where((ball >= 0) & (ball <= length), z[2], FAR)
    nearest = z.max(axis=0)
    if np.isfinite(figures.floor[:, index]).any():
        nearest = np.where(points[3] * x + points[4] + points[5] * nearest <= floor, nearest, FAR)
    return sample, nearest + z_start


def _row_coefficients(quadratic: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """A quadratic form [..., 3, 3] in (x, y, 1) at given `y` [...]: its coefficients of x^2, x and 1."""
    cross = 2 * (quadratic[..., 0, 1] * y + quadratic[..., 0, 2])
    rest = quadratic[..., 1, 1] * (y**2) + 2 * quadratic[..., 1, 2] * y + quadratic[..., 2, 2]
    return quadratic[..., 0, 0], cross, rest


def _interval_of_positive(square: Floats, cross: Floats, rest: Floats) -> tuple[Floats, Floats]:
    """The ends of the interval with square x^2 + cross x + rest >= 0: inf, -inf if empty, -inf, inf if not bounded."""
    bounded = square < -1e-9
    inside = cross**2 - 4 * square * rest
    divisor = np.where(bounded, 2 * square, -1.0)
    half = np.sqrt(np.maximum(inside, 0)) / -divisor
    middle = -cross / divisor
    empty = bounded & (inside < 0)
    low, high = np.where(bounded, middle - half, -np.inf), np.where(bounded, middle + half, np.inf)
    return np.where(empty, np.inf, low), np.where(empty, -np.inf, high)
