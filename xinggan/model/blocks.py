"""What generators and discriminators are built of: padding, normalisation, dropout, encoders, convolution blocks.

The layers of XingGAN's published code (ECCV 2020, sections 3.1 and 3.2) in the published order, which PATN shares.
Convolutions have a bias only with InstanceNorm.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xinggan.distributed import Processes
from xinggan.model.switches import Norm


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


class GroupNorm(nn.GroupNorm):
    """GroupNorm in contiguous memory, as PyTorch has it on CUDA; of channels-last features it returns such.

    On a CPU, PyTorch's own kernel for channels-last memory takes E[x^2] - E[x]^2 for the variance, of plain float32
    sums: of features whose mean is ten times their deviation it loses three digits, of a nearly constant image's all.
    """

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, C, h, w], or [B, C, ...] in contiguous memory."""
        if features.is_contiguous():
            return super().forward(features)
        return super().forward(features.contiguous()).contiguous(memory_format=torch.channels_last)


def use_exact_norms(encoder: nn.Module) -> None:
    """Make the group norms of a library's blocks `GroupNorm`.

    Every method does so with what encodes its conditions, which runs once a sample, and whose source is missing, hence
    constant, in guidance. In denoisers and autoencoders it would take a fifth to a half of the time.
    """
    for module in encoder.modules():
        if type(module) is nn.GroupNorm:
            module.__class__ = GroupNorm


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
        mask = processes.own_rows(self.mask(len(features) * processes.count, features))
        return features * mask.to(features.dtype) / (1 - self.probability)

    def mask(self, count: int, features: Tensor) -> Tensor:
        """Zeros and ones for `count` images like the features: [count, C, h, w]."""
        _, channels, height, width = features.shape
        mask = torch.empty(count, height, width, channels, device=features.device)
        return mask.bernoulli_(1 - self.probability).permute(0, 3, 1, 2)  # channels last, as the features


class StochasticDepth(Dropout):
    """Leaves out a residual branch for whole images (Huang et al., ECCV 2016); features: [B, ...]."""

    def mask(self, count: int, features: Tensor) -> Tensor:
        """[count, 1, ...]."""
        return torch.empty(count, *[1] * (features.ndim - 1), device=features.device).bernoulli_(1 - self.probability)


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
    """Two 3x3 convolutions with dropout between; `last_norm=False` leaves out the last norm (shape stream)."""

    def __init__(self, inputs: int, outputs: int, norm: str, dropout: float, last_norm: bool):
        layers = [*reflected_convolution(norm, inputs, inputs), normalisation(norm, inputs), nn.ReLU(True)]
        layers += [Dropout(dropout), *reflected_convolution(norm, inputs, outputs)]
        if last_norm:
            layers.append(normalisation(norm, outputs))
        super().__init__(*layers)


def check_resolution(images: Tensor) -> None:
    """Raise ValueError unless the images [B, C, H, W] can be encoded at a quarter of H and W, both at least 16."""
    height, width = images.shape[-2:]
    if height % 4 or width % 4 or min(height, width) < 16:
        raise ValueError(f"images of {height}x{width}: accepted are heights and widths divisible by 4, from 16")


def initialise_generator(generator: nn.Module, seed: int) -> None:
    """Draw weights from N(0, 0.02) and BatchNorm weights from N(1, 0.02), as published; biases are 0.

    Drawn in the order of the modules from a generator of their own, so they depend on nothing but the seed.
    """
    random = torch.Generator().manual_seed(seed)
    for module in generator.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.weight.data.normal_(0, 0.02, generator=random)
            if module.bias is not None:
                module.bias.data.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.data.normal_(1, 0.02, generator=random)
            module.bias.data.zero_()
