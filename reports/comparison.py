"""One thing compared with all others: how far each is from a baseline, how sure that is, and whether it passed a test.

Values of every test pair are compared pair by pair and resampled by identity; metrics that only a whole set has, by
seed. All comparisons of one call are one study, so their p-values are corrected together.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.measures import higher_is_better
from reports.query import Group, MetricValues, by_pair

if TYPE_CHECKING:
    import pandas

    from reports.statistics import Estimate

COLUMNS = (
    *("difference", "low", "high", "n", "over", "seeds", "p_value", "p_holm", "verdict"),
    *("better_runs", "better_runs_low", "better_runs_high", "better_pairs", "better_pairs_low", "better_pairs_high"),
)
LEVEL = 0.05


def differences(values: MetricValues, baseline: Mapping[str, Any]) -> "pandas.DataFrame":
    """A row for each combination of the baseline's keys but its own, with COLUMNS.

    difference: value minus the baseline's, in the metric's unit, with its 95 % interval; n people or runs that `over`
    names; seeds: runs on this side and of the baseline; p_holm: corrected for all rows. verdict: better or worse where
    p_holm < 0.05 and the metric has a direction, else "not shown". better_runs: the probability that a run of this is
    better than one of the baseline; better_pairs: on which share of test pairs it is. NaN where there is too little.
    Raises ValueError where there is no such baseline, or runs of a group differ in more than their seed.
    """
    import pandas

    groups = values.groups(*baseline)
    own = next((key for key in groups if [str(part) for part in key] == [str(v) for v in baseline.values()]), None)
    if own is None or not groups[own].values:
        asked = ", ".join(f"{key}={value}" for key, value in baseline.items())
        there = "; ".join(", ".join(map(str, key)) for key, group in groups.items() if group.values)
        raise ValueError(f"no run of {asked} has a value of {values.name}; there are: {there or 'none'}")
    for key, group in groups.items():
        if group.differing:
            raise ValueError(
                f"runs of {', '.join(map(str, key))} differ in more than their seed "
                f"({', '.join(group.differing[:6])}); add such a key to against(...), or choose by where(...)"
            )
    others = {key: group for key, group in groups.items() if key != own and group.values}
    rows = tested(values.name, [(group, groups[own]) for group in others.values()])
    named = [dict(zip(baseline, key, strict=True)) for key in others]
    frame = pandas.DataFrame([{**name, **row} for name, row in zip(named, rows, strict=True)])
    frame = frame.reindex(columns=[*baseline, *COLUMNS]).set_index(list(baseline))
    return frame.astype({"p_value": float, "p_holm": float})


def tested(metric: str, pairs: Sequence[tuple[Group, Group]]) -> list[dict[str, Any]]:
    """COLUMNS of each pair of groups, the first against the second; the tests of all are corrected together."""
    from reports.statistics import holm

    rows = [_row(metric, group, baseline) for group, baseline in pairs]
    for row, corrected in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_holm"] = corrected
        row["verdict"] = _verdict(metric, row["difference"], corrected)
    return rows


def _row(metric: str, group: Group, baseline: Group) -> dict[str, Any]:
    from reports import statistics

    _refuse_other_circumstances(metric, group, baseline)
    runs, of_baseline = len(group.values), len(baseline.values)
    seedless = all(record.is_reference for record, _ in baseline.values)
    first, second, identities = paired(metric, group, baseline)
    if identities.size:
        found = statistics.difference(first, second, identities, seedless)
    else:
        found = statistics.difference_over_seeds(group.numbers, baseline.numbers, seedless)
    sign = -1.0 if higher_is_better(metric) is False else 1.0
    better_runs = statistics.probability_of_improvement(
        [sign * value for value in group.numbers], [sign * value for value in baseline.numbers]
    )
    better_pairs = statistics.share_of_pairs_improved(sign * first.mean(0), sign * second.mean(0), identities)
    return {
        **{"difference": found.estimate, "low": found.low, "high": found.high, "n": found.n, "over": found.over},
        **{"seeds": f"{runs}, {of_baseline}", "p_value": found.p_value},
        **_as_columns("better_runs", better_runs if min(runs, of_baseline) > 1 else None),
        **_as_columns("better_pairs", better_pairs if identities.size else None),
    }


def paired(metric: str, group: Group, baseline: Group) -> tuple[Any, Any, Any]:
    """Values [runs, pairs] of both and identities [pairs] of the test pairs that all runs have; maybe none."""
    first = [record for record, _ in group.values]
    values, identities = by_pair([*first, *(record for record, _ in baseline.values)], metric)
    return values[: len(first)], values[len(first) :], identities


def _refuse_other_circumstances(metric: str, group: Group, baseline: Group) -> None:
    """Values of another protocol or test set are not compared."""
    both = [*group.values, *baseline.values]
    if len({measurement.protocol_key for _, measurement in both}) > 1:
        names = sorted({str(measurement.protocol.get("name")) for _, measurement in both})
        raise ValueError(f"{metric} was computed under different protocols ({', '.join(names)}): not compared")
    if len({record.dataset_digest for record, _ in both}) > 1:
        names = sorted({f"{record.dataset} ({str(record.dataset_digest)[:8]})" for record, _ in both})
        raise ValueError(f"{metric} was computed on different data sets ({', '.join(names)}): not compared")


def _as_columns(name: str, found: "Estimate | None") -> dict[str, float]:
    ends = (found.estimate, found.low, found.high) if found else (math.nan,) * 3
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))


def _verdict(metric: str, difference: float, p_value: float | None) -> str:
    higher = higher_is_better(metric)
    if p_value is None or p_value >= LEVEL or higher is None:
        return "not shown"
    return "better" if (difference > 0) == higher else "worse"
