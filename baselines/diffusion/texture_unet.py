"""PIDM's networks (Bhunia et al., CVPR 2023): a source encoder, and a U-Net that attends to its features.

Both consist of diffusers' ResnetBlock2D, Downsample2D, Upsample2D, Attention and timestep embedding, in the sizes that
the method's settings say. `levels` are a U-Net's resolutions from full size down, each half as high and wide as the one
before, rounded up. The latent methods have the same blocks and levels, with an input, an output and an attention of
their own.
"""

from collections.abc import Callable
from enum import Enum, auto
from math import gcd
from typing import Any

import torch
from torch import Tensor, nn

from baselines.diffusion import import_diffusers
from baselines.diffusion.settings import DiffusionSettings
from xinggan.data.poses import JOINTS
from xinggan.model.blocks import Dropout


class Place(Enum):
    """The place of an attention in the U-Net."""

    down = auto()
    level_end = auto()  # the last one of a level on the way down
    middle = auto()
    up = auto()


class SourceEncoder(nn.Module):
    """Source image -> its features at every level that attends to them."""

    def __init__(self, settings: DiffusionSettings, inputs: int = 3):
        super().__init__()
        resnet = import_diffusers("models.resnet")
        self.settings = s = settings
        channels = s.channels
        self.stem = nn.Conv2d(inputs, channels[0], 3, padding=1)
        self.blocks, self.downs = nn.ModuleList(), nn.ModuleList()
        for level, outputs in enumerate(channels):
            befores = [channels[max(level - 1, 0)], *[outputs] * (s.level_blocks - 1)]
            self.blocks.append(nn.ModuleList(residual_block(before, outputs, s.dropout) for before in befores))
            if level < len(channels) - 1:
                self.downs.append(resnet.Downsample2D(outputs, use_conv=True))

    def forward(self, source: Tensor) -> list[Tensor]:
        """source: [B, inputs, H, W]. Returns [B, h * w, C] for each level that attends, from large to small."""
        features = []
        x = self.stem(source)  # [B, C, H, W]
        for level, blocks in enumerate(self.blocks):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, None)  # [B, C, h, w]
            if self.settings.attends(level):
                features.append(x.flatten(2).transpose(1, 2))  # [B, h * w, C]
            if level < len(self.downs):
                x = self.downs[level](x)
        return features


class TextureBlock(nn.Module):
    """A residual block with the timestep as input; where its level attends, attention to the source follows."""

    def __init__(self, settings: DiffusionSettings, inputs: int, outputs: int, attention: nn.Module | None):
        super().__init__()
        self.block = residual_block(inputs, outputs, settings.dropout, time_channels=4 * settings.width)
        self.attention = attention

    def forward(self, x: Tensor, time: Tensor, condition: Any) -> Tensor:
        """x: [B, inputs, h, w]; time: [B, 4 * width]; condition: what is attended to. Returns [B, outputs, h, w]."""
        x = self.block(x, time)
        return x if self.attention is None else self.attention(x, condition)


def source_attention(channels: int, place: Place) -> nn.Module:
    """diffusers' attention from positions [B, C, h, w] to the source's [B, S, C], one head, added to its input."""
    return import_diffusers("models.attention_processor").Attention(
        query_dim=channels,
        cross_attention_dim=channels,
        heads=1,
        dim_head=channels,
        norm_num_groups=norm_groups(channels),
        residual_connection=True,
    )


class TextureUNet(nn.Module):
    """Predicts the noise in an image, given the target pose and the source's features."""

    def __init__(
        self,
        settings: DiffusionSettings,
        inputs: int = 3 + len(JOINTS),
        outputs: int = 3,
        attention: Callable[[int, Place], nn.Module] = source_attention,
    ):
        """attention: makes, for channels C and a place, a module of features [B, C, h, w] and the level's condition."""
        super().__init__()
        embeddings, resnet = import_diffusers("models.embeddings"), import_diffusers("models.resnet")
        s, channels, levels = settings, settings.channels, len(settings.multipliers)
        self.time_features = embeddings.Timesteps(s.width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = embeddings.TimestepEmbedding(s.width, 4 * s.width)
        self.stem = nn.Conv2d(inputs, channels[0], 3, padding=1)

        def block(level: int, before: int, place: Place, attends: bool = True) -> TextureBlock:
            after, attends = channels[level], attends and s.attends(level)
            return TextureBlock(s, before, after, attention(after, place) if attends else None)

        x, skips = channels[0], [channels[0]]
        self.down_blocks, self.downs = nn.ModuleList(), nn.ModuleList()
        for level in range(levels):
            blocks = nn.ModuleList()
            for number in range(s.level_blocks):
                blocks.append(block(level, x, Place.level_end if number == s.level_blocks - 1 else Place.down))
                x = channels[level]
                skips.append(x)
            self.down_blocks.append(blocks)
            if level < levels - 1:
                self.downs.append(resnet.Downsample2D(x, use_conv=True))
                skips.append(x)

        self.middle = nn.ModuleList(block(levels - 1, x, Place.middle, attends) for attends in (True, False))

        self.up_blocks, self.ups = nn.ModuleList(), nn.ModuleList()  # from the smallest level up
        for level in reversed(range(levels)):
            blocks = nn.ModuleList()
            for _ in range(s.level_blocks + 1):
                blocks.append(block(level, x + skips.pop(), Place.up))
                x = channels[level]
            self.up_blocks.append(blocks)
            if level > 0:
                self.ups.append(resnet.Upsample2D(x, use_conv=True))

        self.norm = nn.GroupNorm(norm_groups(x), x)
        self.head = nn.Conv2d(x, outputs, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, noised: Tensor, timesteps: Tensor, beside: Tensor, conditions: list) -> Tensor:
        """noised: [B, 3, H, W]; timesteps: int64 [B]; beside: [B, ..., H, W], PIDM's pose maps; conditions: one for
        each level that attends, PIDM's of `SourceEncoder`.

        Returns [B, outputs, H, W]; a missing condition is zero.
        """
        time = self.time_embedding(self.time_features(timesteps).to(noised.dtype))  # [B, 4 * width]
        seen = [None] * (len(self.down_blocks) - len(conditions)) + conditions  # one a level
        x = self.stem(torch.cat([noised, beside], dim=1))  # [B, C, H, W]
        skips = [x]
        for level, blocks in enumerate(self.down_blocks):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, time, seen[level])
                skips.append(x)
            if level < len(self.downs):
                x = self.downs[level](x)
                skips.append(x)
        for block in self.middle:
            x = block(x, time, seen[-1])
        for number, blocks in enumerate(self.up_blocks):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(torch.cat([x, skips.pop()], dim=1), time, seen[-1 - number])
            if number < len(self.ups):
                x = self.ups[number](x, output_size=skips[-1].shape[-2:])  # a level may have an odd height or width
        return self.head(nn.functional.silu(self.norm(x)))


def residual_block(inputs: int, outputs: int, dropout: float, time_channels: int = 0) -> nn.Module:
    """diffusers' residual block; `time_channels` of the timestep's embedding, 0 where the block has no timestep."""
    block = import_diffusers("models.resnet").ResnetBlock2D(
        in_channels=inputs,
        out_channels=outputs,
        temb_channels=time_channels or None,
        groups=norm_groups(inputs),
        groups_out=norm_groups(outputs),
        time_embedding_norm="scale_shift" if time_channels else "default",
    )
    block.dropout = Dropout(dropout)  # the same masks in one process and in several
    return block


def norm_groups(channels: int) -> int:
    """Groups of a GroupNorm: 32 as published, fewer where a group would have less than four channels."""
    return next(groups for groups in (32, 16, 8, 4, 2, 1) if channels % groups == 0 and channels >= 4 * groups)


def heads_of(channels: int) -> int:
    """Attention heads of the latent methods: 8 as published, fewer where a head would have less than four channels."""
    return gcd(8, max(1, channels // 4))
