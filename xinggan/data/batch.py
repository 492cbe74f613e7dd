"""`PosePair`, the one batch type: images as bytes and poses as keypoints until they are on the device."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class PosePair:
    """B test or training pairs. Images stay uint8 and poses keypoints until `.to(device)`; see `images_to_float`."""

    source_image: Tensor  # [B, 3, H, W] uint8
    source_pose: Tensor  # [B, 18, 3] float32: x, y in pixels, visible
    target_image: Tensor  # [B, 3, H, W] uint8
    target_pose: Tensor  # [B, 18, 3] float32
    target_mask: Tensor  # [B, 1, H, W] bool: body mask of the target pose
    identity: Tensor  # [B] int64
    pair: Tensor  # [B] int64: row in the split's list of pairs

    def __len__(self) -> int:
        return len(self.pair)

    def to(self, device: torch.device | str) -> "PosePair":
        """The same batch on `device` (copied without blocking where the memory is pinned)."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return PosePair(**{name: value.to(device, non_blocking=True) for name, value in values.items()})


def images_to_float(images: Tensor) -> Tensor:
    """uint8 [B, 3, H, W] -> float32 in [-1, 1], channels last in memory."""
    return images.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1)


def images_to_bytes(images: Tensor) -> Tensor:
    """float [B, 3, H, W] in [-1, 1] -> uint8, rounded to the nearest level as a lossless file would hold it."""
    return images.float().add(1).mul(127.5).round_().clamp_(0, 255).to(torch.uint8)
