"""The pose maps of NTED and PIDM: a drawn skeleton in 3 channels, then the distance to each of 17 limbs.

As in their published code: joints are discs, limbs ellipses in OpenPose's colours, laid over one another; a distance
counts rows plus columns, a third of a level a pixel, in whole levels of 255. Ellipses are computed here, where the
published code fills polygons with corners on whole pixels: they differ in single pixels of their outline.
"""

import torch
from torch import Tensor

from xinggan.data.poses import BONES, JOINTS

CHANNELS = 3 + len(BONES)
HALF_WIDTH = 4 / 256  # of limbs, and radius of joints, as a share of the image's height
FAR = 1e6  # pixels to a limb that is not there
# OpenPose's colours of the joints, and of the limbs in order, with the channels reversed.
COLOURS = (
    *((0, 0, 255), (0, 85, 255), (0, 170, 255), (0, 255, 255), (0, 255, 170), (0, 255, 85), (0, 255, 0)),
    *((85, 255, 0), (170, 255, 0), (255, 255, 0), (255, 170, 0), (255, 85, 0), (255, 0, 0), (255, 0, 85)),
    *((255, 0, 170), (255, 0, 255), (170, 0, 255), (85, 0, 255)),
)


def limb_maps(poses: Tensor, height: int, width: int, half_width: float | None = None) -> Tensor:
    """poses: [B, 18, 3] in pixels. Returns float32 [B, 20, height, width] in [0, 1], channels last.

    half_width: of the limbs and radius of the joints, pixels; None: the published 4 at a height of 256, in proportion.
    A limb with a missing joint is not drawn, and everywhere as far as can be.
    """
    half_width = half_width or max(1.0, HALF_WIDTH * height)
    rows = torch.arange(height, device=poses.device, dtype=torch.float32)[:, None]
    columns = torch.arange(width, device=poses.device, dtype=torch.float32)
    points, visible = poses[..., :2].float().trunc(), poses[..., 2] > 0  # [B, 18, 2], [B, 18]
    x, y = points[..., None, None].unbind(2)  # [B, 18, 1, 1]
    discs = ((columns - x).square() + (rows - y).square() <= half_width**2) & visible[..., None, None]
    limbs = limb_masks(points, visible, rows, columns, half_width)  # [B, 17, H, W]

    colours = torch.tensor(COLOURS, device=poses.device).view(len(JOINTS), 3, 1, 1) / 255
    drawn = torch.zeros(len(poses), 3, height, width, device=poses.device)
    for disc, colour in zip(discs.unbind(1), colours, strict=True):
        drawn = torch.where(disc[:, None], colour, drawn)
    for limb, colour in zip(limbs.unbind(1), colours[: len(BONES)], strict=True):
        drawn = torch.where(limb[:, None], 0.4 * drawn + 0.6 * colour, drawn)
    levels = (distances(limbs) / 3).clamp(max=255).floor() / 255
    return torch.cat([drawn, levels], dim=1).contiguous(memory_format=torch.channels_last)


def limb_masks(points: Tensor, visible: Tensor, rows: Tensor, columns: Tensor, half_width: float) -> Tensor:
    """Filled ellipses between the ends of the limbs: bool [B, 17, H, W], nothing where an end is missing.

    points: [B, 18, 2]; visible: [B, 18]; rows: [H, 1] and columns: [W] count pixels. Axes are `half_width` and half the
    limb's length, centre, length and angle whole numbers (of pixels and degrees).
    """
    first, second = (list(ends) for ends in zip(*BONES, strict=True))
    a, b = points[:, first], points[:, second]  # [B, 17, 2]
    centre, half_length = ((a + b) / 2).trunc(), ((a - b).norm(dim=-1) / 2).trunc()
    degrees = torch.atan2(*(b - a).flip(-1).unbind(-1)).rad2deg().trunc()
    x, y = centre[..., None, None].unbind(2)
    cosine, sine = (function(degrees.deg2rad())[..., None, None] for function in (torch.cos, torch.sin))
    along = (columns - x) * cosine + (rows - y) * sine  # [B, 17, H, W]
    across = (rows - y) * cosine - (columns - x) * sine
    inside = (along / half_length[..., None, None].clamp(min=0.5)).square() + (across / half_width).square() <= 1
    return inside & (visible[:, first] & visible[:, second])[..., None, None]


def distances(masks: Tensor) -> Tensor:
    """Pixels from each place to the nearest true one, rows plus columns: float [..., H, W]; FAR where all are false."""
    found = torch.where(masks, 0.0, FAR)
    for dimension in (-1, -2):
        size = found.shape[dimension]
        ramp = torch.arange(size, device=masks.device, dtype=found.dtype)
        ramp = ramp if dimension == -1 else ramp[:, None]
        before = (found - ramp).cummin(dimension).values + ramp
        after = (found + ramp).flip(dimension).cummin(dimension).values.flip(dimension) - ramp
        found = torch.minimum(before, after)
    return found
