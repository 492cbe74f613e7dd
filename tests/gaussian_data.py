"""Data whose best denoiser is known: independent normal elements with given means and deviations."""

import torch


class GaussianData:
    """Elements of given mean and deviation, tensors [...] of the shape of an item."""

    def __init__(self, mean, deviation):
        self.mean, self.deviation = mean, deviation

    def draw(self, items, seed=0):
        """[items, ...]"""
        noise = torch.randn(items, *self.mean.shape, generator=torch.Generator().manual_seed(seed))
        return self.mean + self.deviation * noise

    def best_clean(self, noised, signal_rate, noise_rate):
        """E[x_0 | x_t], by the formula for two normal variables."""
        gain = signal_rate * self.deviation**2 / ((signal_rate * self.deviation) ** 2 + noise_rate**2)
        return self.mean + gain * (noised - signal_rate * self.mean)

    def best_network(self, process):
        """The network that no other beats at what `process` asks for."""

        def network(noised, timesteps):
            signal_rate, noise_rate = rates(process, timesteps, noised)
            clean = self.best_clean(noised, signal_rate, noise_rate)
            noise = (noised - signal_rate * clean) / noise_rate
            return noise if process.prediction == "epsilon" else signal_rate * noise - noise_rate * clean

        return network

    def ddim(self, process, x, timesteps):
        """The data that DDIM reaches with the best network from x at the first of the timesteps over the others.

        x' = sqrt(abar') x_0 + sqrt(1 - abar') noise, both as predicted, in double precision.
        """
        kept, x = torch.cumprod(1 - process.betas, 0), x.double()
        for now, following in zip(timesteps, [*timesteps[1:], None], strict=True):
            clean = self.best_clean(x, kept[now].sqrt(), (1 - kept[now]).sqrt())
            noise = (x - kept[now].sqrt() * clean) / (1 - kept[now]).sqrt()
            x = clean if following is None else kept[following].sqrt() * clean + (1 - kept[following]).sqrt() * noise
        return x.float()


def rates(process, timesteps, like):
    """sqrt(abar), sqrt(1 - abar) from the betas in double precision, shaped to multiply `like`."""
    kept = torch.cumprod(1 - process.betas, 0)[timesteps].reshape(-1, *[1] * (like.dim() - 1))
    return kept.sqrt().float(), (1 - kept).sqrt().float()
