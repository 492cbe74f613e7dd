"""What the embedded networks learn from and are tested on: rendered people of many worlds, never a benchmark's.

A world fixes cameras and backdrops, so a network that is to judge any world has to see many. Augmentation stands in for
what generated images are like: soft, noisy, off in colour, or made at a lower resolution and enlarged.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from xinggan.data.synthetic import ATTRIBUTES, describe, render
from xinggan.metrics.embedded.architectures import HEIGHT, WIDTH, to_network_size

FIRST_WORLD = {"pose": 1_000_000, "attributes": 2_000_000, "perceptual": 3_000_000, "held out": 4_000_000}
VIEWS = 4  # images of each person
WIDE = 88  # pixels: every fourth world is seen at DeepFashion's shape and squeezed, as images of that shape will be
MIRRORED_JOINTS = (0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16)


@dataclass(frozen=True)
class LearningSet:
    """n rendered images with what there is to learn about them."""

    images: Tensor  # [n, 3, 128, 64] uint8
    poses: Tensor  # [n, 18, 3] float32: x, y in pixels, visible
    attributes: Tensor  # [n, attributes] int64: class of each, in the order of ATTRIBUTES

    def __len__(self) -> int:
        return len(self.images)


def render_people(purpose: str, worlds: int, people: int, wide: bool = True) -> LearningSet:
    """VIEWS images each of `people` people in each of `worlds` worlds set aside for `purpose`, a key of FIRST_WORLD."""
    parts = [_render_world(FIRST_WORLD[purpose] + world, people, wide and world % 4 == 3) for world in range(worlds)]
    return LearningSet(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _render_world(world: int, people: int, wide: bool) -> tuple[Tensor, Tensor, Tensor]:
    who, views = np.arange(people).repeat(VIEWS), np.tile(np.arange(VIEWS), people)
    width = WIDE if wide else WIDTH
    rendering = render(world, who, views, HEIGHT, width)
    images, poses = torch.from_numpy(rendering.images).permute(0, 3, 1, 2), torch.from_numpy(rendering.poses)
    if wide:
        images = to_network_size(images).add(1).mul(127.5).round().to(torch.uint8)
        poses = poses * torch.tensor([WIDTH / width, 1, 1])
    described = describe(world, who)
    return images.contiguous(), poses, torch.from_numpy(np.stack([described[name] for name in ATTRIBUTES], 1))


def mirrored(images: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
    """Images [B, 3, H, W] and poses [B, 18, 3] seen in a mirror: left joints become right ones."""
    poses = poses[:, MIRRORED_JOINTS].clone()
    poses[..., 0] = images.shape[3] - poses[..., 0]
    return images.flip(3), poses


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Half of a batch, float [B, 3, H, W] in [-1, 1], made to look generated; the other half as it is."""
    half = len(images) // 2
    changes = (_softer, _noisier, _of_other_colours)
    changed = images[:half]
    for change in changes:
        if torch.rand((), generator=generator) < 0.6:
            changed = change(changed, generator)
    return torch.cat([changed.clamp(-1, 1), images[half:]])


def _softer(images: Tensor, generator: torch.Generator) -> Tensor:
    """Reduced by a factor of up to 2.2, sometimes along one axis only, and enlarged again."""
    factors = 1 + 1.2 * torch.rand(2, generator=generator)
    small = [max(8, round(float(size / factor))) for size, factor in zip(images.shape[2:], factors, strict=True)]
    reduced = F.interpolate(images, small, mode="bilinear", antialias=True)
    return F.interpolate(reduced, images.shape[2:], mode="bilinear")


def _noisier(images: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise of up to 12 grey levels, in single pixels or in blotches of 4x4."""
    deviation = 12 / 127.5 * torch.rand((len(images), 1, 1, 1), generator=generator)
    if torch.rand((), generator=generator) < 0.5:
        return images + deviation * torch.randn(images.shape, generator=generator)
    height, width = images.shape[2:]
    blotches = torch.randn((len(images), 3, height // 4, width // 4), generator=generator)
    return images + deviation * F.interpolate(blotches, (height, width), mode="bilinear")


def _of_other_colours(images: Tensor, generator: torch.Generator) -> Tensor:
    """A gain within 10 % and an offset of up to 10 grey levels for each channel."""
    gain, offset = (2 * torch.rand((2, len(images), 3, 1, 1), generator=generator) - 1) * 0.1
    return images * (1 + gain) + offset * (100 / 127.5)
