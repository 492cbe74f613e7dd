"""PATN: "Progressive Pose Attention Transfer for Person Image Generation" (Zhu et al., CVPR 2019).

Implemented: the generator (section 3.1) with its encoders (3.1.1), pose-attentional transfer blocks (3.1.2) and decoder
(3.1.3), the two discriminators (3.2) and the training (3.3). XingGAN took over the encoders, convolution blocks,
discriminators, losses, history pools and order of updates, so both methods share that code.

Where paper and published code differ, this is the published code, whose numbers became known: the discriminators have
ReLU (paper: leaky), and the generator's adversarial loss is the mean of both discriminators' (paper: one logarithm of
the product of their scores). Departures from the code: discriminators and losses have the same switches as XingGAN's,
and the preset counts the training in steps, where the code counts epochs.
"""

import torch
from torch import Tensor, nn

from baselines.gan.settings import PATNSettings
from xinggan.data.poses import JOINTS
from xinggan.model.adversarial import PoseTransferGAN
from xinggan.model.blocks import ConvBlock, Encoder, check_resolution
from xinggan.model.fusion import ImageDecoder
from xinggan.model.published import STREAMS, PublishedGenerator, fill, norm_of
from xinggan.model.switches import TransferSettings


class TransferBlock(nn.Module):
    """Pose-attentional transfer block: the shape code says where the appearance code is to change (section 3.1.2)."""

    def __init__(self, settings: TransferSettings, first: bool):
        super().__init__()
        s, channels = settings, 4 * settings.width
        self.appearance = ConvBlock(channels, channels, s.norm, s.dropout, last_norm=True)
        self.shape = ConvBlock(channels if first else 2 * channels, channels, s.norm, s.dropout, last_norm=False)

    def forward(self, appearance: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
        """appearance: [B, C, h, w]; shape: [B, C or 2C, h, w]. Returns the next codes [B, C, h, w], [B, 2C, h, w]."""
        y = self.attention_logits(self.shape(shape))  # [B, C, h, w]
        appearance = appearance + self.appearance(appearance) * torch.sigmoid(y)
        return appearance, torch.cat([y, appearance], dim=1)

    def attention_logits(self, code: Tensor) -> Tensor:
        """From the convolved shape code [B, C, h, w], which PATN uses as it is."""
        return code


class PatnGenerator(nn.Module):
    """Generates the person of the source image in the target pose."""

    block: type[TransferBlock] = TransferBlock

    def __init__(self, settings: TransferSettings):
        super().__init__()
        s = settings
        self.appearance_encoder = Encoder(3, s.width, s.norm)
        self.shape_encoder = Encoder(2 * len(JOINTS), s.width, s.norm)
        self.blocks = nn.ModuleList(self.block(s, first=i == 0) for i in range(s.blocks))
        self.decoder = ImageDecoder(4 * s.width, s.width, s.norm, candidates=1)

    def forward(self, source: Tensor, source_pose_maps: Tensor, target_pose_maps: Tensor) -> Tensor:
        """source: [B, 3, H, W] in [-1, 1]; pose maps: [B, 18, H, W]. Returns [B, 3, H, W] in [-1, 1].

        Raises ValueError unless H and W are divisible by 4 and at least 16.
        """
        return self.decoder(self.appearance_code(source, source_pose_maps, target_pose_maps))

    def appearance_code(self, source: Tensor, source_pose_maps: Tensor, target_pose_maps: Tensor) -> Tensor:
        """The appearance code after the last block, [B, C, H/4, W/4]; arguments as of `forward`."""
        check_resolution(source)
        appearance = self.appearance_encoder(source)  # [B, C, H/4, W/4]
        shape = self.shape_encoder(torch.cat([source_pose_maps, target_pose_maps], dim=1))  # [B, C, H/4, W/4]
        for block in self.blocks:
            appearance, shape = block(appearance, shape)  # [B, C, H/4, W/4], [B, 2C, H/4, W/4]
        return appearance


class PATN(PoseTransferGAN):
    """PATN in its published training."""

    checkpointed = (*PoseTransferGAN.checkpointed, TransferBlock)

    def __init__(self, settings: PATNSettings | None = None):
        settings = settings or PATNSettings()
        super().__init__(PatnGenerator(settings), settings)


MODULES = STREAMS | {"stream1_up": "decoder"}  # published module names -> ours


def from_published(state: dict[str, Tensor], origin: str = "state dict") -> PatnGenerator:
    """The generator of a published state dict, in eval mode. Raises PublishedMismatch, naming `origin`."""
    return fill(PatnGenerator(PATNSettings(norm=norm_of(state))), state, MODULES, origin)


class PublishedPATN(PublishedGenerator):
    """A published checkpoint of PATN."""

    from_state = staticmethod(from_published)
