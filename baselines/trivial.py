"""Trivial references, in every table: each metric's floor and ceiling on the test set. Nothing is trained."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from xinggan.data.batch import PosePair, images_to_float
from xinggan.model.method import Method

if TYPE_CHECKING:
    from xinggan.data.packed import PackedSplit


class CopySource(Method):
    """The source image as it is: right person, wrong pose."""

    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        return images_to_float(source)


class MeanImage(Method):
    """The mean of all training images: no person, no pose, but the average background."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(0))

    def begin(self, train: "PackedSplit") -> None:
        total = np.zeros(train.images.shape[1:], dtype=np.float64)  # [H, W, 3]
        for start in range(0, len(train.images), 1024):  # in pieces: the array may be larger than the memory
            total += train.images[start : start + 1024].sum(axis=0, dtype=np.float64)
        mean = torch.from_numpy(total / len(train.images)).permute(2, 0, 1)  # [3, H, W]
        self.mean = (mean / 127.5 - 1).float().to(self.mean.device)

    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        return self.mean.expand(len(source), -1, -1, -1)


class GroundTruth(Method):
    """The target image itself: the best that can be scored."""

    def generate_pairs(self, batch: PosePair, seeds: Tensor) -> Tensor:
        return images_to_float(batch.target_image)
