"""Values of one metric by what tells the runs apart, with intervals; differences between groups of runs, tested.

Runs of a group that differ in nothing but their seed have an interval over seeds; where every group is a single run,
its interval is over the people of the test set, from per_image.parquet. Differences are paired by test pair and
resampled by identity, or, for metrics that only a whole set has, taken over seeds. All tests of one call are corrected
together (Holm).
"""

import difflib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas

from reports import statistics
from reports.run_directory import DERIVED, Record
from xinggan.metrics.catalogue import higher_is_better
from xinggan.metrics.values import MetricValue

COLUMNS = ["value", "low", "high", "n", "sd", "iqm", "iqm_low", "iqm_high", "missing", "over"]
DIFFERENCE_COLUMNS = [
    *("difference", "low", "high", "n", "over", "seeds", "p_value", "better_runs", "better_runs_low"),
    *("better_runs_high", "better_pairs", "better_pairs_low", "better_pairs_high", "verdict", "p_holm"),
]
OF_THE_SEED = ("seed", "method.seed")  # a method's own seed is the run's
FOLDERS = ("runs", "cache")  # where files lie is no difference between runs
UNKNOWN = statistics.Estimate(math.nan, math.nan, math.nan, 0, "")


@dataclass
class Group:
    """Runs of one combination of keys that have a value, and how many have none."""

    values: list[tuple[Record, MetricValue]] = field(default_factory=list)
    missing: int = 0

    @property
    def records(self) -> list[Record]:
        return [record for record, _ in self.values]

    @property
    def numbers(self) -> list[float]:
        return [measurement.value for _, measurement in self.values if measurement.value is not None]


@dataclass(frozen=True)
class MetricValues:
    """One metric of some records. `found` holds what they recorded of it, the reasons why it has no value included.

    The metric has one entry a run and protocol; `Records.metric` says how a protocol is chosen.
    """

    records: Sequence[Record]
    name: str
    found: list[tuple[Record, MetricValue]]

    def by(self, *keys: str, over: str | None = None) -> pandas.DataFrame:
        """A row for each combination of the keys: COLUMNS. Without keys, one row.

        value: mean over the group's runs, [low, high] its 95 % interval (NaN where there is too little for one), n the
        runs with a value and `missing` those without (unfinished, or unavailable), sd their sample deviation, iqm their
        interquartile mean with its interval over seeds, `over` what [low, high] is over: seeds or identities. It may be
        asked for; otherwise it is identities where no group has more than one value. Raises ValueError for an unknown
        key, and where the values of a group have no common mean, being of different protocols or test sets.
        """
        if over not in (None, "seeds", "identities"):
            raise ValueError(f"an interval is over seeds or identities, not {over!r}")
        groups, rows, mixed = self.groups(*keys), [], []
        several = any(len(group.values) > 1 for group in groups.values())
        over = over or ("seeds" if several else "identities")
        for combination, group in groups.items():
            found, middle = statistics.mean_over_seeds(group.numbers), statistics.interquartile_mean(group.numbers)
            low, high = found.low, found.high
            if apart := differing_beside_seed(group.records):
                low = high = math.nan
                mixed += apart
            if over == "identities" and group.values:
                values, identities = by_pair(group.records, self.name)
                people = statistics.mean_by_identity(values.mean(axis=0), identities)
                # A metric pooled over joints (PCKh) is not the mean over pairs: the interval moves to its value.
                low, high = (end - people.estimate + found.estimate for end in (people.low, people.high))
            sd = pandas.Series(group.numbers, dtype=float).std()
            interquartile = (middle.estimate, middle.low, middle.high)
            rows.append((*combination, found.estimate, low, high, found.n, sd, *interquartile, group.missing, over))
        if mixed:
            warnings.warn(
                f"runs of a group differ in more than their seed ({', '.join(list(dict.fromkeys(mixed))[:6])}): their "
                f"mean of {self.name} has no interval over seeds. Add such a key to by(...), or choose by where(...)",
                stacklevel=2,
            )
        frame = pandas.DataFrame(rows, columns=[*keys, *COLUMNS])
        return frame.set_index(list(keys)) if keys else frame.set_index(pandas.Index([self.name], name="metric"))

    def against(self, **baseline: Any) -> pandas.DataFrame:
        """A row for each combination of the baseline's keys but its own (`against(scale="multi")`), tested.

        difference: value minus the baseline's, in the metric's unit, with its 95 % interval; n people or runs that
        `over` names; seeds: runs on this side and of the baseline; p_holm: corrected for all rows. verdict: better or
        worse where p_holm < 0.05 and the metric has a direction, else "not shown". better_runs: the probability that a
        run of this is better than one of the baseline; better_pairs: on which share of test pairs it is. NaN where
        there is too little. Raises ValueError where there is no such baseline, runs of a group differ in more than
        their seed, or values are of different protocols or test sets.
        """
        groups = {key: group for key, group in self.groups(*baseline).items() if group.values}
        own = next((key for key in groups if [*map(str, key)] == [*map(str, baseline.values())]), None)
        if own is None:
            asked = ", ".join(f"{key}={value}" for key, value in baseline.items())
            there = "; ".join(", ".join(map(str, key)) for key in groups)
            raise ValueError(f"no run of {asked} has a value of {self.name}; there are: {there or 'none'}")
        for key, group in groups.items():
            if apart := differing_beside_seed(group.records):
                raise ValueError(
                    f"runs of {', '.join(map(str, key))} differ in more than their seed "
                    f"({', '.join(apart[:6])}); add such a key to against(...), or choose by where(...)"
                )
        others = [key for key in groups if key != own]
        tested = tested_differences(self.name, [(groups[key], groups[own]) for key in others])
        return pandas.concat([pandas.DataFrame(others, columns=list(baseline)), tested], axis=1).set_index([*baseline])

    def per_image(self) -> pandas.DataFrame:
        """A row for each run and test pair: run, title, pair, pair_id, identity, value."""
        scored = {record.run: record for record, measurement in self.found if measurement.value is not None}
        frames = [record.per_image(self.name).assign(run=run, title=record.title) for run, record in scored.items()]
        columns = ["run", "title", "pair", "pair_id", "identity", "value"]
        return pandas.concat(frames, ignore_index=True)[columns] if frames else pandas.DataFrame(columns=columns)

    def groups(self, *keys: str) -> dict[tuple, Group]:
        """Combination of the keys' values -> the runs that have it, sorted. Refuses as `by` does."""
        facts = [resolve_key(self.records, key) for key in keys]
        groups: dict[tuple, Group] = {} if keys else {(): Group()}
        for record in self.records:
            group = groups.setdefault(tuple(record.facts.get(fact) for fact in facts), Group())
            own = [(one, row) for one, row in self.found if one.run == record.run and row.value is not None]
            group.values += own
            group.missing += not own
        for combination, group in groups.items():
            if problem := _no_common_mean(group.values):
                where = f" of {', '.join(map(str, combination))}" if combination else ""
                raise ValueError(f"{self.name}{where} {problem}")
        return dict(sorted(groups.items(), key=lambda item: [_sort_key(value) for value in item[0]]))


def tested_differences(metric: str, pairs: Sequence[tuple[Group, Group]]) -> pandas.DataFrame:
    """DIFFERENCE_COLUMNS of each pair of groups, the first against the second; all tests are corrected together."""
    rows = [_difference(metric, group, baseline) for group, baseline in pairs]
    found = pandas.DataFrame(rows, columns=DIFFERENCE_COLUMNS)
    corrected = statistics.holm([row["p_value"] for row in rows])
    found = found.assign(p_holm=pandas.Series(corrected, dtype=float)).astype({"p_value": float})
    higher = higher_is_better(metric)
    shown = (found["p_holm"] < statistics.LEVEL) & (higher is not None)
    verdict = np.where((found["difference"] > 0) == higher, "better", "worse")
    return found.assign(verdict=np.where(shown, verdict, "not shown"))


def _difference(metric: str, group: Group, baseline: Group) -> dict[str, Any]:
    if problem := _no_common_mean([*group.values, *baseline.values]):
        raise ValueError(f"{metric} {problem}")
    runs, others = len(group.values), len(baseline.values)
    seedless = all(record.is_reference for record in baseline.records)
    sign = -1.0 if higher_is_better(metric) is False else 1.0
    numbers, of_baseline = np.array(group.numbers), np.array(baseline.numbers)
    values, identities = by_pair([*group.records, *baseline.records], metric)
    better_runs = better_pairs = UNKNOWN
    if identities.size:
        first, second = values[:runs], values[runs:]
        found = statistics.difference(first, second, identities, seedless)
        better_pairs = statistics.share_of_pairs_improved(sign * first.mean(0), sign * second.mean(0), identities)
    else:
        found = statistics.difference_over_seeds(numbers, of_baseline, seedless)
    if min(runs, others) > 1:
        better_runs = statistics.probability_of_improvement(sign * numbers, sign * of_baseline)
    row = {"difference": found.estimate, "low": found.low, "high": found.high, "n": found.n, "over": found.over}
    row |= {"seeds": f"{runs}, {others}", "p_value": found.p_value}
    for name, share in {"better_runs": better_runs, "better_pairs": better_pairs}.items():
        row |= {name: share.estimate, f"{name}_low": share.low, f"{name}_high": share.high}
    return row


def by_pair(records: Sequence[Record], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """A metric of runs on one test set: values [runs, pairs] and identities [pairs], of the pairs that all have.

    Both are empty where a run keeps no values by pair.
    """
    frames = [record.per_image(metric).set_index("pair") for record in records]
    values = pandas.concat([frame["value"] for frame in frames], axis=1, join="inner")
    return values.to_numpy(float).T, frames[0]["identity"].loc[values.index].to_numpy()


def _no_common_mean(values: list[tuple[Record, MetricValue]]) -> str | None:
    """Why values of these runs are not averaged or compared: they are of different protocols or test sets."""
    protocols = {measurement.protocol_key: measurement.protocol for _, measurement in values}
    if len(protocols) > 1:
        names = sorted({str(protocol.get("name")) for protocol in protocols.values()})
        return (
            f"was computed under {len(protocols)} different protocols ({', '.join(names)}), which have no common mean "
            'and are not compared; choose one by .metric(..., protocol="...")'
        )
    digests = {record.dataset_digest for record, _ in values}
    if len(digests) > 1:
        listed = sorted({f"{record.dataset} ({str(record.dataset_digest)[:8]})" for record, _ in values})
        return (
            f"was computed on {len(digests)} different data sets ({', '.join(listed)}), which have no common mean and "
            'are not compared; choose by where(dataset_digest=...) or add "dataset_digest" to by(...)'
        )
    return None


def resolve_key(records: Sequence[Record], key: str) -> str:
    """The full name of the fact that `key` means: itself, or the one dotted configuration key that ends with it.

    Raises ValueError for a key that no record has, or that several configuration keys end with, with what is there.
    """
    known = {fact: None for record in records for fact in record.facts}
    if key in known or not known:
        return key
    endings = [name for name in known if name.endswith("." + key)]
    if len(endings) == 1:
        return endings[0]
    near = endings or difflib.get_close_matches(key, known, n=5, cutoff=0.5) or sorted(known)
    problem = "is ambiguous" if endings else "is in no record"
    raise ValueError(f"the key {key!r} {problem}; keys like it: {', '.join(near[:12])}")


def differing(records: Sequence[Record]) -> list[str]:
    """Configuration keys whose value is not the same in all records, in the order of the configuration.

    A value that stands in the configuration twice (`scale`, and `method.architecture.scale` that refers to it) counts
    under its shorter key.
    """
    keys = {key: None for record in records for key in record.facts if key not in (*DERIVED, *FOLDERS)}
    columns = {key: [repr(record.facts.get(key)) for record in records] for key in keys}
    several = [key for key, values in columns.items() if len(set(values)) > 1]
    shorter = {key: [key.split(".", place)[-1] for place in range(1, key.count(".") + 1)] for key in several}
    return [key for key in several if not any(columns.get(end) == columns[key] for end in shorter[key])]


def differing_beside_seed(records: Sequence[Record]) -> list[str]:
    """As `differing`, without what may differ between training seeds of one model."""
    return [key for key in differing(records) if key not in (*OF_THE_SEED, "device")]


def _sort_key(value: Any) -> tuple:
    """Numbers in order, then words, then what is absent."""
    if value is None:
        return (2, "", 0)
    return (0, "", value) if isinstance(value, (int, float)) else (1, str(value), 0)


# The rank order of the methods on one test set.


@dataclass(frozen=True)
class Ranking:
    """One metric under one protocol on one test set."""

    metric: str
    protocol: str  # as text, see MetricValue.protocol_key
    by_run: pandas.DataFrame  # value, low, high ... of each run, over people
    by_variant: pandas.DataFrame  # of each method's variant, over seeds where there are several
    best: str | None  # variant; None where nothing is scored or the metric has no direction
    behind: pandas.DataFrame | None  # of the other variants, how far they are from the best: DIFFERENCE_COLUMNS

    @property
    def is_clear(self) -> bool:
        """Whether the best is better than every other by a test."""
        return self.behind is not None and len(self.behind) > 0 and bool((self.behind["verdict"] == "worse").all())


def rankings(values: MetricValues) -> list[Ranking]:
    """Who is best under each protocol that some run of one test set has a value of. References take no part.

    Of variants whose runs differ in more than their seed, load_records makes variants of their own.
    """
    found = [(record, row) for record, row in values.found if row.value is not None]
    higher, ranked = higher_is_better(values.name), []
    for protocol in sorted({row.protocol_key for _, row in found}):
        own = [(record, row) for record, row in found if row.protocol_key == protocol]
        by_run = MetricValues(values.records, values.name, own).by("run", over="identities")
        rivals = [record for record, _ in own if not record.is_reference]
        methods = MetricValues(rivals, values.name, own)
        by_variant, best, behind = methods.by("variant"), None, None
        if higher is not None and rivals:
            best = str(by_variant["value"].idxmax() if higher else by_variant["value"].idxmin())
            behind = methods.against(variant=best) if len(by_variant) > 1 else None
        ranked.append(Ranking(values.name, protocol, by_run, by_variant, best, behind))
    return ranked
