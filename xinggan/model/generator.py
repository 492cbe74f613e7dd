"""XingGAN and XingGAN++: two encoders, T crossing blocks, fusion (ECCV 2020, figure 1), and the method around them."""

import torch
from torch import Tensor, nn

from xinggan.data.poses import JOINTS
from xinggan.model.adversarial import PoseTransferGAN
from xinggan.model.attention import CrossAttention, regions
from xinggan.model.blocks import ConvBlock, Encoder, check_resolution
from xinggan.model.fusion import FUSIONS
from xinggan.model.switches import Attention, Branches, XingGANSettings


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


class XingGenerator(nn.Module):
    """Generates the person of the source image in the target pose."""

    def __init__(self, settings: XingGANSettings | None = None):
        super().__init__()
        self.settings = s = settings or XingGANSettings()
        self.appearance_encoder = Encoder(3, s.width, s.norm)
        self.shape_encoder = Encoder(2 * len(JOINTS), s.width, s.norm)
        self.blocks = nn.ModuleList(CrossingBlock(s, first=i == 0) for i in range(s.blocks))
        self.fusion = FUSIONS[s.fusion](s)

    def forward(self, source: Tensor, source_pose_maps: Tensor, target_pose_maps: Tensor) -> Tensor:
        """source: [B, 3, H, W] in [-1, 1]; pose maps: [B, 18, H, W]. Returns [B, 3, H, W] in [-1, 1].

        Raises ValueError unless H and W are divisible by 4 and at least 16.
        """
        appearance, shape = self.encode(source, source_pose_maps, target_pose_maps)
        stages = []
        for block in self.blocks:
            appearance, shape = block(appearance, shape)  # F_I [B, C, H/4, W/4], F_P [B, 2C, H/4, W/4]
            stages.append((appearance, shape))
        return self.fusion(stages, source)

    def encode(self, source: Tensor, source_pose_maps: Tensor, target_pose_maps: Tensor) -> tuple[Tensor, Tensor]:
        """The codes that the first block takes, [B, C, H/4, W/4] each; arguments as of `forward`."""
        check_resolution(source)
        poses = torch.cat([source_pose_maps, target_pose_maps], dim=1)  # [B, 36, H, W]
        return self.appearance_encoder(source), self.shape_encoder(poses)


class XingGAN(PoseTransferGAN):
    """XingGAN++ as the defaults stand; the settings switch its components (see `xinggan.model.switches`)."""

    checkpointed = (*PoseTransferGAN.checkpointed, CrossingBlock)

    def __init__(self, settings: XingGANSettings | None = None):
        settings = settings or XingGANSettings()
        super().__init__(XingGenerator(settings), settings)
