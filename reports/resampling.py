"""Test pairs resampled by the people on them: two pairs of one person are alike, so people are what chance chose.

The mean over pairs is a quotient of two sums over people. A resample is how often each of them was drawn, so that all
10,000 resamples are one product of matrices, however many pairs there are.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES, SEED = 10_000, 0
AT_ONCE = 1_000  # resamples in memory as floating point at a time

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MeanOfPeople:
    """The mean over test pairs, and what each person contributes to it."""

    mean: float
    residuals: Array  # [people], sum of value minus mean over a person's pairs; they add up to 0
    counts: Array  # [people], pairs

    @property
    def people(self) -> int:
        return len(self.counts)

    @property
    def error(self) -> float:
        """Standard error of the mean, people being independent: that of a quotient of two sums, linearised."""
        return standard_error(self.residuals, self.counts)


def mean_of_people(values: ArrayLike, identities: ArrayLike) -> MeanOfPeople:
    """values: [pairs], NaN where a pair was left out; identities: [pairs], numbers or names.

    A person without any value is left out; where nobody is left, the mean is NaN.
    """
    values, identities = np.asarray(values, float), np.asarray(identities)
    if values.ndim != 1 or values.shape != identities.shape:
        raise ValueError(f"one identity for each value is needed, not {identities.shape} for {values.shape}")
    kept = ~np.isnan(values)
    if not kept.any():
        return MeanOfPeople(math.nan, np.zeros(0), np.zeros(0))
    _, place = np.unique(identities[kept], return_inverse=True)
    mean = float(values[kept].mean())
    residuals = np.bincount(place, values[kept] - mean).astype(float)
    return MeanOfPeople(mean, residuals, np.bincount(place).astype(float))


def standard_error(residuals: Array, counts: Array) -> float:
    """NaN for a single person."""
    people = len(counts)
    if people < 2:
        return math.nan
    return math.sqrt(people / (people - 1) * float((residuals**2).sum())) / float(counts.sum())


def studentised_deviations(found: MeanOfPeople, resamples: int = RESAMPLES) -> Array:
    """Of each resample, how far its mean lies from the whole's in its own standard errors: [resamples].

    Infinite where the resample holds a single person, again and again.
    """
    people, residuals, counts = found.people, found.residuals, found.counts
    totals = np.stack([counts, residuals, residuals**2, residuals * counts, counts**2], axis=1)  # [people, 5]
    drawn = resampled_people(people, resamples)
    parts = (drawn[at : at + AT_ONCE].astype(float) @ totals for at in range(0, resamples, AT_ONCE))
    pairs, residual, squares, mixed, pairs_squared = np.concatenate(list(parts)).T
    deviation = residual / pairs
    spread = np.maximum(squares - 2 * deviation * mixed + deviation**2 * pairs_squared, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        studentised = deviation * pairs / np.sqrt(people / (people - 1) * spread)
    return np.where(deviation == 0, 0.0, studentised)


@lru_cache(maxsize=4)
def resampled_people(people: int, resamples: int = RESAMPLES, seed: int = SEED) -> NDArray[np.uint8]:
    """How often each person is in each resample: [resamples, people], the same whenever it is asked for."""
    chosen = np.random.default_rng(seed).integers(people, size=(resamples, people))
    chosen += people * np.arange(resamples)[:, None]
    return np.bincount(chosen.ravel(), minlength=resamples * people).reshape(resamples, people).astype(np.uint8)
