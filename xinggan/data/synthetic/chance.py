"""Chance that can be asked for in any order: every person, view and camera has its own stream of random numbers.

A stream is Philox, a counter-based generator, with the world's seed as key and (what, who, which view) as counter. What
is drawn for one view never depends on what else is drawn, nor on the version of NumPy: only raw 64-bit words are used.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PERSON, VIEW, CAMERA = 1, 2, 3  # the kinds of stream
DRAWS_PER_STREAM = 96


class Chance:
    """One row of uniform numbers for each of n streams; each method uses up the next column and gives n values."""

    def __init__(self, seed: int, kind: int, first: NDArray[np.int64], second: NDArray[np.int64] | None = None):
        """Streams (seed, kind, first[i], second[i]): for example the view second[i] of the person first[i]."""
        second = np.zeros_like(first) if second is None else second
        self._columns = iter(_uniforms(seed, kind, first, second).T)  # each [n]

    def between(self, low: float, high: float) -> NDArray[np.float64]:
        """[n] uniform in [low, high)."""
        return low + (high - low) * next(self._columns)

    def around(self, middle: float, spread: float) -> NDArray[np.float64]:
        """[n] bell-shaped around `middle` with standard deviation `spread`, never more than three of them away."""
        return middle + 2 * spread * (next(self._columns) + next(self._columns) + next(self._columns) - 1.5)

    def below(self, count: int) -> NDArray[np.int64]:
        """[n] integers in 0 .. count - 1, all equally likely."""
        return np.minimum((next(self._columns) * count).astype(np.int64), count - 1)

    def choose(self, weights: Sequence[float]) -> NDArray[np.int64]:
        """[n] integers, i with a probability proportional to weights[i]."""
        steps = np.cumsum(weights)
        return np.minimum(np.searchsorted(steps, next(self._columns) * steps[-1], side="right"), len(weights) - 1)


def _uniforms(seed: int, kind: int, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """[n, DRAWS_PER_STREAM] in [0, 1): the upper 53 bits of each 64-bit word."""
    words = np.empty((len(first), DRAWS_PER_STREAM), dtype=np.uint64)
    for row, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        stream = np.random.Philox(key=np.array([seed, kind], np.uint64), counter=np.array([0, 0, a, b], np.uint64))
        words[row] = stream.random_raw(DRAWS_PER_STREAM)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
