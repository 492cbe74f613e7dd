"""Consistency distillation (Song et al., ICML 2023, algorithm 2): a student that goes from any x_t to the data at once.

On a grid of timesteps t_1 < .. < t_N, far apart as in latent consistency models (Luo et al., 2023). A
teacher's DDIM step leads from x at t_n+1 to x at t_n, and the student is to say the same about both. As the networks
predict v, the student is x_t itself at the data, which consistency models ask for.
"""

import torch
from torch import Tensor

from baselines.diffusion.process import Network, NoiseProcess, draw_integers, draw_noise
from baselines.diffusion.samplers import ImageNoise, sampling_timesteps

MOST_STEPS = 4
HUBER = 0.001  # below this difference the loss is quadratic, above it linear; as in latent consistency models


def consistency_problems(steps: int, grid: int) -> list[str]:
    """What is wrong with these settings of a method, each with its key and what is accepted."""
    problems = []
    if not 1 <= steps <= MOST_STEPS:
        problems.append(f"method.steps={steps}: accepted are 1 to {MOST_STEPS} sampling steps")
    if grid % 12 or not 12 <= grid <= 240:
        problems.append(
            f"method.grid={grid}: accepted are multiples of 12 up to 240, so that 1, 2, 3 and 4 steps fall on the grid"
        )
    return problems


def ddim_step(process: NoiseProcess, prediction: Tensor, noised: Tensor, timesteps: Tensor, earlier: Tensor) -> Tensor:
    """x at timesteps `earlier` from a prediction for x at `timesteps`, both int64 [B]; -1 is the data themselves."""
    clean = process.clean(prediction, noised, timesteps)
    noise = process.noise(prediction, noised, timesteps)
    at_data = (earlier < 0).view(-1, *[1] * (noised.dim() - 1))
    return torch.where(at_data, clean, process.noised(clean, noise, earlier.clamp(min=0)))


def consistency_loss(process: NoiseProcess, teacher: Network, student: Network, clean: Tensor, grid: int) -> Tensor:
    """Pseudo-Huber distance of what the student says at both ends of a teacher's step, for data [B, ...]. Returns [].

    teacher, student: predict what `process` says; the gradient reaches the student at the noisier end alone.
    """
    points = torch.tensor([*sampling_timesteps(grid), -1], device=clean.device)  # [N + 1], from noise to data
    place = draw_integers(grid, clean)  # [B]
    timesteps, earlier = points[place], points[place + 1]
    noised = process.noised(clean, draw_noise(clean), timesteps)
    with torch.no_grad():
        stepped = ddim_step(process, teacher(noised, timesteps).float(), noised, timesteps, earlier)
        at_data = (earlier < 0).view(-1, *[1] * (clean.dim() - 1))
        said = process.clean(student(stepped, earlier.clamp(min=0)).float(), stepped, earlier.clamp(min=0))
        wanted = torch.where(at_data, stepped, said)
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
