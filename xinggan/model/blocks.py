"""What the generators are built of: normalisation, encoders, convolution blocks and the crossing block.

XingGAN (ECCV 2020, sections 3.1 and 3.2) with the layer settings of its published code; PATN shares encoders and
convolution blocks. Convolutions that a norm follows have a bias only with InstanceNorm.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xinggan.model.attention import CrossAttention, Pyramid
from xinggan.model.chain import Chain, Dropout, InstanceNorm, ReflectedConvolution
from xinggan.model.switches import Architecture, Attention, Branches, Norm


def normalisation(norm: str, channels: int) -> nn.Module:
    """BatchNorm2d with affine parameters and running statistics, or InstanceNorm2d with neither."""
    return nn.BatchNorm2d(channels) if norm == Norm.batch else InstanceNorm(channels)


def convolution(norm: str, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size (divided by `stride`); stride-1 ones pad by reflection, as published."""
    kind = ReflectedConvolution if stride == 1 else nn.Conv2d
    return kind(inputs, outputs, kernel, stride, kernel // 2, bias=norm == Norm.instance)


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """images [B, C, H, W] -> H and W enlarged to multiples of `multiple`; the last row and column are repeated."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")


class Encoder(Chain):
    """Image or heatmaps [B, inputs, H, W] -> code [B, 4 * width, H/4, W/4]."""

    def __init__(self, inputs: int, width: int, norm: str):
        layers: list[nn.Module] = [
            convolution(norm, inputs, width, kernel=7),
            normalisation(norm, width),
            nn.ReLU(True),
        ]
        for channels in (width, 2 * width):
            layers += [
                convolution(norm, channels, 2 * channels, stride=2),
                normalisation(norm, 2 * channels),
                nn.ReLU(True),
            ]
        super().__init__(*layers)


class ConvBlock(Chain):
    """Two 3x3 convolutions with dropout between; the last norm is left out in the shape stream."""

    def __init__(self, inputs: int, outputs: int, norm: str, dropout: float, last_norm: bool):
        layers = [convolution(norm, inputs, inputs), normalisation(norm, inputs), nn.ReLU(True), Dropout(dropout)]
        layers.append(convolution(norm, inputs, outputs))
        if last_norm:
            layers.append(normalisation(norm, outputs))
        super().__init__(*layers)


class CrossingBlock(nn.Module):
    """One stage: both codes are convolved, then each attends to the other (SA and AS; paper eq. 1 to 6).

    `branches=appearance` has SA alone and `branches=shape` AS alone; the code without attention is passed on as
    convolved, so either branch still sees both inputs (chosen here: the paper's figure leaves it open).
    """

    def __init__(self, architecture: Architecture, first: bool):
        super().__init__()
        a, channels = architecture, 4 * architecture.width
        self.appearance = ConvBlock(channels, channels, a.norm, a.dropout, last_norm=True)
        self.shape = ConvBlock(channels if first else 2 * channels, channels, a.norm, a.dropout, last_norm=False)
        attends = a.attention != Attention.none
        enhanced = a.attention == Attention.enhanced
        self.shape_guided = CrossAttention(channels, enhanced) if attends and a.branches != Branches.shape else None
        self.tied = attends and a.branches == Branches.both and a.tie_projections  # SA's projections serve AS too
        own = attends and a.branches != Branches.appearance and not self.tied
        self.appearance_guided = CrossAttention(channels, enhanced) if own else None

    def forward(self, appearance: Tensor, shape: Tensor, pyramid: Pyramid) -> tuple[Tensor, Tensor]:
        """appearance: [B, C, h, w]; shape: [B, C or 2C, h, w]; pyramid: of such codes.

        Returns F_I [B, C, h, w] and F_P [B, 2C, h, w].
        """
        x, y = self.appearance(appearance), self.shape(shape)
        x_new, y_new = x, y
        if self.shape_guided is not None or self.appearance_guided is not None:
            x_keys, y_keys = pyramid.pool(x), pyramid.pool(y)  # shared by both attentions
            if self.tied:
                x_new, y_new = self.shape_guided([x, y], [x_keys, y_keys], [y_keys, x_keys], pyramid)  # type: ignore[misc]
            elif self.shape_guided is not None:
                (x_new,) = self.shape_guided([x], [x_keys], [y_keys], pyramid)
            if self.appearance_guided is not None:
                (y_new,) = self.appearance_guided([y], [y_keys], [x_keys], pyramid)
        return x_new, torch.cat([x_new, y_new], dim=1)
