"""Pixel-wise similarity of generated and target images, for whole batches: SSIM, Mask-SSIM, PSNR and L1.

SSIM follows Wang et al. (2004) in the form of scikit-image's `structural_similarity` with a Gaussian window, and equals
it to rounding error. The window is separable, so each of the four filtered planes costs two passes of weighted shifts;
a few pairs at a time stay in the processor's cache.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from xinggan.metrics.protocol import CLEAN, SsimSettings

PAIRS_IN_CACHE = 2  # pairs of 128x64 whose planes fit a core's cache in double precision
PIXELS_IN_CACHE = PAIRS_IN_CACHE * 128 * 64


def ssim(generated: Tensor, target: Tensor, settings: SsimSettings = CLEAN.ssim) -> Tensor:
    """Structural similarity of each pair. generated, target: uint8 [B, 3, H, W]. Returns float64 [B]."""
    return mean_without_border(ssim_map(generated, target, settings), settings)


def mask_ssim(generated: Tensor, target: Tensor, mask: Tensor, settings: SsimSettings = CLEAN.ssim) -> Tensor:
    """SSIM map averaged inside `mask` (bool [B, 1, H, W]). Returns float64 [B], NaN where a mask has no pixel."""
    return mean_inside(ssim_map(generated, target, settings), mask)


def ssim_map(generated: Tensor, target: Tensor, settings: SsimSettings = CLEAN.ssim) -> Tensor:
    """The SSIM of every pixel, averaged over the channels. uint8 [B, 3, H, W] twice -> float64 [B, H, W]."""
    if generated.shape != target.shape or generated.dtype != torch.uint8 or target.dtype != torch.uint8:
        raise ValueError(
            f"SSIM compares two uint8 batches of one shape [B, 3, H, W]; got {generated.dtype} "
            f"{tuple(generated.shape)} and {target.dtype} {tuple(target.shape)}"
        )
    height, width = generated.shape[-2:]
    window_px = 2 * settings.radius_px + 1
    if min(height, width) < window_px:
        raise ValueError(
            f"SSIM's window of {window_px}x{window_px} pixels is larger than the images ({height}x{width})"
        )
    on_cpu = generated.device.type == "cpu"
    at_once = max(1, PIXELS_IN_CACHE // (height * width)) if on_cpu else 256
    blocks = list(zip(generated.split(at_once), target.split(at_once), strict=True))
    threads = torch.get_num_threads()
    if not on_cpu or threads == 1 or len(blocks) == 1:
        return torch.cat([_ssim_map_of_block(a, b, settings) for a, b in blocks])
    torch.set_num_threads(1)  # a block a thread: threads that share a small operation wait for one another
    try:
        with ThreadPoolExecutor(threads) as pool:
            return torch.cat(list(pool.map(lambda block: _ssim_map_of_block(block[0], block[1], settings), blocks)))
    finally:
        torch.set_num_threads(threads)


def mean_without_border(similarity: Tensor, settings: SsimSettings = CLEAN.ssim) -> Tensor:
    """SSIM map [B, H, W] -> [B], leaving out the pixels whose window reaches over the image's edge."""
    radius = settings.radius_px
    return similarity[:, radius:-radius, radius:-radius].mean((1, 2))


def mean_inside(similarity: Tensor, mask: Tensor) -> Tensor:
    """SSIM map [B, H, W], bool mask [B, 1, H, W] -> [B]; NaN where the mask is empty."""
    inside = mask[:, 0]  # [B, H, W]
    return torch.where(inside, similarity, 0.0).sum((1, 2)) / inside.sum((1, 2))


def l1(generated: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference on [0, 1] of each pair. uint8 [B, 3, H, W] twice -> float64 [B]."""
    difference = (generated.to(torch.int16) - target).abs_()
    return difference.sum((1, 2, 3), dtype=torch.int64).double() / (255 * difference[0].numel())


def psnr(generated: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each pair. uint8 [B, 3, H, W] twice -> float64 [B]; infinite if equal."""
    difference = generated.to(torch.int32) - target
    mean_square = difference.square_().sum((1, 2, 3), dtype=torch.int64).double() / difference[0].numel()
    return 10 * torch.log10(255**2 / mean_square)


def _ssim_map_of_block(a: Tensor, b: Tensor, settings: SsimSettings) -> Tensor:
    """Map of a few pairs. With p = a + b and m = a - b, all five moments of SSIM follow from those of p and m."""
    a, b = a.double(), b.double()
    planes = torch.stack([a + b, a - b])  # (2, B, 3, H, W)
    moments = torch.cat([planes, planes.square()])  # (4, B, 3, H, W): p, m, p^2, m^2
    mean_p, mean_m, mean_pp, mean_mm = _blur(_blur(moments, 3, settings), 4, settings)
    squared_p, squared_m = mean_p.square_(), mean_m.square_()
    sum_of_squared_means = (squared_p + squared_m) / 2  # mean_a^2 + mean_b^2
    twice_product_of_means = (squared_p - squared_m) / 2  # 2 mean_a mean_b
    variance_p, variance_m = mean_pp.sub_(squared_p), mean_mm.sub_(squared_m)
    sum_of_variances = (variance_p + variance_m) / 2
    twice_covariance = (variance_p - variance_m) / 2
    c1, c2 = (settings.k1 * settings.data_range) ** 2, (settings.k2 * settings.data_range) ** 2
    similarity = (twice_product_of_means + c1) * (twice_covariance + c2)
    return similarity.div_((sum_of_squared_means + c1) * (sum_of_variances + c2)).mean(1)  # (B, H, W)


def _blur(planes: Tensor, axis: int, settings: SsimSettings) -> Tensor:
    """Gaussian mean along one axis; the border repeats the image mirrored, its outermost pixel included."""
    radius, length = settings.radius_px, planes.shape[axis]
    first, last = planes.narrow(axis, 0, radius).flip(axis), planes.narrow(axis, length - radius, radius).flip(axis)
    padded = torch.cat([first, planes, last], axis)
    weights = [math.exp(-0.5 * (offset / settings.sigma_px) ** 2) for offset in range(-radius, radius + 1)]
    total = sum(weights)
    blurred = padded.narrow(axis, 0, length) * (weights[0] / total)
    for offset in range(1, 2 * radius + 1):
        blurred.add_(padded.narrow(axis, offset, length), alpha=weights[offset] / total)
    return blurred
