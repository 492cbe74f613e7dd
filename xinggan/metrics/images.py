"""Sets of images as the metrics see them: rows of an array that may lie on disk, read a batch at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PIXELS_AT_ONCE = 64 * 128 * 64  # a batch of 64 images of 128x64; fewer of larger ones


@dataclass(frozen=True)
class ImageSet:
    """Some rows of an array of images, in memory or memory-mapped; optionally black outside body masks."""

    images: NDArray[np.uint8]  # [m, H, W, 3]
    rows: NDArray[np.integer]  # [n] rows of `images`
    packed_masks: NDArray[np.uint8] | None = None  # [n, H, ceil(W / 8)], one for each of `rows`

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: slice) -> Tensor:
        """The images at these positions of the set: uint8 [B, 3, H, W] on the CPU."""
        images = np.asarray(self.images[self.rows[indices]])  # (B, H, W, 3)
        if self.packed_masks is not None:
            inside = np.unpackbits(self.packed_masks[indices], axis=-1, count=images.shape[2])  # (B, H, W)
            images = images * inside[..., None]
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    def batches(self) -> Iterator[Tensor]:
        """All images in order, in batches of bounded size."""
        for indices in slices(len(self), self.images.shape[1] * self.images.shape[2]):
            yield self.batch(indices)


def slices(count: int, pixels_per_image: int) -> list[slice]:
    """Consecutive slices of `count` images, each of about PIXELS_AT_ONCE pixels."""
    step = max(1, PIXELS_AT_ONCE // pixels_per_image)
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
