"""The diffusion process of DDPM (Ho et al., NeurIPS 2020, sections 2 and 3): how data become noise, and what is learnt.

x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise for t = 0 .. T-1, with abar_t the product of all 1 - beta up to t. Data
are tensors [B, ...] of any shape, images or latents. `samplers` has the way back.

What is random in training is drawn for the whole global batch, of which a process keeps its rows: so several processes
with the same seed compute what one would.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from baselines.diffusion.settings import TIMESTEPS, Prediction
from xinggan.distributed import Processes

Network = Callable[[Tensor, Tensor], Tensor]  # noised [B, ...], timesteps int64 [B] -> prediction [B, ...]


def linear_betas() -> Tensor:
    """Evenly spaced betas, float64 [T]: the schedule of DDPM and PIDM."""
    return torch.linspace(1e-4, 0.02, TIMESTEPS, dtype=torch.float64)


def scaled_linear_betas() -> Tensor:
    """Betas with evenly spaced square roots, float64 [T]: the schedule of latent diffusion's published models."""
    return torch.linspace(0.00085**0.5, 0.012**0.5, TIMESTEPS, dtype=torch.float64).square()


class NoiseProcess(nn.Module):
    """Mixes data and noise, and takes a network's prediction apart. Its rates follow the device of the method."""

    signal_rate: Tensor
    noise_rate: Tensor

    def __init__(self, prediction: str = Prediction.epsilon, betas: Tensor | None = None):
        """betas: float64 [T]; None: `linear_betas()`."""
        super().__init__()
        self.prediction = prediction
        self.betas = linear_betas() if betas is None else betas
        kept = torch.cumprod(1 - self.betas, 0)  # [T], abar
        self.register_buffer("signal_rate", kept.sqrt().float(), persistent=False)  # [T]
        self.register_buffer("noise_rate", (1 - kept).sqrt().float(), persistent=False)  # [T]

    def noised(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t: [B, ...], for clean data and noise [B, ...] at timesteps int64 [B]."""
        signal_rate, noise_rate = self._rates(timesteps, clean)
        return signal_rate * clean + noise_rate * noise

    def target(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The network's target [B, ...], which `prediction` names."""
        if self.prediction == Prediction.epsilon:
            return noise
        signal_rate, noise_rate = self._rates(timesteps, clean)
        return signal_rate * noise - noise_rate * clean

    def clean(self, prediction: Tensor, noised: Tensor, timesteps: Tensor) -> Tensor:
        """The clean data [B, ...] that a prediction for x_t stands for."""
        signal_rate, noise_rate = self._rates(timesteps, noised)
        if self.prediction == Prediction.epsilon:
            return (noised - noise_rate * prediction) / signal_rate
        return signal_rate * noised - noise_rate * prediction

    def noise(self, prediction: Tensor, noised: Tensor, timesteps: Tensor) -> Tensor:
        """The noise [B, ...] that a prediction for x_t stands for."""
        if self.prediction == Prediction.epsilon:
            return prediction
        signal_rate, noise_rate = self._rates(timesteps, noised)
        return noise_rate * noised + signal_rate * prediction

    def loss(self, network: Network, clean: Tensor) -> Tensor:
        """Mean squared error of the network's predictions for one draw an item of clean [B, ...]. Returns []."""
        timesteps, noise = draw_integers(TIMESTEPS, clean), draw_noise(clean)
        prediction = network(self.noised(clean, noise, timesteps), timesteps)
        return nn.functional.mse_loss(prediction.float(), self.target(clean, noise, timesteps))

    def _rates(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Both rates at the timesteps [B], shaped [B, 1, ...] to multiply `like` [B, ...]."""
        shape = (-1, *[1] * (like.dim() - 1))
        return self.signal_rate[timesteps].view(shape), self.noise_rate[timesteps].view(shape)


def draw_integers(below: int, batch: Tensor) -> Tensor:
    """One of 0 .. below - 1 for each item of a training batch [B, ...], all equally likely: int64 [B]."""
    processes = Processes.current
    return processes.own_rows(torch.randint(below, (len(batch) * processes.count,), device=batch.device))


def draw_noise(batch: Tensor) -> Tensor:
    """Standard normal noise for a training batch: [B, ...] like it."""
    processes = Processes.current
    return processes.own_rows(torch.randn(len(batch) * processes.count, *batch.shape[1:], device=batch.device))


@dataclass(frozen=True)
class Seen:
    """The conditions that each row of a batch sees; those of the others are left out."""

    source: Tensor  # [B] bool
    pose: Tensor  # [B] bool


def draw_seen(batch: Tensor, dropout: float) -> Seen:
    """For a training batch [B, ...], whose rows lose source and pose independently with probability `dropout`."""
    processes = Processes.current
    draws = [torch.rand(len(batch) * processes.count, device=batch.device) for _ in range(2)]
    return Seen(*(processes.own_rows(draw >= dropout) for draw in draws))
