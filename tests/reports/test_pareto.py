"""Fronts, reigns and speed-ups against their definitions, tried pair by pair."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.pareto import (
    Point,
    best_at_each_latency,
    best_within,
    pareto_front,
    speed_up_at_matched_quality,
)

# Few distinct values, so that ties are frequent.
clouds = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 5)), min_size=1, max_size=12).map(
    lambda pairs: [Point(str(name), float(ms), quality / 5) for name, (ms, quality) in enumerate(pairs)]
)


def at_least_as_good(one, other, higher):
    return one.quality >= other.quality if higher else one.quality <= other.quality


def beats(one, other, higher):
    equal = (one.latency_ms, one.quality) == (other.latency_ms, other.quality)
    return one.latency_ms <= other.latency_ms and at_least_as_good(one, other, higher) and not equal


@given(clouds, st.booleans())
def test_the_front_is_what_no_point_beats(points, higher):
    expected = {point.name for point in points if not any(beats(other, point, higher) for other in points)}
    front = pareto_front(points, higher)
    assert {point.name for point in front} == expected
    assert [point.latency_ms for point in front] == sorted(point.latency_ms for point in front)


@given(clouds, st.booleans(), st.integers(1, 8))
def test_who_reigns_at_a_latency_is_the_best_that_takes_no_longer(points, higher, latency_ms):
    affordable = [point for point in points if point.latency_ms <= latency_ms]
    reigning = [
        reign.point
        for reign in best_at_each_latency(points, higher)
        if reign.point.latency_ms <= latency_ms and (reign.until_ms is None or latency_ms < reign.until_ms)
    ]
    best = best_within(points, latency_ms, higher)
    if not affordable:
        assert best is None and not reigning
        return
    assert best is not None and all(at_least_as_good(best, other, higher) for other in affordable)
    assert {point.quality for point in reigning} == {best.quality}


@given(clouds, st.booleans())
def test_the_speed_up_is_that_of_the_fastest_point_that_is_as_good(points, higher):
    reference, *own = points
    factors = [reference.latency_ms / p.latency_ms for p in own if at_least_as_good(p, reference, higher)]
    assert speed_up_at_matched_quality(own, reference, higher) == (max(factors) if factors else None)


def test_a_lower_distance_is_better():
    fast, good, bad = Point("fast", 1, 0.4), Point("good", 10, 0.1), Point("bad", 20, 0.3)
    assert pareto_front([bad, good, fast], higher_is_better=False) == [fast, good]
    assert speed_up_at_matched_quality([good], bad, higher_is_better=False) == pytest.approx(2)
    assert speed_up_at_matched_quality([fast], bad, higher_is_better=False) is None
