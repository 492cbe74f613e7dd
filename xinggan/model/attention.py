"""Cross-attention between appearance and shape code, over one scale or a pyramid of scales, plain or enhanced.

XingGAN (ECCV 2020, section 3.2) attends to every position of the guiding code; XingGAN++ (TPAMI 2025) pools keys and
values over a pyramid of grids (multi-scale attention) and refines the correlation matrix by an inner attention
(enhanced attention, after AiATrack, ECCV 2022, section 3.1).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import log2
from typing import ParamSpec, TypeVar, cast

import torch
from torch import Tensor, nn

from xinggan.model.position_attention import attend

DESCRIPTOR_GRID = 8  # a correlation vector is averaged to 8 x 8 before it is described, so EA fits any resolution
DESCRIPTOR_CHANNELS = 64  # chosen here
ADDED = 8  # channels for the keys' offsets, of which two count: kernels of accelerators take multiples of eight
MULTIPLE = 32  # of a pyramid's keys: processors take so many at a time, and each one beyond by itself
UNSEEN = -1e9  # correlation at which nothing looks

P = ParamSpec("P")
T = TypeVar("T")
Codes = Sequence[Tensor]


def _kept(function: Callable[P, T]) -> Callable[P, T]:
    """Keeps what it returned last; those tensors may be trained with, also when inference made them first."""
    return cast(Callable[P, T], lru_cache(maxsize=64)(torch.inference_mode(False)(function)))


def pyramid_grids(height: int, width: int, pyramid: tuple[int, ...]) -> list[tuple[int, int]]:
    """Rows and columns of each level: `bins` along the shorter side, proportionally more along the longer one."""
    short = min(height, width)
    return [(round(bins * height / short), round(bins * width / short)) for bins in pyramid]


@_kept
def _pooling(height: int, width: int, grids: tuple, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The pyramid as one matrix of adaptive averages, of `dtype`, and each key's bin [S, 4], in float32.

    The matrix is [S', N], where S' is the next multiple of 32 and the rows beyond S are zero. A bin is its centre y, x
    in [0, 1] and the log2 of its level's rows and columns. `grids`: (rows, columns) a level.
    """
    matrix, bins = [], []
    for rows, columns in grids:
        # PyTorch's adaptive pooling: bin i of n covers floor(i * size / n) up to ceil((i + 1) * size / n).
        tops, bottoms = _edges(height, rows)
        lefts, rights = _edges(width, columns)
        y, x = torch.arange(height), torch.arange(width)
        vertical = ((y >= tops[:, None]) & (y < bottoms[:, None])).float()  # [rows, height]
        horizontal = ((x >= lefts[:, None]) & (x < rights[:, None])).float()  # [columns, width]
        vertical, horizontal = vertical / vertical.sum(1, True), horizontal / horizontal.sum(1, True)
        matrix.append(torch.einsum("ry,cx->rcyx", vertical, horizontal).flatten(2).flatten(0, 1))
        centres = torch.cartesian_prod((tops + bottoms) / (2 * height), (lefts + rights) / (2 * width))
        bins.append(torch.cat([centres, torch.tensor([log2(rows), log2(columns)]).expand(len(centres), 2)], dim=1))
    averages = torch.cat(matrix)
    averages = nn.functional.pad(averages, (0, 0, 0, -len(averages) % MULTIPLE))
    return averages.to(device, dtype), torch.cat(bins).to(device)  # [S', N], [S, 4]


def _edges(size: int, bins: int) -> tuple[Tensor, Tensor]:
    index = torch.arange(bins)
    return index * size // bins, -(-(index + 1) * size // bins)


def tokens(code: Tensor) -> Tensor:
    """Code [B, C, h, w] -> one row a position, [B, N, C]; a view where the memory is channels-last."""
    return code.flatten(2).transpose(1, 2)


class PyramidPooling(nn.Module):
    """Turns the N positions of a code into S keys: averages over a pyramid of grids, or the positions themselves.

    An empty `pyramid` means single scale, S = N. A pyramid's keys are filled up with zeros to a multiple of 32, and
    attention does not look at those: there are as many of the others as `bins`.
    """

    def __init__(self, pyramid: tuple[int, ...] = ()):
        super().__init__()
        self.pyramid = tuple(pyramid)

    def forward(self, code: Tensor) -> Tensor:
        """code: [B, C, h, w] -> [B, C, 1, S'], by one matrix product for the whole pyramid; or the code as it is."""
        if not self.pyramid:
            return code
        keys = self._constants(code)[0] @ tokens(code)  # [B, S', C]
        return keys.transpose(1, 2)[:, :, None]  # as a column, [B, C, S', 1], convolutions take five times as long

    def bins(self, code: Tensor) -> Tensor:
        """Where each of the S keys lies and how fine its level is: [S, 4]."""
        return self._constants(code)[1]

    def _constants(self, code: Tensor) -> tuple[Tensor, Tensor]:
        height, width = code.shape[-2:]
        grids = pyramid_grids(height, width, self.pyramid) if self.pyramid else [(height, width)]
        return _pooling(height, width, tuple(grids), code.device, code.dtype)


@_kept
def _added(keys: int, seen: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The channels [S', 8] that are added to keys: zeros, but UNSEEN in the last one of those behind the first `seen`.

    The queries' added channels are 1.
    """
    added = torch.zeros(keys, ADDED)
    added[seen:, -1] = UNSEEN
    return added.to(device, dtype)


class EnhancedAttention(nn.Module):
    """Refines the correlation M = K Q^T by letting the keys' correlation vectors attend to one another (EA).

    M' = M + gamma_EA * softmax(A B^T / sqrt(d)) LayerNorm(M), where A and B project descriptors of M's rows, one a key:
    LayerNorm(W pool_8x8(row)) + an embedding of the key's position and scale. gamma_EA starts at 0.

    M has the rank c of queries and keys, so that none of this needs M: a row's pooled values are k (pool Q)^T, its mean
    is k mean(q) and its variance k cov(q) k^T. M' is a product of the same queries, with one more channel for the
    means, and other keys. This takes S x S and S x c numbers; `attend` forms M' in blocks.
    """

    def __init__(self, channels: int = DESCRIPTOR_CHANNELS):
        super().__init__()
        self.describe = nn.Linear(DESCRIPTOR_GRID**2, channels)
        self.norm = nn.LayerNorm(channels)
        self.position = nn.Linear(16, channels)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, queries: Tensor, keys: Tensor, height: int, width: int, bins: Tensor) -> Tensor:
        """queries Q: [B, N, c], N = height * width; keys K: [B, S', c]; bins: [S, 4] of `PyramidPooling.bins`.

        Returns keys [B, S', c + 8] whose products with the queries and eight channels of 1 behind them are M'
        transposed, and UNSEEN for those behind the first S.
        """
        maps = queries.transpose(1, 2).unflatten(2, (height, width))  # [B, c, h, w]
        pooled = nn.functional.adaptive_avg_pool2d(maps, DESCRIPTOR_GRID).flatten(2)  # [B, c, 64]
        # W pool(K Q^T) = K (W pool Q^T), which is less to multiply.
        described = torch.baddbmm(self.describe.bias, keys, nn.functional.linear(pooled, self.describe.weight))
        descriptors = self.norm(described) + self.position(_sinusoids(bins, keys.shape[1]))  # [B, S', d]
        a, b = self.query(descriptors), self.key(descriptors)
        added = _added(keys.shape[1], len(bins), keys.device, torch.float32)  # [S', 8]

        with torch.autocast(queries.device.type, enabled=False):
            spread, rows = queries.float(), keys.float()
            mean = spread.mean(dim=1, keepdim=True)  # [B, 1, c]
            spread = spread - mean
            covariance = spread.transpose(1, 2) @ spread / (height * width)  # [B, c, c]
            variance = (rows @ covariance * rows).sum(dim=-1, keepdim=True).clamp_min(0)  # [B, S', 1]
            normed = (rows * (variance + self.norm.eps).rsqrt()).to(a.dtype)
            # PyTorch's kernel for CPUs takes values as wide as queries.
            normed = nn.functional.pad(normed, (0, a.shape[2] - rows.shape[2]))
            unseen = added[:, -1].to(a.dtype).expand(len(added), -1) if len(bins) < len(added) else None  # [S', S']
            agreed = nn.functional.scaled_dot_product_attention(a[:, None], b[:, None], normed[:, None], unseen)
            change = self.gamma * agreed[:, 0, :, : rows.shape[2]]  # [B, S', c]
            means = nn.functional.pad(mean.transpose(1, 2), (0, ADDED - 1))  # [B, c, 8]
            offsets = torch.baddbmm(added, change, means, alpha=-1)  # [B, S', 8]
            return torch.cat([rows + change, offsets], dim=2).to(keys.dtype)


@_kept
def _sinusoids(bins: Tensor, keys: int) -> Tensor:
    """bins [S, 4], the ones of `_pooling` -> [keys, 16]: sine and cosine of each coordinate at two frequencies.

    Behind the first S they tell nothing.
    """
    bins = nn.functional.pad(bins, (0, 0, 0, keys - len(bins)))
    angles = (bins[:, :, None] * torch.tensor([torch.pi, 4 * torch.pi], device=bins.device)).flatten(1)  # [S, 8]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class CrossAttention(nn.Module):
    """One code attends to another: SA when the appearance code is updated and the shape code guides, AS the other way.

    A = softmax(q(updated)^T k(guide)), updated' = updated + gamma * v(updated) A^T; no 1/sqrt(d), gamma starts at 0.
    A key at (level, bin) of the guiding code belongs to the value at the same (level, bin) of the updated code.
    `as_published`: all sums in the published order, for weights that make the softmax so sharp that another order gives
    another image.
    """

    def __init__(self, channels: int, enhanced: bool):
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 8, 1)
        self.key = nn.Conv2d(channels, channels // 8, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.enhance = EnhancedAttention() if enhanced else None
        self.as_published = False

    def forward(self, updated: Codes, updated_keys: Codes, guide_keys: Codes, bins: Tensor) -> Codes:
        """One code, or two with the same weights: SA's and AS's where they are tied.

        updated: [B, C, h, w] each; updated_keys, guide_keys: the codes pooled alike; bins: [S, 4] of
        `PyramidPooling.bins`. Returns the updated codes.
        """
        results, gamma = [], self.gamma.to(updated[0].dtype)
        pairs = self.correlated(updated, guide_keys, bins)
        for code, own_keys, (queries, keys) in zip(updated, updated_keys, pairs, strict=True):
            # Pooling and the 1x1 projection commute, so values are projected at S positions rather than N.
            values = tokens(self.value(own_keys))  # [B, S, C]
            if self.as_published:
                new = tokens(code) + gamma * attend(queries, keys, values, as_published=True)
            else:
                new = attend(queries, keys, gamma * values, onto=tokens(code))
            results.append(new.transpose(1, 2).unflatten(2, code.shape[-2:]))
        return results

    def correlated(self, updated: Codes, guide_keys: Codes, bins: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Queries [B, N, c] and keys [B, S, c] of each code, whose products are the correlation, refined by EA.

        With EA or a pyramid both have eight more channels.
        """
        pairs = [
            (tokens(self.query(code)), tokens(self.key(guide))) for code, guide in zip(updated, guide_keys, strict=True)
        ]
        if self.enhance is not None:  # its operations are small and many: both codes share them
            queries, keys = (torch.cat(both) for both in zip(*pairs, strict=True))
            keys = self.enhance(queries, keys, *updated[0].shape[-2:], bins)
            return list(zip(_with_ones(queries).chunk(len(pairs)), keys.chunk(len(pairs)), strict=True))
        if pairs[0][1].shape[1] == len(bins):
            return pairs
        added = _added(pairs[0][1].shape[1], len(bins), bins.device, pairs[0][1].dtype)
        added = added.expand(len(updated[0]), -1, -1)
        return [(_with_ones(queries), torch.cat([keys, added], dim=2)) for queries, keys in pairs]

    def weights(self, updated: Tensor, guide_keys: Tensor, bins: Tensor) -> Tensor:
        """Where each position of the updated code looks: [B, N, S], rows sum to one."""
        ((queries, keys),) = self.correlated([updated], [guide_keys], bins)
        return torch.softmax(queries @ keys.transpose(1, 2), dim=-1)[..., : len(bins)]


def _with_ones(queries: Tensor) -> Tensor:
    """[B, N, c] -> [B, N, c + 8]."""
    ones = torch.ones((), dtype=queries.dtype, device=queries.device).expand(*queries.shape[:2], ADDED)
    return torch.cat([queries, ones], dim=2)
