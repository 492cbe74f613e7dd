"""PIDM's networks (Bhunia et al., CVPR 2023), layer by layer those of its published code.

Both the encoder of the source image and the U-Net that denoises are made of diffusers' residual blocks. Going down and
up are residual blocks too: they average 2 x 2 positions, or repeat each one, before their first convolution. Places are
counted on the way down: 0 is the first convolution, each residual block is one more; the U-Net's way up passes them
backwards. An attention at a place looks at what the encoder gives at that place. The published layers that no output
depends on (an embedding of a second condition, an attention to itself, the encoder's timestep) do not exist here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from baselines.diffusion import import_diffusers
from baselines.diffusion.settings import PIDMNetworkSettings
from xinggan.model.blocks import Dropout, use_exact_norms


@dataclass(frozen=True)
class Step:
    """A residual block of the way down."""

    inputs: int  # channels
    outputs: int
    attends: bool = False
    down: bool = False


def way_down(settings: PIDMNetworkSettings) -> list[Step]:
    """The residual blocks of the encoder and of the U-Net's first half, at places 1, 2, ..."""
    s, steps, before = settings, [], settings.channels[0]
    for level, channels in enumerate(s.channels):
        for number in range(s.level_blocks):
            steps.append(Step(before, channels, attends=s.attends(level) and number == s.level_blocks - 1))
            before = channels
        if level < len(s.channels) - 1:
            steps.append(Step(channels, channels, down=True))
    return steps


class SourceEncoder(nn.Module):
    """Source image -> what every place of the way down gives: the U-Net's first half, without timestep and attention.

    height and width are multiples of 2 to the number of levels less one, as for the U-Net.
    """

    def __init__(self, settings: PIDMNetworkSettings):
        super().__init__()
        self.stem = nn.Conv2d(3, settings.channels[0], 3, padding=1)
        steps = way_down(settings)
        self.blocks = nn.ModuleList(residual_block(settings, *channels_of(s), timed=False, down=s.down) for s in steps)
        use_exact_norms(self)

    def forward(self, source: Tensor) -> list[Tensor]:
        """source: [B, 3, H, W] in [-1, 1]; a missing one is zeros, mid-grey. Returns [B, C, h, w] for each place."""
        features = [self.stem(source)]
        for block in self.blocks:
            features.append(block(features[-1], None))
        return features


class TextureBlock(nn.Module):
    """A residual block; where it attends, attention to the source follows; where it goes up, a second residual block.

    The attention's queries are the normalised positions of x, its keys and values the positions of a source feature.
    """

    def __init__(
        self,
        settings: PIDMNetworkSettings,
        inputs: int,
        outputs: int,
        *,
        attends: bool = False,
        down: bool = False,
        up: bool = False,
    ):
        super().__init__()
        self.residual = residual_block(settings, inputs, outputs, down=down)
        self.attention = source_attention(settings, outputs) if attends else None
        self.enlarging = residual_block(settings, outputs, outputs, up=True) if up else None

    def forward(self, x: Tensor, time: Tensor, source: Tensor | None) -> Tensor:
        """x: [B, inputs, h, w]; time: [B, D]; source: its feature of this place [B, C, h, w].

        Returns [B, outputs, h, w], or at half or twice the height and width.
        """
        x = self.residual(x, time)
        if self.attention is not None and source is not None:
            x = self.attention(x, source.flatten(2).transpose(1, 2))  # keys and values: [B, h * w, C]
        return x if self.enlarging is None else self.enlarging(x, time)


class PIDMUNet(nn.Module):
    """Predicts the noise in an image and its variance, given the target pose and the source's features.

    `places` are those whose features it attends to, in increasing order: seven attentions look at six at the published
    size.
    """

    def __init__(self, settings: PIDMNetworkSettings, inputs: int, outputs: int):
        """inputs: channels of noised image and pose maps together; outputs: 3, or 6 with a learnt variance."""
        super().__init__()
        s, embeddings = settings, import_diffusers("models.embeddings")
        steps, top = way_down(s), s.channels[-1]
        self.time_features = embeddings.Timesteps(s.width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = embeddings.TimestepEmbedding(s.width, s.time_channels)
        self.stem = nn.Conv2d(inputs, s.channels[0], 3, padding=1)
        self.down = nn.ModuleList(TextureBlock(s, *channels_of(x), attends=x.attends, down=x.down) for x in steps)
        self.middle = nn.ModuleList(TextureBlock(s, top, top, attends=attends) for attends in (True, False))

        self.up, channels, skips = nn.ModuleList(), top, [s.channels[0], *(step.outputs for step in steps)]
        for level, outputs_of_level in reversed(list(enumerate(s.channels))):
            for number in range(s.level_blocks + 1):
                attends = s.attends(level) and number == s.level_blocks - 1
                up = level > 0 and number == s.level_blocks
                self.up.append(TextureBlock(s, channels + skips.pop(), outputs_of_level, attends=attends, up=up))
                channels = outputs_of_level
        self.norm = nn.GroupNorm(norm_groups(channels), channels)
        self.head = zeroed(nn.Conv2d(channels, outputs, 3, padding=1))

        attending = [place for place, step in enumerate(steps, start=1) if step.attends]
        attending += [len(steps) - number for number, block in enumerate(self.up) if block.attention is not None]
        self.places = sorted({*attending, len(steps)})

    def forward(self, noised: Tensor, timesteps: Tensor, pose: Tensor, features: list[Tensor]) -> Tensor:
        """noised: [B, 3, H, W]; timesteps: int64 [B]; pose: maps [B, P, H, W]; features: [B, C, h, w] of `places`.

        Returns [B, outputs, H, W].
        """
        time = self.time_embedding(self.time_features(timesteps).to(noised.dtype))  # [B, D]
        source = dict(zip(self.places, features, strict=True))
        x = self.stem(torch.cat([noised, pose], dim=1))
        skips = [x]
        for place, block in enumerate(self.down, start=1):
            x = block(x, time, source.get(place))
            skips.append(x)
        for block in self.middle:
            x = block(x, time, source.get(len(self.down)))
        for block in self.up:
            place = len(skips) - 1
            x = block(torch.cat([x, skips.pop()], dim=1), time, source.get(place))
        return self.head(nn.functional.silu(self.norm(x)))


def channels_of(step: Step) -> tuple[int, int]:
    """Channels of a step's input and output."""
    return step.inputs, step.outputs


def residual_block(
    settings: PIDMNetworkSettings,
    inputs: int,
    outputs: int,
    *,
    timed: bool = True,
    down: bool = False,
    up: bool = False,
) -> nn.Module:
    """diffusers' residual block as PIDM has it: called with x and the timestep's embedding, None where not `timed`.

    Norm, SiLU, (halving or doubling,) convolution; norm, times 1 + scale plus shift from the timestep, SiLU, dropout,
    convolution; plus x, through a 1x1 convolution where the channels differ.
    """
    block = import_diffusers("models.resnet").ResnetBlock2D(
        in_channels=inputs,
        out_channels=outputs,
        temb_channels=settings.time_channels if timed else None,
        groups=norm_groups(inputs),
        groups_out=norm_groups(outputs),
        eps=1e-5,
        time_embedding_norm="scale_shift" if timed else "default",
        down=down,
        up=up,
    )
    block.dropout = Dropout(settings.dropout)  # the same masks in one process and in several
    if settings.zero_initialised:
        zeroed(block.conv2)
    return block


def source_attention(settings: PIDMNetworkSettings, channels: int) -> nn.Module:
    """diffusers' attention with one head from positions [B, C, h, w] to a source's [B, S, C], added to its input."""
    attention = import_diffusers("models.attention_processor").Attention(
        query_dim=channels,
        cross_attention_dim=channels,
        heads=1,
        dim_head=channels,
        bias=True,
        norm_num_groups=norm_groups(channels),
        eps=1e-5,
        residual_connection=True,
    )
    if settings.zero_initialised:
        zeroed(attention.to_out[0])
    return attention


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with weights of zero, at which a branch begins as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def norm_groups(channels: int) -> int:
    """Groups of a GroupNorm: 32 as published from 64 channels on; below that, groups of four channels or more."""
    if channels >= 64 and channels % 32 == 0:
        return 32
    return next(groups for groups in (16, 8, 4, 2, 1) if channels % groups == 0 and channels >= 4 * groups)
