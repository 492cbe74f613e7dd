"""Generating images with a method: every pair of a list, in batches, as bytes."""

from collections.abc import Sequence

import numpy as np
import torch

from xinggan.data.batch import images_to_bytes
from xinggan.data.packed import PackedSplit
from xinggan.model.method import Method
from xinggan.progress import Progress
from xinggan.training.schedule import image_seeds
from xinggan.training.stop import StopRequest


def generate_pairs(
    method: Method,
    split: PackedSplit,
    pairs: Sequence[int] | np.ndarray,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch: int = 16,
    progress: bool = True,
    stop: StopRequest | None = None,
) -> np.ndarray:
    """The image of every listed pair of `split`: uint8 [n, H, W, 3]. The method is left in the mode it was in.

    Raises Preempted between two batches when `stop` has been asked to.
    """
    indices = np.asarray(pairs, dtype=np.int64)
    images = np.empty((len(indices), split.height, split.width, 3), dtype=np.uint8)
    training = method.training
    method.eval()
    with Progress("generating", len(indices), "images", enabled=progress) as shown:
        for start in range(0, len(indices), batch):
            if stop:
                stop.check()
            rows = indices[start : start + batch]
            seeds = torch.from_numpy(image_seeds(seed, rows)).to(device)
            generated = method.generate_pairs(split.batch(rows).to(device), seeds)  # [b, 3, H, W] in [-1, 1]
            images[start : start + len(rows)] = images_to_bytes(generated).permute(0, 2, 3, 1).cpu().numpy()
            shown.update(len(rows))
    method.train(training)
    return images
