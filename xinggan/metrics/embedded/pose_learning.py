"""How the embedded pose estimator learns, and how well it does on people it has never seen.

A joint's map learns the place as a distribution over cells whose mean is the joint (cross-entropy), and its mean learns
to be within PCKh's tolerance (a regression in units of half the head box), which is tightest in profile views.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xinggan.data.poses import HEAD_JOINTS, pckh
from xinggan.metrics.embedded.architectures import CELL_PX, PoseEstimator, expected_places
from xinggan.metrics.embedded.people import LearningSet, augmented, mirrored

WEIGHT_OF_CROSS_ENTROPY = 0.3
SMALLEST_TOLERANCE_PX = 1.5


def loss(network: nn.Module, images: Tensor, poses: Tensor, attributes: Tensor, generator: torch.Generator) -> Tensor:
    """Loss of one batch: images float [B, 3, 128, 64] in [-1, 1], poses [B, 18, 3]; attributes do not matter."""
    if torch.rand((), generator=generator) < 0.5:
        images, poses = mirrored(images, poses)
    maps, presence = network(augmented(images, generator))
    maps, visible = maps.float(), (poses[..., 2] > 0).float()  # (B, 18, 32, 16), (B, 18)
    log_probability = maps.flatten(2).log_softmax(2).view_as(maps)
    cross_entropy = -(_spread(poses, maps.shape[2], maps.shape[3]) * log_probability).sum((2, 3))  # (B, 18)
    error = (expected_places(maps) - poses[..., :2]).abs() / _tolerance_px(poses)[:, None]  # (B, 18, 2)
    regression = F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none", beta=0.5).mean(2)
    of_places = ((WEIGHT_OF_CROSS_ENTROPY * cross_entropy + regression) * visible).sum() / visible.sum()
    return of_places + F.binary_cross_entropy_with_logits(presence.float(), visible)


def held_out_scores(network: nn.Module, people: LearningSet) -> dict[str, float]:
    """PCKh as the metric counts it, PCKh if no joint were called absent, and how often presence is right."""
    assert isinstance(network, PoseEstimator)
    estimated = torch.cat([network.estimate(images) for images in people.images.split(128)])
    places = torch.cat([network.estimate(images, all_joints=True) for images in people.images.split(128)])
    correct, total = pckh(estimated.numpy(), people.poses.numpy())
    correct_places, _ = pckh(places.numpy(), people.poses.numpy())
    return {
        "pckh": float(correct.sum() / total.sum()),
        "pckh_of_places": float(correct_places.sum() / total.sum()),
        "presence_accuracy": float((estimated[..., 2] == people.poses[..., 2]).float().mean()),
    }


def _spread(poses: Tensor, rows: int, columns: int) -> Tensor:
    """[B, 18, 3] -> [B, 18, rows, columns]: one joint's weight on its four nearest cells, with the joint as mean."""

    def tents(place_px: Tensor, cells: int) -> Tensor:
        centres = CELL_PX * (torch.arange(cells) + 0.5)
        return (1 - (place_px[..., None] - centres).abs() / CELL_PX).clamp(min=0)  # (B, 18, cells)

    weights = tents(poses[..., 1], rows)[..., None] * tents(poses[..., 0], columns)[..., None, :]
    return weights / weights.sum((2, 3), keepdim=True).clamp(min=1e-6)


def _tolerance_px(poses: Tensor) -> Tensor:
    """[B, 18, 3] -> [B, 2]: half the width and height of the head box, as PCKh allows along x and y."""
    head, shown = poses[:, HEAD_JOINTS, :2], poses[:, HEAD_JOINTS, 2:] > 0
    lowest = torch.where(shown, head, torch.inf).amin(1)
    highest = torch.where(shown, head, -torch.inf).amax(1)
    return ((highest - lowest) / 2).nan_to_num(SMALLEST_TOLERANCE_PX).clamp(min=SMALLEST_TOLERANCE_PX)
