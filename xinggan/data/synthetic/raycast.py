"""What a camera far away sees of the solids: for every sample of the image the nearest solid and its depth.

Solids are drawn one after the other into a depth buffer, each for all images at once and only where it can be: first
the rows it spans, in each row the columns, then all samples of all rows in one go, a few multiplications each.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xinggan.data.synthetic.figure import Figures
from xinggan.data.synthetic.quadrics import Surfaces, surfaces_of

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
FAR = np.float32(-1e9)
NOTHING = 255  # index of a solid that is none


@dataclass(frozen=True)
class Views:
    """Where n parallel views look."""

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
class _Rows:
    """The r rows of samples that one solid covers in all images."""

    image: Integers  # [r]
    y: Floats  # [r] metres from the solid's start
    x: Floats  # [r] the same, of the first sample
    step: Floats  # [r] metres between samples
    sample: Integers  # [r] index of the first sample in the flat buffers
    columns: Integers  # [r] number of samples


def cast(figures: Figures, views: Views, height: int, width: int) -> Hits:
    """Rays through the middles of height x width samples of each of n views."""
    surfaces = surfaces_of(figures)
    n, count = figures.length.shape
    solid = np.full(n * height * width, NOTHING, np.uint8)
    depth = np.full(n * height * width, FAR, np.float32)
    for index in range(count):
        rows = _rows(index, surfaces, figures, views, height, width)
        sample, z = _depths(index, surfaces, figures, rows)
        nearer = np.flatnonzero(z > depth[sample])
        depth[sample[nearer]] = z[nearer]
        solid[sample[nearer]] = index
    return Hits(solid.reshape(n, height, width), depth.reshape(n, height, width))


def _rows(index: int, surfaces: Surfaces, figures: Figures, views: Views, height: int, width: int) -> _Rows:
    """The rows of solid `index`: inside its box, and between the cone's (or only ball's) edges in that row."""
    scale = views.pixels_per_metre
    start = views.to_pixels(figures.start[:, index : index + 1])[:, 0]  # [n, 2]
    left, right, bottom, top = surfaces.box[:, index].T * scale
    first = np.clip(np.ceil(start[:, 1] - top - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.floor(start[:, 1] - bottom - 0.5), -1, height - 1).astype(np.int64)
    count = np.where(figures.first_radius[:, index] > 0, np.maximum(last - first + 1, 0), 0)  # [n]

    image = np.repeat(np.arange(len(count)), count)
    row = np.arange(len(image)) - np.repeat(np.cumsum(count) - count, count) + first[image]
    y = (start[image, 1] - row - 0.5) / scale[image]
    widest = 2 if figures.length[:, index].any() else 0
    low, high = _where_positive(*_in_rows(surfaces.quadratic[image, index, widest], y))
    low, high = np.maximum(low * scale[image], left[image]), np.minimum(high * scale[image], right[image])
    first_column = np.clip(np.ceil(start[image, 0] + low - 0.5), 0, width).astype(np.int64)
    last_column = np.clip(np.floor(start[image, 0] + high - 0.5), -1, width - 1).astype(np.int64)
    return _Rows(
        image=image,
        y=y,
        x=(first_column + 0.5 - start[image, 0]) / scale[image],
        step=1 / scale[image],
        sample=(image * height + row) * width + first_column,
        columns=np.maximum(last_column - first_column + 1, 0),
    )


def _depths(index: int, surfaces: Surfaces, figures: Figures, rows: _Rows) -> tuple[Integers, NDArray[np.float32]]:
    """Flat index and depth of every sample of the rows, FAR where solid `index` is missed."""
    image, y = rows.image, rows.y
    is_ball = not figures.length[:, index].any()
    kinds = 1 if is_ball else 3  # quadrics
    lines = surfaces.linear[image, index, :kinds]  # [r, kinds, 3]
    square, cross, rest = _in_rows(surfaces.quadratic[image, index, :kinds], y[:, None])
    affine = [lines[..., 0].T, (lines[..., 1] * y[:, None] + lines[..., 2]).T, square.T, cross.T, rest.T]
    start, touched, down = figures.start[image, index], surfaces.touched[image, index], surfaces.down[image, index]
    single = [rows.x, rows.step, start[:, 2]]
    if not is_ball:
        single += [surfaces.cone_sign[image, index], figures.length[image, index], figures.floor[image, index]]
        single += [touched[:, 0], touched[:, 1] * y + touched[:, 3], touched[:, 2]]
        single += [down[:, 0], down[:, 1] * y, down[:, 2]]
    per_row = np.concatenate([*affine, single]).astype(np.float32)

    columns = rows.columns
    step = np.arange(columns.sum()) - np.repeat(np.cumsum(columns) - columns, columns)
    sample = step + np.repeat(rows.sample, columns)
    spread = np.repeat(per_row, columns, axis=1)  # [coefficients, samples]
    slope, offset, bend, tilt, height = spread[: 5 * kinds].reshape(5, kinds, -1)
    first_x, metres, z_start, *others = spread[5 * kinds :]
    x = first_x + step.astype(np.float32) * metres

    inside = (bend * x + tilt) * x + height  # [kinds, samples]
    root = np.sqrt(np.maximum(inside, 0))
    if is_ball:
        z = np.where(inside[0] >= 0, slope[0] * x + offset[0] + root[0], FAR)
        return sample, z + z_start
    sign, length, floor, *points = others
    root[2] *= sign
    z = np.where(inside >= 0, slope * x + offset + root, FAR)
    ball = points[0] * x + points[1] + points[2] * z[2]
    z[2] = np.where((ball >= 0) & (ball <= length), z[2], FAR)
    nearest = z.max(axis=0)
    if np.isfinite(figures.floor[:, index]).any():
        nearest = np.where(points[3] * x + points[4] + points[5] * nearest <= floor, nearest, FAR)
    return sample, nearest + z_start


def _in_rows(quadratic: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """A quadratic form [..., 3, 3] in (x, y, 1) at given `y` [...]: its coefficients of x^2, x and 1."""
    cross = 2 * (quadratic[..., 0, 1] * y + quadratic[..., 0, 2])
    rest = quadratic[..., 1, 1] * (y**2) + 2 * quadratic[..., 1, 2] * y + quadratic[..., 2, 2]
    return quadratic[..., 0, 0], cross, rest


def _where_positive(square: Floats, cross: Floats, rest: Floats) -> tuple[Floats, Floats]:
    """Where square x^2 + cross x + rest >= 0 if that is one bounded piece, (inf, -inf) if nowhere, else everywhere."""
    bounded = square < -1e-9
    inside = cross**2 - 4 * square * rest
    divisor = np.where(bounded, 2 * square, -1.0)
    half = np.sqrt(np.maximum(inside, 0)) / -divisor
    middle = -cross / divisor
    low, high = np.where(bounded, middle - half, -np.inf), np.where(bounded, middle + half, np.inf)
    empty = bounded & (inside < 0)
    return np.where(empty, np.inf, low), np.where(empty, -np.inf, high)
