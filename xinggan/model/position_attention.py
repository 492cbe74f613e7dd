"""Softmax attention of N positions to S keys, softmax(q k^T) v, without holding all N x S weights at once.

The papers' blocks (XingGAN, ECCV 2020, eq. 1 to 6) with 32 channels of queries and 256 of values. On a CPU queries are
taken in blocks, whose weights stay in the cache and are computed again for the gradient; on an accelerator this is
PyTorch's fused attention, whose memory-efficient kernel takes queries and values of different widths.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from xinggan.model.winograd import MKL_IS_FAST

BLOCK = 2**22  # weights computed at a time
LARGE_PRODUCT = 2**25  # multiplications an image from which a convolution is faster than a matrix product


def attend(query: Tensor, key: Tensor, value: Tensor, onto: Tensor | None = None, as_published: bool = False) -> Tensor:
    """query: [B, N, c]; key: [B, S, c]; value: [B, S, C]; onto: [B, N, C]. Returns [B, N, C], added to `onto`.

    as_published: see `weighted`.
    """
    if query.device.type != "cpu":
        attended = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=1.0)[:, 0]
        return attended if onto is None else onto + attended
    (count, positions, _), keys = query.shape, key.shape[1]
    if count * positions * keys <= BLOCK:
        return _attend_at_once(query, key, value, onto, as_published)
    images, rows = max(1, BLOCK // (positions * keys)), max(1, BLOCK // keys)
    if not as_published and _as_convolution(query, value):
        value = value.mT.contiguous().mT  # as `weighted` needs them, once for all blocks
    results = []
    for first in range(0, count, images):
        some = slice(first, first + images)
        parts = query[some].split(rows, dim=1)
        sums = [None] * len(parts) if onto is None else onto[some].split(rows, dim=1)
        parts = [
            _attend_again(part, key[some], value[some], to, as_published) for part, to in zip(parts, sums, strict=True)
        ]
        results.append(torch.cat(parts, dim=1))
    return torch.cat(results) if len(results) > 1 else results[0]


def _attend_at_once(query: Tensor, key: Tensor, value: Tensor, onto: Tensor | None, as_published: bool) -> Tensor:
    correlation = query @ key.transpose(1, 2)
    if correlation.requires_grad:
        weights = torch.softmax(correlation, dim=-1)
    else:  # in place: a second matrix of this size would come from the system, page by page, at each call
        weights = torch.softmax(correlation, dim=-1, out=correlation)
    return weighted(weights, value, onto, as_published)


def _attend_again(query: Tensor, key: Tensor, value: Tensor, onto: Tensor | None, as_published: bool) -> Tensor:
    """As `_attend_at_once`, but for a gradient the weights are computed a second time rather than kept."""
    if not torch.is_grad_enabled():
        return _attend_at_once(query, key, value, onto, as_published)
    given = (query, key, value, onto, as_published)
    return checkpoint(_attend_at_once, *given, use_reentrant=False, preserve_rng_state=False)


def _as_convolution(weights: Tensor, values: Tensor) -> bool:
    """Whether a large product of these is faster as a convolution."""
    learns = torch.is_grad_enabled() and (weights.requires_grad or values.requires_grad)
    return weights.device.type == "cpu" and weights.dtype == torch.float32 and not learns and not MKL_IS_FAST


def weighted(weights: Tensor, values: Tensor, onto: Tensor | None = None, as_published: bool = False) -> Tensor:
    """weights [B, N, S] @ values [B, S, C] -> [B, N, C], added to `onto`.

    Where MKL is slow, a large product in float32 is a 1x1 convolution an image, of N pixels from S to C channels:
    oneDNN computes that up to twice as fast, but its gradient takes five times as long. `as_published` keeps the matrix
    product and so the order of its sums.
    """
    count, keys, channels = values.shape
    if as_published or weights[0].numel() * channels < LARGE_PRODUCT or not _as_convolution(weights, values):
        return weights @ values if onto is None else torch.baddbmm(onto, weights, values)
    # Strides of no other layout than channels last: a batch of one would else be copied to another.
    strides = (channels * keys, keys, 1, keys, keys)
    kernels = values.to(weights.dtype).mT.contiguous().as_strided((count, channels, keys, 1, 1), strides)
    pixels = weights.transpose(1, 2)[..., None]  # [B, S, N, 1]
    products = [
        F.conv2d(one, kernel) for one, kernel in zip(pixels.split(1), kernels, strict=True)
    ]  # [1, C, N, 1] each
    attended = torch.cat(products)[..., 0].transpose(1, 2)
    return attended if onto is None else onto + attended
