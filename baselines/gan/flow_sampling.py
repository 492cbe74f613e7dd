"""Sampling by flow fields, as in GFLA (Ren et al., CVPR 2020): local attention, and the losses that teach a flow.

A flow field [B, 2, h, w] says for each place of the target how many features further right (channel 0) and down (1) its
source lies. Everything is one `grid_sample` or one matrix product for all places, without extensions in CUDA.
"""

from functools import cache
from math import exp

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-8


def sample(features: Tensor, places: Tensor) -> Tensor:
    """features: [B, C, h, w]; places: [B, rows, columns, 2], x and y counted in features.

    Returns [B, C, rows, columns], bilinear; beyond its border the map goes on as it ends.
    """
    height, width = features.shape[-2:]
    last = torch.tensor([width - 1, height - 1], device=features.device).clamp(min=1)
    return F.grid_sample(features.float(), 2 * places / last - 1, padding_mode="border", align_corners=True)


def sources(flow: Tensor) -> Tensor:
    """flow: [B, 2, h, w] -> the places [B, h, w, 2] that it points to."""
    height, width = flow.shape[-2:]
    columns, rows = (torch.arange(size, device=flow.device) for size in (width, height))
    here = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)  # [h, w, 2]
    return here + flow.float().permute(0, 2, 3, 1)


def local_patches(features: Tensor, flow: Tensor, size: int) -> Tensor:
    """The size x size patches of the features [B, C, h, w] around where the flow points: [B, C, size * size, h, w]."""
    reach = torch.arange(size, device=flow.device) - size // 2
    offsets = torch.stack(torch.meshgrid(reach, reach, indexing="xy"), dim=-1).view(1, -1, 1, 1, 2)  # row by row
    places = sources(flow)[:, None] + offsets  # [B, n * n, h, w, 2]
    return sample(features, places.flatten(1, 2)).unflatten(2, (size * size, -1))


class LocalAttention(nn.Module):
    """Content-aware sampling : a softmax kernel for each place weighs the patch that the flow points to.

    The kernel is predicted from that patch and from the target's own. The weighted patch is summed, where the paper
    averages it: 1 / size ** 2 of a softmax's sum leaves the source so faint that short trainings do not find it. The
    first layer is linear in both patches, so it is computed as a sum, which spares a copy of the target's patches.
    """

    def __init__(self, channels: int, size: int, hidden: int):
        super().__init__()
        self.size = size
        self.target = nn.Conv2d(channels, hidden, size, padding=size // 2, padding_mode="replicate")
        self.source = nn.Conv2d(channels * size**2, hidden, 1, bias=False)
        self.kernel = nn.Sequential(nn.LeakyReLU(0.1), nn.Conv2d(hidden, size**2, 1), nn.Softmax(dim=1))

    def forward(self, source: Tensor, target: Tensor, flow: Tensor) -> Tensor:
        """source, target: features [B, C, h, w]; flow: [B, 2, h, w]. Returns [B, C, h, w]."""
        patches = local_patches(source, flow, self.size)  # [B, C, n * n, h, w]
        kernel = self.kernel(self.target(target) + self.source(patches.flatten(1, 2)))  # [B, n * n, h, w]
        return (patches * kernel[:, None]).sum(dim=2)


def sampling_correctness(source: Tensor, target: Tensor, flow: Tensor) -> Tensor:
    """exp(-cosine / best cosine) at each place of the target, averaged, less its least value of 1 / e. Returns [].

    The cosine is that of the target's features [B, C, h, w] with the source's where the flow points, the best that with
    the most similar place anywhere in the source.
    """
    wanted = F.normalize(target.flatten(2), dim=1, eps=EPSILON)  # [B, C, h * w]
    best = (F.normalize(source.flatten(2), dim=1, eps=EPSILON).mT @ wanted).amax(dim=1)  # [B, h * w]
    cosine = F.cosine_similarity(sample(source, sources(flow)).flatten(2), target.flatten(2), dim=1, eps=EPSILON)
    return torch.exp(-cosine / (best + EPSILON)).mean() - exp(-1)


def affine_regularisation(flow: Tensor, size: int) -> Tensor:
    """How far the flow is from affine: squared residuals of the best affine map of each size x size patch.

    flow: [B, 2, h, w]; smaller maps have smaller patches. Returns [], summed over the patch and averaged over patches.
    """
    size = min(size, *flow.shape[-2:])
    patches = F.unfold(flow.float().flatten(0, 1)[:, None], size)  # [2 B, n * n, number of patches]
    residual = _residual_of_affine(size).to(flow.device) @ patches
    return 2 * residual.square().sum(dim=1).mean()


@cache
def _residual_of_affine(size: int) -> Tensor:
    """[n * n, n * n]: takes the values on a patch to what is left of them after the least-squares affine function."""
    rows, columns = torch.meshgrid(*2 * [torch.arange(size, dtype=torch.float64)], indexing="ij")
    design = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).flatten(0, 1)  # [n * n, 3]
    return (torch.eye(size**2, dtype=torch.float64) - design @ torch.linalg.pinv(design)).float()


def style_loss(generated: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of the Gram matrices of two feature maps [B, C, H, W], divided by C * H * W."""
    made, wanted = (features.flatten(2) @ features.flatten(2).mT for features in (generated, target))  # [B, C, C]
    return F.l1_loss(made, wanted) / target[0].numel()
