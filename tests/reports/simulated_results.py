"""Made-up results whose truth is known, in the suite's sizes, and how often the statistics are right about them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reports import statistics
from reports.statistics import Estimate

TRUTH = 0.013  # how much better the first method is, wherever an interval is asked for
LEVEL = 0.05


@dataclass(frozen=True)
class People:
    """Who is on a test set's pairs. `uneven`: as on Market-1501, where the pairs of a person grow with the square of
    the images. `skewed`: a few people are much harder than all others.
    """

    pairs: int
    people: int
    uneven: bool = False
    skewed: bool = False

    def identities(self, rng: np.random.Generator) -> np.ndarray:
        """[pairs], everybody at least once."""
        everybody, others = np.arange(self.people), self.pairs - self.people
        if not self.uneven:
            return np.concatenate([everybody, np.arange(others) % self.people])
        images = rng.integers(2, 14, self.people)
        chance = images * (images - 1) / (images * (images - 1)).sum()
        return np.concatenate([everybody, rng.choice(self.people, others, p=chance)])

    def effects(self, rng: np.random.Generator) -> np.ndarray:
        """[people] of mean 0 and variance 1."""
        return rng.standard_exponential(self.people) - 1 if self.skewed else rng.standard_normal(self.people)


SMALL, LARGE = People(300, 50), People(12_000, 750)  # the suite's synthetic people; Market-1501
SMALL_HARD, LARGE_HARD = People(300, 50, uneven=True, skewed=True), People(12_000, 750, uneven=True, skewed=True)


def results(
    rng: np.random.Generator, test_set: People, seeds: list[int], gains: list[float], luck: float
) -> tuple[list[np.ndarray], np.ndarray]:
    """SSIM-like values [seeds, pairs] of methods that are better by `gains`, and the identities [pairs].

    A pair is hard, a person is hard, a person suits a method, a person suits what a seed made of it, and (in units of
    `luck`) a seed is lucky. Without luck the gains are the truth about these very networks, too.
    """
    identities = test_set.identities(rng)
    hard = 0.08 * rng.standard_normal(test_set.pairs) + 0.08 * test_set.effects(rng)[identities]
    values = []
    for count, gain in zip(seeds, gains, strict=True):
        suits = 0.03 * test_set.effects(rng) + 0.01 * rng.standard_normal((count, test_set.people))
        lucky = luck * rng.standard_normal((count, 1))
        noise = 0.05 * rng.standard_normal((count, test_set.pairs))
        values.append(0.4 + gain + hard + lucky + suits[:, identities] + noise)
    return values, identities


def two_networks(rng: np.random.Generator, test_set: People) -> tuple[Estimate, float]:
    """One seed a method."""
    (first, second), identities = results(rng, test_set, [1, 1], [TRUTH, 0.0], luck=0.0)
    return statistics.difference(first, second, identities), TRUTH


def two_methods(rng: np.random.Generator, test_set: People, seeds: int) -> tuple[Estimate, float]:
    """Several seeds a method, luck being as large as the people's part of the error."""
    (first, second), identities = results(rng, test_set, [seeds, seeds], [TRUTH, 0.0], luck=0.005)
    return statistics.difference(first, second, identities), TRUTH


def one_method(rng: np.random.Generator, seeds: int) -> tuple[Estimate, float]:
    return statistics.mean_over_seeds(rng.normal(20.0, 2.0, seeds)), 20.0


def two_fids(rng: np.random.Generator, seeds: int) -> tuple[Estimate, float]:
    """The worse method's FID varies more."""
    return statistics.difference_over_seeds(rng.normal(22.0, 1.0, seeds), rng.normal(20.0, 0.5, seeds)), 2.0


def one_method_with_outliers(rng: np.random.Generator, seeds: int) -> tuple[Estimate, float]:
    """Interquartile mean where training sometimes goes wrong by a lot, either way."""
    return statistics.interquartile_mean(20.0 + rng.standard_t(3, seeds)), 20.0


def better_runs(rng: np.random.Generator, seeds: int) -> tuple[Estimate, float]:
    """Probability of improvement, one standard deviation apart: the normal distribution function of 1 / sqrt(2)."""
    found = statistics.probability_of_improvement(rng.normal(1.0, 1.0, seeds), rng.normal(0.0, 1.0, seeds))
    return found, 0.76025


def study(rng: np.random.Generator, test_set: People, methods: int = 8) -> list[float]:
    """p-values of methods that are no better than the one all of them are compared with."""
    (baseline, *others), identities = results(rng, test_set, [1] * (methods + 1), [0.0] * (methods + 1), luck=0.0)
    return [statistics.difference(other, baseline, identities).p_value for other in others]


def study_of_sets(rng: np.random.Generator, seeds: int, methods: int = 8) -> list[float]:
    """The same for a metric that only a whole set has."""
    baseline, *others = rng.normal(20.0, 1.0, (methods + 1, seeds))
    return [statistics.difference_over_seeds(other, baseline).p_value for other in others]


def coverage(simulate: Callable[..., tuple[Estimate, float]], *of: object, replications: int, seed: int = 0) -> float:
    """Share of the intervals that hold the truth."""
    rng = np.random.default_rng([seed, replications])
    found = (simulate(rng, *of) for _ in range(replications))
    return float(np.mean([estimate.low <= truth <= estimate.high for estimate, truth in found]))


def false_alarms(simulate: Callable[..., list[float]], *of: object, replications: int, seed: int = 0) -> float:
    """Share of studies without any difference in which something passes Holm's correction."""
    rng = np.random.default_rng([seed, replications])
    found = (statistics.holm(simulate(rng, *of)) for _ in range(replications))
    return float(np.mean([np.nanmin(adjusted) < LEVEL for adjusted in found]))
