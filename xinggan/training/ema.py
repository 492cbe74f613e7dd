"""Exponential moving average of the weights that `generate` uses."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """average <- decay * average + (1 - decay) * weights after every step, over parameters and BatchNorm statistics.

    Early on the decay is lower, min(decay, (1 + step) / (10 + step)), so the start does not linger. 0: no average.
    """

    def __init__(self, modules: list[nn.Module], decay: float):
        self.decay = decay
        self.live: list[Tensor] = []
        if decay:
            tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
            self.live = [tensor.detach() for tensor in tensors if tensor.is_floating_point()]
        self.average = [tensor.detach().clone() for tensor in self.live]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step` (counted from 0)."""
        if self.live:
            torch._foreach_lerp_(self.average, self.live, 1 - min(self.decay, (1 + step) / (10 + step)))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Context in which the modules hold the average; afterwards they have their own weights again, bit for bit."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and averages: the modules hold the one, this object the other."""
        for live, average in zip(self.live, self.average, strict=True):
            kept = live.clone()
            live.copy_(average)
            average.copy_(kept)

    def state(self) -> list[Tensor]:
        """The averages, for a checkpoint."""
        return self.average

    @torch.no_grad()
    def load_state(self, state: list[Tensor]) -> None:
        """Restore `state()`."""
        for average, saved in zip(self.average, state, strict=True):
            average.copy_(saved)
