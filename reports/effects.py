"""How large the effect of each contrast of an ablation is: difference, interval, test and what it costs.

A difference is that of the runs that have something to those that have something else in its place, so a difference
towards better values is a gain. All contrasts of one call are one study: a metric's tests are corrected together.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from reports.answer import main_metrics
from reports.comparison import tested
from reports.contrasts import Contrast
from reports.quality_time import latencies
from reports.query import Group
from reports.record import Measurement, Record
from reports.records import Records
from reports.timing import is_number, median, training_speed


@dataclass(frozen=True)
class Effect:
    """One contrast under one metric."""

    contrast: Contrast
    metric: str
    runs: int  # with a value, on the side that has something
    others: int
    columns: dict[str, Any]  # as `reports.comparison.differences` describes them

    @property
    def was_tested(self) -> bool:
        return self.columns["p_holm"] is not None

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `not shown` or `not tested`."""
        return self.columns["verdict"] if self.was_tested else "not tested"

    @property
    def interval(self) -> tuple[float, float] | None:
        low, high = self.columns["low"], self.columns["high"]
        return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def effects(contrasts: Sequence[Contrast]) -> list[Effect]:
    """Of each main metric that the runs have, the effect of each contrast whose two sides have a value of it."""
    runs = runs_of(contrasts)
    return [effect for metric in main_metrics(runs) for effect in _of_metric(metric, contrasts, runs)]


def runs_of(contrasts: Sequence[Contrast]) -> Records:
    every = (record for contrast in contrasts for record in (*contrast.runs, *contrast.others))
    return Records({record.directory: record for record in every}.values())


def _of_metric(metric: str, contrasts: Sequence[Contrast], runs: Records) -> list[Effect]:
    """Under the protocol that most of the runs have."""
    measured = {record.run: row for record, row in runs.metric(metric).found if row.value is not None}
    protocol, _ = Counter(row.protocol_key for row in measured.values()).most_common(1)[0]
    values = {run: row for run, row in measured.items() if row.protocol_key == protocol}
    sides = [(_group(contrast.runs, values), _group(contrast.others, values)) for contrast in contrasts]
    there = [(c, *pair) for c, pair in zip(contrasts, sides, strict=True) if all(group.values for group in pair)]
    rows = tested(metric, [(group, baseline) for _, group, baseline in there])
    return [
        Effect(contrast, metric, len(group.values), len(baseline.values), row)
        for (contrast, group, baseline), row in zip(there, rows, strict=True)
    ]


def _group(records: Sequence[Record], values: dict[str, Measurement]) -> Group:
    with_value = [(record, values[record.run]) for record in records if record.run in values]
    return Group(with_value, [record for record in records if record.run not in values], [])


@dataclass(frozen=True)
class Cost:
    """What the two sides of a contrast cost, each the median of its runs; None where that was not recorded."""

    parameters: tuple[float, float] | None
    training_images_per_second: tuple[float, float] | None
    latency_ms: tuple[float, float] | None


def costs(contrasts: Sequence[Contrast]) -> list[Cost]:
    taken = latencies(runs_of(contrasts))
    return [
        Cost(
            _both(contrast, lambda record: record.timing.get("parameters")),
            _both(contrast, training_speed),
            _both(contrast, lambda record: taken.get(record.run)),
        )
        for contrast in contrasts
    ]


def _both(contrast: Contrast, cost: Callable[[Record], Any]) -> tuple[float, float] | None:
    first, second = ([v for v in map(cost, side) if is_number(v)] for side in (contrast.runs, contrast.others))
    return (median(first), median(second)) if first and second else None
