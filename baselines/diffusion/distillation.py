"""Distillation into few steps: a student that says at once where a teacher's many DDIM steps lead.

As Luhman and Luhman (2021) distil from pure noise; here from each of the one to four timesteps that the student is
sampled at, over a grid of timesteps that these are part of. Sampling noises what the student said and asks it again, as
consistency models do (Song et al., ICML 2023, algorithm 1). Consistency distillation, whose student learns from itself
a grid step nearer to the data, diverged in trainings of a few hundred steps.
"""

import torch
from torch import Tensor

from baselines.diffusion.process import Network, NoiseProcess, draw_noise
from baselines.diffusion.samplers import ImageNoise, sampling_timesteps

MOST_STEPS = 4
HUBER = 0.001  # below this difference the loss is quadratic, above it linear


def distillation_problems(steps: int, grid: int) -> list[str]:
    """What is wrong with these settings of a method, each with its key and what is accepted."""
    problems = []
    if not 1 <= steps <= MOST_STEPS:
        problems.append(f"method.steps={steps}: accepted are 1 to {MOST_STEPS} sampling steps")
    if grid % 12 or not 12 <= grid <= 240:
        problems.append(
            f"method.grid={grid}: accepted are multiples of 12 up to 240, so that 1, 2, 3 and 4 steps fall on the grid"
        )
    return problems


def ddim_steps(
    process: NoiseProcess, network: Network, noised: Tensor, timesteps: list[int], limit: float | None = None
) -> Tensor:
    """Where DDIM leads from x at the first of `timesteps` over the others to the data: [B, ...]."""
    clean = noised
    for now, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        t = torch.full((len(noised),), now, device=noised.device)  # [B]
        prediction = network(noised, t).float()
        clean = process.clean(prediction, noised, t)
        if limit is not None:
            clean = clean.clamp(-limit, limit)
        if following is not None:
            noised = process.noised(clean, process.noise(prediction, noised, t), torch.full_like(t, following))
    return clean


def distillation_loss(
    process: NoiseProcess,
    teacher: Network,
    student: Network,
    clean: Tensor,
    *,
    steps: int,
    grid: int,
    limit: float | None = None,
) -> Tensor:
    """Pseudo-Huber distance of the student's one step from the teacher's many, for data [B, ...]. Returns [].

    The batch starts at one of the student's `steps` timesteps, the same in all processes, which seed alike. limit: as
    in `samplers.sample`.
    """
    points = sampling_timesteps(grid)
    start = sampling_timesteps(steps)[int(torch.randint(steps, ()))]
    timesteps = torch.full((len(clean),), start, device=clean.device)  # [B]
    noised = process.noised(clean, draw_noise(clean), timesteps)
    with torch.no_grad():
        wanted = ddim_steps(process, teacher, noised, points[points.index(start) :], limit)
    difference = process.clean(student(noised, timesteps).float(), noised, timesteps) - wanted
    return ((difference.square() + HUBER**2).sqrt() - HUBER).mean()


@torch.no_grad()
def few_step_sample(
    process: NoiseProcess,
    student: Network,
    shape: tuple[int, ...],
    seeds: Tensor,
    *,
    steps: int,
    device: torch.device | str,
    limit: float | None = None,
) -> Tensor:
    """One item of `shape` for each of seeds, int64 [B]: float32 [B, *shape] (algorithm 1, multistep sampling).

    After the first step, what the student said is noised again and said anew. limit: as in `samplers.sample`.
    """
    noise = ImageNoise(seeds, shape, device)
    clean = torch.zeros(len(seeds), *shape, device=device)
    for number, timestep in enumerate(sampling_timesteps(steps)):
        timesteps = torch.full((len(seeds),), timestep, device=device)  # [B]
        fresh = noise.draw()
        noised = process.noised(clean, fresh, timesteps) if number else fresh
        clean = process.clean(student(noised, timesteps).float(), noised, timesteps)
        if limit is not None:
            clean = clean.clamp(-limit, limit)
    return clean
