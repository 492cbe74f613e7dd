"""Tables of metrics: every value with its protocol and interval, how far methods are behind the best, and means over
seeds. A value that is not there is a dash with a footnote that says why. Bold type stands only behind a test.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas

from reports.comparison import Ranking
from reports.formats import DASH, as_text, decimals_for, interval, p_text
from reports.records import Records
from reports.run_directory import flatten
from xinggan.metrics import catalogue

REAL_IMAGES = catalogue.GROUPS[3]  # their own values tell nothing about methods


@dataclass
class MetricTable:
    """One group of metrics of the runs on one test set: cells of text, which are bold, and footnotes."""

    title: str
    cells: pandas.DataFrame
    bold: np.ndarray
    notes: list[str] = field(default_factory=list)
    protocols: list[str] = field(default_factory=list)  # of each column, a line with every setting


def with_intervals(group: Records, ranked: Sequence[Ranking]) -> pandas.DataFrame:
    """`Records.values` of one test set with method and the 95 % interval over people (low, high), in table order."""
    values = group.values
    if values.empty:
        return values
    ends = {(rank.metric, rank.protocol): rank.by_run for rank in ranked}
    found = [ends.get((row.metric, row.protocol)) for row in values.itertuples()]
    for end in ("low", "high"):
        values[end] = [
            by_run[end].get(run, np.nan) if by_run is not None else np.nan
            for by_run, run in zip(found, values["run"], strict=True)
        ]
    methods = {record.run: record.method for record in group}
    places = {name: place for place, name in enumerate(catalogue.in_order(values["metric"]))}
    values = values.assign(method=values["run"].map(methods), place=values["metric"].map(places))
    return values.sort_values(["place", "protocol"], kind="stable").drop(columns="place")


def metric_tables(values: pandas.DataFrame, ranked: Sequence[Ranking], titles: Sequence[str]) -> list[MetricTable]:
    """A table for each group of metrics that have a value in some run: a row a title, a column a metric and protocol.

    values: as `with_intervals` gives them. Bold is the variant that is better than all others by a test.
    """
    if values.empty:
        return []
    clear = {(rank.metric, rank.protocol): rank.best for rank in ranked if rank.is_clear}
    scored = values.dropna(subset=["value"])
    rows = [title for title in titles if title in set(values["title"])]
    tables = []
    for name in catalogue.GROUPS:
        columns = scored.loc[scored["metric"].map(catalogue.group) == name, ["metric", "protocol"]].drop_duplicates()
        if columns.empty:
            continue
        notes: list[str] = []
        texts = [_column(values, metric, protocol, rows, notes) for metric, protocol in columns.to_numpy()]
        names = rows
        if name == REAL_IMAGES and all(len(set(text)) == 1 for text in texts):
            names, texts = ["real test images"], [text[:1] for text in texts]
        heads = [_head(values, metric, protocol) for metric, protocol in columns.to_numpy()]
        cells = pandas.DataFrame(np.array([names, *texts], dtype=object).T, columns=["run", *heads])
        best = [clear.get((metric, protocol)) for metric, protocol in columns.to_numpy()]
        bold = np.array([[False, *(title == of for of in best)] for title in names])
        told = [
            f"{catalogue.heading(metric)}: {protocol_settings(protocol)}" for metric, protocol in columns.to_numpy()
        ]
        tables.append(MetricTable(name, cells, bold, notes, told))
    return tables


def _column(values: pandas.DataFrame, metric: str, protocol: str, rows: list[str], notes: list[str]) -> list[str]:
    """The texts of one column; the reasons of values that are not there are appended to `notes`."""
    own = values[values["metric"] == metric]
    here = own[(own["protocol"] == protocol)].set_index("title")
    decimals, texts = decimals_for(here["value"].abs().max()), []
    for title in rows:
        row = here.loc[title] if title in here.index else None
        if row is not None and pandas.notna(row["value"]):
            between = interval(row["low"], row["high"], f".{decimals}f") if row["low"] < row["high"] else ""
            texts.append(f"{row['value']:.{decimals}f}\n{between}".strip())
            continue
        reasons = own.loc[(own["title"] == title) & own["value"].isna(), "unavailable_because"]
        reason = row["unavailable_because"] if row is not None else next(iter(reasons), None)
        note = f"unavailable: {reason}" if reason else "not computed by this run"
        if note not in notes:
            notes.append(note)
        texts.append(f"{DASH} [{notes.index(note) + 1}]")
    return texts


def _head(values: pandas.DataFrame, metric: str, protocol: str) -> str:
    own = values[(values["metric"] == metric) & (values["protocol"] == protocol)].dropna(subset=["value"])
    samples = "/".join(sorted({as_text(n) for n in own["n"]}))
    heading = catalogue.heading(metric).replace(" ↑", "\u00a0↑").replace(" ↓", "\u00a0↓")  # in one line
    return f"{heading}\n{json.loads(protocol).get('name', 'not named')}, n = {samples}"


def protocol_settings(protocol: str) -> str:
    """A protocol in a line: name, then every setting."""
    settings = flatten(json.loads(protocol))
    name = settings.pop("name", "not named")
    return " · ".join([str(name), *(f"{key.replace('_', ' ')}: {as_text(value)}" for key, value in settings.items())])


def unavailable(values: pandas.DataFrame) -> list[str]:
    """A sentence for each reason why metrics have no value in any run."""
    absent: dict[str, list[str]] = {}
    for metric in catalogue.in_order(values["metric"]) if len(values) else ():
        own = values[values["metric"] == metric]
        if own["value"].isna().all():
            reason = "; ".join(sorted(set(map(str, own["unavailable_because"]))))
            absent.setdefault(reason, []).append(catalogue.title(metric))
    return [f"{', '.join(names)}: unavailable: {reason}" for reason, names in absent.items()]


def behind_table(ranked: Sequence[Ranking]) -> pandas.DataFrame:
    """How far each variant is behind the best of each metric, with interval and test, as text."""
    rows = []
    for rank in ranked:
        if rank.behind is None or catalogue.group(rank.metric) == REAL_IMAGES:
            continue
        for variant, row in rank.behind.iterrows():
            between = interval(row["low"], row["high"], "+.4f") or DASH
            share = f"{row['better_pairs']:.0%}" if np.isfinite(row["better_pairs"]) else DASH
            told = [f"{row['difference']:+.4f}", between, f"{row['n']} {row['over']}", share, p_text(row["p_holm"])]
            rows.append([catalogue.heading(rank.metric), rank.best, str(variant), *told])
    heads = ["metric", "best", "run", "behind by", "95 % interval", "n", "pairs on which it is better", "test"]
    return pandas.DataFrame(rows, columns=heads)


def seed_table(ranked: Sequence[Ranking]) -> pandas.DataFrame:
    """Mean, interval, deviation and interquartile mean over the seeds of each variant that has several, as text."""
    rows = []
    for rank in ranked:
        for variant, row in rank.by_variant[rank.by_variant["n"] > 1].iterrows():
            between = interval(row["low"], row["high"], ".4f") or DASH
            middle = f"{row['iqm']:.4f} {interval(row['iqm_low'], row['iqm_high'], '.4f')}".strip()
            told = [f"{row['value']:.4f}", between, middle, str(row["n"]), f"{row['sd']:.4f}", str(row["missing"])]
            rows.append([str(variant), catalogue.heading(rank.metric), *told])
    heads = ["run", "metric", "mean", "95 % interval over seeds", "interquartile mean", "seeds", "sd"]
    return pandas.DataFrame(rows, columns=[*heads, "without a value"])
