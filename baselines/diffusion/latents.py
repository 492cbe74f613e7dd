"""Training images as latents, encoded once: what the second stage of latent diffusion draws its batches from.

A resumed training encodes them again, with the same weights in the same batches, so they come out the same to the bit;
in a checkpoint they would weigh 11 KB for each image of DeepFashion.
"""

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from baselines.diffusion.autoencoder import AutoencoderKL, encode
from xinggan.data.batch import images_to_float
from xinggan.data.packed import PackedSplit
from xinggan.progress import Progress

BATCH = 32  # images encoded at once


class PackedLatents:
    """The latents of a split's images, as they come from the encoder, and which pair has which."""

    def __init__(self, autoencoder: AutoencoderKL, split: PackedSplit, device: torch.device, progress: bool = True):
        self.pairs = torch.from_numpy(split.pairs.astype(np.int64)).to(device)  # [p, 2]
        parts = []
        count = len(split.images)
        # A budget in FLOPs counts those of a step, and encoding everything once is no part of a step.
        with (
            _disable_current_modes(),
            torch.no_grad(),
            Progress("encoding", count, "images", enabled=progress) as shown,
        ):
            for start in range(0, count, BATCH):
                images = torch.tensor(split.images[start : start + BATCH]).permute(0, 3, 1, 2).to(device)
                parts.append(encode(autoencoder, images_to_float(images)).float())
                shown.update(len(images))
        self.latents = torch.cat(parts)  # [n, C, h, w]

    def of_pairs(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """rows: int64 [B] of the split's pairs. Returns source and target latents, [B, C, h, w] each."""
        source, target = self.pairs[rows].T
        return self.latents[source], self.latents[target]

    def statistics(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and deviation of each channel, [C, 1, 1], and the largest value once these are 0 and 1, []."""
        mean = self.latents.mean(dim=(0, 2, 3))[:, None, None]
        std = self.latents.std(dim=(0, 2, 3))[:, None, None].clamp(min=1e-6)
        return mean, std, ((self.latents - mean) / std).abs().max()
