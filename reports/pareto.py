"""Quality against time: which methods nobody beats in both, which is best at each latency, and at what factor one
method reaches another's quality (protocols, Timing). Plain data in, plain data out.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """A method as it was run: what an image takes, and how good it is."""

    name: str
    latency_ms: float
    quality: float


def pareto_front(points: Sequence[Point], higher_is_better: bool) -> list[Point]:
    """The points that no other is at least as fast and as good as, and better in one; from the fastest to the best.

    Points that are equal in both stand on the front together.
    """
    sign = 1 if higher_is_better else -1
    front: list[Point] = []
    for point in sorted(points, key=lambda one: (one.latency_ms, -sign * one.quality)):
        last = front[-1] if front else None
        same = last is not None and (last.latency_ms, last.quality) == (point.latency_ms, point.quality)
        if last is None or same or sign * point.quality > sign * last.quality:
            front.append(point)
    return front


@dataclass(frozen=True)
class Reign:
    """Latencies at which a point is the best there is: from its own up to, not including, `until_ms` (None: any)."""

    point: Point
    until_ms: float | None


def best_at_each_latency(points: Sequence[Point], higher_is_better: bool) -> list[Reign]:
    """Who gives the best quality to somebody who can wait so long, over all latencies from the fastest point's."""
    front = pareto_front(points, higher_is_better)
    ends = [other.latency_ms for other in front[1:]]
    reigns = [Reign(point, until) for point, until in zip(front, [*ends, None], strict=True)]
    return [reign for reign in reigns if reign.until_ms is None or reign.until_ms > reign.point.latency_ms]


def best_within(points: Sequence[Point], latency_ms: float, higher_is_better: bool) -> Point | None:
    """The best of those that take at most so long, the faster of equals: at matched time. None if all take longer."""
    sign = 1 if higher_is_better else -1
    affordable = [point for point in points if point.latency_ms <= latency_ms]
    return max(affordable, key=lambda point: (sign * point.quality, -point.latency_ms), default=None)


def speed_up_at_matched_quality(own: Sequence[Point], reference: Point, higher_is_better: bool) -> float | None:
    """How many times faster than `reference` the fastest of `own` is that is at least as good; None if none is.

    own: the points of one method, several where it can trade time for quality. Below 1: it is slower.
    """
    sign = 1 if higher_is_better else -1
    good = [point.latency_ms for point in own if sign * point.quality >= sign * reference.quality]
    return reference.latency_ms / min(good) if good else None
