"""From noise to data with a trained network: guidance, and diffusers' schedulers by name in 1 to 1000 steps.

Classifier-free guidance (Ho and Salimans, 2022) has one scale for the source image and one for the pose. A guided
prediction is a weighted sum over branches that see different conditions; all branches are one batch of the network,
which is evaluated once a step. Every item of a batch has a random generator of its own for its first noise and for the
noise of every step, so its result is the same alone and among others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor

from baselines.diffusion import import_diffusers
from baselines.diffusion.process import Network, NoiseProcess, Seen
from baselines.diffusion.settings import TIMESTEPS, Sampler

# noised [B, ...], timesteps int64 [B], conditions [B, ...], which rows see them -> prediction [B, ...]
ConditionalNetwork = Callable[[Tensor, Tensor, list[Tensor], Seen], Tensor]


@dataclass(frozen=True)
class Branch:
    """One of the predictions that a guided one sums: its weight, and whether it sees the source and the pose."""

    weight: float
    source: bool
    pose: bool


def disentangled_branches(source_scale: float, pose_scale: float) -> tuple[Branch, ...]:
    """PIDM (Bhunia et al., CVPR 2023): e(-, -) + w_s (e(s, -) - e(-, -)) + w_p (e(-, p) - e(-, -)).

    Scales of 1 and 1 are no guidance: the one prediction that sees both conditions.
    """
    if source_scale == pose_scale == 1:
        return (Branch(1.0, source=True, pose=True),)
    neither = Branch(1 - source_scale - pose_scale, source=False, pose=False)
    parts = (neither, Branch(source_scale, source=True, pose=False), Branch(pose_scale, source=False, pose=True))
    return tuple(branch for branch in parts if branch.weight)


def cascaded_branches(source_scale: float, pose_scale: float) -> tuple[Branch, ...]:
    """Guidance by the pose, then by the source: e(-, -) + w_p (e(-, p) - e(-, -)) + w_s (e(s, p) - e(-, p)).

    Scales of 1 and 1 are no guidance: the weights of the other branches are 0.
    """
    neither, pose = Branch(1 - pose_scale, source=False, pose=False), Branch(pose_scale - source_scale, False, True)
    parts = (neither, pose, Branch(source_scale, source=True, pose=True))
    return tuple(branch for branch in parts if branch.weight)


def guided(network: ConditionalNetwork, conditions: list[Tensor], branches: tuple[Branch, ...]) -> Network:
    """The weighted sum of the predictions of N branches, which `network` makes as one batch [N * B, ...].

    conditions: tensors [B, ...].
    """
    n = len(branches)
    repeated = [torch.cat([condition] * n) for condition in conditions]  # [N * B, ...], branch by branch
    flags = torch.tensor([[branch.source, branch.pose] for branch in branches], device=conditions[0].device)
    seen = Seen(*flags.repeat_interleave(len(conditions[0]), dim=0).T)

    def predict(noised: Tensor, timesteps: Tensor) -> Tensor:
        predictions = network(torch.cat([noised] * n), torch.cat([timesteps] * n), repeated, seen).float()
        parts = [branch.weight * part for branch, part in zip(branches, predictions.chunk(n), strict=True)]
        return torch.stack(parts).sum(0)  # [B, ...]

    return predict


def sampling_timesteps(steps: int) -> list[int]:
    """Evenly spaced timesteps from T - 1 down, the last one T / steps above the data ("trailing" in diffusers).

    Computed in whole numbers: diffusers' own spacing gives one too many, -1, for 62 of the numbers from 1 to 1000.
    """
    return [(2 * TIMESTEPS * k + steps) // (2 * steps) - 1 for k in range(steps, 0, -1)]


class ImageNoise:
    """Standard normal noise for a batch in which every item has a generator of its own.

    Drawn on the CPU, so that a seed gives the same image on every device.
    """

    def __init__(self, seeds: Tensor, shape: tuple[int, ...], device: torch.device | str):
        """seeds: int64 [B]; shape: of an item."""
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]
        self.shape, self.device = shape, device

    def draw(self) -> Tensor:
        """The next noise: float32 [B, *shape]."""
        return torch.stack([torch.randn(self.shape, generator=own) for own in self.generators]).to(self.device)


@torch.no_grad()
def sample(
    process: NoiseProcess,
    network: Network,
    shape: tuple[int, ...],
    seeds: Tensor,
    *,
    sampler: str,
    steps: int,
    device: torch.device | str,
    limit: float = inf,
) -> Tensor:
    """One item of `shape` for each of seeds, int64 [B]: float32 [B, *shape].

    network: what `process` was trained with, guided or not; called once a step. Predictions of the data are clamped to
    [-limit, limit].
    """
    noise = ImageNoise(seeds, shape, device)
    noised = noise.draw()
    scheduler = make_scheduler(sampler, steps, process.betas)
    own_noise = {"generator": noise.generators} if sampler == Sampler.ddpm else {}  # the others draw none
    for timestep in scheduler.timesteps.tolist():
        timesteps = torch.full((len(noised),), timestep, device=device)  # [B]
        clean = process.clean(network(noised, timesteps).float(), noised, timesteps).clamp(-limit, limit)
        with torch.autocast(noised.device.type, enabled=False):  # only the network may be of lower precision
            noised = scheduler.step(clean, timestep, noised, **own_noise).prev_sample
    return noised


def make_scheduler(sampler: str, steps: int, betas: Tensor) -> Any:
    """diffusers' scheduler of this name, which is given the clean data instead of the noise, at `sampling_timesteps`.

    `ddim` is DPM-Solver++ of first order, which is the same method (Lu et al., 2022); diffusers' own DDIM steps to
    another timestep than the next one where `steps` does not divide 1000.
    """
    diffusers = import_diffusers()
    timesteps = sampling_timesteps(steps)
    shared = {"num_train_timesteps": TIMESTEPS, "trained_betas": betas.tolist(), "prediction_type": "sample"}
    if sampler == Sampler.ddpm:
        scheduler = diffusers.DDPMScheduler(clip_sample=False, **shared)
        scheduler.set_timesteps(timesteps=timesteps)
    elif sampler == Sampler.unipc:
        scheduler = diffusers.UniPCMultistepScheduler(**shared)
        scheduler.set_timesteps(steps)
        kept = scheduler.alphas_cumprod[timesteps]
        scheduler.timesteps = torch.tensor(timesteps)  # set_timesteps takes no list
        scheduler.sigmas = torch.cat([((1 - kept) / kept).sqrt(), torch.zeros(1)])
        scheduler.num_inference_steps = steps
    else:
        order = 1 if sampler == Sampler.ddim else 2
        scheduler = diffusers.DPMSolverMultistepScheduler(solver_order=order, **shared)
        scheduler.set_timesteps(timesteps=timesteps)
    return scheduler
