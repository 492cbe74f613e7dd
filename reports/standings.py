"""How the methods of one test set stand under each metric: values with intervals, who is best, and by what test.

Every metric is taken under one protocol at a time. A method is called best in bold only when it is better than every
other one by a test corrected for all these comparisons (Holm).
"""

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from reports import measures
from reports.query import OF_THE_SEED, MetricValues
from reports.records import Records
from reports.studies import without_seed

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Standing:
    """One metric under one protocol on one test set."""

    metric: str
    protocol_key: str
    values: MetricValues
    by_run: "pandas.DataFrame"  # value, low, high ... of each run, over people
    by_variant: "pandas.DataFrame"  # of each method's variant, over seeds where there are several
    best: str | None  # variant; None where nothing is scored or the metric has no direction
    behind: "pandas.DataFrame | None"  # of the other variants, how far they are from the best; see `comparison`

    @property
    def key(self) -> tuple[str, str]:
        return self.metric, self.protocol_key

    @property
    def is_clear(self) -> bool:
        """Whether the best is better than every other by a test."""
        return self.behind is not None and len(self.behind) > 0 and bool((self.behind["verdict"] == "worse").all())


def name_variants(records: Records) -> None:
    """Give each run the fact `variant`: its title without the seed, where it differs from its like in the seed only."""
    groups: dict[str, list] = {}
    titles = records.whole.titles()
    for record in records.whole:
        groups.setdefault(without_seed(titles[record.run]), []).append(record)
    for variant, members in groups.items():
        apart = [key for key in Records(members).differing() if key not in (*OF_THE_SEED, "device")]
        for record in members:
            record.facts["variant"] = titles[record.run] if apart and len(members) > 1 else variant


def standings(group: Records, metrics: list[str] | None = None) -> list[Standing]:
    """Of each metric (all, or those named) and protocol that some run of one test set has a value of."""
    name_variants(group)
    runs = frozenset(record.run for record in group)
    return [one for metric in measures.in_order(metrics or group.metrics()) for one in _of(group.whole, runs, metric)]


@lru_cache(maxsize=1024)
def _of(whole: Records, runs: frozenset[str], metric: str) -> list[Standing]:
    """Several pages ask for the same; resampling takes a while."""
    group = Records((record for record in whole if record.run in runs), whole)
    of_metric = [(record, row) for record, row in group.metric(metric).found if row.value is not None]
    keys = sorted({row.protocol_key for _, row in of_metric})
    values = {key: [(record, row) for record, row in of_metric if row.protocol_key == key] for key in keys}
    return [_standing(group, metric, key, found) for key, found in values.items()]


def _standing(group: Records, metric: str, key: str, found: list) -> Standing:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # references differ in more than the seed, and are each their own variant
        by_run = MetricValues(group, metric, found).by("run", over="identities")
        own = [(record, row) for record, row in found if not record.is_reference]
        methods = Records([record for record, _ in own], group.whole)
        values = MetricValues(methods, metric, own)
        by_variant = values.by("variant") if own else by_run.iloc[:0]
    higher, best, behind = measures.higher_is_better(metric), None, None
    if higher is not None and len(by_variant):
        best = str(by_variant["value"].idxmax() if higher else by_variant["value"].idxmin())
    if best is not None and len(by_variant) > 1:
        behind = values.against(variant=best)
    return Standing(metric, key, values, by_run, by_variant, best, behind)


def interval(low: float, high: float, decimals: int) -> str:
    """`[0.512, 0.561]`, or nothing where there is none."""
    return f"[{low:.{decimals}f}, {high:.{decimals}f}]" if math.isfinite(low) and math.isfinite(high) else ""


def p_text(p_value: float) -> str:
    """`p < 0.001`, `p = 0.023`, or that no test was possible."""
    if not math.isfinite(p_value):
        return "not tested"
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
