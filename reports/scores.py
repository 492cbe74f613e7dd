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
    place = {name: place for place, name in enumerate(catalogue.in_order(values["metric"]))}
    ends = {(run, rank.metric, rank.protocol): row for rank in ranked for run, row in rank.by_run.iterrows()}
    nothing = {"low": np.nan, "high": np.nan}
    found = [ends.get((row.run, row.metric, row.protocol), nothing) for row in values.itertuples()]
    values = values.assign(
        method=values["run"].map({record.run: record.method for record in group}),
        **{end: [row[end] for row in found] for end in ("low", "high")},
    )
    return values.sort_values("protocol", kind="stable").sort_values(
        "metric", key=lambda metrics: metrics.map(place), kind="stable"
    )


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
            heading = catalogue.heading(str(metric))
            samples = "/".join(sorted({as_text(n) for n in own["n"]}))
            in_one_line = heading.replace(" ↑", "\u00a0↑").replace(" ↓", "\u00a0↓")
            heads.append(f"{in_one_line}\n{json.loads(protocol).get('name', 'not named')}, n = {samples}")
            columns.append(_column(values[values["metric"] == metric], str(protocol), rows, notes))
            best.append(clear.get((metric, protocol)))
            protocols.append(f"{heading}: {protocol_settings(str(protocol))}")
        names = rows
        if name == REAL_IMAGES and all(len(set(texts)) == 1 for texts in columns):
            names, columns = ["real test images"], [texts[:1] for texts in columns]
        cells = pandas.DataFrame(np.array([names, *columns], dtype=object).T, columns=["run", *heads])
        bold = np.array([[False, *(title == of for of in best)] for title in names])
        tables.append(MetricTable(str(name), cells, bold, notes, protocols))
    return sorted(tables, key=lambda table: catalogue.GROUPS.index(table.title))


def _column(own: pandas.DataFrame, protocol: str, rows: list[str], notes: list[str]) -> list[str]:
    """The texts of one metric and protocol; the reasons of values that are not there are appended to `notes`."""
    here = own[own["protocol"] == protocol].set_index("title")
    reasons = own[own["value"].isna()].drop_duplicates("title").set_index("title")["unavailable_because"]
    decimals, texts = decimals_for(here["value"].abs().max()), []
    for title in rows:
        value = here["value"].get(title)
        if pandas.notna(value):
            low, high = here.loc[title, ["low", "high"]]
            between = interval(low, high, f".{decimals}f") if low < high else ""
            texts.append(f"{value:.{decimals}f}\n{between}".strip())
            continue
        note = f"unavailable: {reasons[title]}" if title in reasons else "not computed by this run"
        if note not in notes:
            notes.append(note)
        texts.append(f"{DASH} [{notes.index(note) + 1}]")
    return texts


def protocol_settings(protocol: str) -> str:
    """A protocol in a line: name, then every setting."""
    settings = flatten(json.loads(protocol))
    name = settings.pop("name", "not named")
    return " · ".join([str(name), *(f"{key.replace('_', ' ')}: {as_text(value)}" for key, value in settings.items())])


def unavailable(values: pandas.DataFrame) -> list[str]:
    """A sentence for each reason why metrics have no value in any run."""
    absent: dict[str, list[str]] = {}
    for metric, own in values.groupby("metric", sort=False):
        if own["value"].isna().all():
            reason = "; ".join(sorted(set(map(str, own["unavailable_because"]))))
            absent.setdefault(reason, []).append(catalogue.title(str(metric)))
    return [f"{', '.join(names)}: unavailable: {reason}" for reason, names in absent.items()]


def behind_table(ranked: Sequence[Ranking]) -> pandas.DataFrame:
    """How far each variant is behind the best of each metric, with interval and test, as text."""
    rows = [
        {
            "metric": catalogue.heading(rank.metric),
            "best": rank.best,
            "run": variant,
            "behind by": f"{row['difference']:+.4f}",
            "95 % interval": interval(row["low"], row["high"], "+.4f") or DASH,
            "n": f"{row['n']} {row['over']}",
            "pairs on which it is better": DASH if np.isnan(row["better_pairs"]) else f"{row['better_pairs']:.0%}",
            "test": p_text(row["p_holm"]),
        }
        for rank in ranked
        if rank.behind is not None and catalogue.group(rank.metric) != REAL_IMAGES
        for variant, row in rank.behind.iterrows()
    ]
    return pandas.DataFrame(rows)


def seed_table(ranked: Sequence[Ranking]) -> pandas.DataFrame:
    """Mean, interval, deviation and interquartile mean over the seeds of each variant that has several, as text."""
    rows = [
        {
            "run": variant,
            "metric": catalogue.heading(rank.metric),
            "mean": f"{row['value']:.4f}",
            "95 % interval over seeds": interval(row["low"], row["high"], ".4f") or DASH,
            "interquartile mean": f"{row['iqm']:.4f} {interval(row['iqm_low'], row['iqm_high'], '.4f')}".strip(),
            "seeds": str(row["n"]),
            "sd": f"{row['sd']:.4f}",
            "without a value": str(row["missing"]),
        }
        for rank in ranked
        for variant, row in rank.by_variant[rank.by_variant["n"] > 1].iterrows()
    ]
    return pandas.DataFrame(rows)
