"""Values of one metric, asked for by what tells the runs apart: value, interval and n of each group.

Runs of a group that differ in nothing but their seed have an interval over seeds; where every group is a single run,
its interval is over the people of the test set, from per_image.parquet, which is read only then.
"""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reports.record import Measurement, Record

if TYPE_CHECKING:
    import pandas

    from reports.records import Records
    from reports.statistics import Estimate

COLUMNS = ("value", "low", "high", "n", "sd", "missing", "over")
OF_THE_SEED = ("seed", "method.seed")  # a method's own seed is the run's


@dataclass(frozen=True)
class MetricValues:
    """One metric of some records. `found` holds what they recorded of it, the reasons why it has no value included."""

    records: "Records"
    name: str
    found: list[tuple[Record, Measurement]]

    def by(self, *keys: str, over: str | None = None) -> "pandas.DataFrame":
        """A row for each combination of the keys: COLUMNS. Without keys, one row.

        value: mean over the group's runs, [low, high] its 95 % interval (NaN where there is too little for one), n the
        runs with a value and `missing` those without (unfinished, or unavailable), sd their sample deviation, `over`
        what the interval is over: seeds or identities. `over` may be asked for; otherwise it is identities where no
        group has more than one value. Raises ValueError for an unknown key, and where the values of a group have no
        common mean, being of different protocols or test sets.
        """
        import pandas

        groups = self.groups(*keys)
        if over not in (None, "seeds", "identities"):
            raise ValueError(f"an interval is over seeds or identities, not {over!r}")
        if over is None:
            over = "seeds" if any(len(group.values) > 1 for group in groups.values()) else "identities"
        rows = [
            dict(zip(keys, combination, strict=True)) | group.row(self.name, over)
            for combination, group in groups.items()
        ]
        self._warn_of_mixtures(groups, over)
        frame = pandas.DataFrame(rows, columns=[*keys, *COLUMNS])
        return frame.set_index(list(keys)) if keys else frame.set_index(pandas.Index([self.name], name="metric"))

    def groups(self, *keys: str) -> "dict[tuple, Group]":
        """Combination of the keys' values -> the runs that have it, sorted. Refuses as `by` does."""
        facts = [self.records.resolve(key) for key in keys]
        measured: dict[str, list[Measurement]] = {}
        for record, measurement in self.found:
            if measurement.value is not None:
                measured.setdefault(record.run, []).append(measurement)
        groups: dict[tuple, Group] = {} if keys else {(): Group([], [], [])}
        for record in self.records:
            group = groups.setdefault(tuple(record.facts.get(fact) for fact in facts), Group([], [], []))
            values = measured.get(record.run, [])
            group.values.extend((record, measurement) for measurement in values)
            group.without.extend([] if values else [record])
        for group in groups.values():
            group.differing.extend(_differing([record for record, _ in group.values]))
        self._refuse_mixtures(groups)
        return dict(sorted(groups.items(), key=lambda item: [_order(value) for value in item[0]]))

    def per_image(self) -> "pandas.DataFrame":
        """A row for each run and test pair: run, title, pair, pair_id, identity, value. Reads this metric only."""
        import pandas

        titles = self.records.titles()
        runs = dict.fromkeys(record.run for record, measurement in self.found if measurement.value is not None)
        frames = [
            record.per_image_of(self.name).assign(run=record.run, title=titles[record.run])
            for record in self.records
            if record.run in runs
        ]
        columns = ["run", "title", "pair", "pair_id", "identity", "value"]
        return pandas.concat(frames, ignore_index=True)[columns] if frames else pandas.DataFrame(columns=columns)

    def against(self, **baseline: Any) -> "pandas.DataFrame":
        """How each other value of the baseline's keys differs from it (`against(scale="multi")`), tested.

        See `reports.comparison.differences` for the columns.
        """
        from reports.comparison import differences

        return differences(self, baseline)

    def _refuse_mixtures(self, groups: "dict[tuple, Group]") -> None:
        for combination, group in groups.items():
            where = f" of {', '.join(map(str, combination))}" if combination else ""
            protocols = {measurement.protocol_key for _, measurement in group.values}
            if len(protocols) > 1:
                listed = "\n  ".join(sorted(protocols))
                raise ValueError(
                    f"{self.name}{where} was computed under {len(protocols)} protocols, which have no common mean; "
                    f"choose by metric({self.name!r}, protocol=...):\n  {listed}"
                )
            digests = {record.dataset_digest for record, _ in group.values if record.dataset_digest}
            if len(digests) > 1:
                listed = ", ".join(sorted({f"{r.dataset} ({str(r.dataset_digest)[:8]})" for r, _ in group.values}))
                raise ValueError(
                    f"{self.name}{where} was computed on {len(digests)} data sets, which have no common mean: {listed}"
                    '; choose by where(dataset_digest=...) or add "dataset_digest" to by(...)'
                )

    def _warn_of_mixtures(self, groups: "dict[tuple, Group]", over: str) -> None:
        mixed = {key: None for group in groups.values() for key in group.differing}
        if mixed and over == "seeds":
            warnings.warn(
                f"runs of a group differ in more than their seed ({', '.join(list(mixed)[:6])}): their mean of "
                f"{self.name} has no interval over seeds. Add such a key to by(...), or choose by where(...)",
                stacklevel=3,
            )


@dataclass(frozen=True)
class Group:
    """Runs of one combination: those with a value, those without, and the keys beside the seed in which they differ."""

    values: list[tuple[Record, Measurement]]
    without: list[Record]
    differing: list[str]

    @property
    def numbers(self) -> list[float]:
        return [measurement.value for _, measurement in self.values if measurement.value is not None]

    def row(self, metric: str, over: str) -> dict[str, Any]:
        from reports.statistics import mean_over_seeds, sample_deviation

        found = mean_over_seeds(self.numbers)
        low, high = (found.low, found.high) if not self.differing else (float("nan"), float("nan"))
        if over == "identities" and self.values:
            interval = self.over_identities(metric)
            # A metric pooled over joints (PCKh) is not exactly the mean over pairs: the interval moves to its value.
            low, high = (end - interval.estimate + found.estimate for end in (interval.low, interval.high))
        counted = {"n": found.n, "sd": sample_deviation(self.numbers), "missing": len(self.without)}
        return {"value": found.estimate, "low": low, "high": high, **counted, "over": over}

    def over_identities(self, metric: str) -> "Estimate":
        """Mean over the test pairs, each the mean of the group's runs; NaN where a run has no values by pair."""
        from reports.statistics import mean_by_identity

        values, identities = by_pair([record for record, _ in self.values], metric)
        return mean_by_identity(values.mean(axis=0), identities)


def by_pair(records: list[Record], metric: str) -> tuple[Any, Any]:
    """A metric of runs on one test set: values [runs, pairs] and identities [pairs], of the pairs that all have.

    Both are empty where a run keeps no values by pair.
    """
    from functools import reduce

    import numpy as np

    pairs, identities, values = [], [], []  # of each run, sorted by pair
    for record in records:
        frame = record.per_image_of(metric)
        pair, first = np.unique(frame["pair"].to_numpy(), return_index=True)
        pairs.append(pair)
        identities.append(frame["identity"].to_numpy()[first])
        values.append(frame["value"].to_numpy(float)[first])
    if not all(map(len, pairs)):
        return np.zeros((len(records), 0)), np.zeros(0)
    shared = reduce(np.intersect1d, pairs)
    places = [np.searchsorted(pair, shared) for pair in pairs]
    return np.stack([row[at] for row, at in zip(values, places, strict=True)]), identities[0][places[0]]


def _differing(records: list[Record]) -> list[str]:
    """Keys beside the seed that tell runs of a group apart."""
    from reports.records import Records

    return [key for key in Records(records).differing() if key not in (*OF_THE_SEED, "device")] if records[1:] else []


def _order(value: Any) -> tuple:
    """Numbers in order, then words, then what is absent."""
    if value is None:
        return (2, "", 0)
    return (0, "", value) if isinstance(value, (int, float)) else (1, str(value), 0)
