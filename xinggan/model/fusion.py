"""Fusion of the appearance and shape codes into one image: dense co-attention fusion, co-attention fusion, decoding.

Co-attention fusion is XingGAN's (ECCV 2020, section 3.3): each code is decoded to RGB candidates, attention maps
weigh them, and the source image itself is the last candidate. XingGAN++ takes every stage's codes (dense).
"""

import torch
from torch import Tensor, nn

from xinggan.model.blocks import ReflectionPad, normalisation
from xinggan.model.switches import Branches, Fusion, Norm, XingGANSettings

Stages = list[tuple[Tensor, Tensor]]  # (F_I [B, C, h, w], F_P [B, 2C, h, w]) of every crossing block, in order


def upsampling(norm: str, inputs: int, outputs: int) -> list[nn.Module]:
    """Twice the resolution by a stride-2 transposed 3x3 convolution, norm, ReLU."""
    bias = norm == Norm.instance
    doubling = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=bias)
    return [doubling, normalisation(norm, outputs), nn.ReLU(True)]


def pointwise(norm: str, inputs: int, outputs: int) -> nn.Sequential:
    """A 1x1 convolution, norm, ReLU; a bias only with InstanceNorm, as published."""
    convolution = nn.Conv2d(inputs, outputs, 1, bias=norm == Norm.instance)
    return nn.Sequential(convolution, normalisation(norm, outputs), nn.ReLU(True))


class ImageDecoder(nn.Sequential):
    """Code [B, inputs, h, w] -> `candidates` RGB images in [-1, 1], [B, 3 * candidates, 4h, 4w]."""

    def __init__(self, inputs: int, width: int, norm: str, candidates: int):
        last = [ReflectionPad(3), nn.Conv2d(width, 3 * candidates, 7), nn.Tanh()]
        super().__init__(*upsampling(norm, inputs, 2 * width), *upsampling(norm, 2 * width, width), *last)


class AttentionHead(nn.Sequential):
    """Code [B, inputs, h, w] -> one weight map per candidate and one for the source, adding up to 1 at each pixel."""

    def __init__(self, inputs: int, width: int, norm: str, maps: int):
        last = [nn.Conv2d(2 * width, maps, 1, bias=norm == Norm.instance), nn.Softmax(dim=1)]
        super().__init__(*upsampling(norm, inputs, 4 * width), *upsampling(norm, 4 * width, 2 * width), *last)


def weighted_sum(candidates: Tensor, source: Tensor, attention: Tensor) -> Tensor:
    """candidates: [B, 3K, H, W]; source: [B, 3, H, W]; attention: [B, K + 1, H, W] -> [B, 3, H, W] (XingGAN, eq. 9)."""
    proposals = candidates.unflatten(1, (-1, 3))  # [B, K, 3, H, W]
    return (proposals * attention[:, :-1].unsqueeze(2)).sum(dim=1) + source * attention[:, -1:]


def joined_codes(stage: tuple[Tensor, Tensor], branches: Branches) -> Tensor:
    """A stage's codes: cat(F_I, F_P) [B, 3C, h, w]; with one branch alone F_I [B, C, h, w] or F_P [B, 2C, h, w]."""
    appearance, shape = stage
    if branches == Branches.both:
        return torch.cat([appearance, shape], dim=1)
    return appearance if branches == Branches.appearance else shape


def joined_channels(settings: XingGANSettings) -> int:
    """Channels of `joined_codes`, C = 4 * width."""
    return {Branches.both: 12, Branches.appearance: 4, Branches.shape: 8}[settings.branches] * settings.width


def all_candidates(settings: XingGANSettings) -> int:
    """RGB candidates of all branches together."""
    return settings.candidates * (2 if settings.branches == Branches.both else 1)


class CoAttentionFusion(nn.Module):
    """Candidates of each branch and their attention maps, from the last stage's codes (XingGAN, eq. 7 to 9)."""

    def __init__(self, settings: XingGANSettings):
        super().__init__()
        s, code = settings, 4 * settings.width
        self.branches = s.branches
        self.appearance = self.shape_projection = self.shape = None
        if s.branches != Branches.shape:
            self.appearance = ImageDecoder(code, s.width, s.norm, s.candidates)
        if s.branches != Branches.appearance:
            self.shape_projection = pointwise(s.norm, 2 * code, code)
            self.shape = ImageDecoder(code, s.width, s.norm, s.candidates)
        self.attention = AttentionHead(joined_channels(s), s.width, s.norm, all_candidates(s) + 1)

    def forward(self, stages: Stages, source: Tensor) -> Tensor:
        """stages: codes of every block, of which the last counts; source: [B, 3, H, W]. Returns [B, 3, H, W]."""
        appearance, shape = stages[-1]
        candidates = []
        if self.appearance is not None:
            candidates.append(self.appearance(appearance))  # [B, 3K, H, W]
        if self.shape is not None and self.shape_projection is not None:
            candidates.append(self.shape(self.shape_projection(shape)))  # [B, 3K, H, W]
        attention = self.attention(joined_codes(stages[-1], self.branches))  # [B, all candidates + 1, H, W]
        return weighted_sum(torch.cat(candidates, dim=1), source, attention)


class DenseFusion(nn.Module):
    """Co-attention fusion of all stages, each compressed to a growth of `width` channels and concatenated (XingGAN++).

    With one branch alone, only that branch's code of each stage is compressed. One decoder proposes the candidates of
    all branches from the shared concatenation (chosen here: two decoders would see the same input).
    """

    def __init__(self, settings: XingGANSettings):
        super().__init__()
        s, dense = settings, settings.width * settings.blocks
        self.branches = s.branches
        self.compress = nn.ModuleList(pointwise(s.norm, joined_channels(s), s.width) for _ in range(s.blocks))
        self.decoder = ImageDecoder(dense, s.width, s.norm, all_candidates(s))
        self.attention = AttentionHead(dense, s.width, s.norm, all_candidates(s) + 1)

    def forward(self, stages: Stages, source: Tensor) -> Tensor:
        """stages: codes of every block; source: [B, 3, H, W]. Returns [B, 3, H, W]."""
        codes = [joined_codes(stage, self.branches) for stage in stages]
        dense = torch.cat([compress(code) for compress, code in zip(self.compress, codes, strict=True)], dim=1)
        return weighted_sum(self.decoder(dense), source, self.attention(dense))


class ConcatFusion(nn.Module):
    """The last stage's codes, concatenated and decoded straight to one image: no candidates, no source image."""

    def __init__(self, settings: XingGANSettings):
        super().__init__()
        self.branches = settings.branches
        self.decoder = ImageDecoder(joined_channels(settings), settings.width, settings.norm, candidates=1)

    def forward(self, stages: Stages, source: Tensor) -> Tensor:
        """stages: codes of every block, of which the last counts. Returns [B, 3, H, W]."""
        return self.decoder(joined_codes(stages[-1], self.branches))


FUSIONS = {Fusion.dense: DenseFusion, Fusion.coattention: CoAttentionFusion, Fusion.concat: ConcatFusion}
