"""Conditions that may be missing: left out at random in training, and weighed against each other in sampling.

Classifier-free guidance (Ho and Salimans, 2022) with one scale for the source image and one for the pose. A guided
prediction is a weighted sum over branches that see different conditions; all branches are one batch of the network.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from baselines.diffusion.process import Network
from xinggan.distributed import Processes


@dataclass(frozen=True)
class Branch:
    """One of the predictions in a guided one: its weight, and whether it sees the source and the pose."""

    weight: float
    source: bool
    pose: bool


def disentangled_branches(source_scale: float, pose_scale: float) -> tuple[Branch, ...]:
    """PIDM (Bhunia et al., CVPR 2023): e(-, -) + w_s (e(s, -) - e(-, -)) + w_p (e(-, p) - e(-, -)).

    Scales of 1 and 1 are no guidance: the one prediction that sees both conditions.
    """
    neither = Branch(1 - source_scale - pose_scale, source=False, pose=False)
    parts = (neither, Branch(source_scale, source=True, pose=False), Branch(pose_scale, source=False, pose=True))
    return _without_idle(parts, source_scale, pose_scale)


def cascaded_branches(source_scale: float, pose_scale: float) -> tuple[Branch, ...]:
    """e(-, -) + w_p (e(-, p) - e(-, -)) + w_s (e(s, p) - e(-, p)): the source guides what already follows the pose."""
    neither = Branch(1 - pose_scale, source=False, pose=False)
    parts = (neither, Branch(pose_scale - source_scale, source=False, pose=True), Branch(source_scale, True, True))
    return _without_idle(parts, source_scale, pose_scale)


def _without_idle(branches: tuple[Branch, ...], source_scale: float, pose_scale: float) -> tuple[Branch, ...]:
    if source_scale == pose_scale == 1:
        return (Branch(1.0, source=True, pose=True),)
    return tuple(branch for branch in branches if branch.weight)


def guided(network: Network, branches: tuple[Branch, ...]) -> Network:
    """The weighted sum of `network` over the branches, which it gets as one batch [N * B, ...], branch by branch.

    The network is closed over the conditions as `for_branches` lays them out. Returns a function of [B, ...].
    """

    def predict(noised: Tensor, timesteps: Tensor) -> Tensor:
        n = len(branches)
        predictions = network(torch.cat([noised] * n), torch.cat([timesteps] * n)).float()  # [N * B, ...]
        parts = [branch.weight * part for branch, part in zip(branches, predictions.chunk(n), strict=True)]
        return torch.stack(parts).sum(0)  # [B, ...]

    return predict


def for_branches(condition: Tensor, seen: list[bool]) -> Tensor:
    """condition: [B, ...]; seen: N flags, one a branch. Returns [N * B, ...], zero in branches that do not see it."""
    return torch.cat([condition if flag else torch.zeros_like(condition) for flag in seen])


def kept_in_training(rows: int, dropout: float, device: torch.device) -> Tensor:
    """bool [rows]: whether each training image keeps a condition, which it loses with probability `dropout`.

    Drawn for the whole global batch, of which a process keeps its rows.
    """
    processes = Processes.current
    return processes.own_rows(torch.rand(rows * processes.count, device=device) >= dropout)


def guidance_problems(source_scale: float, pose_scale: float, dropout: float) -> list[str]:
    """What is wrong with these settings of a method, each with its key and what is accepted."""
    problems = []
    scales = {"guidance_source": source_scale, "guidance_pose": pose_scale}
    for key, scale in scales.items():
        if not 0 <= scale < float("inf"):
            problems.append(f"method.{key}={scale}: accepted is 0 or more; 1 and 1 are no guidance")
    if not 0 <= dropout < 1:
        problems.append(f"method.condition_dropout={dropout}: accepted is 0 up to, not including, 1")
    elif dropout == 0 and any(scale != 1 for scale in scales.values()):
        given = " ".join(f"method.{key}={scale}" for key, scale in scales.items())
        problems.append(
            f"{given}: guidance needs predictions without a condition, which are not trained with "
            "method.condition_dropout=0; set it to 0.1, or both scales to 1"
        )
    return problems
