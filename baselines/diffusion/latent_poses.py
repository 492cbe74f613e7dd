"""Poses on the grid of latents: joint maps, and which body part lies where.

A latent position covers `factor` x `factor` pixels. Parts are the ten rectangles of `baselines.gan.body_parts`, which
stand for DensePose's parts: the suite's data sets have joints, but no DensePose.
"""

import torch
from torch import Tensor

from baselines.gan.body_parts import PARTS, Rectangles, rectangles
from xinggan.data.poses import heatmaps
from xinggan.data.settings import PoseMap

BACKGROUND = PARTS  # its label; parts have 0 to 9
LABELS = PARTS + 1


def latent_joint_maps(poses: Tensor, factor: int, grid: tuple[int, int], kind: PoseMap, sigma: float) -> Tensor:
    """poses: [B, 18, 3] and sigma in pixels of the image; grid: h and w of the latents. Returns [B, 18, h, w]."""
    places = (poses[..., :2].float() + 0.5) / factor - 0.5
    return heatmaps(torch.cat([places, poses[..., 2:].float()], dim=-1), *grid, sigma / factor, kind.value)


def part_labels(poses: Tensor, factor: int, grid: tuple[int, int]) -> Tensor:
    """poses: [B, 18, 3] in pixels of the image; grid: h and w of the latents. Returns int64 [B, h, w], 0 to 10.

    A position in several parts belongs to the last of head, torso, arms, legs: limbs lie over the torso.
    """
    height, width = grid
    inside = _inside(rectangles(poses, height * factor), factor, height, width)  # [B, 10, h, w]
    order = torch.arange(1, PARTS + 1, device=poses.device).view(-1, 1, 1)
    last = (inside * order).amax(dim=1)  # [B, h, w]: 0 where no part is
    return torch.where(last > 0, last - 1, BACKGROUND)


def _inside(parts: Rectangles, factor: int, height: int, width: int) -> Tensor:
    """Whether each latent position's centre is in each part that is known: bool [B, 10, height, width]."""
    device = parts.centre.device
    rows, columns = ((torch.arange(size, device=device) + 0.5) * factor - 0.5 for size in (height, width))
    places = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)  # [h, w, 2]: x, y in pixels
    away = places - parts.centre[:, :, None, None]  # [B, 10, h, w, 2]
    lengths = parts.axes.square().sum(-1)[:, :, None, None]  # [B, 10, 1, 1, 2]
    inside = (torch.einsum("bphwx,bpax->bphwa", away, parts.axes).abs() <= lengths).all(dim=-1)
    return inside & parts.known[:, :, None, None]
