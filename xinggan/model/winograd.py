"""3x3 convolutions of many channels in float32 on a CPU by minimal filtering, F(4x2, 3x3).

A tile of 4x2 results takes 24 products for each pair of channels where the direct way takes 72 (Lavin and Gray, CVPR
2016). Tiles, kernels and results are transformed by the small matrices of Toom and Cook, at points that round little
(Barabasz et al., ACM TOMS 46, 2020), so that all of it is matrix products, which MKL on an Intel processor computes in
half the time of oneDNN's convolution. The rounding error is that of the direct way; with tiles of 4x4 it is twice that.
"""

from functools import lru_cache
from itertools import product
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

TILE = (4, 2)  # rows and columns of results that are computed together
POINTS = {2: (0.0, 1.0, -1.0), 4: (0.0, 1.0, -1.0, 0.5, -2.0)}  # of evaluation for so many results, beside infinity
WINDOW = (TILE[0] + 2, TILE[1] + 2)  # rows and columns of features that a tile needs
LEAST_CHANNELS = 128  # given and returned, and
LEAST_TILES = 64  # of an image, from which this is the faster way
AT_ONCE = 3 * 2**21  # elements that are worked on: what is larger, a C library gives back to the system after each use


def _intel() -> bool:
    """Whether the processor is one that MKL's matrix products are made for; on others they may be many times slower."""
    try:
        return torch.backends.mkl.is_available() and "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


MKL_IS_FAST = _intel()


def convolve(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """features [B, C, h + 2, w + 2], weight [K, C, 3, 3] -> [B, K, h, w], without padding; the faster of two ways."""
    return (convolution if _suits(features, weight, bias) else F.conv2d)(features, weight, bias)


def _suits(features: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether `convolution` is known to be faster: no gradient is wanted, and MKL is fast on the processor.

    It does not depend on the number of images, so that an image does not depend on its batch.
    """
    if features.device.type != "cpu" or features.dtype != torch.float32 or weight.shape[2:] != (3, 3):
        return False
    learnt = any(tensor is not None and tensor.requires_grad for tensor in (features, weight, bias))
    if learnt and torch.is_grad_enabled():
        return False
    if min(weight.shape[:2]) < LEAST_CHANNELS or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return False
    return prod(_tiles(features)) >= LEAST_TILES and MKL_IS_FAST


def _tiles(features: Tensor) -> tuple[int, int]:
    """Rows and columns of tiles, the last ones perhaps in part."""
    height, width = features.shape[-2:]
    return -(-(height - 2) // TILE[0]), -(-(width - 2) // TILE[1])


@lru_cache
def _transforms() -> tuple[Tensor, Tensor, Tensor]:
    """Matrices for both dimensions at once: windows [24] -> [24], kernels [9] -> [24], their products [24] -> [8]."""
    along = [_transforms_along(results) for results in TILE]
    window, kernel, result = (torch.from_numpy(np.kron(*pair)).float() for pair in zip(*along, strict=True))
    return window, kernel, result


def _transforms_along(results: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same along one dimension: windows [n + 2] -> [n + 2], kernels [3] -> [n + 2], products [n + 2] -> [n]."""
    points = POINTS[results]
    others = [[q for q in points if q != p] for p in points]
    window = np.array([[*np.poly(rest)[::-1], 0] for rest in others] + [np.poly(points)[::-1]])
    scale = np.array([[prod(p - q for q in rest)] for p, rest in zip(points, others, strict=True)])
    kernel = np.vstack([np.vander(points, 3, increasing=True) / scale, np.eye(3)[-1]])
    return window, kernel, np.vstack([np.vander(points, results, increasing=True), np.eye(results)[-1]]).T


def _equal_parts(count: int, most: int) -> int:
    """How many to take at a time, at most so many, so that all parts are about as large."""
    return -(-count // -(-count // most))


@torch.library.custom_op("xinggan::convolution", mutates_args=())
def convolution(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """features [B, C, h + 2, w + 2], weight [K, C, 3, 3], all in float32 -> [B, K, h, w] in channels last.

    An operation of its own, so that what counts operations sees a convolution. It has no gradient.
    """
    of_window, of_kernel, of_result = _transforms()
    size = len(of_window)
    count, channels, height, width = features.shape
    outputs = len(weight)
    rows, columns = _tiles(features)
    below, right = TILE[0] * rows + 2 - height, TILE[1] * columns + 2 - width
    if below or right:
        features = F.pad(features, (0, right, 0, below))
    features = features.contiguous(memory_format=torch.channels_last)

    parts = weight.chunk(-(-size * channels * outputs // AT_ONCE))  # [k, C, 3, 3] each
    kernels = [of_kernel @ part.permute(2, 3, 0, 1).reshape(9, -1) for part in parts]  # [24, k * C]
    kernels = [kernel.view(size, -1, channels).mT for kernel in kernels]  # [24, C, k]
    result = features.new_empty(count, rows, TILE[0], columns, TILE[1], outputs)
    row_of_tiles = size * columns * channels
    images = _equal_parts(count, max(1, AT_ONCE // (rows * row_of_tiles)))
    band = _equal_parts(rows, max(1, AT_ONCE // row_of_tiles))
    one, channel, row, column = features.stride()
    strides = (row, column, one, TILE[0] * row, TILE[1] * column, channel)
    overlapping = features.as_strided((*WINDOW, count, rows, columns, channels), strides)
    for first, top in product(range(0, count, images), range(0, rows, band)):
        some, tall = slice(first, first + images), slice(top, top + band)
        windows = overlapping[:, :, some, tall]  # [6, 4, b, r, columns, C]
        shape = windows.shape[2:5]
        windows = (of_window @ windows.reshape(size, -1)).view(size, -1, channels)  # [24, b * r * columns, C]
        for kernel, part in zip(kernels, result[some, tall].split([len(part) for part in parts], dim=-1), strict=True):
            found = of_result @ torch.bmm(windows, kernel).flatten(1)  # [8, b * r * columns * k]
            part.copy_(found.view(*TILE, *shape, -1).permute(2, 3, 0, 4, 1, 5))
    result = result.view(count, TILE[0] * rows, TILE[1] * columns, outputs)
    if bias is not None:
        result += bias
    return result[:, : height - 2, : width - 2].contiguous().permute(0, 3, 1, 2)


@convolution.register_fake
def _(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    height, width = features.shape[-2:]
    return features.new_empty(len(features), height - 2, width - 2, len(weight)).permute(0, 3, 1, 2)


@register_flop_formula(torch.ops.xinggan.convolution)
def _operations(features, weight, bias, *, out_shape, **_) -> int:
    """Those of the convolution that it stands for, as for any other implementation of one."""
    return 2 * prod(out_shape) * prod(weight[1:])
