"""Random movements of training images together with their poses, as published code augments its data.

What is drawn is drawn for the global batch, of which a process keeps its rows.
"""

from math import pi

import torch
from torch import Tensor
from torch.nn import functional as F

from xinggan.distributed import Processes


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
    scale = 1 + (most - 1) * uniform(images, 1)[:, 0]  # [B]
    size = torch.tensor([images.shape[3], images.shape[2]], device=images.device)
    shift = (uniform(images, 2) - 0.5) * (scale - 1)[:, None] * size
    return moved(images, poses, torch.zeros_like(scale), shift, scale)


def uniform(images: Tensor, numbers: int) -> Tensor:
    """Random numbers in [0, 1) for each image, [B, numbers], of the global batch's draws."""
    processes = Processes.current
    draws = torch.rand(len(images) * processes.count, numbers, device=images.device)
    return processes.own_rows(draws)
