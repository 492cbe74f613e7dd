"""Where: a world has six fixed surveillance cameras, each with its own wall, floor, doors, light and white balance.

Backdrops are calm on purpose, so that clothes stand out, and nearly the same whenever a camera is used again, so that a
method may learn them. Lengths are in image heights, x from the middle of the image and y from its top.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from xinggan.data.synthetic.chance import CAMERA, Chance

CAMERAS = 6
SOFTNESS = 0.012  # image heights over which an edge of the backdrop fades
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cameras:
    """One row a camera."""

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

    def tone(low: float, high: float, tint: float) -> Floats:
        """[c, 3] greyish colours."""
        grey = chance.between(low, high)[:, None]
        return grey * (1 + np.stack([chance.between(-tint, tint) for _ in range(3)], axis=-1))

    light = np.stack([chance.between(-0.8, 0.8), chance.between(0.5, 1.0), chance.between(0.5, 0.9)], axis=-1)
    gain = chance.between(0.92, 1.06)[:, None] * (
        1 + np.stack([chance.between(-0.06, 0.06) for _ in range(3)], axis=-1)
    )
    wall, floor = tone(0.52, 0.80, 0.09), tone(0.38, 0.66, 0.09)
    horizon = chance.between(0.52, 0.80)
    blocks, colours = np.zeros((CAMERAS, 2, 4)), np.zeros((CAMERAS, 2, 3))
    for index, side in enumerate((-1, 1)):
        near, wide = chance.between(0.02, 0.16), chance.between(0.10, 0.40)
        left = np.where(side < 0, -near - wide, near)
        top = np.where(chance.between(0, 1) < 0.5, -0.1, chance.between(0.1, 0.45))
        blocks[:, index] = np.stack([left, left + wide, top, horizon + chance.between(0.0, 0.06)], axis=-1)
        colours[:, index] = (
            wall
            * chance.between(0.76, 1.10)[:, None]
            * (1 + np.stack([chance.between(-0.05, 0.05) for _ in range(3)], axis=-1))
        )
    return Cameras(
        chance.between(3, 13),
        light / np.linalg.norm(light, axis=-1, keepdims=True),
        gain,
        wall,
        floor,
        horizon,
        blocks,
        colours,
    )


def paint_backdrop(
    seen_by: Cameras, camera: NDArray[np.int64], shift: Floats, shadow: Floats, height: int, width: int
) -> NDArray[np.float32]:
    """[n, H, W, 3] what the cameras numbered `camera` [n] see where nobody stands.

    Args: shift: [n, 2] by which the picture is moved. shadow: [n, 4] middle and half axes of the shadow on the floor.
    """
    x = (((np.arange(width) + 0.5 - width / 2) / height)[None] - shift[:, :1]).astype(np.float32)  # [n, W]
    y = (((np.arange(height) + 0.5) / height)[None] - shift[:, 1:]).astype(np.float32)  # [n, H]

    def single(values: Floats) -> NDArray[np.float32]:
        return values[camera].astype(np.float32)

    def beyond(position: NDArray[np.float32], edge: NDArray[np.float32]) -> NDArray[np.float32]:
        """0 .. 1 as `position` [n, k] passes `edge` [n]."""
        return np.clip((position - edge[:, None]) / np.float32(SOFTNESS) + np.float32(0.5), 0, 1)

    horizon, blocks, colours = single(seen_by.horizon), single(seen_by.blocks), single(seen_by.block_colours)
    wall = single(seen_by.wall)[:, None] * (1.06 - 0.18 * y)[..., None]  # [n, H, 3]
    floor = single(seen_by.floor)[:, None] * (0.80 + 0.28 * y)[..., None]
    below = beyond(y, horizon)[..., None]
    rows = wall + below * (floor - wall)
    picture = np.broadcast_to(rows[:, :, None], (len(camera), height, width, 3)).copy()
    for index in range(2):
        left, right, top, bottom = blocks[:, index].T
        columns = beyond(x, left) * (1 - beyond(x, right))
        cover = (beyond(y, top) * (1 - beyond(y, bottom)))[:, :, None] * columns[:, None]
        picture += cover[..., None] * (colours[:, index][:, None, None] - picture)

    middle_x, middle_y, half_x, half_y = shadow.astype(np.float32).T[..., None]
    across, down = (
        (x + shift[:, :1].astype(np.float32) - middle_x) / half_x,
        (y + shift[:, 1:].astype(np.float32) - middle_y) / half_y,
    )
    dark = np.clip(1 - across[:, None] ** 2 - down[:, :, None] ** 2, 0, 1)
    picture *= (1 - 0.45 * dark)[..., None]
    return picture
