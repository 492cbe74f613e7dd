"""XingGAN and XingGAN++: two encoders, T crossing blocks, fusion (ECCV 2020, figure 1), and the method around them."""

import torch
from torch import Tensor, nn

from xinggan.data.poses import JOINTS
from xinggan.model.adversarial import PoseTransferGAN
from xinggan.model.attention import CrossAttention, region_grids, regions
from xinggan.model.blocks import ConvBlock, Encoder, check_resolution
from xinggan.model.fusion import FUSIONS
from xinggan.model.switches import Attention, Branches, XingGANSettings


class CrossingBlock(nn.Module):
    """One stage: both codes are convolved, then each attends to the other (SA and AS; XingGAN, eq. 1 to 6).

    `branches=appearance` has SA alone, `branches=shape` AS alone. The code without attention is passed on as convolved,
    so that either branch still sees both inputs (chosen here: the paper's figure leaves it open).
    """

    def __init__(self, settings: XingGANSettings, first: bool):
        super().__init__()
        s, channels = settings, 4 * settings.width
        self.scale, self.pyramid = s.scale, tuple(s.pyramid)
        self.appearance = ConvBlock(channels, channels, s.norm, s.dropout, last_norm=True)
        self.shape = ConvBlock(channels if first else 2 * channels, channels, s.norm, s.dropout, last_norm=False)
        has_sa = s.attention != Attention.none and s.branches != Branches.shape
        has_as = s.attention != Attention.none and s.branches != Branches.appearance
        self.tied = has_sa and has_as and s.tie_projections  # one module serves SA and AS
        self.shape_guided = CrossAttention(channels, s.attention, s.code_size) if has_sa else None
        self.appearance_guided = None
        if has_as and not self.tied:
            self.appearance_guided = CrossAttention(channels, s.attention, s.code_size)

    def forward(self, appearance: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
        """appearance: F_I [B, C, h, w]; shape: F_P [B, 2C, h, w], in the first block [B, C, h, w].

        Returns the next F_I [B, C, h, w] and F_P [B, 2C, h, w].
        """
        x, y = self.appearance(appearance), self.shape(shape)  # [B, C, h, w] each
        x_new, y_new = x, y
        sa, as_ = self.attentions
        if sa or as_:
            grids = region_grids(x.shape[2], x.shape[3], self.scale, self.pyramid)
            x_regions, y_regions = regions(x, grids), regions(y, grids)  # [B, S, C] each
            if sa:
                x_new = sa(x, x_regions, y_regions, grids)
            if as_:
                y_new = as_(y, y_regions, x_regions, grids)  # guided by x, as it was before SA
        return x_new, torch.cat([x_new, y_new], dim=1)

    def attention_weights(self, appearance: Tensor, shape: Tensor) -> dict[str, Tensor]:
        """A [B, N, S] of the branches that the block has, "SA" and "AS"; arguments as of `forward`."""
        x, y = self.appearance(appearance), self.shape(shape)
        grids = region_grids(x.shape[2], x.shape[3], self.scale, self.pyramid)
        sa, as_ = self.attentions
        found = {}
        if sa:
            found["SA"] = sa.weights(x, regions(y, grids), grids)
        if as_:
            found["AS"] = as_.weights(y, regions(x, grids), grids)
        return found

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
    """XingGAN++ with the default settings; they switch its components (see `xinggan.model.switches`)."""

    checkpointed = (*PoseTransferGAN.checkpointed, CrossingBlock)

    def __init__(self, settings: XingGANSettings | None = None):
        settings = settings or XingGANSettings()
        super().__init__(XingGenerator(settings), settings)
