"""What GFLA (Ren et al., CVPR 2020) and DPTN (Zhang et al., CVPR 2022) are built of, as in their published code.

In the generators instance normalisation with learnt scales and a leaky ReLU come before a convolution, not behind it.
The discriminator, which sees nothing but an image, has spectral normalisation and no other.
"""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from xinggan.model.blocks import InstanceNorm, ReflectionPad

GAIN = 0.02  # of the orthogonal matrices that weights begin as


def activated(channels: int, convolution: nn.Module) -> list[nn.Module]:
    """Instance normalisation and leaky ReLU before a convolution."""
    return [InstanceNorm(channels, affine=True), nn.LeakyReLU(0.1), convolution]


def reflected(inputs: int, outputs: int) -> nn.Sequential:
    """Leaky ReLU before a 3x3 convolution that keeps the size by reflection padding."""
    return nn.Sequential(nn.LeakyReLU(0.1), ReflectionPad(1), nn.Conv2d(inputs, outputs, 3))


class EncoderBlock(nn.Sequential):
    """Two convolutions, of which the first halves the resolution; `plain`: it sees its input as it is."""

    def __init__(self, inputs: int, outputs: int, plain: bool = False):
        smaller, same = nn.Conv2d(inputs, outputs, 4, 2, 1), nn.Conv2d(outputs, outputs, 3, padding=1)
        super().__init__(*([smaller] if plain else activated(inputs, smaller)), *activated(outputs, same))


class ResidualBlock(nn.Module):
    """The features, or (`projected`) a 1x1 convolution of them, plus two convolutions of them."""

    def __init__(self, channels: int, projected: bool = False):
        super().__init__()
        first, second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.block = nn.Sequential(*activated(channels, first), *activated(channels, second))
        self.shortcut = nn.Conv2d(channels, channels, 1) if projected else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, C, h, w]."""
        return self.shortcut(features) + self.block(features)


class DecoderBlock(nn.Module):
    """Transposed convolutions in the block and in its shortcut double the resolution."""

    def __init__(self, inputs: int, hidden: int, outputs: int):
        super().__init__()
        larger, self.shortcut = (nn.ConvTranspose2d(n, outputs, 3, 2, 1, output_padding=1) for n in (hidden, inputs))
        same = nn.Conv2d(inputs, hidden, 3, padding=1)
        self.block = nn.Sequential(*activated(inputs, same), *activated(hidden, larger))

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, inputs, h, w] -> [B, outputs, 2 h, 2 w]."""
        return self.block(features) + self.shortcut(features)


class DiscriminatorBlock(nn.Module):
    """Two convolutions, of which the second halves the resolution, plus a 1x1 convolution of the averaged input."""

    def __init__(self, inputs: int, hidden: int, outputs: int, plain: bool = False):
        super().__init__()
        same, smaller = nn.Conv2d(inputs, hidden, 3, padding=1), nn.Conv2d(hidden, outputs, 4, 2, 1)
        first = [] if plain else [nn.LeakyReLU(0.1)]
        self.block = nn.Sequential(*first, same, nn.LeakyReLU(0.1), smaller)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1))

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, inputs, h, w] -> [B, outputs, h / 2, w / 2]."""
        return self.block(features) + self.shortcut(features)


class ImageDiscriminator(nn.Sequential):
    """Image [B, 3, H, W] -> scores [B, 1, H / 2 ** levels, W / 2 ** levels], before any sigmoid.

    Every convolution is spectrally normalised. `plain`: the first sees the image as it is (DPTN), not its leaky ReLU.
    """

    def __init__(self, width: int = 32, levels: int = 3, plain: bool = False):
        channels = [width * min(2**level, 4) for level in range(levels)]
        blocks = [
            DiscriminatorBlock(3, width, width, plain),
            *(DiscriminatorBlock(a, a, b) for a, b in pairwise(channels)),
        ]
        super().__init__(*blocks, nn.LeakyReLU(0.1), nn.Conv2d(channels[-1], 1, 1))
        initialise_orthogonally(self)
        for module in list(self.modules()):
            if isinstance(module, nn.Conv2d):
                spectral_norm(module)


def initialise_orthogonally(network: nn.Module) -> None:
    """Weights of convolutions and linear layers become orthogonal matrices of gain 0.02, biases 0, as published."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.orthogonal_(module.weight, GAIN)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def without_second_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published state without the tensors that it has twice, once by the layer's own name."""
    twice = ("conv1", "conv2", "bypass")
    return {name: tensor for name, tensor in state.items() if name.split(".")[-2] not in twice}
