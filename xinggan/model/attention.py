"""Cross-attention between the appearance and the shape code, over one scale or a pyramid of scales, plain or enhanced.

XingGAN (ECCV 2020, section 3.2) attends to all N = h w positions of the guiding code. XingGAN++ (TPAMI 2025) attends to
S regions of it, the bins of a pyramid of grids (multi-scale attention; 163 of 2,816 at 256x176), and refines the
correlation matrix M by an inner attention (enhanced attention, after AiATrack, ECCV 2022, section 3.1, whose own module
stands beside it).
"""

from collections.abc import Sequence
from functools import lru_cache
from math import log2

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xinggan.model.blocks import Dropout
from xinggan.model.switches import Attention, Scale

DESCRIPTOR_GRID = 8  # EA averages a correlation vector to 8 x 8 before describing it, so it fits any resolution
DESCRIPTOR_CHANNELS = 64  # D, of AiATrack

Grid = tuple[int, int]  # rows, columns


def tokens(code: Tensor) -> Tensor:
    """One row per position: [B, C, h, w] -> [B, N, C]. No copy where the code's memory is channels-last."""
    return code.flatten(2).transpose(1, 2)


def region_grids(height: int, width: int, scale: Scale, pyramid: Sequence[int]) -> tuple[Grid, ...]:
    """The grids whose cells are the S regions of a code of `height` x `width` positions.

    `single`: one grid, of the positions themselves. `multi`: one grid for each number of `pyramid`, which has so many
    bins along the shorter side and proportionally more along the longer one.
    """
    if scale == Scale.single:
        return ((height, width),)
    short = min(height, width)
    return tuple((round(bins * height / short), round(bins * width / short)) for bins in pyramid)


def regions(code: Tensor, grids: tuple[Grid, ...]) -> Tensor:
    """Regions of a code [B, C, h, w]: averages over the cells of all grids, [B, S, C]; of a single scale positions."""
    if grids == (code.shape[2:],):
        return tokens(code)
    return torch.cat([tokens(F.adaptive_avg_pool2d(code, grid)) for grid in grids], dim=1)


class CrossAttention(nn.Module):
    """One code attends to the other: SA updates the appearance code guided by the shape code, AS the other way.

    A = softmax(q(updated)^T k(guide)), updated' = updated + gamma * v(updated) A^T (XingGAN, eq. 1 to 6; no 1/sqrt(d)).
    gamma starts at 0. Keys and values belong to regions: key s to region s of the guide, value s to the same region of
    the updated code.
    """

    def __init__(self, channels: int, attention: Attention, code_size: Grid | None = None):
        super().__init__()
        self.query = nn.Linear(channels, channels // 8)  # the papers' 1x1 convolutions, applied to rows of positions
        self.key = nn.Linear(channels, channels // 8)
        self.value = nn.Linear(channels, channels)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.inner: EnhancedAttention | AiATrackAttention | None = None  # refines M
        if attention == Attention.enhanced:
            self.inner = EnhancedAttention()
        elif attention == Attention.aiatrack:
            self.inner = AiATrackAttention(code_size)

    def forward(
        self, updated: Tensor, updated_regions: Tensor, guide_regions: Tensor, grids: tuple[Grid, ...]
    ) -> Tensor:
        """updated: [B, C, h, w]; regions of the updated and of the guiding code: [B, S, C] each, cells of `grids`.

        Returns the updated code, [B, C, h, w].
        """
        weights = self.weights(updated, guide_regions, grids)  # A [B, N, S]
        values = self.gamma * self.value(updated_regions)  # [B, S, C]; gamma here: usually S < N
        attended = weights @ values.to(weights.dtype)  # [B, N, C]; under autocast gamma has made float32 of the values
        return updated + attended.transpose(1, 2).unflatten(2, updated.shape[2:])

    def weights(self, updated: Tensor, guide_regions: Tensor, grids: tuple[Grid, ...]) -> Tensor:
        """Attention weights A [B, N, S] of each position of the updated code; rows sum to one. As of `forward`."""
        queries = self.query(tokens(updated))  # [B, N, c]
        keys = self.key(guide_regions)  # [B, S, c]
        correlation = queries @ keys.transpose(1, 2)  # M [B, N, S]
        if self.inner is not None:
            correlation = self.inner(correlation, updated.shape[2:], grids)  # M'
        return torch.softmax(correlation, dim=-1)


class EnhancedAttention(nn.Module):
    """Refines the correlation matrix: its columns, one correlation vector per key, attend to one another (EA).

    M' = M + gamma_EA * (softmax(Q K^T / sqrt(d)) LayerNorm(M^T))^T. Q and K project a descriptor of each correlation
    vector: LayerNorm(W vector averaged to 8 x 8) + an embedding of the key's position and scale. gamma_EA starts at 0.

    Chosen here, since XingGAN++ is known through its abstract, which words EA as AiATrack does. Departures from that
    module: the descriptor is pooled, so that it fits any resolution; the values have no learned N x N output weight and
    no affine norm, whose sizes would fix N, too; gamma_EA scales the result, so that training begins with XingGAN's
    attention; M itself is XingGAN's, without 1/sqrt(c). `attention=aiatrack` is the module without the first three.
    """

    def __init__(self, channels: int = DESCRIPTOR_CHANNELS):
        super().__init__()
        self.descriptor = nn.Linear(DESCRIPTOR_GRID**2, channels)
        self.norm = nn.LayerNorm(channels)
        self.position = nn.Linear(4 * 2 * 2, channels)  # coordinates x frequencies x (sine, cosine)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, correlation: Tensor, size: Grid, grids: tuple[Grid, ...]) -> Tensor:
        """correlation: M [B, N, S]; size: h and w of the code, N = h w; grids: those of the S keys. Returns M'."""
        vectors = correlation.transpose(1, 2)  # [B, S, N]
        pooled = F.adaptive_avg_pool2d(vectors.unflatten(2, size), DESCRIPTOR_GRID).flatten(2)  # [B, S, 64]
        position = self.position(cell_sinusoids(grids, correlation.device))  # [S, d]
        descriptors = self.norm(self.descriptor(pooled)) + position  # [B, S, d]
        queries, keys = self.query(descriptors), self.key(descriptors)  # [B, S, d]
        inner = torch.softmax(queries @ keys.transpose(1, 2) / queries.shape[2] ** 0.5, dim=-1)  # [B, S, S]
        change = inner @ F.layer_norm(vectors, vectors.shape[2:]).to(inner.dtype)  # [B, S, N]
        return correlation + self.gamma.to(change.dtype) * change.transpose(1, 2)


class AiATrackAttention(nn.Module):
    """The inner attention of AiATrack (ECCV 2022, section 3.1) as published, with one head of width D.

    M' = M + (H + H W_o^T + b_o)^T with H = softmax(Q K^T / sqrt(D)) LayerNorm(M^T). Q, K project a descriptor of each
    correlation vector: LayerNorm(W vector) + the position of the key in its grid. Weights that multiply whole vectors
    have the size N, so the module fits one resolution. All S keys attend to one another, also those of several grids.
    """

    def __init__(self, code_size: Grid | None, channels: int = DESCRIPTOR_CHANNELS, dropout: float = 0.1):
        super().__init__()
        if code_size is None:
            raise ValueError("attention=aiatrack is built for one resolution: code_size is missing")
        self.size, count = tuple(code_size), code_size[0] * code_size[1]
        self.descriptor = nn.Linear(count, channels)
        self.descriptor_norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value_norm = nn.LayerNorm(count)
        self.output = nn.Linear(count, count)  # W_o, b_o
        self.dropout = Dropout(dropout)  # of the inner weights and of the correction

    def forward(self, correlation: Tensor, size: Grid, grids: tuple[Grid, ...]) -> Tensor:
        """correlation: M [B, N, S]; size: h and w of the code, N = h w; grids: those of the S keys. Returns M'.

        Raises ValueError for a code of another size than the module was built for.
        """
        if tuple(size) != self.size:
            built, given = (f"{4 * rows}x{4 * columns}" for rows, columns in (self.size, size))
            raise ValueError(f"attention=aiatrack was built for images of {built}, not {given}")
        vectors = correlation.transpose(1, 2)  # C [B, S, N]
        descriptors = self.descriptor_norm(self.descriptor(vectors))  # [B, S, D]
        descriptors = descriptors + cell_waves(grids, descriptors.shape[2], correlation.device)
        queries, keys = self.query(descriptors), self.key(descriptors)  # [B, S, D]
        inner = torch.softmax(queries @ keys.transpose(1, 2) / queries.shape[2] ** 0.5, dim=-1)  # [B, S, S]
        change = self._dropped(inner) @ self.value_norm(vectors).to(inner.dtype)  # H [B, S, N]
        return correlation + self._dropped(change + self.output(change)).transpose(1, 2)

    def _dropped(self, rows: Tensor) -> Tensor:
        """[B, S, ...] with dropout, whose masks have the rows of maps."""
        return self.dropout(rows.unsqueeze(1)).squeeze(1)


def cell_waves(grids: tuple[Grid, ...], channels: int, device: torch.device) -> Tensor:
    """Position of every cell in its grid as AiATrack encodes it, [S, channels]: half the channels for the row, half for
    the column; sine and cosine of 2 pi (place / number of places) / 10000^(2 floor(c/2) / half), places from 1.
    """
    half = channels // 2
    periods = 10000 ** (2 * torch.arange(half, device=device).div(2, rounding_mode="floor") / half)
    cells = []
    for rows, columns in grids:
        places = [2 * torch.pi * torch.arange(1, n + 1, device=device) / (n + 1e-6) for n in (rows, columns)]
        angles = torch.cartesian_prod(*places)[:, :, None] / periods  # [rows * columns, 2, half]
        waves = torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=3)
        cells.append(waves.flatten(1))  # [rows * columns, channels]
    return torch.cat(cells)


def cell_sinusoids(grids: tuple[Grid, ...], device: torch.device) -> Tensor:
    """Position and size of every cell of `grids` as sinusoids, [S, 16]; cached, except under torch.compile.

    Sine and cosine, at the frequencies pi and 4 pi, of a cell's centre y, x in [0, 1] and the log2 of its grid's rows
    and columns.
    """
    return (_sinusoids if torch.compiler.is_compiling() else _cached_sinusoids)(grids, device)


def _sinusoids(grids: tuple[Grid, ...], device: torch.device) -> Tensor:
    cells = []
    for rows, columns in grids:
        y = (torch.arange(rows, device=device) + 0.5) / rows
        x = (torch.arange(columns, device=device) + 0.5) / columns
        size = [torch.full((rows * columns, 1), log2(count), device=device) for count in (rows, columns)]
        cells.append(torch.cat([torch.cartesian_prod(y, x), *size], dim=1))  # [rows * columns, 4]
    coordinates = torch.pi * torch.cat(cells)  # [S, 4]
    angles = torch.stack([coordinates, 4 * coordinates], dim=2).flatten(1)  # [S, 8]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


# inference_mode(False): a tensor that inference made could not be used in training later.
_cached_sinusoids = lru_cache(maxsize=32)(torch.inference_mode(False)(_sinusoids))
