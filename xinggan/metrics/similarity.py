"""Pixel-wise similarity of generated and target images, for whole batches: SSIM, Mask-SSIM, L1 and PSNR.

SSIM follows Wang et al. (2004) in the form of scikit-image's `structural_similarity` and equals it to rounding error.
A window is separable, and the means of a plane under it are a product with one banded matrix for each axis, which hold
the reflection at the border too. In double precision that is the fastest of PyTorch's ways: a convolution in double is
five times slower.
"""

import math

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, uniform_filter1d
from torch import Tensor
from torch.nn import functional as F

from xinggan.metrics.protocol import CLEAN, GENERATED_RANGE, RangeSettings, SsimSettings


def ssim(generated: Tensor, target: Tensor, settings: SsimSettings = CLEAN.ssim) -> Tensor:
    """Structural similarity of each pair. generated, target: uint8 [B, 3, H, W]. Returns float64 [B].

    NaN where the data range is that of the generated image and the image has a single value.
    """
    return mean_without_border(ssim_map(generated, target, settings), settings)


def ssim_map(generated: Tensor, target: Tensor, settings: SsimSettings = CLEAN.ssim) -> Tensor:
    """The SSIM of every pixel, averaged over the channels. uint8 [B, 3, H, W] twice -> float64 [B, H, W], or wider by
    the white columns of the settings. Raises ValueError for other types and for images smaller than the window."""
    _check(generated, target, settings)
    if settings.white_columns:
        sides = (settings.white_columns, settings.white_columns)
        generated, target = (F.pad(images, sides, value=255) for images in (generated, target))
    a, b = generated.double(), target.double()  # [B, 3, H, W]
    rows, columns = (_window_means(length, settings).to(a.device) for length in a.shape[-2:])  # [H, H], [W, W]
    planes = torch.stack([a, b, a * a, b * b, a * b])  # [5, B, 3, H, W]
    mean_a, mean_b, mean_aa, mean_bb, mean_ab = rows @ (planes @ columns.T)
    pixels = settings.window_px**2
    scale = pixels / (pixels - 1) if settings.covariance == "sample" else 1.0
    variances = (mean_aa - mean_a**2 + mean_bb - mean_b**2) * scale
    covariance = (mean_ab - mean_a * mean_b) * scale
    c1, c2 = ((k * _data_range(generated, settings)) ** 2 for k in (settings.k1, settings.k2))
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (luminance * (2 * covariance + c2) / (variances + c2)).mean(1)


def mean_without_border(similarity: Tensor, settings: SsimSettings = CLEAN.ssim) -> Tensor:
    """SSIM map [B, H, W] -> [B], leaving out the pixels whose window reaches over the image's edge."""
    radius = settings.radius_px
    return similarity[:, radius:-radius, radius:-radius].mean((1, 2))


def mean_inside(similarity: Tensor, mask: Tensor) -> Tensor:
    """SSIM map [B, H, W], bool mask [B, 1, H, W] -> [B]; NaN where the mask is empty."""
    inside = mask[:, 0]  # [B, H, W]
    return torch.where(inside, similarity, 0.0).sum((1, 2)) / inside.sum((1, 2))


def l1(generated: Tensor, target: Tensor, settings: RangeSettings = CLEAN.l1) -> Tensor:
    """Mean absolute difference of each pair on the settings' range. uint8 [B, 3, H, W] twice -> float64 [B]."""
    difference = (generated.double() - target.double()).abs().mean((1, 2, 3))
    return difference / 255 * (settings.high - settings.low)


def psnr(generated: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each pair. uint8 [B, 3, H, W] twice -> float64 [B]; infinite if equal."""
    mean_square = (generated.double() - target.double()).square().mean((1, 2, 3))
    return 10 * torch.log10(255**2 / mean_square)


def _check(generated: Tensor, target: Tensor, settings: SsimSettings) -> None:
    if generated.shape != target.shape or generated.dtype != torch.uint8 or target.dtype != torch.uint8:
        raise ValueError(
            f"SSIM compares two uint8 batches of one shape [B, 3, H, W]; got {generated.dtype} "
            f"{tuple(generated.shape)} and {target.dtype} {tuple(target.shape)}"
        )
    if misfit := settings.misfit(generated.shape[-2], generated.shape[-1]):
        raise ValueError(misfit)


def _data_range(generated: Tensor, settings: SsimSettings) -> float | Tensor:
    """The data range in bytes: a number, or each image's own, [B, 1, 1, 1]; NaN for an image of a single value."""
    if settings.data_range != GENERATED_RANGE:
        return float(settings.data_range) * (1 if settings.high is None else 255 / settings.high)
    spread = (generated.amax((1, 2, 3)).double() - generated.amin((1, 2, 3)).double())[:, None, None, None]
    return spread.where(spread > 0, math.nan)


def _window_means(length: int, settings: SsimSettings) -> Tensor:
    """float64 [length, length]: row i has the window's weights around pixel i, of an image mirrored at its border.

    These are SciPy's filters, which scikit-image uses: a filter's matrix is what it makes of the identity.
    """
    identity = np.eye(length)
    if settings.uniform_window_px is not None:
        return torch.from_numpy(uniform_filter1d(identity, settings.uniform_window_px, axis=0))
    return torch.from_numpy(gaussian_filter1d(identity, settings.sigma_px, axis=0, truncate=settings.truncate))
