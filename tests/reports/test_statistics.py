"""Intervals and tests equal scipy's and slow, obvious versions of themselves, and are right about made-up results."""

import math
from functools import partial

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from simulated_results import (
    LARGE_HARD,
    SMALL,
    SMALL_HARD,
    better_runs,
    coverage,
    false_alarms,
    one_method,
    one_method_with_outliers,
    results,
    study,
    study_of_sets,
    two_fids,
    two_methods,
    two_networks,
)
from statsmodels.regression.linear_model import OLS

from reports import statistics


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_interval_by_identity_equals_a_resampling_of_people_pair_by_pair(rng):
    identities = rng.integers(9, size=40)
    values = rng.standard_normal(40) + 0.5 * rng.standard_normal(9)[identities]
    people = {person: values[identities == person] for person in np.unique(identities)}
    mean, error = values.mean(), ratio_error(list(people.values()), values.mean())
    deviations = []
    for times in statistics.resampled_people(len(people)):
        drawn = [own for own, often in zip(people.values(), times, strict=True) for _ in range(often)]
        of_resample = np.concatenate(drawn).mean()
        deviations.append((of_resample - mean) / ratio_error(drawn, of_resample))
    deviations.sort()
    found = statistics.mean_by_identity(values, identities)
    assert found.estimate == pytest.approx(mean) and found.n == 9
    assert found.low == pytest.approx(mean - deviations[9750 - 1] * error, abs=1e-6)
    assert found.high == pytest.approx(mean - deviations[250 - 1] * error, abs=1e-6)
    rarer = min(sum(d >= mean / error for d in deviations), sum(d <= mean / error for d in deviations))
    of_t = 2 * scipy.stats.t.sf(abs(mean / error), 8)
    assert found.p_value == pytest.approx(max(of_t, 2 * (1 + rarer) / 10_001))


def ratio_error(people: list[np.ndarray], mean: float) -> float:
    squares = sum(((own - mean).sum()) ** 2 for own in people)
    return math.sqrt(len(people) / (len(people) - 1) * squares) / sum(len(own) for own in people)


def test_every_resample_draws_as_many_people_as_there_are_and_the_same_ones_again():
    drawn = statistics.resampled_people(30, 500)
    assert (drawn.sum(axis=1) == 30).all()
    assert len(np.unique(drawn, axis=0)) == 500
    statistics.resampled_people.cache_clear()
    assert (statistics.resampled_people(30, 500) == drawn).all()


def test_means_of_the_resamples_spread_as_those_of_scipys_bootstrap(rng):
    values = rng.standard_exponential(60)
    ours = (statistics.resampled_people(60) @ values) / 60
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=10_000, rng=rng).bootstrap_distribution
    assert np.quantile(ours, [0.05, 0.5, 0.95]) == pytest.approx(np.quantile(theirs, [0.05, 0.5, 0.95]), rel=0.02)


def test_standard_error_over_people_is_the_cluster_robust_one_of_statsmodels(rng):
    identities = rng.integers(12, size=60)
    values = rng.standard_normal(60) + rng.standard_normal(12)[identities]
    fitted = OLS(values, np.ones(60)).fit(cov_type="cluster", cov_kwds={"groups": identities})
    assert statistics.mean_of_people(values, identities).error == pytest.approx(fitted.bse[0])


@pytest.mark.parametrize(("first", "second"), [(3, 3), (4, 6)])
def test_means_and_differences_over_seeds_are_scipys_of_student_and_welch(rng, first, second):
    one, other = rng.normal(2, 1, first), rng.normal(0, 3, second)
    for found, test in [
        (statistics.mean_over_seeds(one), scipy.stats.ttest_1samp(one, 0)),
        (statistics.difference_over_seeds(one, other), scipy.stats.ttest_ind(one, other, equal_var=False)),
        (statistics.difference_over_seeds(one, [0.0], seedless=True), scipy.stats.ttest_1samp(one, 0)),
    ]:
        assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
        assert math.isnan(found.p_value) or found.p_value == pytest.approx(test.pvalue)
    assert math.isnan(statistics.difference_over_seeds(one, [1.5]).low)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=24))
def test_interquartile_mean_is_scipys_trimmed_mean(values):
    assert statistics.interquartile_mean(values).estimate == pytest.approx(
        scipy.stats.trim_mean(values, 0.25), abs=1e-9
    )


@pytest.mark.parametrize("n", [2, 3, 4, 5, 9, 49])
def test_interval_of_the_interquartile_mean_is_tukeys_and_mclaughlins(rng, n):
    values, cut = np.sort(rng.standard_t(3, n)), n // 4
    middle = values[cut : n - cut]
    error = np.clip(values, middle[0], middle[-1]).std(ddof=1) * math.sqrt(n) / len(middle)
    half = scipy.stats.t.ppf(0.975, len(middle) - 1) * error
    found = statistics.interquartile_mean(values)
    assert (found.low, found.high) == pytest.approx((middle.mean() - half, middle.mean() + half))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.lists(st.integers(0, 9), min_size=1, max_size=8))
def test_probability_of_improvement_counts_the_pairs_of_runs(first, second):
    found = statistics.probability_of_improvement(first, second)
    won = sum((a > b) + (a == b) / 2 for a in first for b in second) / (len(first) * len(second))
    assert found.estimate == pytest.approx(won)
    u_statistic = scipy.stats.mannwhitneyu(first, second).statistic
    assert found.estimate == pytest.approx(u_statistic / (len(first) * len(second)))
    if min(len(first), len(second)) > 1:
        assert 0 <= found.low <= found.estimate <= found.high <= 1
        turned = statistics.probability_of_improvement(second, first)
        assert (1 - turned.high, 1 - turned.low) == pytest.approx((found.low, found.high), abs=1e-6)


def test_three_seeds_of_which_all_are_better_prove_nothing():
    found = statistics.probability_of_improvement([4, 5, 6], [1, 2, 3])
    exact = scipy.stats.binomtest(3, 3).proportion_ci(0.95, "exact")
    assert (found.estimate, found.low, found.high, found.p_value) == pytest.approx((1, exact.low, 1, 0.1))


def test_holm_steps_down_over_what_was_tested():
    nan = math.nan
    found, expected = statistics.holm([0.04, nan, 0.01, 0.03, 0.9]), [0.09, nan, 0.04, 0.09, 0.9]
    assert found == pytest.approx(expected, nan_ok=True) and np.isnan(statistics.holm([nan])).all()
    assert not len(statistics.holm([]))


def test_methods_with_seeds_vary_by_people_and_by_seeds(rng):
    (first, second), identities = results(rng, SMALL, [3, 4], [0.02, 0.0], luck=0.02)
    found = statistics.difference(first, second, identities)
    assert found.over == "identities and seeds" and found.estimate == pytest.approx(first.mean() - second.mean())
    networks = statistics.difference(first.mean(0), second.mean(0), identities)
    seeds = statistics.difference_over_seeds(first.mean(1), second.mean(1))
    assert networks.over == "identities" and networks.estimate == pytest.approx(found.estimate)
    assert found.high - found.low > networks.high - networks.low
    halves = [(each.high - each.low) / 2 for each in (networks, seeds, found)]
    assert halves[2] < halves[0] + halves[1]


def test_pairs_without_a_value_are_left_out(rng):
    (first, second), identities = results(rng, SMALL, [2, 2], [0.1, 0.0], luck=0.0)
    first[0, :30], second[1, 290:] = math.nan, math.nan
    kept = slice(30, 290)
    found = statistics.difference(first, second, identities)
    assert found == statistics.difference(first[:, kept], second[:, kept], identities[kept])
    assert math.isnan(statistics.mean_by_identity([math.nan] * 3, [1, 2, 3]).estimate)


def test_too_little_for_an_interval_gives_none():
    alone = statistics.mean_by_identity([0.2, 0.4], ["anna", "anna"])
    assert alone.estimate == pytest.approx(0.3) and alone.n == 1 and math.isnan(alone.low) and math.isnan(alone.p_value)
    assert math.isnan(statistics.mean_over_seeds([0.3]).low) and math.isnan(statistics.interquartile_mean([0.3]).low)
    assert statistics.mean_by_identity([0.2] * 20, range(20)).low == pytest.approx(0.2)
    with pytest.raises(ValueError, match="one identity for each value"):
        statistics.mean_by_identity([0.2, 0.3], [1])


def test_share_of_pairs_improved_is_not_certain_where_all_people_agree():
    identities = np.repeat(np.arange(10), 3)
    found = statistics.share_of_pairs_improved(np.ones(30), np.zeros(30), identities)
    exact = scipy.stats.binomtest(10, 10).proportion_ci(0.95, "exact")
    assert (found.estimate, found.low, found.high) == pytest.approx((1.0, exact.low, 1.0))
    worse = statistics.share_of_pairs_improved(np.zeros(30), np.ones(30), identities)
    assert (worse.low, worse.high) == pytest.approx((0.0, 1 - exact.low))
    mixed = statistics.share_of_pairs_improved([1, 1, 0, 2] * 10, [0, 1, 1, 0] * 10, np.arange(40))
    assert mixed.estimate == 0.625 and 0.5 < mixed.high < 0.8


@pytest.fixture
def fewer_resamples(monkeypatch):
    """A tenth of the resamples, for simulations: what is random in them is mostly the made-up results."""
    fewer = partial(statistics.studentised_deviations, resamples=1000)
    monkeypatch.setattr(statistics, "studentised_deviations", fewer)


@pytest.mark.usefixtures("fewer_resamples")
@pytest.mark.parametrize(
    ("simulate", "of", "replications"),
    [
        (two_networks, [SMALL], 300),
        (two_networks, [SMALL_HARD], 300),
        (two_networks, [LARGE_HARD], 100),
        (two_methods, [SMALL_HARD, 3], 300),
        (one_method, [3], 1500),
        (two_fids, [3], 1500),
        (one_method_with_outliers, [5], 1500),
    ],
)
def test_intervals_hold_the_truth_in_93_to_97_percent_of_made_up_results(simulate, of, replications):
    slack = 2 * math.sqrt(0.95 * 0.05 / replications)  # the whole table, of 2,000 each, needs none
    assert 0.93 - slack <= coverage(simulate, *of, replications=replications) <= 0.97 + slack


@pytest.mark.parametrize("seeds", [3, 10])
def test_interval_of_the_probability_of_improvement_errs_on_the_safe_side(seeds):
    assert coverage(better_runs, seeds, replications=200) >= 0.95


@pytest.mark.usefixtures("fewer_resamples")
@pytest.mark.parametrize(
    ("simulate", "of", "studies"), [(study, [SMALL], 100), (study, [SMALL_HARD], 200), (study_of_sets, [3], 400)]
)
def test_a_study_without_differences_seldom_finds_one_after_holm(simulate, of, studies):
    level_and_three_errors = 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)
    assert false_alarms(simulate, *of, replications=studies) <= level_and_three_errors
