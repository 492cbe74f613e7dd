"""The generator of XingGAN and XingGAN++: two encoders, T crossing blocks, fusion (ECCV 2020, figure 1)."""

import torch
from torch import Tensor, nn

from xinggan.data.poses import JOINTS
from xinggan.model.blocks import CrossingBlock, Encoder
from xinggan.model.fusion import FUSIONS
from xinggan.model.switches import XingGANSettings


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


def check_resolution(images: Tensor) -> None:
    """Raise ValueError unless the images [B, C, H, W] can be encoded at a quarter of H and W, both at least 16."""
    height, width = images.shape[-2:]
    if height % 4 or width % 4 or min(height, width) < 16:
        raise ValueError(f"images of {height}x{width}: accepted are heights and widths divisible by 4, from 16")


def initialise_generator(generator: nn.Module, seed: int) -> None:
    """Draw weights from N(0, 0.02) and BatchNorm weights from N(1, 0.02), as published; biases are 0.

    Drawn in the order of the modules from a generator of their own, so they depend on nothing but the seed.
    """
    random = torch.Generator().manual_seed(seed)
    for module in generator.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.weight.data.normal_(0, 0.02, generator=random)
            if module.bias is not None:
                module.bias.data.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.data.normal_(1, 0.02, generator=random)
            module.bias.data.zero_()
