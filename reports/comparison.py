"""Values of one metric by what tells the runs apart, differences between groups of runs, the order of the methods, and
the tables of all that.

Runs of a group that differ in nothing but their seed have an interval over seeds; where every group is a single run,
its interval is over the people of the test set. Differences are paired by test pair and resampled by identity, or, for
metrics that only a whole set has, taken over seeds. All tests of one call are corrected together (Holm). Bold type
stands only behind a test.
"""

import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas

from reports import statistics
from reports.formats import DASH, as_text, decimals_for, interval
from reports.settings import Facts, differing_beside_seed, protocol_text, resolve_key
from xinggan.metrics import catalogue
from xinggan.metrics.protocol import CLEAN

COLUMNS = ["value", "low", "high", "n", "sd", "iqm", "iqm_low", "iqm_high", "missing", "over"]
DIFFERENCE_COLUMNS = [
    *("difference", "low", "high", "n", "over", "seeds", "p_value", "better_runs", "better_runs_low"),
    *("better_runs_high", "better_pairs", "better_pairs_low", "better_pairs_high", "verdict", "p_holm"),
]
REAL_IMAGES = catalogue.GROUPS[3]  # their own values tell nothing about methods


@dataclass(frozen=True)
class MetricValues:
    """One metric of some runs, one value a run and protocol; `Records.metric` makes it.

    facts: run -> what may be asked of it. values: rows of `Records.values`, those without a value included. pairs: rows
    of `Records.per_image`.
    """

    name: str
    facts: Mapping[str, Facts] = field(repr=False)
    values: pandas.DataFrame
    pairs: pandas.DataFrame = field(repr=False)

    @cached_property
    def scored(self) -> pandas.DataFrame:
        """The rows that have a value."""
        return self.values.dropna(subset=["value"])

    def under_usual_protocol(self) -> "MetricValues":
        """The values under the protocol that most of the runs have."""
        protocols = self.scored["protocol"].tolist()
        usual = max(protocols, key=protocols.count, default="")
        return replace(self, values=self.values[self.values["protocol"] == usual])

    @cached_property
    def by_pair(self) -> pandas.DataFrame:
        """A column a run, a row a test pair, indexed by pair and identity; of values under one protocol."""
        return self.per_image().pivot(index=["pair", "identity"], columns="run", values="value")

    def per_image(self) -> pandas.DataFrame:
        """A row for each run, protocol and test pair: run, title, protocol, pair, pair_id, identity, value."""
        names = {text: json.loads(text).get("name", CLEAN.name) for text in self.scored["protocol"].unique()}
        scored = set(zip(self.scored["run"], self.scored["protocol"].map(names), strict=True))
        kept = [of in scored for of in zip(self.pairs["run"], self.pairs["protocol"], strict=True)]
        return self.pairs[np.array(kept, dtype=bool)].drop(columns="metric")

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
        groups, rows, mixed = self._groups(*keys), [], dict[str, None]()
        over = over or ("seeds" if any(len(own) > 1 for _, own in groups.values()) else "identities")
        for combination, (runs, own) in groups.items():
            found, middle = statistics.mean_over_seeds(own["value"]), statistics.interquartile_mean(own["value"])
            low, high = found.low, found.high
            if apart := differing_beside_seed([self.facts[run] for run in own["run"]]):
                low = high = math.nan
                mixed |= dict.fromkeys(apart)
            if over == "identities" and len(own):
                pairs = self._pairs_of_all(own["run"])
                by_person = pairs.index.get_level_values("identity")
                people = statistics.mean_by_identity(pairs.mean(axis=1), by_person, pooled=found.estimate)
                low, high = people.low, people.high
            missing = len(set(runs) - set(own["run"]))
            interquartile = (middle.estimate, middle.low, middle.high)
            rows.append((*combination, found.estimate, low, high, found.n, own["value"].std(), *interquartile, missing))
        if mixed:
            warnings.warn(
                f"runs of a group differ in more than their seed ({', '.join([*mixed][:6])}): their mean of "
                f"{self.name} has no interval over seeds. Add such a key to by(...), or choose by where(...)",
                stacklevel=2,
            )
        frame = pandas.DataFrame(rows, columns=[*keys, *COLUMNS[:-1]]).assign(over=over)
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
        groups = {key: [*rows["run"]] for key, (_, rows) in self._groups(*baseline).items() if len(rows)}
        own = next((key for key in groups if [*map(str, key)] == [*map(str, baseline.values())]), None)
        if own is None:
            asked = ", ".join(f"{key}={value}" for key, value in baseline.items())
            there = "; ".join(", ".join(map(str, key)) for key in groups)
            raise ValueError(f"no run of {asked} has a value of {self.name}; there are: {there or 'none'}")
        for key, runs in groups.items():
            if apart := differing_beside_seed([self.facts[run] for run in runs]):
                raise ValueError(
                    f"runs of {', '.join(map(str, key))} differ in more than their seed "
                    f"({', '.join(apart[:6])}); add such a key to against(...), or choose by where(...)"
                )
        others = pandas.DataFrame([key for key in groups if key != own], columns=list(baseline))
        tested = self.differences([(runs, groups[own]) for key, runs in groups.items() if key != own])
        return pandas.concat([others, tested], axis=1).set_index([*baseline])

    def differences(self, sides: Sequence[tuple[Iterable[str], Iterable[str]]]) -> pandas.DataFrame:
        """DIFFERENCE_COLUMNS of each pair of groups of runs, the first against the second, tested as `against` does."""
        found = pandas.DataFrame([self._difference(*side) for side in sides], columns=DIFFERENCE_COLUMNS)
        found = found.astype({"p_value": float}).assign(p_holm=statistics.holm(found["p_value"]))
        higher = catalogue.higher_is_better(self.name)
        shown = (found["p_holm"] < statistics.LEVEL) & (higher is not None)
        verdict = np.where((found["difference"] > 0) == higher, "better", "worse")
        return found.assign(verdict=np.where(shown, verdict, "not shown"))

    def _difference(self, runs: Iterable[str], others: Iterable[str]) -> dict[str, Any]:
        own, baseline = self._rows(runs), self._rows(others)
        both = pandas.concat([own, baseline])
        self._refuse_no_common_mean(both)
        seedless = all(self.facts[run]["is_reference"] for run in baseline["run"])
        sign = -1.0 if catalogue.higher_is_better(self.name) is False else 1.0
        pairs = self._pairs_of_all(both["run"])
        better_runs = better_pairs = statistics.Estimate()
        if len(pairs):
            first, second = pairs[own["run"]].to_numpy().T, pairs[baseline["run"]].to_numpy().T  # [seeds, pairs]
            identities = pairs.index.get_level_values("identity")
            gap = own["value"].mean() - baseline["value"].mean()
            pooled = gap if "value" in json.loads(both["protocol"].iloc[0]) else None  # "pooled over joints" (PCKh)
            found = statistics.difference(first, second, identities, seedless, pooled)
            better_pairs = statistics.share_of_pairs_improved(sign * first.mean(0), sign * second.mean(0), identities)
        else:
            found = statistics.difference_over_seeds(own["value"], baseline["value"], seedless)
        if min(len(own), len(baseline)) > 1:
            better_runs = statistics.probability_of_improvement(sign * own["value"], sign * baseline["value"])
        row = {"difference": found.estimate, "low": found.low, "high": found.high, "n": found.n, "over": found.over}
        row |= {"seeds": f"{len(own)}, {len(baseline)}", "p_value": found.p_value}
        for name, share in {"better_runs": better_runs, "better_pairs": better_pairs}.items():
            row |= {name: share.estimate, f"{name}_low": share.low, f"{name}_high": share.high}
        return row

    def _groups(self, *keys: str) -> dict[tuple, tuple[list[str], pandas.DataFrame]]:
        """Combination of the keys' values -> the runs that have it and their `_rows`, sorted. Refuses as `by` does."""
        names = [resolve_key(self.facts.values(), key) for key in keys]
        groups: dict[tuple, list[str]] = {} if keys else {(): []}
        for run, facts in self.facts.items():
            groups.setdefault(tuple(facts.get(name) for name in names), []).append(run)
        found = {combination: (runs, self._rows(runs)) for combination, runs in groups.items()}
        for combination, (_, rows) in found.items():
            self._refuse_no_common_mean(rows, f" of {', '.join(map(str, combination))}" if keys else "")
        return dict(sorted(found.items(), key=lambda item: [_sort_key(value) for value in item[0]]))

    def _rows(self, runs: Iterable[str]) -> pandas.DataFrame:
        """The values of these runs, each with its protocol and test set."""
        places = [self._places[run] for run in set(runs) if run in self._places]
        return self._comparable.iloc[np.sort(np.concatenate([*places, np.zeros(0, int)]))]

    @cached_property
    def _comparable(self) -> pandas.DataFrame:
        """The columns of `scored` that a comparison asks for, text as objects: many small parts are taken of it."""
        columns = ["run", "protocol", "dataset", "dataset_digest"]
        return self.scored[[*columns, "value"]].astype(dict.fromkeys(columns, object))

    @cached_property
    def _places(self) -> Mapping[Any, np.ndarray]:
        """Run -> the rows of `scored` that are its own."""
        return self.scored.groupby("run").indices

    def _pairs_of_all(self, runs: Iterable[str]) -> pandas.DataFrame:
        """`by_pair` of these runs, of the pairs that all have a value of; empty where one keeps no values by pair."""
        runs = list(runs)
        if self.by_pair.columns.isin(runs).sum() < len(set(runs)):
            return self.by_pair.iloc[:0]
        pairs = self.by_pair[runs]
        complete = pairs.notna().to_numpy().all(axis=1)
        return pairs if complete.all() else pairs[complete]

    def _refuse_no_common_mean(self, rows: pandas.DataFrame, where: str = "") -> None:
        """Raise ValueError where values are not averaged or compared: they are of different protocols or test sets."""
        problem, protocols, digests = "", rows["protocol"].unique(), rows["dataset_digest"].unique()
        if len(protocols) > 1:
            names = sorted({str(json.loads(protocol).get("name")) for protocol in protocols})
            problem = (
                f"was computed under {len(protocols)} different protocols ({', '.join(names)}), which have no common "
                'mean and are not compared; choose one by .metric(..., protocol="...")'
            )
        elif len(digests) > 1:
            listed = sorted({f"{row.dataset} ({str(row.dataset_digest)[:8]})" for row in rows.itertuples()})
            problem = (
                f"was computed on {len(digests)} different data sets ({', '.join(listed)}), which have no common mean "
                'and are not compared; choose by where(dataset_digest=...) or add "dataset_digest" to by(...)'
            )
        if problem:
            raise ValueError(f"{self.name}{where} {problem}")


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
    higher, ranked = catalogue.higher_is_better(values.name), []
    for protocol, own in values.scored.groupby("protocol", sort=False):
        rivals = [run for run in own["run"] if not values.facts[run]["is_reference"]]
        methods = replace(values, values=own, facts={run: values.facts[run] for run in rivals})
        by_variant, best, behind = methods.by("variant"), None, None
        if higher is not None and rivals:
            best = str(by_variant["value"].idxmax() if higher else by_variant["value"].idxmin())
            behind = methods.against(variant=best) if len(by_variant) > 1 else None
        ranked.append(Ranking(values.name, str(protocol), by_variant, best, behind))
    return ranked


# Tables. A value that is not there is a dash with a footnote that says why; so is said what is unusual about a value.


def with_intervals(metrics: Sequence[MetricValues]) -> pandas.DataFrame:
    """Rows of `Records.values` of some metrics of one test set, with method and 95 % interval over people (low, high).

    Metrics stand in the order given, the protocols of each one after another.
    """
    frames = [pandas.DataFrame(columns=["title", "metric", "value", "protocol", "method", "low", "high"])]
    for metric in metrics:
        for _, own in metric.values.groupby("protocol", sort=False):
            ends = replace(metric, values=own).by("run", over="identities")[["low", "high"]]
            methods = [metric.facts[run]["method"] for run in own["run"]]
            frames.append(own.assign(method=methods).join(ends, on="run"))
    return pandas.concat(frames[1:] or frames)


@dataclass(frozen=True)
class MetricTable:
    """One group of metrics of the runs on one test set: cells of text, which are bold, and footnotes."""

    title: str
    cells: pandas.DataFrame
    bold: np.ndarray
    notes: list[str]
    protocols: list[str]  # of each column, a line with every setting


def metric_tables(values: pandas.DataFrame, ranked: Sequence[Ranking], titles: Sequence[str]) -> list[MetricTable]:
    """A table for each group of metrics that have a value in some run: a row a title, a column a metric and protocol.

    values: as `with_intervals` gives them. Bold is the variant that is better than all others by a test.
    """
    clear = {(rank.metric, rank.protocol): rank.best for rank in ranked if rank.is_clear}
    rows = [title for title in titles if title in set(values["title"])]
    scored, tables = values.dropna(subset=["value"]), []
    for name, of_group in scored.groupby(scored["metric"].map(catalogue.group), sort=False):
        notes: list[str] = []
        heads, columns, best, protocols = [], [], [], []
        for (metric, protocol), own in of_group.groupby(["metric", "protocol"], sort=False):
            heading, settings = catalogue.heading(str(metric)), json.loads(str(protocol))
            in_one_line = heading.replace(" ↑", "\u00a0↑").replace(" ↓", "\u00a0↓")
            samples = "/".join(sorted({as_text(n) for n in own["n"]}))
            heads.append(f"{in_one_line}\n{settings.get('name', 'not named')}, n = {samples}")
            columns.append(_column(own, values[values["metric"] == metric], rows, notes))
            best.append(clear.get((metric, protocol)))
            protocols.append(f"{heading}: {protocol_text(settings)}")
        names = rows
        if name == REAL_IMAGES and all(len(set(texts)) == 1 for texts in columns):
            names, columns = ["real test images"], [texts[:1] for texts in columns]
        cells = pandas.DataFrame(np.array([names, *columns], dtype=object).T, columns=["run", *heads])
        bold = np.array([[False, *(title == of for of in best)] for title in names])
        tables.append(MetricTable(str(name), cells, bold, notes, protocols))
    return sorted(tables, key=lambda table: catalogue.GROUPS.index(table.title))


def _column(own: pandas.DataFrame, of_metric: pandas.DataFrame, titles: Sequence[str], notes: list[str]) -> list[str]:
    """Values of a metric under one protocol as text; reasons of those that are not there are appended to `notes`."""
    there = {row.title: row for row in own.itertuples()}
    reasons = {row.title: row.unavailable_because for row in of_metric.itertuples() if pandas.isna(row.value)}
    decimals, texts = decimals_for(own["value"].abs().max()), []
    for title in titles:
        row, text = there.get(title), DASH
        if row:
            note = catalogue.caution(row.metric, row.value, row.n) or _left_out(row.left_out)
            text = f"{row.value:.{decimals}f}"
        else:
            note = f"unavailable: {reasons[title]}" if title in reasons else "not computed by this run"
        if note and note not in notes:
            notes.append(note)
        text += f" [{notes.index(note) + 1}]" if note else ""
        between = interval(row.low, row.high, f".{decimals}f") if row and row.low < row.high else ""
        texts.append(f"{text}\n{between}".strip())
    return texts


def _left_out(told: Any) -> str:
    """A note on pairs that have no value, as `1 pairs: the target pose has no body mask` is recorded; "" for none."""
    return f"without {told}" if isinstance(told, str) and not told.startswith("0 ") else ""


def unavailable(values: pandas.DataFrame) -> list[str]:
    """A sentence for each reason why metrics have no value in any of the rows of `Records.values`."""
    absent: dict[str, list[str]] = {}
    by_metric = values.groupby("metric")
    for metric in catalogue.in_order(values["metric"]):
        own = by_metric.get_group(metric)
        if own["value"].isna().all():
            reason = "; ".join(sorted(set(map(str, own["unavailable_because"]))))
            absent.setdefault(reason, []).append(catalogue.title(metric))
    return [f"{', '.join(names)}: unavailable: {reason}" for reason, names in absent.items()]
