"""Images as the metrics see them: sets and test pairs whose arrays may lie on disk, read a batch at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from xinggan.data.packed import PackedSplit

PIXELS_AT_ONCE = 16 * 128 * 64  # 16 images of 128x64, fewer of larger ones: their features fit a core's cache


@dataclass(frozen=True)
class ImageSet:
    """Some rows of an array of images, in memory or memory-mapped; optionally black outside body masks."""

    images: NDArray[np.uint8]  # [m, H, W, 3]
    rows: NDArray[np.integer]  # [n] rows of `images`
    packed_masks: NDArray[np.uint8] | None = None  # [m', H, ceil(W / 8)] bits along each row
    mask_rows: NDArray[np.integer] | None = None  # [n] rows of `packed_masks`

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self) -> Iterator[Tensor]:
        """All images in order, in batches of bounded size: uint8 [B, 3, H, W] on the CPU."""
        for indices in slices(len(self), self.images.shape[1] * self.images.shape[2]):
            images = np.asarray(self.images[self.rows[indices]])  # (B, H, W, 3)
            if self.packed_masks is not None and self.mask_rows is not None:
                images = images * unpacked(self.packed_masks[self.mask_rows[indices]], images.shape[2])[..., None]
            yield torch.from_numpy(images).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class ScoredPairs:
    """Generated images and the test pairs they were generated for. Raises ValueError unless they fit together."""

    generated: NDArray[np.uint8]  # [n, H, W, 3], in memory or memory-mapped
    split: "PackedSplit"
    pairs: NDArray[np.integer]  # [n] rows of `split.pairs`

    def __post_init__(self) -> None:
        if len(self.generated) != len(self.pairs):
            raise ValueError(
                f"{len(self.generated)} generated images for {len(self.pairs)} test pairs: a set is scored only "
                "when it has exactly one image for each pair"
            )
        if not len(self.pairs):
            raise ValueError("there are no test pairs to score")
        unknown = [int(pair) for pair in self.pairs if not 0 <= pair < len(self.split)]
        if unknown or len(np.unique(self.pairs)) != len(self.pairs):
            raise ValueError(
                f"pairs must be different rows of the {len(self.split)} test pairs; unknown: {unknown[:5]}"
            )
        expected = (self.split.height, self.split.width, 3)
        if self.generated.dtype != np.uint8 or self.generated.shape[1:] != expected:
            raise ValueError(
                f"generated images must be uint8 [n, {self.split.height}, {self.split.width}, 3] like the test "
                f"targets, not {self.generated.dtype} {list(self.generated.shape)}"
            )

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def target_rows(self) -> NDArray[np.integer]:
        """[n] row of each pair's target image in the split."""
        return self.split.pairs[self.pairs, 1]

    def blocks(self, device: torch.device | str) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Generated and target images (uint8 [B, 3, H, W]) and the targets' body masks (bool [B, 1, H, W])."""
        for indices in slices(len(self), self.split.height * self.split.width):
            rows = self.target_rows[indices]
            generated = torch.from_numpy(np.array(self.generated[indices])).permute(0, 3, 1, 2)
            target = torch.from_numpy(self.split.images[rows]).permute(0, 3, 1, 2)
            mask = torch.from_numpy(unpacked(self.split.masks[rows], self.split.width))[:, None]
            yield generated.to(device), target.to(device), mask.to(device)

    def generated_images(self, masked: bool = False) -> ImageSet:
        """All generated images in the order of the pairs; `masked`: black outside the target's body mask."""
        rows = np.arange(len(self))
        return (
            ImageSet(self.generated, rows, self.split.masks, self.target_rows)
            if masked
            else ImageSet(self.generated, rows)
        )

    def real_targets(self) -> tuple[ImageSet, NDArray[np.integer], NDArray[np.integer]]:
        """The distinct target images, where each pair's target is among them, and the first pair of each of them."""
        rows, first, place = np.unique(self.target_rows, return_index=True, return_inverse=True)
        return ImageSet(self.split.images, rows), place, first


def unpacked(packed_masks: NDArray[np.uint8], width: int) -> NDArray[np.bool_]:
    """Bits along each row [B, H, ceil(W / 8)] -> bool [B, H, W]."""
    return np.unpackbits(packed_masks, axis=-1, count=width).view(bool)


def slices(count: int, pixels_per_image: int) -> list[slice]:
    """Consecutive slices of `count` images, each of about PIXELS_AT_ONCE pixels."""
    step = max(1, PIXELS_AT_ONCE // pixels_per_image)
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
