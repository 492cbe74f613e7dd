"""U-Nets over latents: PIDM's blocks and levels with another input, another output and another attention.

At every level that attends, `make_attention` gives a module in place of PIDM's. It is called as module(x, condition)
with features x [B, C, h, w] and what the caller hands in for that level, and returns [B, C, h, w].
"""

from collections.abc import Callable
from enum import Enum, auto
from math import gcd
from typing import Any

from torch import Tensor, nn

from baselines.diffusion.texture_unet import Size, SourceEncoder, TextureUNet


class Place(Enum):
    """Where in the U-Net an attention is."""

    down = auto()
    level_end = auto()  # the last one of a level on the way down
    middle = auto()
    up = auto()


MakeAttention = Callable[[int, Place], nn.Module]  # from the channels and the place


def heads_of(channels: int) -> int:
    """Attention heads: 8 as published, fewer where a head would have less than four channels."""
    return gcd(8, max(1, channels // 4))


def latent_unet(size: Size, inputs: int, outputs: int, make_attention: MakeAttention) -> TextureUNet:
    """A U-Net [B, inputs, h, w] -> [B, outputs, h, w] that begins with predicting 0.

    Its forward takes the noised latents and what is concatenated to them as PIDM's takes image and pose maps, and a
    list of conditions, one for each level that attends, from the largest.
    """
    unet = TextureUNet(size)
    unet.stem, unet.head = nn.Conv2d(inputs, size.width, 3, padding=1), nn.Conv2d(size.width, outputs, 3, padding=1)
    nn.init.zeros_(unet.head.weight)
    nn.init.zeros_(unet.head.bias)  # type: ignore[arg-type]
    places = [(block, Place.down) for level in unet.down_blocks for block in level[:-1]]  # type: ignore[index]
    places += [(level[-1], Place.level_end) for level in unet.down_blocks]  # type: ignore[index]
    places += [(block, Place.middle) for block in unet.middle]
    places += [(block, Place.up) for level in unet.up_blocks for block in level]  # type: ignore[attr-defined]
    for block, place in places:
        if block.attention is not None:
            block.attention = Attending(make_attention(block.block.out_channels, place))
    return unet


def latent_encoder(size: Size, inputs: int) -> SourceEncoder:
    """Features [B, h * w, C] of [B, inputs, h, w] for each level that attends, from the largest."""
    encoder = SourceEncoder(size)
    encoder.stem = nn.Conv2d(inputs, size.width, 3, padding=1)
    return encoder


class Attending(nn.Module):
    """Takes the call that PIDM's blocks make of diffusers' attention."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor, encoder_hidden_states: Any) -> Tensor:
        """x: [B, C, h, w]; encoder_hidden_states: the level's condition."""
        return self.attention(x, encoder_hidden_states)
