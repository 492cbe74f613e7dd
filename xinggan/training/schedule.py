"""Batch, random numbers and learning rate of step s of seed k, as functions of s and k alone.

A resumed run therefore needs no sampler state, and several processes agree without talking.
"""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=2)
def _epoch(seed: int, epoch: int, pairs: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(pairs)


def batch_indices(seed: int, step: int, batch: int, pairs: int) -> np.ndarray:
    """Pair indices of one step, int64 [batch]: consecutive pieces of one seeded permutation of the pairs an epoch."""
    positions = np.arange(step * batch, (step + 1) * batch)
    return np.array([_epoch(seed, int(position // pairs), pairs)[position % pairs] for position in positions])


def step_seed(seed: int, step: int) -> int:
    """The seed of PyTorch's generators at a step (dropout, history pool): well mixed, below 2**63."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)


def learning_rate_factor(step: int, steps: int, decay_steps: int) -> float:
    """1, then linearly down over the last `decay_steps` so that the step after the last would have 0."""
    return min(1.0, (steps - step) / max(decay_steps, 1))
