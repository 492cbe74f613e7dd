"""PATN: "Progressive Pose Attention Transfer for Person Image Generation" (Zhu et al., CVPR 2019).

Implemented: the generator (section 3.1) with its encoders (3.1.1), pose-attentional transfer blocks (3.1.2) and decoder
(3.1.3), the two discriminators (3.2) and the training (3.3). Encoders, convolution blocks, discriminators, losses,
history pools and order of updates are those that XingGAN took over, and are shared with it.

Where paper and published code differ, this is the published code, whose numbers became known: the discriminators have
ReLU (paper: leaky), and the generator's adversarial loss is the mean of both discriminators' (paper: one logarithm of
the product of their scores). Departures from the code: discriminators and losses have the same switches as XingGAN's,
and the steps of training are the preset's, where the code counts in epochs.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from xinggan.data.poses import JOINTS
from xinggan.data.settings import PoseMap
from xinggan.model.adversarial import PoseTransferGAN
from xinggan.model.blocks import ConvBlock, Encoder
from xinggan.model.fusion import ImageDecoder
from xinggan.model.generator import check_resolution
from xinggan.model.published import STREAMS, PublishedGenerator, fill, norm_of, read_published
from xinggan.model.switches import Discriminators, LossWeights, Norm, TransferSettings


class TransferBlock(nn.Module):
    """Pose-attentional transfer block: the shape code says where the appearance code is to change (section 3.1.2)."""

    def __init__(self, channels: int, norm: str, dropout: float, first: bool):
        super().__init__()
        self.appearance = ConvBlock(channels, channels, norm, dropout, last_norm=True)
        self.shape = ConvBlock(channels if first else 2 * channels, channels, norm, dropout, last_norm=False)

    def forward(self, appearance: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
        """appearance: [B, C, h, w]; shape: [B, C or 2C, h, w]. Returns the next codes [B, C, h, w], [B, 2C, h, w]."""
        y = self.shape(shape)  # [B, C, h, w]
        appearance = appearance + self.appearance(appearance) * torch.sigmoid(y)
        return appearance, torch.cat([y, appearance], dim=1)


class PatnGenerator(nn.Module):
    """Generates the person of the source image in the target pose. ValueError for numbers out of range."""

    def __init__(self, width: int = 64, blocks: int = 9, norm: Norm = Norm.batch, dropout: float = 0.5):
        super().__init__()
        TransferSettings(width=width, blocks=blocks, norm=norm, dropout=dropout)  # refuses what is out of range
        self.norm = norm
        self.appearance_encoder = Encoder(3, width, norm)
        self.shape_encoder = Encoder(2 * len(JOINTS), width, norm)
        self.blocks = nn.ModuleList(TransferBlock(4 * width, norm, dropout, first=i == 0) for i in range(blocks))
        self.decoder = ImageDecoder(4 * width, width, norm, candidates=1)

    def forward(self, source: Tensor, source_pose_maps: Tensor, target_pose_maps: Tensor) -> Tensor:
        """source: [B, 3, H, W] in [-1, 1]; pose maps: [B, 18, H, W]. Returns [B, 3, H, W] in [-1, 1].

        Raises ValueError unless H and W are divisible by 4 and at least 16.
        """
        check_resolution(source)
        appearance = self.appearance_encoder(source)  # [B, C, H/4, W/4]
        shape = self.shape_encoder(torch.cat([source_pose_maps, target_pose_maps], dim=1))  # [B, C, H/4, W/4]
        for block in self.blocks:
            appearance, shape = block(appearance, shape)  # [B, C, H/4, W/4], [B, 2C, H/4, W/4]
        return self.decoder(appearance)


class PATN(PoseTransferGAN):
    """PATN in the training that it published. Default losses: its weights for Market-1501 (DeepFashion: 5, 1, 1)."""

    def __init__(
        self,
        width: int = 64,
        blocks: int = 9,
        norm: Norm = Norm.batch,
        dropout: float = 0.5,
        losses: LossWeights | None = None,
        discriminators: str = Discriminators.both,
        learning_rate: float = 2e-4,
        history: int = 50,
        pose_map: PoseMap = PoseMap.gaussian,
        pose_sigma: float = 6.0,
        seed: int = 0,
    ):
        super().__init__(
            PatnGenerator(width, blocks, norm, dropout),
            TransferSettings(
                losses=losses or LossWeights(adversarial=5, l1=10, perceptual=10),
                discriminators=Discriminators(discriminators),
                width=width,
                norm=norm,
                dropout=dropout,
                learning_rate=learning_rate,
                history=history,
                pose_map=pose_map,
                pose_sigma=pose_sigma,
                seed=seed,
            ),
        )


def load_published(path: Path | str) -> PatnGenerator:
    """The generator of a published PATN checkpoint, in eval mode. Raises PublishedMismatch for any other file."""
    return from_published(read_published(path), str(path))


def from_published(state: dict[str, Tensor], origin: str = "state dict") -> PatnGenerator:
    """As `load_published`, from a state dict in memory; `origin` is named in errors."""
    generator = PatnGenerator(norm=norm_of(state))
    return fill(generator, state, STREAMS | {"stream1_up": "decoder"}, origin)


class PublishedPATN(PublishedGenerator):
    """A published checkpoint of PATN."""

    read = staticmethod(load_published)
