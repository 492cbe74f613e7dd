"""How sure a number is: intervals and tests over the people of a test set and over training seeds.

Test pairs of one person are alike, so a test set is resampled by identity (`reports.resampling`); a training seed is
one draw of all that chance decides in training. Every function gives an `Estimate`; nothing is called better before it
has passed `holm`. How often the intervals hold the truth is simulated in tests/reports/simulated_results.py.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from reports.resampling import Array, MeanOfPeople, mean_of_people, studentised_deviations

TAIL = 0.025  # what a 95 % interval leaves out at either end
FEWEST_TO_RESAMPLE = 6  # with fewer people, too many resamples hold hardly any different ones


@dataclass(frozen=True)
class Estimate:
    """An estimate with its 95 % interval; low and high are NaN, and p_value None, where there is too little for one."""

    estimate: float
    low: float
    high: float
    n: int  # of what `over` names
    over: str  # what was drawn at random: "identities", "seeds" or "identities and seeds"
    p_value: float | None = None  # two-sided, of there being no difference

    @property
    def has_interval(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)


def mean_by_identity(values: ArrayLike, identities: ArrayLike, null: float = 0.0) -> Estimate:
    """The mean over test pairs, with the people of the test set as what chance chose; p_value is of `null`.

    values: [pairs], NaN where a pair was left out; identities: [pairs], numbers or names. The interval is studentised
    (bootstrap-t, Efron and Tibshirani 1993, section 12.5): each of 10,000 resamples of the identities is measured in
    its own standard error. With 50 people of whom some have many pairs, percentile and BCa intervals hold the truth in
    92 to 93 % of cases, this one in 94 to 95 %. Fewer than FEWEST_TO_RESAMPLE people get a t interval. p_value is the
    larger of the resamples' and the t test's: far out in its tails the former alone finds too much, and after Holm's
    correction for eight methods a difference where there is none in 6.5 % of studies of uneven, skewed people.
    """
    return _of_people(mean_of_people(values, identities), null)


def _of_people(found: MeanOfPeople, null: float) -> Estimate:
    mean, error, people = found.mean, found.error, found.people
    if people < 2:
        return Estimate(mean, math.nan, math.nan, people, "identities")
    if people < FEWEST_TO_RESAMPLE or error <= 1e-12 * abs(mean):  # or all people have the same mean
        return _t_estimate(mean, error, people - 1, people, "identities", null)
    deviations = studentised_deviations(found)
    highest, lowest = np.quantile(deviations, [1 - TAIL, TAIL], method="inverted_cdf")
    seen = (mean - null) / error
    beyond = min((deviations >= seen).sum(), (deviations <= seen).sum())
    of_t = _t_estimate(mean, error, people - 1, people, "identities", null).p_value
    p_value = max(of_t or 0.0, min(1.0, 2 * (1 + float(beyond)) / (1 + len(deviations))))
    return Estimate(mean, mean - highest * error, mean - lowest * error, people, "identities", p_value)


def difference(first: ArrayLike, second: ArrayLike, identities: ArrayLike, seedless: bool = False) -> Estimate:
    """Mean of first - second over test pairs, each pair compared with itself.

    first, second: [pairs] or [seeds, pairs]; the seeds of the two need not be the same. With several seeds of both,
    chance chose people and seeds: the variances add up, and a t interval has Satterthwaite's degrees of freedom.
    Otherwise what is said holds for these trained networks. `seedless`: the second was not trained (copy_source), so
    that its one row is all there is.
    """
    first, second = np.atleast_2d(np.asarray(first, float)), np.atleast_2d(np.asarray(second, float))
    gain = first.mean(0) - second.mean(0)  # [pairs]
    found = mean_of_people(gain, identities)
    drawn = [first] if seedless else [first, second]
    if min(len(side) for side in drawn) < 2 or found.people < 2:
        return _of_people(found, null=0.0)
    parts = [(found.error**2, found.people - 1)]
    for side in drawn:
        of_seeds = side[:, ~np.isnan(gain)].mean(1)  # [seeds]
        parts.append((of_seeds.var(ddof=1) / len(side), len(side) - 1))
    return _combined(found.mean, parts, found.people, "identities and seeds")


def share_of_pairs_improved(first: ArrayLike, second: ArrayLike, identities: ArrayLike) -> Estimate:
    """On which share of the test pairs the first value is the higher one, ties by half; p_value is of one half.

    Where all people agree, the far end of the interval is that of so many throws of a coin.
    """
    gain = np.asarray(first, float) - np.asarray(second, float)
    found = mean_by_identity(np.where(np.isnan(gain), np.nan, (np.sign(gain) + 1) / 2), identities, null=0.5)
    if found.estimate not in (0.0, 1.0) or found.n < 2:
        return Estimate(found.estimate, max(found.low, 0.0), min(found.high, 1.0), found.n, found.over, found.p_value)
    away = 1 - TAIL ** (1 / found.n)
    low, high = (1 - away, 1.0) if found.estimate else (0.0, away)
    return Estimate(found.estimate, low, high, found.n, found.over, min(1.0, 2 * 0.5**found.n))


def mean_over_seeds(values: ArrayLike) -> Estimate:
    """Mean and t interval over runs that differ in nothing but their seed: [seeds], NaN where a run has no value."""
    values = _finite(values)
    if len(values) < 2:
        return Estimate(float(values.mean()) if len(values) else math.nan, math.nan, math.nan, len(values), "seeds")
    error = sample_deviation(values) / math.sqrt(len(values))
    return _t_estimate(float(values.mean()), error, len(values) - 1, len(values), "seeds", None)


def difference_over_seeds(first: ArrayLike, second: ArrayLike, seedless: bool = False) -> Estimate:
    """Difference of two means over seeds, for values that only a whole set has (FID): Welch's t interval and test.

    Nothing pairs the seeds of two methods. The bootstrap over three seeds has ten different resamples, and its 95 %
    interval holds the truth in 79 % of cases; the t interval in 95 %. `n` counts the runs of both. `seedless`: the
    second was not trained, so that its one value is all there is.
    """
    first, second = _finite(first), _finite(second)
    n = len(first) + len(second)
    drawn = [first] if seedless else [first, second]
    gap = float(first.mean() - second.mean()) if len(first) and len(second) else math.nan
    if math.isnan(gap) or min(len(side) for side in drawn) < 2:
        return Estimate(gap, math.nan, math.nan, n, "seeds")
    return _combined(gap, [(side.var(ddof=1) / len(side), len(side) - 1) for side in drawn], n, "seeds")


def interquartile_mean(values: ArrayLike) -> Estimate:
    """Mean without the lowest and the highest quarter (Agarwal et al. 2021), with Tukey and McLaughlin's interval.

    A quarter is rounded down, so of up to three values none is left out.
    """
    values = np.sort(_finite(values))
    n, cut = len(values), len(values) // 4
    if n < 2:
        return mean_over_seeds(values)
    middle = values[cut : n - cut]
    winsorised = np.clip(values, middle[0], middle[-1])
    error = sample_deviation(winsorised) * math.sqrt(n) / len(middle)
    return _t_estimate(float(middle.mean()), error, len(middle) - 1, n, "seeds", None)


def probability_of_improvement(first: ArrayLike, second: ArrayLike) -> Estimate:
    """How likely a run of the first has a higher value than a run of the second, ties by half.

    The interval is Newcombe's (2006, method 5), which does not collapse to a point where every run of one is better,
    and holds one half unless the test of Mann and Whitney rejects it. Three seeds against three never do: p >= 0.1.
    """
    from scipy.optimize import brentq
    from scipy.stats import mannwhitneyu

    first, second = _finite(first), _finite(second)
    n = len(first) + len(second)
    if not len(first) or not len(second):
        return Estimate(math.nan, math.nan, math.nan, n, "seeds")
    share = float((np.sign(first[:, None] - second[None, :]) + 1).mean() / 2)
    if min(len(first), len(second)) < 2:
        return Estimate(share, math.nan, math.nan, n, "seeds")

    def beyond(p: float) -> float:
        """Squared distance of p from the share, less the square of what chance allows when p is the truth."""
        others = n / 2 - 1
        variance = p * (1 - p) * (1 + others * (1 - p) / (2 - p) + others * p / (1 + p)) / (len(first) * len(second))
        return (share - p) ** 2 - _normal_quantile() ** 2 * variance

    beside = 1e-9  # at the share itself nothing is beyond, and a share of 0 or 1 would be taken for the end
    low = brentq(beyond, 0.0, share - beside) if share > 0 else 0.0
    high = brentq(beyond, share + beside, 1.0) if share < 1 else 1.0
    test = mannwhitneyu(first, second, alternative="two-sided") if np.ptp([*first, *second]) > 0 else None
    p_value = float(test.pvalue) if test else 1.0
    if p_value >= 2 * TAIL:
        low, high = min(low, 0.5), max(high, 0.5)
    return Estimate(share, float(low), float(high), n, "seeds", p_value)


def holm(p_values: list[float | None]) -> list[float | None]:
    """p-values adjusted for having asked all these questions (Holm 1979); what was not tested stays None.

    Calling those below 0.05 different is wrong about any of them in at most 5 % of studies.
    """
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - rank)))
        adjusted[place] = largest
    return adjusted


def sample_deviation(values: ArrayLike) -> float:
    """Sample standard deviation, divided by n - 1; NaN for fewer than two values."""
    values = _finite(values)
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def _combined(estimate: float, parts: list[tuple[Any, int]], n: int, over: str) -> Estimate:
    """t estimate of independent variances with their degrees of freedom (Welch 1947, Satterthwaite 1946)."""
    variance = sum(part for part, _ in parts)
    weight = sum(part**2 / freedom for part, freedom in parts)
    freedom = variance**2 / weight if weight else float(sum(freedom for _, freedom in parts))
    return _t_estimate(float(estimate), math.sqrt(variance), freedom, n, over, 0.0)


def _t_estimate(estimate: float, error: float, freedom: float, n: int, over: str, null: float | None) -> Estimate:
    from scipy.special import stdtr, stdtrit

    half = float(stdtrit(freedom, 1 - TAIL)) * error
    p_value = None
    if null is not None:
        distance = abs(estimate - null)
        p_value = float(2 * stdtr(freedom, -distance / error)) if error > 0 else float(distance == 0)
    return Estimate(estimate, estimate - half, estimate + half, n, over, p_value)


def _normal_quantile() -> float:
    from scipy.special import ndtri

    return float(ndtri(1 - TAIL))


def _finite(values: ArrayLike) -> Array:
    values = np.asarray(values, float).ravel()
    return values[np.isfinite(values)]
