"""Images and the poses in them at another size, mirrored, or moved at random as published code augments its data.

What is drawn is drawn for the global batch, of which a process keeps its rows.
"""

from collections.abc import Sequence
from math import pi

import torch
from torch import Tensor
from torch.nn import functional as F

from xinggan.distributed import Processes


def resized(images: Tensor, size: Sequence[int]) -> Tensor:
    """images [B, C, H, W] -> [B, C, *size] by antialiased bicubic interpolation; those of that size as they are."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images, tuple(size), mode="bicubic", antialias=True)


def scaled_poses(poses: Tensor, images: Tensor, size: Sequence[int]) -> Tensor:
    """The poses [B, 18, 3] in images [B, C, H, W] once these are `resized`; a pixel's centre stays its centre."""
    height, width = size
    scale = torch.tensor([width / images.shape[-1], height / images.shape[-2]], device=poses.device)
    return torch.cat([(poses[..., :2].float() + 0.5) * scale - 0.5, poses[..., 2:].float()], dim=-1)


def mirrored(images: Tensor, rows: Tensor) -> Tensor:
    """images [B, C, H, W], of which the rows that are true, bool [B], are flipped from left to right."""
    return torch.where(rows.view(-1, 1, 1, 1), images.flip(-1), images)


def mirrored_poses(poses: Tensor, rows: Tensor, width: int) -> Tensor:
    """The poses [B, 18, 3] of `mirrored` images of this width; as published, left and right joints keep their names."""
    x = torch.where(rows[:, None], width - 1 - poses[..., 0], poses[..., 0])
    return torch.cat([x[..., None], poses[..., 1:]], dim=-1)


def moved(
    images: Tensor, poses: Tensor, degrees: Tensor, shift: Tensor, scale: Tensor, fill: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Scale images about their centre, turn them clockwise and shift them, and their poses alike.

    images: float [B, 3, H, W]; poses: [B, 18, 3]; degrees: [B]; shift: [B, 2], pixels right and down; scale: [B]. What
    comes from outside an image has the value `fill`. Returns images (bilinear) and poses; joints may leave the image.
    """
    height, width = images.shape[-2:]
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=images.device)
    cosine, sine = torch.cos(degrees * pi / 180), torch.sin(degrees * pi / 180)
    turn = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)  # [B, 2, 2]
    matrix = scale[:, None, None] * turn

    rows, columns = (torch.arange(size, device=images.device, dtype=torch.float32) for size in (height, width))
    places = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)  # [H, W, 2]: x, y
    away = places - (centre + shift)[:, None, None]  # [B, H, W, 2]
    origin = torch.einsum("bij,bhwj->bhwi", torch.linalg.inv(matrix), away) + centre
    grid = (2 * origin + 1) / torch.tensor([width, height], device=images.device) - 1
    outside = F.grid_sample(images - fill, grid, align_corners=False) + fill
    points = torch.einsum("bij,bnj->bni", matrix, poses[..., :2] - centre) + (centre + shift)[:, None]
    return outside.contiguous(memory_format=torch.channels_last), torch.cat([points, poses[..., 2:]], dim=-1)


def scaled_and_cropped(images: Tensor, poses: Tensor, most: float) -> tuple[Tensor, Tensor]:
    """Each image enlarged by 1 to `most`, and its own size cut out at random; arguments and result as of `moved`."""
    scale = 1 + (most - 1) * uniform(images)  # [B]
    size = torch.tensor([images.shape[3], images.shape[2]], device=images.device)
    shift = (uniform(images, 2) - 0.5) * (scale - 1)[:, None] * size
    return moved(images, poses, torch.zeros_like(scale), shift, scale)


def uniform(batch: Tensor, *shape: int) -> Tensor:
    """Random numbers in [0, 1) for each item of a training batch [B, ...]: [B, *shape]."""
    processes = Processes.current
    return processes.own_rows(torch.rand(len(batch) * processes.count, *shape, device=batch.device))
