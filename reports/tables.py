"""The metric table: a row for each run and trivial reference, a column for each metric under one protocol.

A value that is not there is a dash with a footnote that says why. `with_certainty` adds intervals, and bold type where
a test stands behind it.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import pandas
from markupsafe import Markup, escape

from reports import measures
from reports.markup import details, join, listing, table
from reports.record import Measurement, flatten
from reports.records import Records
from reports.standings import Standing
from reports.table_files import markdown_row, write_table
from xinggan.files import write_atomically

DASH = "–"


@dataclass
class MetricTable:
    """One group of metrics of the runs on one test set, ready to be written in any format."""

    title: str
    columns: list[tuple[str, str]]  # metric, protocol as text
    rows: dict[str, list[Measurement | None]]  # run title -> a value for each column
    samples: list[str]  # of each column: number of test pairs or images behind its values
    notes: list[str] = field(default_factory=list)
    intervals: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)  # of a run in a column
    best: set[tuple[str, int]] = field(default_factory=set)  # values in bold, each by a test

    @property
    def headings(self) -> list[str]:
        return [measures.heading(metric) for metric, _ in self.columns]

    def cells(self, run: str) -> list[tuple[str, int | None]]:
        """Text and footnote number of each value in a row."""
        decimals = [self._decimals(place) for place in range(len(self.columns))]
        return [
            (f"{cell.value:.{digits}f}", None)
            if cell is not None and cell.value is not None
            else (DASH, self._note(cell.unavailable_because if cell else None))
            for cell, digits in zip(self.rows[run], decimals, strict=True)
        ]

    def told(self, run: str) -> list[Markup]:
        """The values in a row as markup: bold by a test, footnote, interval."""
        cells = []
        for place, (text, note) in enumerate(self.cells(run)):
            value = Markup("<strong>{}</strong>" if (run, place) in self.best else "{}").format(text) + _raised(note)
            if interval := self._interval(run, place):
                value += Markup("<small>{}</small>").format(interval.strip().replace(" ", "\u00a0"))
            cells.append(value)
        return cells

    def as_html(self) -> Markup:
        protocols = [protocol for _, protocol in self.columns]
        heads = [
            Markup("{}<small>{}<br>n = {}</small>").format(_unbroken(heading), protocol_name(protocol), n)
            for heading, protocol, n in zip(self.headings, protocols, self.samples, strict=True)
        ]
        rows = [[run, *self.told(run)] for run in self.rows]
        notes = join(Markup("<li>{}</li>").format(note) for note in self.notes)
        settings = (
            Markup("{}: {}").format(heading, protocol_settings(protocol))
            for heading, protocol in zip(self.headings, protocols, strict=True)
        )
        return join(
            [
                table(["", *heads], rows, self.title, kind="numbers"),
                Markup('<ol class="notes">{}</ol>').format(notes) if notes else "",
                details("Protocols of these values", listing(settings)),
            ]
        )

    def keep(self, stem: Path) -> None:
        """Write the table's files, the Markdown one with its notes."""
        write_table(stem, ["run", *self.headings], [[run, *self.told(run)] for run in self.rows], self.title)
        write_atomically(stem.with_name(f"{stem.name}.md"), self.as_markdown())

    def as_markdown(self) -> str:
        heads = [
            f"{heading} ({protocol_name(protocol)}, n = {n})"
            for heading, (_, protocol), n in zip(self.headings, self.columns, self.samples, strict=True)
        ]
        rows = [markdown_row([run, *self.told(run)]) for run in self.rows]
        notes = [f"[{number}] {escape(note)}" for number, note in enumerate(self.notes, start=1)]
        ruler = "|---" + "|---:" * len(heads) + "|"
        lines = [f"### {escape(self.title)}", "", markdown_row(["run", *heads]), ruler, *rows]
        return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"

    def _interval(self, run: str, place: int) -> str:
        if (run, place) not in self.intervals:
            return ""
        low, high = (f"{end:.{self._decimals(place)}f}" for end in self.intervals[run, place])
        return f" [{low}, {high}]"

    def _decimals(self, place: int) -> int:
        """The same for the whole column."""
        column = (row[place] for row in self.rows.values())
        return decimals_for(max((abs(cell.value) for cell in column if cell and cell.value is not None), default=0.0))

    def _note(self, reason: str | None) -> int:
        text = f"unavailable: {reason}" if reason else "not computed by this run"
        if text not in self.notes:
            self.notes.append(text)
        return self.notes.index(text) + 1


def decimals_for(largest: float) -> int:
    """Four decimals for values up to 2, fewer for larger ones."""
    return next((decimals for limit, decimals in ((2, 4), (20, 3), (200, 2)) if largest <= limit), 1)


def with_certainty(table: MetricTable, found: dict[tuple[str, str], Standing], titles: dict[str, str]) -> None:
    """Intervals over people for each value, and bold for the one run that is better than all others by a test."""
    for place, key in enumerate(table.columns):
        standing = found.get(key)
        if standing is None:
            continue
        for run, row in standing.by_run.iterrows():
            title = titles[str(run)]
            if title in table.rows and math.isfinite(row["low"]) and row["low"] < row["high"]:
                table.intervals[title, place] = float(row["low"]), float(row["high"])
        if standing.is_clear and standing.best in table.rows:
            table.best.add((standing.best, place))


def _unbroken(heading: str) -> str:
    """Keep the arrow in the line of the title's last word."""
    return heading.replace(" ↑", "\u00a0↑").replace(" ↓", "\u00a0↓")


def _raised(note: int | None) -> Markup:
    return Markup("<sup>{}</sup>").format(note) if note else Markup("")


def metric_tables(records: Records) -> tuple[list[MetricTable], list[str]]:
    """Tables of the metrics that have a value in some run, one for each group, and why the other metrics have none."""
    titles = records.titles()
    scored = [record for record in records if record.measurements]
    columns: dict[tuple[str, str], dict[str, Measurement]] = {}
    for record in scored:
        for row in record.measurements:
            columns.setdefault((row.metric, row.protocol_key), {})[record.run] = row
    order = measures.in_order(metric for metric, _ in columns)
    with_values = {key for key, rows in columns.items() if any(row.value is not None for row in rows.values())}
    measured = {metric for metric, _ in with_values}
    tables = []
    for group in measures.GROUPS:
        keys = sorted(
            (key for key in with_values if measures.group(key[0]) == group), key=lambda k: (order.index(k[0]), k[1])
        )
        if not keys:
            continue
        rows = {titles[r.run]: [_cell(columns, key, r.run) for key in keys] for r in scored}
        if group == measures.GROUPS[3] and _all_alike(rows):
            rows = {"real test images": next(iter(rows.values()))}
        samples = [
            "/".join(sorted({str(row.n) for row in columns[key].values() if row.value is not None})) for key in keys
        ]
        tables.append(MetricTable(group, keys, rows, samples))
    absent: dict[str, list[str]] = {}
    for metric in order:
        if metric not in measured:
            reasons = {
                str(row.unavailable_because)
                for (name, _), rows in columns.items()
                if name == metric
                for row in rows.values()
            }
            absent.setdefault("; ".join(sorted(reasons)), []).append(measures.title(metric))
    return tables, [f"{', '.join(names)}: unavailable: {reason}" for reason, names in absent.items()]


def _cell(columns: dict[tuple[str, str], dict[str, Measurement]], key: tuple[str, str], run: str) -> Measurement | None:
    """A run's value; where it has none under this protocol but says why the metric is unavailable, that entry."""
    if run in columns[key]:
        return columns[key][run]
    others = (rows[run] for (metric, _), rows in columns.items() if metric == key[0] and run in rows)
    return next((row for row in others if row.value is None), None)


def _all_alike(rows: dict[str, list[Measurement | None]]) -> bool:
    return len({tuple(cell.value if cell else None for cell in row) for row in rows.values()}) == 1


def metric_frame(records: Records) -> pandas.DataFrame:
    """All values of all runs, one a row, with protocol and sample count: what is written as CSV."""
    titles = records.titles()
    rows = [
        {
            "run": record.run,
            "title": titles[record.run],
            "state": record.state,
            "seed": record.facts.get("seed"),
            "dataset": record.dataset,
            "dataset_digest": record.dataset_digest,
            "metric": row.metric,
            "value": row.value,
            "unit": measures.unit(row.metric),
            "better": {True: "higher", False: "lower", None: ""}[measures.higher_is_better(row.metric)],
            "n": row.n,
            "protocol": row.protocol_key,
            "unavailable_because": row.unavailable_because,
        }
        for record in records
        for row in record.measurements
    ]
    return pandas.DataFrame(rows)


def protocol_name(protocol_key: str) -> str:
    return str(json.loads(protocol_key).get("name", "not named"))


def protocol_settings(protocol_key: str) -> str:
    """A protocol in a line: name, then every setting."""
    settings = flatten(json.loads(protocol_key))
    name = settings.pop("name", "not named")
    return " · ".join(
        [str(name), *(f"{key.replace('_', ' ')}: {measures.as_text(value)}" for key, value in settings.items())]
    )
