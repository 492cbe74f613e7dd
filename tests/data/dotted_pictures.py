"""Pictures with a coloured dot at every joint, which tell where a joint should be after anything was done to them."""

import colorsys

import numpy as np
from PIL import Image, ImageDraw

from xinggan.data.packed import PackedSplit

DOTS = [tuple(round(255 * c) for c in colorsys.hsv_to_rgb(joint / 18, 1, 1 - joint % 2 / 2)) for joint in range(18)]


def dotted_picture(joints: np.ndarray, size: tuple[int, int], background: str = "#808080") -> Image.Image:
    """A picture of `size` (width, height) with a dot at each joint [18, 2], which is counted in its pixels."""
    picture = Image.new("RGB", size, background)
    for (x, y), colour in zip(joints, DOTS, strict=True):
        radius = np.array(size) / (64, 128) * 3
        ImageDraw.Draw(picture).ellipse((x - radius[0], y - radius[1], x + radius[0], y + radius[1]), fill=colour)
    return picture


def dots_hit(split: PackedSplit) -> tuple[int, int]:
    """How many of the packed joints lie on their dots, and how many there are."""
    images, joints = np.nonzero(split.poses[..., 2] > 0)
    x, y = split.poses[images, joints, :2].round().astype(int).T.clip(0, [[split.width - 1], [split.height - 1]])
    apart = np.abs(split.images[images, y, x].astype(int) - np.array(DOTS)[joints]).max(axis=1)
    return int((apart < 50).sum()), len(images)
