"""From noise to data with a trained network: guidance, DDIM, and diffusers' schedulers by name in 1 to 1000 steps.

Classifier-free guidance (Ho and Salimans, 2022) has a scale for the source image, and may have one for the pose. A
guided prediction is a weighted sum over branches that see different conditions; all branches are one batch of the
network, which is evaluated once a step. Every item of a batch has a random generator of its own for its first noise and
for the noise of every step, so its result is the same alone and among others.
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

    weight: float | Callable[[Tensor], Tensor]  # or a function of the timesteps, int64 [B] -> [B]
    source: bool
    pose: bool


def source_branches(scale: float) -> tuple[Branch, ...]:
    """Guidance of PIDM's published code, by the source alone: e(-, p) + w (e(s, p) - e(-, p)). A scale of 1 is none."""
    parts = (Branch(1 - scale, source=False, pose=True), Branch(scale, source=True, pose=True))
    return tuple(branch for branch in parts if branch.weight)


def disentangled_branches(source_scale: float, pose_scale: float) -> tuple[Branch, ...]:
    """Guidance of PIDM's paper (section 3.3): e(-, -) + w_s (e(s, -) - e(-, -)) + w_p (e(-, p) - e(-, -)).

    Scales of 1 and 1 are no guidance: the one prediction that sees both conditions.
    """
    if source_scale == pose_scale == 1:
        return (Branch(1.0, source=True, pose=True),)
    neither = Branch(1 - source_scale - pose_scale, source=False, pose=False)
    parts = (neither, Branch(source_scale, source=True, pose=False), Branch(pose_scale, source=False, pose=True))
    return tuple(branch for branch in parts if branch.weight)


def cascaded_branches(source_scale: float, pose_scale: float, start: float = 0.0) -> tuple[Branch, ...]:
    """Guidance by the pose, then by the source: e(-, -) + w_p (e(-, p) - e(-, -)) + w_s (e(s, p) - e(-, p)).

    A weight w is the scale, and with `start` at least start t / T, which decays towards the data. Scales of 1 and 1
    without it are no guidance: branches whose weights are 0 throughout are left out.
    """
    if not start:
        neither, pose = Branch(1 - pose_scale, source=False, pose=False), Branch(pose_scale - source_scale, False, True)
        parts = (neither, pose, Branch(source_scale, source=True, pose=True))
        return tuple(branch for branch in parts if branch.weight)

    def weight(scale: float, t: Tensor) -> Tensor:
        return (start * t / TIMESTEPS).clamp(min=scale)

    neither = Branch(lambda t: 1 - weight(pose_scale, t), source=False, pose=False)
    pose = Branch(lambda t: weight(pose_scale, t) - weight(source_scale, t), source=False, pose=True)
    both = Branch(lambda t: weight(source_scale, t), source=True, pose=True)
    return (neither, both) if source_scale == pose_scale else (neither, pose, both)


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
        parts = []
        for branch, part in zip(branches, predictions.chunk(n), strict=True):
            if callable(branch.weight):
                parts.append(branch.weight(timesteps).view(-1, *[1] * (part.dim() - 1)) * part)
            else:
                parts.append(branch.weight * part)
        return torch.stack(parts).sum(0)  # [B, ...]

    return predict


def trailing_timesteps(steps: int) -> list[int]:
    """Evenly spaced timesteps from T - 1 down, the last one T / steps above the data ("trailing" in diffusers).

    Computed in whole numbers: diffusers' own spacing gives one too many, -1, for 62 of the numbers from 1 to 1000.
    """
    return [(2 * TIMESTEPS * k + steps) // (2 * steps) - 1 for k in range(steps, 0, -1)]


def leading_timesteps(steps: int) -> list[int]:
    """The first `steps` of 0, s, 2 s, ... with s = T // steps, from the last one down ("leading" in diffusers)."""
    return [k * (TIMESTEPS // steps) for k in reversed(range(steps))]


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
    timesteps: list[int],
    device: torch.device | str,
    limit: float = inf,
) -> Tensor:
    """One item of `shape` for each of seeds, int64 [B]: float32 [B, *shape].

    network: what `process` was trained with, guided or not; called once for each of `timesteps`, which decrease.
    Predictions of the data are clamped to [-limit, limit].
    """
    noise = ImageNoise(seeds, shape, device)
    noised = noise.draw()
    if sampler == Sampler.ddim:
        return ddim(process, network, noised, timesteps, limit)
    scheduler = make_scheduler(sampler, timesteps, process)
    own_noise = {"generator": noise.generators} if sampler == Sampler.ddpm else {}  # the others draw none
    for timestep in timesteps:
        t = torch.full((len(noised),), timestep, device=device)  # [B]
        prediction, v = process.split(network(noised, t).float())
        clean = process.clean(prediction, noised, t).clamp(-limit, limit)
        given = clean if v is None or sampler != Sampler.ddpm else torch.cat([clean, v], dim=1)
        with torch.autocast(noised.device.type, enabled=False):  # only the network may be of lower precision
            noised = scheduler.step(given, timestep, noised, **own_noise).prev_sample
    return clean if sampler == Sampler.ddpm else noised  # no noise is added to the data themselves


def ddim(process: NoiseProcess, network: Network, noised: Tensor, timesteps: list[int], limit: float = inf) -> Tensor:
    """The data [B, ...] that DDIM (Song et al., ICLR 2021, equation 12 with sigma 0) reaches from `noised` [B, ...].

    `noised` stands at the first of `timesteps`, which decrease; the step after the last one gives the data. limit: as
    in `sample`.
    """
    clean = noised
    for now, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        t = torch.full((len(noised),), now, device=noised.device)  # [B]
        prediction, _ = process.split(network(noised, t).float())
        clean = process.clean(prediction, noised, t).clamp(-limit, limit)
        if following is not None:
            noised = process.noised(clean, process.noise(clean, noised, t), torch.full_like(t, following))
    return clean


def make_scheduler(sampler: str, timesteps: list[int], process: NoiseProcess) -> Any:
    """diffusers' scheduler of this name, which is given the clean data instead of the noise, at these timesteps."""
    diffusers = import_diffusers()
    shared = {"num_train_timesteps": TIMESTEPS, "trained_betas": process.betas.tolist(), "prediction_type": "sample"}
    if sampler == Sampler.ddpm:
        variance = "learned_range" if process.learnt_variance else "fixed_small"
        scheduler = diffusers.DDPMScheduler(clip_sample=False, variance_type=variance, **shared)
        scheduler.set_timesteps(timesteps=timesteps)
    elif sampler == Sampler.unipc:
        scheduler = diffusers.UniPCMultistepScheduler(**shared)
        scheduler.set_timesteps(len(timesteps))
        kept = scheduler.alphas_cumprod[timesteps]
        scheduler.timesteps = torch.tensor(timesteps)  # set_timesteps takes no list
        scheduler.sigmas = torch.cat([((1 - kept) / kept).sqrt(), torch.zeros(1)])
        scheduler.num_inference_steps = len(timesteps)
    else:
        scheduler = diffusers.DPMSolverMultistepScheduler(**shared)
        scheduler.set_timesteps(timesteps=timesteps)
    return scheduler
