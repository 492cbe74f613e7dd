"""Cross-attention between appearance and shape code, over one scale or a pyramid of scales, plain or enhanced.

XingGAN (ECCV 2020, section 3.2) attends to every position of the guiding code; XingGAN++ (TPAMI 2025) pools keys and
values over a pyramid of grids (multi-scale attention) and refines the correlation matrix by an inner attention
(enhanced attention, after AiATrack, ECCV 2022, section 3.1).
"""

from collections.abc import Sequence
from functools import lru_cache
from math import log2
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xinggan.model.position_attention import attend

DESCRIPTOR_GRID = 8  # a correlation vector is averaged to 8 x 8 before it is described, so EA fits any resolution
DESCRIPTOR_CHANNELS = 64  # chosen here
ADDED = 8  # channels for the keys' offsets, of which two count: kernels of accelerators take multiples of eight
MULTIPLE = 32  # of a pyramid's keys: processors take so many at a time, and each one beyond by itself
UNSEEN = -1e9  # correlation at which nothing looks

Codes = Sequence[Tensor]


def pyramid_grids(height: int, width: int, levels: tuple[int, ...]) -> list[tuple[int, int]]:
    """Rows and columns of each level: `bins` along the shorter side, proportionally more along the longer one.

    Of an empty `levels` the positions themselves.
    """
    short = min(height, width)
    return [(round(bins * height / short), round(bins * width / short)) for bins in levels] or [(height, width)]


class Pyramid(NamedTuple):
    """The S keys of a code: averages over a pyramid of grids, or its positions themselves (single scale, S = N).

    A pyramid's keys are filled up with zeros to S', a multiple of 32, and attention does not look at those.
    """

    averages: Tensor | None  # [S', N], all levels in one matrix; None where positions are the keys
    bins: Tensor  # [S, 4]: each key's centre y, x in [0, 1] and the log2 of its level's rows and columns
    sinusoids: Tensor  # [S', 16]: sine and cosine of each coordinate of a bin at two frequencies
    added: Tensor  # [S', 8]: channels that keys get where the queries' are 1; UNSEEN for keys behind the first S, or 0

    def pool(self, code: Tensor) -> Tensor:
        """code: [B, C, h, w] -> [B, C, 1, S'], by one matrix product for the whole pyramid; or the code as it is."""
        if self.averages is None:
            return code
        keys = self.averages @ tokens(code)  # [B, S', C]
        return keys.transpose(1, 2)[:, :, None]  # as a column, [B, C, S', 1], convolutions take five times as long

    @property
    def filled(self) -> bool:
        """Whether there are keys behind the first S."""
        return len(self.bins) < len(self.added)


def pyramid_of(code: Tensor, levels: tuple[int, ...]) -> Pyramid:
    """Of codes [B, C, h, w] like this one. `levels`: bins along the shorter side, a number a level; () is one scale.

    It is kept, and can be trained with also when inference made it first. A compiled graph makes it itself, all on its
    device: anything on the host would rule out a CUDA graph.
    """
    height, width = code.shape[-2:]
    make = _pyramid if torch.compiler.is_compiling() else _kept_pyramid
    return make(height, width, levels, code.device, code.dtype)


def _pyramid(height: int, width: int, levels: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Pyramid:
    matrices, bins = [], []
    for rows, columns in pyramid_grids(height, width, levels):
        # PyTorch's adaptive pooling: bin i of n covers floor(i * size / n) up to ceil((i + 1) * size / n).
        tops, bottoms = _edges(height, rows, device)
        lefts, rights = _edges(width, columns, device)
        centres = torch.cartesian_prod((tops + bottoms) / (2 * height), (lefts + rights) / (2 * width))
        fineness = (torch.full((len(centres), 1), log2(count), device=device) for count in (rows, columns))
        bins.append(torch.cat([centres, *fineness], dim=1))
        if levels:
            y, x = torch.arange(height, device=device), torch.arange(width, device=device)
            vertical = ((y >= tops[:, None]) & (y < bottoms[:, None])).float()  # [rows, height]
            horizontal = ((x >= lefts[:, None]) & (x < rights[:, None])).float()  # [columns, width]
            vertical, horizontal = vertical / vertical.sum(1, True), horizontal / horizontal.sum(1, True)
            averages = vertical[:, None, :, None] * horizontal[None, :, None]  # [rows, columns, height, width]
            matrices.append(averages.flatten(2).flatten(0, 1))
    keys = torch.cat(bins)
    fill = (0, 0, 0, -len(keys) % MULTIPLE if levels else 0)
    filled = F.pad(keys, fill)  # [S', 4]
    angles = torch.stack([filled * torch.pi, filled * (4 * torch.pi)], dim=2).flatten(1)  # [S', 8]
    added = torch.zeros(len(filled), ADDED, device=device)
    added[len(keys) :, -1] = UNSEEN
    return Pyramid(
        averages=F.pad(torch.cat(matrices), fill).to(dtype) if levels else None,
        bins=keys,
        sinusoids=torch.cat([angles.sin(), angles.cos()], dim=1),
        added=added,
    )


_kept_pyramid = lru_cache(maxsize=64)(torch.inference_mode(False)(_pyramid))


def _edges(size: int, bins: int, device: torch.device) -> tuple[Tensor, Tensor]:
    index = torch.arange(bins, device=device)
    return index * size // bins, -(-(index + 1) * size // bins)


def tokens(code: Tensor) -> Tensor:
    """Code [B, C, h, w] -> one row a position, [B, N, C]; a view where the memory is channels-last."""
    return code.flatten(2).transpose(1, 2)


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

    def forward(self, queries: Tensor, keys: Tensor, height: int, width: int, pyramid: Pyramid) -> Tensor:
        """queries Q: [B, N, c], N = height * width; keys K: [B, S', c].

        Returns keys [B, S', c + 8] whose products with the queries and eight channels of 1 behind them are M'
        transposed, and UNSEEN for those behind the first S.
        """
        maps = queries.unflatten(1, (height, width)).permute(0, 3, 1, 2)  # [B, c, h, w]
        pooled = F.adaptive_avg_pool2d(maps, DESCRIPTOR_GRID).flatten(2)  # [B, c, 64]
        # W pool(K Q^T) = K (W pool Q^T), which is less to multiply.
        described = torch.baddbmm(self.describe.bias, keys, F.linear(pooled, self.describe.weight))
        descriptors = self.norm(described) + self.position(pyramid.sinusoids)  # [B, S', d]
        a, b = self.query(descriptors), self.key(descriptors)

        with torch.autocast(queries.device.type, enabled=False):
            spread, rows = queries.float(), keys.float()
            mean = spread.mean(dim=1, keepdim=True)  # [B, 1, c]
            spread = spread - mean
            covariance = spread.transpose(1, 2) @ spread / (height * width)  # [B, c, c]
            variance = (rows @ covariance * rows).sum(dim=-1, keepdim=True).clamp_min(0)  # [B, S', 1]
            normed = (rows * (variance + self.norm.eps).rsqrt()).to(a.dtype)
            # PyTorch's kernel for CPUs takes values as wide as queries.
            normed = F.pad(normed, (0, a.shape[2] - rows.shape[2]))
            unseen = (
                pyramid.added[:, -1].to(a.dtype).expand(len(pyramid.added), -1) if pyramid.filled else None
            )  # [S', S']
            agreed = F.scaled_dot_product_attention(a[:, None], b[:, None], normed[:, None], unseen)
            change = self.gamma * agreed[:, 0, :, : rows.shape[2]]  # [B, S', c]
            means = F.pad(mean.transpose(1, 2), (0, ADDED - 1))  # [B, c, 8]
            offsets = torch.baddbmm(pyramid.added, change, means, alpha=-1)  # [B, S', 8]
            return torch.cat([rows + change, offsets], dim=2).to(keys.dtype)


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

    def forward(self, updated: Codes, updated_keys: Codes, guide_keys: Codes, pyramid: Pyramid) -> Codes:
        """One code, or two with the same weights: SA's and AS's where they are tied.

        updated: [B, C, h, w] each; updated_keys, guide_keys: the codes pooled by `pyramid`. Returns the updated codes.
        """
        results, gamma = [], self.gamma.to(updated[0].dtype)
        pairs = self.correlated(updated, guide_keys, pyramid)
        for code, own_keys, (queries, keys) in zip(updated, updated_keys, pairs, strict=True):
            # Pooling and the 1x1 projection commute, so values are projected at S positions rather than N.
            values = tokens(self.value(own_keys))  # [B, S, C]
            if self.as_published:
                new = tokens(code) + gamma * attend(queries, keys, values, as_published=True)
            else:
                new = attend(queries, keys, gamma * values, onto=tokens(code))
            results.append(new.unflatten(1, code.shape[-2:]).permute(0, 3, 1, 2))
        return results

    def correlated(self, updated: Codes, guide_keys: Codes, pyramid: Pyramid) -> list[tuple[Tensor, Tensor]]:
        """Queries [B, N, c] and keys [B, S', c] of each code, whose products are the correlation, refined by EA.

        With EA or a pyramid both have eight more channels.
        """
        pairs = [
            (tokens(self.query(code)), tokens(self.key(guide))) for code, guide in zip(updated, guide_keys, strict=True)
        ]
        if self.enhance is not None:  # its operations are small and many: both codes share them
            queries, keys = (torch.cat(both) for both in zip(*pairs, strict=True))
            keys = self.enhance(queries, keys, *updated[0].shape[-2:], pyramid)
            return list(zip(_with_ones(queries).chunk(len(pairs)), keys.chunk(len(pairs)), strict=True))
        if not pyramid.filled:
            return pairs
        added = pyramid.added.to(pairs[0][1].dtype).expand(len(updated[0]), -1, -1)
        return [(_with_ones(queries), torch.cat([keys, added], dim=2)) for queries, keys in pairs]

    def weights(self, updated: Tensor, guide_keys: Tensor, pyramid: Pyramid) -> Tensor:
        """Where each position of the updated code looks: [B, N, S], rows sum to one."""
        ((queries, keys),) = self.correlated([updated], [guide_keys], pyramid)
        return torch.softmax(queries @ keys.transpose(1, 2), dim=-1)[..., : len(pyramid.bins)]


def _with_ones(queries: Tensor) -> Tensor:
    """[B, N, c] -> [B, N, c + 8]."""
    ones = torch.ones((), dtype=queries.dtype, device=queries.device).expand(*queries.shape[:2], ADDED)
    return torch.cat([queries, ones], dim=2)
