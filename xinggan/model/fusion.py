"""How the appearance and shape codes become one image: dense co-attention fusion, co-attention fusion, plain decoding.

Co-attention fusion is XingGAN's (ECCV 2020, section 3.3): both codes propose RGB candidates, attention maps weigh
them, and the source image itself is the last candidate. XingGAN++ feeds it with every stage's codes (dense).
"""

import torch
from torch import Tensor, nn

from xinggan.model.blocks import normalisation
from xinggan.model.chain import Chain, ReflectedConvolution
from xinggan.model.switches import Architecture, Branches, Fusion, Norm

Stages = list[tuple[Tensor, Tensor]]  # (F_I [B, C, h, w], F_P [B, 2C, h, w]) of every crossing block, in order


def upsampling(norm: str, inputs: int, outputs: int) -> list[nn.Module]:
    """Twice the resolution by a stride-2 transposed 3x3 convolution, norm, ReLU."""
    bias = norm == Norm.instance
    return [
        nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=bias),
        normalisation(norm, outputs),
        nn.ReLU(True),
    ]


def pointwise(norm: str, inputs: int, outputs: int) -> list[nn.Module]:
    """A 1x1 convolution, norm, ReLU."""
    return [nn.Conv2d(inputs, outputs, 1, bias=norm == Norm.instance), normalisation(norm, outputs), nn.ReLU(True)]


class ImageDecoder(Chain):
    """Code [B, inputs, h, w] -> `candidates` RGB images in [-1, 1], [B, 3 * candidates, 4h, 4w]."""

    def __init__(self, inputs: int, width: int, norm: str, candidates: int):
        super().__init__(
            *upsampling(norm, inputs, 2 * width),
            *upsampling(norm, 2 * width, width),
            ReflectedConvolution(width, 3 * candidates, 7, padding=3),
            nn.Tanh(),
        )


class AttentionHead(Chain):
    """Code [B, inputs, h, w] -> one weight map a candidate and one for the source image, summing to 1 at each pixel."""

    def __init__(self, inputs: int, width: int, norm: str, maps: int):
        super().__init__(
            *upsampling(norm, inputs, 4 * width),
            *upsampling(norm, 4 * width, 2 * width),
            nn.Conv2d(2 * width, maps, 1, bias=norm == Norm.instance),
            nn.Softmax(dim=1),
        )


def weighted_sum(candidates: Tensor, source: Tensor, attention: Tensor) -> Tensor:
    """candidates: [B, 3K, H, W]; source: [B, 3, H, W]; attention: [B, K + 1, H, W] -> [B, 3, H, W]."""
    # The source is added apart: joining it to the candidates would copy all of them.
    proposals = candidates.unflatten(1, (-1, 3))  # [B, K, 3, H, W]
    return (proposals * attention[:, :-1].unsqueeze(2)).sum(dim=1) + source * attention[:, -1:]


class CoAttentionFusion(nn.Module):
    """Candidates of each branch and their attention maps, from the last stage's codes (XingGAN, eq. 7 to 9)."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        a, code = architecture, 4 * architecture.width
        self.branches = a.branches
        self.appearance = self.shape = None
        if a.branches != Branches.shape:
            self.appearance = ImageDecoder(code, a.width, a.norm, a.candidates)
        if a.branches != Branches.appearance:
            self.shape = Chain(*pointwise(a.norm, 2 * code, code), *ImageDecoder(code, a.width, a.norm, a.candidates))
        self.attention = AttentionHead(_offered(a), a.width, a.norm, _candidates(a) + 1)

    def forward(self, stages: Stages, source: Tensor) -> Tensor:
        """stages: codes of every block, of which the last counts; source: [B, 3, H, W]. Returns [B, 3, H, W]."""
        appearance, shape = stages[-1]
        candidates = []
        if self.appearance is not None:
            candidates.append(self.appearance(appearance))  # [B, 3K, H, W]
        if self.shape is not None:
            candidates.append(self.shape(shape))
        attention = self.attention(_codes(stages[-1], self.branches))
        return weighted_sum(torch.cat(candidates, dim=1), source, attention)


class Compression(nn.Sequential):
    """What a stage offers, compressed to `outputs` channels by a 1x1 convolution, norm and ReLU."""

    def __init__(self, norm: str, inputs: int, outputs: int):
        super().__init__(*pointwise(norm, inputs, outputs))

    def forward(self, stage: tuple[Tensor, Tensor], branches: str) -> Tensor:  # type: ignore[override]
        """stage: F_I [B, C, h, w] and F_P [B, 2C, h, w]. Returns [B, outputs, h, w]."""
        if branches != Branches.both:
            return super().forward(_codes(stage, branches))
        # F_I is also the first half of F_P, so that its two weights may be added and F_I left out.
        convolution, norm, relu = self
        once, again, new = convolution.weight.chunk(3, dim=1)  # type: ignore[operator]  # [outputs, C, 1, 1] each
        weight = torch.cat([once + again, new], dim=1)
        return relu(norm(nn.functional.conv2d(stage[1], weight, convolution.bias)))  # type: ignore[arg-type]


class DenseFusion(nn.Module):
    """Co-attention fusion of all stages, each compressed to `width` channels and all concatenated (XingGAN++).

    With one branch alone, only that branch's code of each stage is compressed. One decoder proposes the candidates of
    all branches from the shared concatenation (chosen here: the two decoders would see the same input).
    """

    def __init__(self, architecture: Architecture):
        super().__init__()
        a, growth = architecture, architecture.width
        self.branches = a.branches
        self.compress = nn.ModuleList(Compression(a.norm, _offered(a), growth) for _ in range(a.blocks))
        self.decoder = ImageDecoder(growth * a.blocks, a.width, a.norm, _candidates(a))
        self.attention = AttentionHead(growth * a.blocks, a.width, a.norm, _candidates(a) + 1)

    def forward(self, stages: Stages, source: Tensor) -> Tensor:
        """stages: codes of every block; source: [B, 3, H, W]. Returns [B, 3, H, W]."""
        compressed = [compress(stage, self.branches) for compress, stage in zip(self.compress, stages, strict=True)]
        dense = torch.cat(compressed, dim=1)  # [B, blocks * width, h, w]
        return weighted_sum(self.decoder(dense), source, self.attention(dense))


class ConcatFusion(nn.Module):
    """The last stage's codes, concatenated and decoded straight to one image: no candidates, no source image."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        a = architecture
        self.branches = a.branches
        self.decoder = ImageDecoder(_offered(a), a.width, a.norm, candidates=1)

    def forward(self, stages: Stages, source: Tensor) -> Tensor:
        """stages: codes of every block, of which the last counts. Returns [B, 3, H, W]."""
        return self.decoder(_codes(stages[-1], self.branches))


def _offered(architecture: Architecture) -> int:
    """Channels that `_codes` gives: F_I has C = 4 * width, F_P has 2C."""
    code = 4 * architecture.width
    return {Branches.both: 3 * code, Branches.appearance: code, Branches.shape: 2 * code}[architecture.branches]


def _candidates(architecture: Architecture) -> int:
    """RGB candidates of all branches together."""
    return architecture.candidates * (2 if architecture.branches == Branches.both else 1)


def _codes(stage: tuple[Tensor, Tensor], branches: str) -> Tensor:
    """What a stage offers to the fusion: F_I and F_P [B, 3C, h, w], or the one branch there is."""
    appearance, shape = stage
    if branches == Branches.both:
        return torch.cat([appearance, shape], dim=1)
    return appearance if branches == Branches.appearance else shape


FUSIONS = {Fusion.dense: DenseFusion, Fusion.coattention: CoAttentionFusion, Fusion.concat: ConcatFusion}
