"""What the generators are built of: padding, normalisation, dropout, encoders, convolution blocks, the crossing block.

XingGAN (ECCV 2020, sections 3.1 and 3.2) with the layers of its published code, in the published order; PATN shares
encoders and convolution blocks. Convolutions that a norm follows have a bias only with InstanceNorm.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xinggan.distributed import Processes
from xinggan.model.attention import CrossAttention, regions
from xinggan.model.switches import Attention, Branches, Norm, XingGANSettings


class ReflectionPad(nn.ReflectionPad2d):
    """ReflectionPad2d in the precision of its input; autocast would pad in float32."""

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, C, h, w] -> [B, C, h + 2 padding, w + 2 padding]."""
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features)


class InstanceNorm(nn.InstanceNorm2d):
    """InstanceNorm2d; on a CPU as the batch norm of each image, which keeps channels-last memory."""

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, C, h, w]."""
        if features.device.type != "cpu":
            return super().forward(features)
        weight, bias = self.weight, self.bias
        normed = [F.batch_norm(one, None, None, weight, bias, True, eps=self.eps) for one in features.split(1)]
        return torch.cat(normed) if len(normed) > 1 else normed[0]


class Dropout(nn.Module):
    """Dropout whose mask is drawn for the global batch, of which each process takes its rows.

    Processes with the same seed drop together what one process alone would drop.
    """

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, C, h, w], B images of this process."""
        if not self.training or self.probability == 0:
            return features
        processes = Processes.current
        count, channels, height, width = features.shape
        mask = torch.empty(count * processes.count, height, width, channels, device=features.device)
        mask = mask.bernoulli_(1 - self.probability).permute(0, 3, 1, 2)  # channels last, as the features
        return features * processes.own_rows(mask).to(features.dtype) / (1 - self.probability)


def normalisation(norm: str, channels: int) -> nn.Module:
    """BatchNorm2d with affine parameters and running statistics, or InstanceNorm2d with neither."""
    return nn.BatchNorm2d(channels) if norm == Norm.batch else InstanceNorm(channels)


def reflected_convolution(norm: str, inputs: int, outputs: int, kernel: int = 3) -> list[nn.Module]:
    """Reflection padding and a convolution that together keep the size."""
    return [ReflectionPad(kernel // 2), nn.Conv2d(inputs, outputs, kernel, bias=norm == Norm.instance)]


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """images [B, C, H, W] -> H and W enlarged to multiples of `multiple`; the last row and column are repeated."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")


class Encoder(nn.Sequential):
    """Image or pose maps [B, inputs, H, W] -> code [B, 4 * width, H/4, W/4]."""

    def __init__(self, inputs: int, width: int, norm: str):
        layers = [*reflected_convolution(norm, inputs, width, kernel=7), normalisation(norm, width), nn.ReLU(True)]
        for channels in (width, 2 * width):
            halving = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=norm == Norm.instance)
            layers += [halving, normalisation(norm, 2 * channels), nn.ReLU(True)]
        super().__init__(*layers)


class ConvBlock(nn.Sequential):
    """Two 3x3 convolutions with dropout between; the shape stream goes without the last norm."""

    def __init__(self, inputs: int, outputs: int, norm: str, dropout: float, last_norm: bool):
        layers = [*reflected_convolution(norm, inputs, inputs), normalisation(norm, inputs), nn.ReLU(True)]
        layers += [Dropout(dropout), *reflected_convolution(norm, inputs, outputs)]
        if last_norm:
            layers.append(normalisation(norm, outputs))
        super().__init__(*layers)


class CrossingBlock(nn.Module):
    """One stage: both codes are convolved, then each attends to the other (SA and AS; XingGAN, eq. 1 to 6).

    `branches=appearance` has SA alone and `branches=shape` AS alone; the code without attention is passed on as
    convolved, so either branch still sees both inputs (chosen here: the paper's figure leaves it open).
    """

    def __init__(self, settings: XingGANSettings, first: bool):
        super().__init__()
        s, channels = settings, 4 * settings.width
        self.appearance = ConvBlock(channels, channels, s.norm, s.dropout, last_norm=True)
        self.shape = ConvBlock(channels if first else 2 * channels, channels, s.norm, s.dropout, last_norm=False)
        self.scale, self.pyramid = s.scale, tuple(s.pyramid)
        self.attends = s.attention != Attention.none
        self.tied = self.attends and s.branches == Branches.both and s.tie_projections  # SA's projections serve AS too
        self.shape_guided = self.appearance_guided = None
        if self.attends and s.branches != Branches.shape:
            self.shape_guided = CrossAttention(channels, s)
        if self.attends and s.branches != Branches.appearance and not self.tied:
            self.appearance_guided = CrossAttention(channels, s)

    def forward(self, appearance: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
        """appearance: F_I [B, C, h, w]; shape: F_P [B, 2C, h, w], in the first block [B, C, h, w].

        Returns the next F_I [B, C, h, w] and F_P [B, 2C, h, w].
        """
        x, y = self.appearance(appearance), self.shape(shape)  # [B, C, h, w] each
        x_new, y_new = x, y
        if self.attends:
            x_regions, y_regions = (regions(code, self.scale, self.pyramid) for code in (x, y))  # [B, S, C] each
            sa, as_ = self.attentions
            if sa is not None:
                x_new = sa(x, x_regions, y_regions)
            if as_ is not None:  # it is guided by the x from before SA
                y_new = as_(y, y_regions, x_regions)
        return x_new, torch.cat([x_new, y_new], dim=1)

    @property
    def attentions(self) -> tuple[CrossAttention | None, CrossAttention | None]:
        """SA and AS, the same module where their projections are tied; None where the block has no such branch."""
        return self.shape_guided, self.shape_guided if self.tied else self.appearance_guided
