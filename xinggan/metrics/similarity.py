"""Pixel-wise similarity of generated and target images, for whole batches: SSIM, Mask-SSIM, PSNR and L1.

SSIM follows Wang et al. (2004) in the form of scikit-image's `structural_similarity` and equals it to rounding error.
Windows are separable, so each of the four filtered planes costs two passes: of weighted shifts for a Gaussian window,
of running sums, exact for bytes, for a uniform one. A few pairs at a time go through planes that stay in a core's
cache, each thread with planes of its own.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from xinggan.metrics.protocol import CLEAN, OF_THE_GENERATED, RangeSettings, SsimSettings

PIXELS_IN_CACHE = 2 * 128 * 64  # of pairs whose planes fit a core's cache in double precision
PAIRS_ON_DEVICE = 256


def ssim(generated: Tensor, target: Tensor, settings: SsimSettings = CLEAN.ssim) -> Tensor:
    """Structural similarity of each pair. generated, target: uint8 [B, 3, H, W]. Returns float64 [B].

    NaN where the data range is that of the generated image and the image has a single value.
    """
    return _in_blocks(lambda similarity: mean_without_border(similarity, settings), generated, target, settings)


def mask_ssim(generated: Tensor, target: Tensor, mask: Tensor, settings: SsimSettings = CLEAN.ssim) -> Tensor:
    """SSIM map averaged inside `mask` (bool [B, 1, H, W]). Returns float64 [B], NaN where a mask has no pixel."""
    return mean_inside(ssim_map(generated, target, settings), mask)


def masked_images_ssim(generated: Tensor, target: Tensor, mask: Tensor, settings: SsimSettings = CLEAN.ssim) -> Tensor:
    """SSIM of both images set to 0 outside `mask` (bool [B, 1, H, W]), over the whole frame. Returns float64 [B]."""
    return ssim(generated * mask, target * mask, settings)


def ssim_map(generated: Tensor, target: Tensor, settings: SsimSettings = CLEAN.ssim) -> Tensor:
    """The SSIM of every pixel, averaged over the channels. uint8 [B, 3, H, W] twice -> float64 [B, H, W], or wider by
    the white columns of the settings."""
    return _in_blocks(torch.clone, generated, target, settings)


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
    difference = (generated.to(torch.int16) - target).abs_()
    of_unit_range = difference.sum((1, 2, 3), dtype=torch.int64).double() / (255 * difference[0].numel())
    return of_unit_range * (settings.high - settings.low)


def psnr(generated: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each pair. uint8 [B, 3, H, W] twice -> float64 [B]; infinite if equal."""
    difference = generated.to(torch.int32) - target
    mean_square = difference.square_().sum((1, 2, 3), dtype=torch.int64).double() / difference[0].numel()
    return 10 * torch.log10(255**2 / mean_square)


def _in_blocks(reduce: Callable[[Tensor], Tensor], generated: Tensor, target: Tensor, settings: SsimSettings) -> Tensor:
    """`reduce` of the SSIM maps of a few pairs at a time. On a CPU each thread has pairs of its own: threads that share
    small operations wait for one another, on a busy machine very long."""
    if settings.white_columns:
        sides = (settings.white_columns, settings.white_columns)
        generated, target = (F.pad(images, sides, value=255) for images in (generated, target))
    _check(generated, target, settings)
    height, width = generated.shape[-2:]
    on_cpu = generated.device.type == "cpu"
    at_once = max(1, PIXELS_IN_CACHE // (height * width)) if on_cpu else PAIRS_ON_DEVICE

    def of_share(generated: Tensor, target: Tensor) -> Tensor:
        planes = _Planes(min(at_once, len(generated)), height, width, settings, generated.device)
        blocks = zip(generated.split(at_once), target.split(at_once), strict=True)
        return torch.cat([reduce(planes.ssim_map(a, b)) for a, b in blocks])

    threads = torch.get_num_threads()
    if not on_cpu or threads == 1 or len(generated) <= at_once:
        return of_share(generated, target)
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            return torch.cat(list(pool.map(of_share, generated.chunk(threads), target.chunk(threads))))
    finally:
        torch.set_num_threads(threads)


def _check(generated: Tensor, target: Tensor, settings: SsimSettings) -> None:
    if generated.shape != target.shape or generated.dtype != torch.uint8 or target.dtype != torch.uint8:
        raise ValueError(
            f"SSIM compares two uint8 batches of one shape [B, 3, H, W]; got {generated.dtype} "
            f"{tuple(generated.shape)} and {target.dtype} {tuple(target.shape)}"
        )
    window_px, (height, width) = settings.window_px, generated.shape[-2:]
    if min(height, width) < window_px:
        raise ValueError(
            f"SSIM's window of {window_px}x{window_px} pixels is larger than the images ({height}x{width})"
        )


class _Planes:
    """Double-precision planes that up to `pairs` pairs go through on their way to an SSIM map, used again and again."""

    def __init__(self, pairs: int, height: int, width: int, settings: SsimSettings, device: torch.device):
        self.settings, self.radius = settings, settings.radius_px
        self.weights: list[float] = []  # none for a uniform window
        if settings.sigma_px is not None:
            weights = [math.exp(-0.5 * (x / settings.sigma_px) ** 2) for x in range(-self.radius, self.radius + 1)]
            self.weights = [weight / sum(weights) for weight in weights]
        pixels = settings.window_px**2
        self.covariance_scale = pixels / (pixels - 1) if settings.covariance == "sample" else 1.0
        border = 2 * self.radius
        options: dict[str, Any] = {"dtype": torch.float64, "device": device}
        self.tall = torch.empty(4, pairs, 3, height + border, width, **options)
        self.wide = torch.empty(4, pairs, 3, height, width + border, **options)
        self.blurred = torch.empty(4, pairs, 3, height, width, **options)

    def ssim_map(self, a: Tensor, b: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] twice -> [B, H, W]. All five moments of SSIM follow from those of a + b and a - b."""
        tall, wide, blurred = (planes[:, : len(a)] for planes in (self.tall, self.wide, self.blurred))
        moments = tall.narrow(3, self.radius, a.shape[2])  # (4, B, 3, H, W): p = a + b, m = a - b, p^2, m^2
        moments[0].copy_(a).add_(b)
        moments[1].copy_(a).sub_(b)
        torch.square(moments[:2], out=moments[2:])
        self._blur(tall, 3, wide.narrow(4, self.radius, a.shape[3]))
        self._blur(wide, 4, blurred)
        return self._combine(self._data_range(a), *blurred).mean(1)

    def _data_range(self, generated: Tensor) -> float | Tensor:
        """In bytes: the settings' number, or each image's own, [B, 1, 1, 1]; NaN for an image of a single value."""
        if self.settings.data_range != OF_THE_GENERATED:
            return float(self.settings.data_range) * (1 if self.settings.high is None else 255 / self.settings.high)
        values = generated.flatten(1)
        spread = (values.amax(1).double() - values.amin(1).double())[:, None, None, None]
        return spread.where(spread > 0, math.nan)

    def _blur(self, planes: Tensor, axis: int, blurred: Tensor) -> None:
        """Weighted mean along one axis, after mirroring the image into the border, its outermost pixel included.

        Of a uniform window: the sum, divided by the window's pixels after the second axis.
        """
        radius, length = self.radius, blurred.shape[axis]
        planes.narrow(axis, 0, radius).copy_(planes.narrow(axis, radius, radius).flip(axis))
        planes.narrow(axis, radius + length, radius).copy_(planes.narrow(axis, length, radius).flip(axis))
        if not self.weights:
            side, sums = self.settings.window_px, planes.cumsum(axis)  # whole numbers far below 2^53: exact
            blurred.copy_(sums.narrow(axis, side - 1, length))
            blurred.narrow(axis, 1, length - 1).sub_(sums.narrow(axis, 0, length - 1))
            if axis == 4:
                blurred.div_(side**2)
            return
        torch.mul(planes.narrow(axis, 0, length), self.weights[0], out=blurred)
        for offset in range(1, 2 * radius + 1):
            blurred.add_(planes.narrow(axis, offset, length), alpha=self.weights[offset])

    def _combine(self, data_range: float | Tensor, p: Tensor, m: Tensor, pp: Tensor, mm: Tensor) -> Tensor:
        """Means of p, m, p^2 and m^2 -> SSIM of every pixel and channel; the means are overwritten."""
        c1, c2 = ((k * data_range) ** 2 for k in (self.settings.k1, self.settings.k2))
        variance_p, variance_m = pp.sub_(p.square_()), mm.sub_(m.square_())  # p and m are squared means from here on
        if self.covariance_scale != 1:
            variance_p, variance_m = variance_p.mul_(self.covariance_scale), variance_m.mul_(self.covariance_scale)
        contrast = (variance_p - variance_m + 2 * c2).div_(variance_p.add_(variance_m).add_(2 * c2))
        luminance = (p - m + 2 * c1).div_(p.add_(m).add_(2 * c1))
        return contrast.mul_(luminance)
