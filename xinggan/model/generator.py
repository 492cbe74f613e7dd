"""The generator of XingGAN and XingGAN++: two encoders, T crossing blocks, fusion (ECCV 2020, figure 1)."""

from typing import Any

import torch
from torch import Tensor, nn

from xinggan.data.poses import JOINTS
from xinggan.model.attention import pyramid_of
from xinggan.model.blocks import CrossingBlock, Encoder
from xinggan.model.fusion import FUSIONS
from xinggan.model.switches import Architecture, Attention, Fusion, Scale


class XingGenerator(nn.Module):
    """Generates the person of the source image in the target pose. ValueError if the switches do not fit together."""

    def __init__(self, architecture: Architecture | None = None):
        super().__init__()
        a = architecture or Architecture()
        a.check()
        self.architecture = a
        self.appearance_encoder = Encoder(3, a.width, a.norm)
        self.shape_encoder = Encoder(2 * len(JOINTS), a.width, a.norm)
        self.blocks = nn.ModuleList(CrossingBlock(a, first=i == 0) for i in range(a.blocks))
        self.fusion = FUSIONS[a.fusion](a)

    def forward(self, source: Tensor, source_pose_maps: Tensor, target_pose_maps: Tensor) -> Tensor:
        """source: [B, 3, H, W] in [-1, 1]; pose maps: [B, 18, H, W]. Returns [B, 3, H, W] in [-1, 1].

        Raises ValueError unless H and W are divisible by 4 and at least 16.
        """
        appearance, shape = self.encode(source, source_pose_maps, target_pose_maps)
        pyramid, stages = pyramid_of(appearance, self.architecture.levels), []
        for block in self.blocks:
            appearance, shape = block(appearance, shape, pyramid)  # [B, C, H/4, W/4], [B, 2C, H/4, W/4]
            stages.append((appearance, shape))
        return self.fusion(stages, source)

    def encode(self, source: Tensor, source_pose_maps: Tensor, target_pose_maps: Tensor) -> tuple[Tensor, Tensor]:
        """F_I and F_P as the first block is given them, [B, C, H/4, W/4] each; arguments as of `forward`."""
        check_resolution(source)
        poses = torch.cat([source_pose_maps, target_pose_maps], dim=1)
        return self.appearance_encoder(source), self.shape_encoder(poses)


def check_resolution(images: Tensor) -> None:
    """Raise ValueError unless the images [B, C, H, W] can be encoded at a quarter of H and W, both at least 16."""
    height, width = images.shape[-2:]
    if height % 4 or width % 4 or min(height, width) < 16:
        raise ValueError(f"images of {height}x{width}: accepted are heights and widths divisible by 4, from 16")


def initialise_generator(generator: nn.Module, seed: int) -> None:
    """Draw convolutions from N(0, 0.02) and BatchNorm weights from N(1, 0.02), as published; biases 0.

    Attention and EA projections are drawn like convolutions, gammas stay 0. The draw depends on `seed` alone.
    """
    random = torch.Generator().manual_seed(seed)
    for module in generator.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            module.weight.data.normal_(0, 0.02, generator=random)
            if module.bias is not None:
                module.bias.data.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.data.normal_(1, 0.02, generator=random)
            module.bias.data.zero_()


def xinggan(**changes: Any) -> Architecture:
    """The architecture of XingGAN (ECCV 2020): single scale, plain attention, co-attention fusion."""
    return Architecture(scale=Scale.single, attention=Attention.plain, fusion=Fusion.coattention, **changes)
