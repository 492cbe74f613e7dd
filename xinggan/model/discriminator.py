"""The two discriminators of XingGAN (ECCV 2020, section 3.4): one looks at appearance, the other at shape."""

from torch import Tensor, nn

from xinggan.data.poses import JOINTS
from xinggan.model.blocks import ConvBlock, Encoder

APPEARANCE_INPUTS = 3 + 3  # generated and source image
SHAPE_INPUTS = 3 + len(JOINTS)  # generated image and target pose maps


class ResidualBlock(nn.Module):
    """features + ConvBlock(features)."""

    def __init__(self, channels: int, norm: str, dropout: float):
        super().__init__()
        self.block = ConvBlock(channels, channels, norm, dropout, last_norm=True)

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, C, h, w]."""
        return features + self.block(features)


class Discriminator(nn.Sequential):
    """Image beside its condition [B, inputs, H, W] -> score map [B, 4 * width, H/4, W/4], before any sigmoid.

    The published discriminators have no last convolution: each of the 256 channels is a score.
    """

    def __init__(self, inputs: int, width: int, norm: str, dropout: float):
        residual = [ResidualBlock(4 * width, norm, dropout) for _ in range(3)]
        super().__init__(Encoder(inputs, width, norm), *residual)
