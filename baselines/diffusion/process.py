"""The diffusion process of DDPM (Ho et al., NeurIPS 2020, sections 2 and 3): how data become noise, and what is learnt.

x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise for t = 0 .. T-1, with abar_t the product of all 1 - beta up to t. Data
are tensors [B, ...] of any shape, images or latents. `samplers` has the way back.

The variance of a step back may be learnt (Nichol and Dhariwal, ICML 2021, section 3.1): then a prediction has twice the
data's channels, and the second half is v, which places the logarithm of the variance between its two bounds.

What is random in training is drawn for the whole global batch, of which a process keeps its rows: so several processes
with the same seed compute what one would.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi

import torch
from torch import Tensor, nn

from baselines.diffusion.settings import TIMESTEPS, Prediction, Weighting
from baselines.geometry import uniform
from xinggan.distributed import Processes

Network = Callable[[Tensor, Tensor], Tensor]  # noised [B, C, ...], timesteps int64 [B] -> prediction [B, C or 2C, ...]


def linear_betas() -> Tensor:
    """Evenly spaced betas, float64 [T]: the schedule of DDPM and PIDM."""
    return torch.linspace(1e-4, 0.02, TIMESTEPS, dtype=torch.float64)


MIN_SNR = 5.0  # gamma of Weighting.min_snr, the value that its authors recommend


def scaled_linear_betas() -> Tensor:
    """Betas with evenly spaced square roots, float64 [T]: the schedule of latent diffusion's published models."""
    return torch.linspace(0.00085**0.5, 0.012**0.5, TIMESTEPS, dtype=torch.float64).square()


class NoiseProcess(nn.Module):
    """Mixes data and noise, and takes a network's prediction apart. Its rates follow the device of the method."""

    signal_rate: Tensor  # sqrt(abar)
    noise_rate: Tensor  # sqrt(1 - abar)
    clean_part: Tensor  # of x_0 in the mean of x_{t-1} given x_t and x_0
    noised_part: Tensor  # of x_t
    log_beta: Tensor  # upper bound of a step's log variance
    log_posterior: Tensor  # lower bound: that of x_{t-1} given x_t and x_0
    loss_weight: Tensor  # of a timestep's squared error

    def __init__(
        self,
        prediction: str = Prediction.epsilon,
        betas: Tensor | None = None,
        *,
        learnt_variance: bool = False,
        weighting: str = Weighting.uniform,
    ):
        """betas: float64 [T]; None: `linear_betas()`."""
        super().__init__()
        self.prediction, self.learnt_variance, self.weighting = prediction, learnt_variance, weighting
        self.betas = linear_betas() if betas is None else betas
        kept = torch.cumprod(1 - self.betas, 0)  # [T], abar
        before = torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])  # [T], abar of t - 1
        posterior = self.betas * (1 - before) / (1 - kept)
        posterior[0] = posterior[1]  # else 0, whose logarithm is not finite
        rates = {
            "signal_rate": kept.sqrt(),
            "noise_rate": (1 - kept).sqrt(),
            "clean_part": self.betas * before.sqrt() / (1 - kept),
            "noised_part": (1 - before) * (1 - self.betas).sqrt() / (1 - kept),
            "log_beta": self.betas.log(),
            "log_posterior": posterior.log(),
            "loss_weight": loss_weights(kept, prediction, weighting),
        }
        for name, rate in rates.items():
            self.register_buffer(name, rate.float(), persistent=False)  # [T]

    def noised(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t: [B, ...], for clean data and noise [B, ...] at timesteps int64 [B]."""
        signal_rate, noise_rate = self._at(timesteps, clean, self.signal_rate, self.noise_rate)
        return signal_rate * clean + noise_rate * noise

    def target(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The network's target [B, ...], which `prediction` names."""
        if self.prediction == Prediction.epsilon:
            return noise
        signal_rate, noise_rate = self._at(timesteps, clean, self.signal_rate, self.noise_rate)
        return signal_rate * noise - noise_rate * clean

    def split(self, prediction: Tensor) -> tuple[Tensor, Tensor | None]:
        """What a network gives -> the prediction of the target [B, C, ...], and v [B, C, ...] of a learnt variance."""
        return prediction.chunk(2, dim=1) if self.learnt_variance else (prediction, None)  # type: ignore[return-value]

    def clean(self, prediction: Tensor, noised: Tensor, timesteps: Tensor) -> Tensor:
        """The clean data [B, ...] that a prediction of the target for x_t stands for."""
        signal_rate, noise_rate = self._at(timesteps, noised, self.signal_rate, self.noise_rate)
        if self.prediction == Prediction.epsilon:
            return (noised - noise_rate * prediction) / signal_rate
        return signal_rate * noised - noise_rate * prediction

    def noise(self, clean: Tensor, noised: Tensor, timesteps: Tensor) -> Tensor:
        """The noise [B, ...] that turns clean data into x_t."""
        signal_rate, noise_rate = self._at(timesteps, noised, self.signal_rate, self.noise_rate)
        return (noised - signal_rate * clean) / noise_rate

    def posterior_mean(self, clean: Tensor, noised: Tensor, timesteps: Tensor) -> Tensor:
        """The mean [B, ...] of x_{t-1} given x_t and x_0 (DDPM, equation 7)."""
        clean_part, noised_part = self._at(timesteps, clean, self.clean_part, self.noised_part)
        return clean_part * clean + noised_part * noised

    def log_variance(self, v: Tensor, timesteps: Tensor) -> Tensor:
        """The learnt log variance [B, ...] of a step back (Nichol and Dhariwal, equation 15; v lies in [-1, 1])."""
        lower, upper = self._at(timesteps, v, self.log_posterior, self.log_beta)
        share = (v + 1) / 2
        return share * upper + (1 - share) * lower

    def terms(self, network: Network, clean: Tensor, timesteps: Tensor | None = None) -> dict[str, Tensor]:
        """The loss's terms for one draw an item of clean [B, ...], [] each: `denoising`, the weighted squared error of
        the network's predictions, and where the variance is learnt `variational`, the bound in bits a number.

        timesteps: int64 [B]; None: drawn, all equally likely.
        """
        timesteps = draw_integers(TIMESTEPS, clean) if timesteps is None else timesteps
        noise = draw_noise(clean)
        noised = self.noised(clean, noise, timesteps)
        prediction, v = self.split(network(noised, timesteps).float())
        terms = {"denoising": self.error(prediction, self.target(clean, noise, timesteps), timesteps)}
        if v is not None:
            terms["variational"] = self.variational_bound(clean, noised, timesteps, prediction, v).mean()
        return terms

    def error(self, prediction: Tensor, target: Tensor, timesteps: Tensor) -> Tensor:
        """The mean squared error of predictions of the target, [B, ...] each, weighted by timestep: []."""
        if self.weighting == Weighting.uniform:
            return nn.functional.mse_loss(prediction, target)
        return (self.loss_weight[timesteps] * (prediction - target).square().flatten(1).mean(1)).mean()

    def variational_bound(
        self, clean: Tensor, noised: Tensor, timesteps: Tensor, prediction: Tensor, v: Tensor
    ) -> Tensor:
        """How far the predicted step back is from the true one, in bits a number, [B]; only v has a gradient.

        The divergence between the two normal distributions, and at t = 0 the negative log-likelihood of the data, each
        of which is one of 256 levels in [-1, 1] (DDPM, equation 5 and section 3.3).
        """
        predicted = self.clean(prediction.detach(), noised, timesteps)
        mean, log_variance = self.posterior_mean(predicted, noised, timesteps), self.log_variance(v, timesteps)
        true_mean = self.posterior_mean(clean, noised, timesteps)
        (true_log_variance,) = self._at(timesteps, clean, self.log_posterior)
        apart = (true_mean - mean).square() * torch.exp(-log_variance)
        ratio = true_log_variance - log_variance
        divergence = 0.5 * (ratio.exp() - 1 - ratio + apart)
        surprise = -level_log_likelihood(clean, mean, 0.5 * log_variance)
        first = (timesteps == 0).view(-1, *[1] * (clean.dim() - 1))
        return torch.where(first, surprise, divergence).flatten(1).mean(1) / log(2)

    def _at(self, timesteps: Tensor, like: Tensor, *rates: Tensor) -> tuple[Tensor, ...]:
        """The rates [T] at the timesteps [B], shaped [B, 1, ...] to multiply `like` [B, ...]."""
        shape = (-1, *[1] * (like.dim() - 1))
        return tuple(rate[timesteps].view(shape) for rate in rates)


def loss_weights(kept: Tensor, prediction: str, weighting: str) -> Tensor:
    """The weight of each timestep's squared error, float64 [T], where abar is `kept`, float64 [T].

    Min-SNR (Hang et al., ICCV 2023, section 3.4): errors of the clean data count min(SNR, MIN_SNR), with the
    signal-to-noise ratio SNR = abar / (1 - abar). An error of the noise is sqrt(SNR) times that of the clean data, one
    of v sqrt(SNR + 1) times, so theirs count min(SNR, MIN_SNR) / SNR and min(SNR, MIN_SNR) / (SNR + 1).
    """
    if weighting == Weighting.uniform:
        return torch.ones_like(kept)
    ratio = kept / (1 - kept)
    return ratio.clamp(max=MIN_SNR) / (ratio if prediction == Prediction.epsilon else ratio + 1)


def level_log_likelihood(levels: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    """The log-probability [B, ...] of the interval around each of 256 levels in [-1, 1] under a normal distribution.

    The outermost intervals are unbounded (DDPM, equation 13). As in the published code, the normal distribution
    function is approximated by 0.5 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), probabilities by at least 1e-12.
    """

    def below(bound: Tensor) -> Tensor:
        x = (bound - mean) * torch.exp(-log_deviation)
        return 0.5 * (1 + torch.tanh((2 / pi) ** 0.5 * (x + 0.044715 * x**3)))

    upper, lower = below(levels + 1 / 255), below(levels - 1 / 255)
    probability = torch.where(levels < -0.999, upper, torch.where(levels > 0.999, 1 - lower, upper - lower))
    return probability.clamp(min=1e-12).log()


def draw_integers(below: int, batch: Tensor) -> Tensor:
    """One of 0 .. below - 1 for each item of a training batch [B, ...], all equally likely: int64 [B]."""
    processes = Processes.current
    return processes.own_rows(torch.randint(below, (len(batch) * processes.count,), device=batch.device))


def draw_noise(batch: Tensor) -> Tensor:
    """Standard normal noise for a training batch: [B, ...] like it."""
    processes = Processes.current
    return processes.own_rows(torch.randn(len(batch) * processes.count, *batch.shape[1:], device=batch.device))


def draw_true(batch: Tensor, probability: float) -> Tensor:
    """True with the given probability for each item of a training batch [B, ...]: bool [B]."""
    return uniform(batch) < probability


@dataclass(frozen=True)
class Seen:
    """The conditions that each row of a batch sees; those of the others are left out."""

    source: Tensor  # [B] bool
    pose: Tensor  # [B] bool


def draw_seen(batch: Tensor, dropout: float) -> Seen:
    """For a training batch [B, ...], whose rows lose source and pose independently with probability `dropout`."""
    return Seen(~draw_true(batch, dropout), ~draw_true(batch, dropout))
