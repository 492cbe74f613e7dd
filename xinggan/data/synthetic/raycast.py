"""What a camera far away sees of the solids: for every sample of the image the nearest solid and its depth.

Seen along parallel rays, the surface of a quadric is z = (linear in x, y) + sqrt(quadratic in x, y), so a whole row of
samples costs a few multiplications. A rounded cone is three quadrics, its two end balls and the cone that touches both,
and its nearest hit is the nearest of theirs. Solids are drawn one after the other for all images at once, each only
inside its own box.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xinggan.data.synthetic.figure import Figures

Floats = NDArray[np.float32]
FAR = np.float32(-1e9)
NOTHING = 255  # index of a solid that is none


@dataclass(frozen=True)
class Views:
    """Where n parallel views look."""

    pixels_per_metre: NDArray[np.float64]  # [n] of the sampling grid
    origin: NDArray[np.float64]  # [n, 2] column and row, in pixels, where the point (0, 0, 0) falls

    def to_pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """[n, k, 3] points in metres -> [n, k, 2] columns and rows in pixels; the first pixel spans 0 .. 1."""
        return self.origin[:, None] + points[..., :2] * (1, -1) * self.pixels_per_metre[:, None, None]


@dataclass(frozen=True)
class Hits:
    """The nearest solid at every sample."""

    solid: NDArray[np.uint8]  # [n, H, W], NOTHING where no solid is hit
    depth: Floats  # [n, H, W] metres towards the camera, FAR where no solid is hit


def cast(figures: Figures, views: Views, height: int, width: int) -> Hits:
    """Rays through the middles of height x width samples of each of n views."""
    surfaces = _Surfaces.of(figures)
    n, count = figures.length.shape
    solid = np.full(n * height * width, NOTHING, np.uint8)
    depth = np.full(n * height * width, FAR, np.float32)
    for index in range(count):
        _draw(index, surfaces, figures, views, height, width, solid, depth)
    return Hits(solid.reshape(n, height, width), depth.reshape(n, height, width))


@dataclass(frozen=True)
class _Surfaces:
    """For the quadrics (first ball, last ball, cone) of each solid, in metres from the solid's start."""

    linear: NDArray[np.float64]  # [n, S, 3, 3] coefficients of x, y, 1
    quadratic: NDArray[np.float64]  # [n, S, 3, 3, 3] symmetric, of (x, y, 1)
    sign: NDArray[np.float64]  # [n, S, 3] of the root
    along: NDArray[
        np.float64
    ]  # [n, S, 4] coefficients of x, y, z, 1: how far along the segment the ball that touches a point of the cone lies
    down: NDArray[np.float64]  # [n, S, 3] coefficients of x, y, z: how far along the solid a point lies
    box: NDArray[np.float64]  # [n, S, 4] left, right, bottom, top; left > right for absent solids

    @classmethod
    def of(cls, figures: Figures) -> "_Surfaces":
        to_own = (
            np.swapaxes(figures.frame, 2, 3) / figures.stretch[..., None]
        )  # [n, S, 3, 3] view axes -> own, unstretched
        first, last, length = figures.first_radius, figures.last_radius, figures.length
        slope = np.where(length > 0, (first - last) / np.where(length > 0, length, 1), 0)
        slope = np.clip(slope, -0.98, 0.98)
        cosine2 = 1 - slope**2

        quadrics = np.zeros((*length.shape, 3, 4, 4))  # of (own x, own y, own z, 1)
        quadrics[..., :2, (0, 1, 2), (0, 1, 2)] = 1
        quadrics[..., 0, 3, 3] = -(first**2)
        quadrics[..., 1, 3, 3] = length**2 - last**2
        quadrics[..., 1, 1, 3] = quadrics[..., 1, 3, 1] = length
        quadrics[..., 2, 0, 0] = quadrics[..., 2, 2, 2] = cosine2
        quadrics[..., 2, 1, 1] = -(slope**2)
        quadrics[..., 2, 1, 3] = quadrics[..., 2, 3, 1] = -slope * first
        quadrics[..., 2, 3, 3] = -(first**2)

        change = np.zeros((*length.shape, 1, 4, 4))
        change[..., 0, :3, :3] = to_own
        change[..., 0, 3, 3] = 1
        seen = np.swapaxes(change, -1, -2) @ quadrics @ change  # of (x, y, z, 1)
        flat = (0, 1, 3)
        lead = seen[..., 2, 2]
        lead = np.where(np.abs(lead) < 1e-6, 1e-6, lead)[..., None]
        linear = -seen[..., 2, flat] / lead
        quadratic = linear[..., :, None] * linear[..., None, :] - seen[..., flat, :][..., flat] / lead[..., None]

        down = -to_own[..., 1, :]
        along = np.concatenate([down, -(slope * first)[..., None]], axis=-1) / cosine2[..., None]

        reach = np.linalg.norm(figures.frame * figures.stretch[..., None, :], axis=-1)[
            ..., :2
        ]  # [n, S, 2] of a unit ball
        end = -(figures.frame[..., :2, 1] * (figures.stretch[..., 1] * length)[..., None])
        low = np.minimum(-reach * first[..., None], end - reach * last[..., None])
        high = np.maximum(reach * first[..., None], end + reach * last[..., None])
        low = np.where(first[..., None] > 0, low, np.inf)
        box = np.stack([low[..., 0], high[..., 0], low[..., 1], high[..., 1]], axis=-1)
        return cls(linear, quadratic, np.sign(lead[..., 0]), along, down, box)


def _draw(
    index: int,
    surfaces: _Surfaces,
    figures: Figures,
    views: Views,
    height: int,
    width: int,
    solid: NDArray[np.uint8],
    depth: Floats,
) -> None:
    """Draw solid `index` of every figure into the flat buffers `solid` and `depth` wherever it is nearer."""
    scale = views.pixels_per_metre
    start = views.to_pixels(figures.start[:, index : index + 1])[:, 0]  # [n, 2]
    present = figures.first_radius[:, index] > 0
    left, right, bottom, top = np.where(present[:, None], surfaces.box[:, index], 0).T * scale
    first_row = np.clip(np.ceil(start[:, 1] - top - 0.5), 0, height).astype(np.int64)
    last_row = np.clip(np.floor(start[:, 1] - bottom - 0.5), -1, height - 1).astype(np.int64)
    rows = np.where(present, np.maximum(last_row - first_row + 1, 0), 0)
    if not rows.any():
        return

    # one entry a row of the boxes
    image = np.repeat(np.arange(len(rows)), rows)
    row = np.arange(len(image)) - np.repeat(np.cumsum(rows) - rows, rows) + first_row[image]
    y = (start[image, 1] - row - 0.5) / scale[image]
    round_solid = not figures.length[:, index].any()
    used = (0,) if round_solid else (0, 1, 2)
    lines = surfaces.linear[image, index][:, used]  # [rows, surfaces, 3]
    curves = surfaces.quadratic[image, index][:, used]  # [rows, surfaces, 3, 3]
    slope, offset = lines[..., 0], lines[..., 1] * y[:, None] + lines[..., 2]
    square = curves[..., 0, 0]
    cross = 2 * (curves[..., 0, 1] * y[:, None] + curves[..., 0, 2])
    rest = curves[..., 1, 1] * (y**2)[:, None] + 2 * curves[..., 1, 2] * y[:, None] + curves[..., 2, 2]
    low, high = _span(square[:, -1], cross[:, -1], rest[:, -1])
    low, high = np.maximum(low * scale[image], left[image]), np.minimum(high * scale[image], right[image])
    first_column = np.clip(np.ceil(start[image, 0] + low - 0.5), 0, width).astype(np.int64)
    last_column = np.clip(np.floor(start[image, 0] + high - 0.5), -1, width - 1).astype(np.int64)
    columns = np.maximum(last_column - first_column + 1, 0)

    # one entry a sample of the rows
    per_row = [slope, offset, square, cross, rest]
    coefficients = np.concatenate([values.T for values in per_row])
    if not round_solid:
        along, down = surfaces.along[image, index], surfaces.down[image, index]
        reach = np.stack([figures.length[image, index], figures.floor[image, index]])
        affine = [along[:, 0], along[:, 1] * y + along[:, 3], along[:, 2], down[:, 0], down[:, 1] * y, down[:, 2]]
        coefficients = np.concatenate([coefficients, np.stack(affine), reach])
    x_start = (first_column + 0.5 - start[image, 0]) / scale[image]
    z_start = figures.start[image, index, 2]
    coefficients = np.concatenate([coefficients, [z_start, x_start, 1 / scale[image]]]).astype(np.float32)
    step = np.arange(columns.sum()) - np.repeat(np.cumsum(columns) - columns, columns)
    sample = step + np.repeat((image * height + row) * width + first_column, columns)
    spread = np.repeat(coefficients, columns, axis=1)
    x = spread[-2] + step.astype(np.float32) * spread[-1]

    k = len(used)
    slope, offset, square, cross, rest = (spread[i * k : (i + 1) * k] for i in range(5))
    inside = (square * x + cross) * x + rest  # [surfaces, samples]
    root = np.sqrt(np.maximum(inside, 0))
    if round_solid:
        z = np.where(inside[0] >= 0, slope[0] * x + offset[0] + root[0], FAR)
    else:
        sign = np.repeat(surfaces.sign[image, index, 2].astype(np.float32), columns)
        root[2] *= sign
        z = np.where(inside >= 0, slope * x + offset + root, FAR)
        a, b, c, d, e, f, length, floor = spread[5 * k : 5 * k + 8]
        on_cone = a * x + b + c * z[2]
        z[2] = np.where((on_cone >= 0) & (on_cone <= length), z[2], FAR)
        z = z.max(axis=0)
        if np.isfinite(figures.floor[:, index]).any():
            z = np.where(d * x + e + f * z <= floor, z, FAR)
    z = z + spread[-3]
    nearer = np.flatnonzero(z > depth[sample])
    depth[sample[nearer]] = z[nearer]
    solid[sample[nearer]] = index


def _span(
    square: NDArray[np.float64], cross: NDArray[np.float64], rest: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where square x^2 + cross x + rest >= 0 if that is one bounded piece, (inf, -inf) if nowhere, else everywhere."""
    bounded = square < -1e-9
    inside = cross**2 - 4 * square * rest
    divisor = np.where(bounded, 2 * square, -1.0)
    half = np.sqrt(np.maximum(inside, 0)) / -divisor
    middle = -cross / divisor
    low, high = np.where(bounded, middle - half, -np.inf), np.where(bounded, middle + half, np.inf)
    empty = bounded & (inside < 0)
    return np.where(empty, np.inf, low), np.where(empty, -np.inf, high)
