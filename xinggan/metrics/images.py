"""Images as the metrics see them: sets and test pairs whose arrays may lie on disk, read a batch at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xinggan.progress import Progress

if TYPE_CHECKING:
    from xinggan.data.packed import PackedSplit

Output = TypeVar("Output")
PIXELS_AT_ONCE = 16 * 128 * 64  # 16 images of 128x64, fewer of larger ones


@dataclass(frozen=True)
class ScoredPairs:
    """Generated images and the test pairs they were generated for. Raises ValueError unless they fit together."""

    generated: NDArray[np.uint8]  # [n, H, W, 3], in memory or memory-mapped
    split: "PackedSplit"
    pairs: NDArray[np.integer]  # [n] rows of `split.pairs`

    def __post_init__(self) -> None:
        generated, split, pairs = self.generated, self.split, self.pairs
        if len(generated) != len(pairs):
            raise ValueError(
                f"{len(generated)} generated images for {len(pairs)} test pairs: a set is scored only "
                "when it has exactly one image for each pair"
            )
        if not len(pairs):
            raise ValueError("there are no test pairs to score")
        unknown = pairs[(pairs < 0) | (pairs >= len(split))].tolist()
        if unknown or len(np.unique(pairs)) != len(pairs):
            raise ValueError(f"pairs must be different rows of the {len(split)} test pairs; unknown: {unknown[:5]}")
        if generated.dtype != np.uint8 or generated.shape[1:] != (split.height, split.width, 3):
            raise ValueError(
                f"generated images must be uint8 [n, {split.height}, {split.width}, 3] like the test "
                f"targets, not {generated.dtype} {list(generated.shape)}"
            )

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def target_rows(self) -> NDArray[np.integer]:
        """[n] row of each pair's target image in the split."""
        return self.split.pairs[self.pairs, 1]

    @cached_property
    def distinct_targets(self) -> tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.integer]]:
        """Rows [m] of the distinct target images in the split, the first pair [m] of each of them, and where each
        pair's target is among them [n]."""
        return np.unique(self.target_rows, return_index=True, return_inverse=True)

    def batches(self, device: torch.device | str, description: str) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Generated and target images (uint8 [B, 3, H, W]) and the targets' body masks (bool [B, 1, H, W]), in order,
        with a progress display."""
        targets = image_batches(self.split.images, self.target_rows, device, description)
        start = 0
        for target in targets:
            rows = slice(start, start := start + len(target))
            packed = self.split.masks[self.target_rows[rows]]  # [B, H, ceil(W / 8)]
            mask = np.unpackbits(packed, axis=-1, count=self.split.width).view(bool)  # [B, H, W]
            generated = torch.from_numpy(np.array(self.generated[rows])).permute(0, 3, 1, 2)
            yield generated.to(device), target, torch.from_numpy(mask)[:, None].to(device)


_outputs: dict[str, Any] = {}  # of networks for real images, by content
OUTPUTS_KEPT = 12


def computed_once(
    network: str, images: NDArray[np.uint8], rows: NDArray[np.integer], compute: Callable[[], Output]
) -> Output:
    """The output of `compute`, a `network` on `rows` of real images, computed once in a process for the same images.

    A run and the references beside it are scored on the same real images, most of which are those of the training.
    """
    digest = sha256(f"{network} {images.shape[1:]}".encode())
    for row in rows:
        digest.update(np.ascontiguousarray(images[row]).data)
    if (key := digest.hexdigest()) not in _outputs:
        _outputs[key] = compute()
        for oldest in list(_outputs)[:-OUTPUTS_KEPT]:
            del _outputs[oldest]
    return _outputs[key]


def image_batches(
    images: NDArray[np.uint8], rows: NDArray[np.integer], device: torch.device | str, description: str
) -> Iterator[Tensor]:
    """`rows` [n] of images [m, H, W, 3], in order, in batches of about PIXELS_AT_ONCE pixels: uint8 [B, 3, H, W]; with
    a progress display."""
    size = max(1, PIXELS_AT_ONCE // (images.shape[1] * images.shape[2]))
    with Progress(description, len(rows), "images") as progress:
        for start in range(0, len(rows), size):
            batch = torch.from_numpy(images[rows[start : start + size]])
            yield batch.permute(0, 3, 1, 2).to(device)
            progress.update(len(batch))
