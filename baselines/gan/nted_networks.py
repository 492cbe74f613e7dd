"""The networks of NTED (Ren et al., CVPR 2022): reference encoder with neural texture extraction, skeleton encoder,
renderer with neural texture distribution, discriminator.

Their layers are StyleGAN2's (Karras et al., CVPR 2020), as in the published code: weights drawn from N(0, 1) are scaled
when used, the activation holds the bias, and resampling blurs.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.limb_maps import CHANNELS
from xinggan.model.blocks import check_resolution, pad_to_multiple

Attention = list[
    tuple[Tensor, Tensor]
]  # of every operation: extraction, distribution [B, K, h w], as the renderer goes
GROUP = 4  # images whose deviation the discriminator sees
GRID = (4, 2)  # rows and columns of what is fully connected


class ScaledConvolution(nn.Conv2d):
    """A convolution whose weights are divided by the root of the number of their inputs."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = False, padded: bool = True
    ):
        super().__init__(inputs, outputs, kernel, stride, kernel // 2 if padded else 0, bias=bias)
        self.scale = 1 / sqrt(inputs * kernel**2)
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, inputs, h, w]."""
        return F.conv2d(features, self.weight * self.scale, self.bias, self.stride, self.padding)

    def enlarged(self, features: Tensor) -> Tensor:
        """The transposed convolution by the same weights: [B, outputs, 2 h + 1, 2 w + 1]."""
        return F.conv_transpose2d(features, self.weight.transpose(0, 1) * self.scale, stride=2)


class ScaledLinear(nn.Linear):
    """A linear layer whose weights are divided by the root of the number of their inputs."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True):
        super().__init__(inputs, outputs, bias)
        nn.init.normal_(self.weight)
        if bias:
            nn.init.zeros_(self.bias)

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, inputs]."""
        return F.linear(features, self.weight / sqrt(self.in_features), self.bias)


class Activation(nn.Module):
    """sqrt(2) times the leaky ReLU of features plus a bias for each channel: [B, C, ...]."""

    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, C] or [B, C, h, w]."""
        bias = self.bias.to(features.dtype).view(1, -1, *[1] * (features.dim() - 2))
        return sqrt(2) * F.leaky_relu(features + bias, 0.2)


class Blur(nn.Module):
    """Each channel blurred by [1, 3, 3, 1] in both directions, times `gain`."""

    kernel: Tensor

    def __init__(self, padding: int, gain: float = 1.0):
        super().__init__()
        self.padding = padding
        line = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("kernel", gain * torch.outer(line, line) / 64, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, C, h, w] -> [B, C, h + 2 padding - 3, w + 2 padding - 3]."""
        kernel = self.kernel.expand(features.shape[1], 1, -1, -1)
        return F.conv2d(features, kernel.to(features.dtype), padding=self.padding, groups=len(kernel))

    def enlarged(self, features: Tensor) -> Tensor:
        """features: [B, C, h, w] -> [B, C, 2 h, 2 w], with zeros put between, blurred."""
        kernel = self.kernel.expand(features.shape[1], 1, -1, -1)
        return F.conv_transpose2d(features, kernel.to(features.dtype), stride=2, padding=1, groups=len(kernel))


class Extraction(nn.Module):
    """Neural textures: for each of K labels the features' values, averaged where the label's softmax looks."""

    def __init__(self, channels: int, labels: int, kernel: int):
        super().__init__()
        self.values = ScaledConvolution(channels, channels, kernel, bias=True)
        self.labels = ScaledConvolution(channels, labels, kernel)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """features: [B, C, h, w]. Returns textures [B, C, K] and the softmax over positions [B, K, h w]."""
        centred = features - features.mean(dim=1, keepdim=True)
        key = centred / (centred.norm(dim=1, keepdim=True) + 2.2e-16)
        looks = self.labels(key).flatten(2).float().softmax(dim=2)  # [B, K, h w]
        return self.values(features).flatten(2).float() @ looks.mT, looks


class Distribution(nn.Module):
    """Adds to each position a mean of the textures, weighted by a softmax over labels."""

    def __init__(self, channels: int, labels: int, kernel: int):
        super().__init__()
        self.labels = ScaledConvolution(channels, labels, kernel, bias=True)

    def forward(self, features: Tensor, textures: Tensor) -> tuple[Tensor, Tensor]:
        """features: [B, C, h, w]; textures: [B, C, K]. Returns features and the logits [B, K, h, w]."""
        logits = self.labels(features)
        taken = textures @ logits.flatten(2).float().softmax(dim=1)  # [B, C, h w]
        return (features + taken.to(features.dtype).view_as(features)) / sqrt(2), logits


class EncoderLayer(nn.Module):
    """Half the resolution; then, where there are labels, two extractions."""

    def __init__(self, inputs: int, outputs: int, labels: int = 0, kernel: int = 3):
        super().__init__()
        self.blur = Blur(padding=2)
        self.convolution = ScaledConvolution(inputs, outputs, 3, stride=2, padded=False)
        self.activation = Activation(outputs)
        self.extractions = nn.ModuleList(Extraction(outputs, labels, kernel) for _ in range(2 * bool(labels)))

    def forward(self, features: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """features: [B, inputs, h, w]. Returns [B, outputs, h / 2, w / 2], and what each extraction gives."""
        features = self.activation(self.convolution(self.blur(features)))
        return features, [extract(features) for extract in self.extractions]


class Encoder(nn.Module):
    """Image or pose maps to the deepest features, and all extractions from the finest level to the deepest."""

    def __init__(self, inputs: int, channels: Sequence[int], labels: Sequence[int]):
        """labels: of each layer; 0: no extraction."""
        super().__init__()
        self.first = ScaledConvolution(inputs, channels[0], 1)
        self.activation = Activation(channels[0])
        deepest = len(labels) - 1
        self.layers = nn.ModuleList(
            EncoderLayer(a, b, number, kernel_of(i == deepest))
            for i, ((a, b), number) in enumerate(zip(pairwise(channels), labels, strict=True))
        )

    def forward(self, images: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """images: [B, inputs, H, W]."""
        features, found = self.activation(self.first(images)), []
        for layer in self.layers:
            features, extracted = layer(features)
            found += extracted
        return features, found


def kernel_of(deepest: bool) -> int:
    """Side of the convolutions that attend."""
    return 1 if deepest else 3


class RendererLayer(nn.Module):
    """A convolution, which may double the resolution, then the distribution of textures where there are labels."""

    def __init__(self, inputs: int, outputs: int, larger: bool, labels: int, kernel: int):
        super().__init__()
        self.convolution = ScaledConvolution(inputs, outputs, 3)
        self.blur = Blur(padding=1, gain=4) if larger else None
        self.distribution = Distribution(outputs, labels, kernel) if labels else None
        self.activation = Activation(outputs)

    def forward(self, features: Tensor, textures: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """features: [B, inputs, h, w]; textures: [B, outputs, K] or None. Returns features and logits, if any."""
        logits = None
        if self.blur is not None:
            features = self.blur(self.convolution.enlarged(features))
        else:
            features = self.convolution(features)
        if self.distribution is not None and textures is not None:
            features, logits = self.distribution(features, textures)
        return self.activation(features), logits


class Renderer(nn.Module):
    """From the skeleton's deepest features to the image, a sum over the levels of what each adds."""

    def __init__(self, channels: Sequence[int], labels: Sequence[int]):
        super().__init__()
        deep, counts = list(reversed(channels)), [*reversed(labels), 0]
        self.layers = nn.ModuleList()
        self.to_image = nn.ModuleList(ScaledConvolution(width, 3, 3, bias=True) for width in deep)
        for level, (inputs, outputs) in enumerate(pairwise([deep[0], *deep])):
            common = (counts[level], kernel_of(level == 0))
            self.layers.append(RendererLayer(inputs, outputs, level > 0, *common))
            self.layers.append(RendererLayer(outputs, outputs, False, *common))
        self.enlarge = Blur(padding=1, gain=4)

    def forward(self, features: Tensor, textures: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """features: [B, C, h, w]; textures: [B, C, K] of each layer in its order. Returns the image, which nothing
        bounds, and the logits of each distribution."""
        image, found, remaining = torch.zeros(()), [], iter(textures)
        for place, layer in enumerate(self.layers):
            features, logits = layer(features, next(remaining, None))
            found += [] if logits is None else [logits]
            if place % 2:
                added = self.to_image[place // 2](features)
                image = added + self.enlarge.enlarged(image) if place > 1 else added
        return image, found


class NtedGenerator(nn.Module):
    """Generates the person of the source image in the target pose."""

    def __init__(self, channels: Sequence[int] = (128, 256, 512, 512, 512), labels: Sequence[int] = (64, 64, 32, 16)):
        """channels: at the image's resolution and after each halving; labels: after each halving."""
        super().__init__()
        self.halvings = len(labels)
        self.reference_encoder = Encoder(3, channels, labels)
        self.skeleton_encoder = Encoder(CHANNELS, channels, [0] * len(labels))
        self.renderer = Renderer(channels, labels)

    def forward(self, source: Tensor, pose_maps: Tensor) -> tuple[Tensor, Attention]:
        """source: [B, 3, H, W] in [-1, 1]; pose_maps: [B, 20, H, W] of the target.

        Returns the image [B, 3, H, W], not bounded, and for each operation, in the renderer's order, the softmax of
        its extraction [B, K, h, w] and the logits of its distribution [B, K, h, w], of the padded image. Raises
        ValueError unless H and W are divisible by 4 and at least 16.
        """
        check_resolution(source)
        height, width = source.shape[-2:]
        _, extracted = self.reference_encoder(pad_to_multiple(source, 2**self.halvings))
        features, _ = self.skeleton_encoder(pad_to_multiple(pose_maps, 2**self.halvings))
        extracted.reverse()  # the deepest first, the second operation of a level before its first
        image, logits = self.renderer(features, [textures for textures, _ in extracted])
        looks = [softmax.unflatten(2, of.shape[2:]) for (_, softmax), of in zip(extracted, logits, strict=True)]
        return image[..., :height, :width], list(zip(looks, logits, strict=True))


class DiscriminatorBlock(nn.Module):
    """A residual block of StyleGAN2's discriminator: [B, inputs, h, w] -> [B, outputs, h / 2, w / 2]."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.block = nn.Sequential(
            ScaledConvolution(inputs, inputs, 3),
            Activation(inputs),
            Blur(padding=2),
            ScaledConvolution(inputs, outputs, 3, stride=2, padded=False),
            Activation(outputs),
        )
        self.shortcut = nn.Sequential(Blur(padding=1), ScaledConvolution(inputs, outputs, 1, stride=2))

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, inputs, h, w]."""
        return (self.block(features) + self.shortcut(features)) / sqrt(2)


class Discriminator(nn.Module):
    """Image [B, 3, H, W] -> score [B, 1], before any sigmoid: StyleGAN2's, down to 4x2 at 256x176 pixels.

    Maps of another size are pooled to it. The deviation within a batch is that of neighbouring images.
    """

    def __init__(self, channels: Sequence[int] = (128, 256, 512, 512, 512, 512, 512)):
        super().__init__()
        last = channels[-1]
        blocks = [DiscriminatorBlock(*pair) for pair in pairwise(channels)]
        self.blocks = nn.Sequential(ScaledConvolution(3, channels[0], 1), Activation(channels[0]), *blocks)
        self.last = nn.Sequential(ScaledConvolution(last + 1, last, 3), Activation(last), nn.AdaptiveAvgPool2d(GRID))
        flat = last * GRID[0] * GRID[1]
        self.score = nn.Sequential(
            nn.Flatten(), ScaledLinear(flat, last, bias=False), Activation(last), ScaledLinear(last, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] in [-1, 1]."""
        features = self.blocks(images)  # [B, C, h, w]
        count, _, height, width = features.shape
        group = max(size for size in range(1, GROUP + 1) if count % size == 0)
        groups = features.float().unflatten(0, (-1, group))  # [B / group, group, C, h, w]
        deviation = (groups.var(dim=1, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))  # [B / group]
        plane = deviation.repeat_interleave(group).view(-1, 1, 1, 1).expand(-1, 1, height, width)
        return self.score(self.last(torch.cat([features, plane.to(features.dtype)], dim=1)))
