"""Many run records and the questions a report asks of them, written so that a question reads like a sentence:

load_records("runs").where(method="xinggan", scale=["single", "multi"]).metric("ssim").by("scale", "seed")
"""

import difflib
import fnmatch
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from reports.query import MetricValues
from reports.record import REFERENCES, Record, read_record
from reports.studies import name_rows, read_studies
from xinggan.metrics.catalogue import METRICS

DERIVED = ("run", "run_id", "label", "name", "method", "state", "dataset", "dataset_digest", "variant")
FOLDERS = ("runs", "cache")  # where files lie is no difference between runs


class NothingFound(ValueError):
    """There is no such folder, no run in it, or none that was asked for; the message says which and what there is."""


class Records(Sequence[Record]):
    """Run records in the order of a table: rows of a study, other methods by name and seed, the trivial references.

    A part of a report's records (`where`, `methods`, ...) remembers the `whole`, so that a run has the same title and
    the same colour in all its tables and figures.
    """

    def __init__(self, records: Iterable[Record], whole: "Records | None" = None):
        self._records = sorted(records, key=_table_order)
        self.whole = whole or self

    def __getitem__(self, index: Any) -> Any:
        return Records(self._records[index], self.whole) if isinstance(index, slice) else self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def __add__(self, other: "Records") -> "Records":
        return Records({record.directory: record for record in [*self, *other]}.values())

    @property
    def methods(self) -> "Records":
        return Records((record for record in self if not record.is_reference), self.whole)

    @property
    def references(self) -> "Records":
        return Records((record for record in self if record.is_reference), self.whole)

    def where(self, **conditions: Any) -> "Records":
        """Records whose fact equals the value, or is one of a list of values.

        A key is a fact such as `method`, `state` or `seed`, or the end of a dotted configuration key: `steps` finds
        `training.steps` when no other key ends so.
        """
        kept = list(self)
        for key, wanted in conditions.items():
            fact = self.resolve(key)
            choices = wanted if isinstance(wanted, (list, tuple, set)) else [wanted]
            kept = [record for record in kept if any(_same(record.facts.get(fact), choice) for choice in choices)]
        return Records(kept, self.whole)

    def resolve(self, key: str) -> str:
        """The full name of the fact that `key` means; an unknown or ambiguous one is refused with what is there."""
        known = self._keys
        if key in known or not known or (key in self.whole._keys and not any(n.endswith("." + key) for n in known)):
            return key
        endings = [name for name in known if name.endswith("." + key)]
        if len(endings) == 1:
            return endings[0]
        near = endings or difflib.get_close_matches(key, known, n=5, cutoff=0.5) or sorted(known)
        problem = "is ambiguous" if endings else "is in no record"
        raise ValueError(f"the key {key!r} {problem}; keys like it: {', '.join(near[:12])}")

    def metric(self, name: str, protocol: str | dict[str, Any] | None = None) -> MetricValues:
        """Values of one metric, one a run. `protocol` is a protocol's name, or settings that it must have.

        A metric that no run has yet is refused only when the suite does not know it either; so is a protocol under
        which no run has the metric. The message says which there are.
        """
        found = [(record, row) for record in self for row in record.measurements if row.metric == name]
        if not found and name not in METRICS:
            counts = self.metrics()
            near = difflib.get_close_matches(name, [*counts, *METRICS], n=5, cutoff=0.5)
            raise ValueError(
                f"no run has the metric {name!r}{'; like it: ' + ', '.join(near) if near else ''}. "
                f"These runs have: {', '.join(counts) or 'none yet'}"
            )
        wanted = {"name": protocol} if isinstance(protocol, str) else protocol or {}
        kept = [(record, row) for record, row in found if all(_same(row.protocol.get(k), v) for k, v in wanted.items())]
        if found and not kept:
            there = dict.fromkeys(str(row.protocol.get("name")) for _, row in found)
            raise ValueError(f"no run has {name} under the protocol {protocol!r}; there are: {', '.join(there)}")
        return MetricValues(self, name, kept)

    def metrics(self) -> dict[str, int]:
        """Metric -> number of runs that have a value of it, in the order of the suite's catalogue."""
        found = Counter(
            name for record in self for name in {r.metric for r in record.measurements if r.value is not None}
        )
        return {name: found[name] for name in [*METRICS, *sorted(found)] if found[name]}

    def differing(self) -> list[str]:
        """Configuration keys whose value is not the same in all records, in the order of the configuration.

        A value that stands in the configuration twice (`scale`, and `method.architecture.scale` that refers to it)
        counts under its shorter key.
        """
        keys = {key: None for record in self for key in record.facts if key not in (*DERIVED, *FOLDERS)}
        columns = {key: [repr(record.facts.get(key)) for record in self] for key in keys}
        differing = [key for key, values in columns.items() if len(set(values)) > 1]
        shorter = {key: [key.split(".", place)[-1] for place in range(1, key.count(".") + 1)] for key in differing}
        return [key for key in differing if not any(columns.get(end) == columns[key] for end in shorter[key])]

    def titles(self) -> dict[str, str]:
        """A short, distinct title for each run (by directory name): its name, with what tells namesakes apart."""
        return {record.run: self.whole._titles[record.run] for record in self}

    def by_dataset(self) -> dict[str, "Records"]:
        """Records that were scored on the same test set, by a heading such as `synthetic 128x64 (digest 1a2b3c4d)`."""
        groups: dict[str, list[Record]] = {}
        for record in self:
            digest = f"digest {record.dataset_digest[:8]}" if record.dataset_digest else "no digest recorded"
            groups.setdefault(f"{record.dataset} ({digest})", []).append(record)
        return {heading: Records(members, self.whole) for heading, members in groups.items()}

    @cached_property
    def _titles(self) -> dict[str, str]:
        by_name: dict[str, list[Record]] = {}
        scored = {record.title or record.name for record in self if not record.is_timing_only}
        for record in self:
            name = record.title or record.name
            name += " (timed alone)" if record.is_timing_only and name in scored else ""
            by_name.setdefault(name, []).append(record)
        titles: dict[str, str] = {}
        for name, namesakes in by_name.items():
            differing = Records(namesakes).differing() if len(namesakes) > 1 else []
            keys = ["seed"] if "seed" in differing else differing[:2]
            for record in namesakes:
                told_apart_by = (f"{key.split('.')[-1]}={record.facts.get(key)}" for key in keys)
                titles[record.run] = " ".join([name, *told_apart_by])
        used = Counter(titles.values())
        ids = {record.run: record.run_id[:6] for record in self}
        return {run: title if used[title] == 1 else f"{title} {ids[run]}" for run, title in titles.items()}

    @cached_property
    def _keys(self) -> dict[str, None]:
        return {key: None for record in self for key in record.facts}


def load_records(runs_dir: Path | str, select: Sequence[str] | None = None) -> Records:
    """All run records in a folder (or the one that the folder is), or those selected with their test sets' references.

    Each word of `select` is a run directory's name, a pattern of it (`xinggan*`), the beginning of a run id, or a
    condition such as `scale=single,multi`. A run is kept when it fits one of the names (if there are any) and all the
    conditions. Raises NothingFound when nothing fits, with what there is.
    """
    runs_dir = Path(runs_dir)
    select = list(select or [])
    if not runs_dir.is_dir():
        raise NothingFound(
            f"no such folder: {runs_dir}. Runs are written by `python -m ablations.run`; name theirs by --runs."
        )
    if _is_run(runs_dir):
        runs_dir, select = runs_dir.resolve().parent, [*select, runs_dir.resolve().name]
    everything = Records(read_record(path) for path in sorted(runs_dir.iterdir()) if path.is_dir() and _is_run(path))
    if not everything:
        raise NothingFound(
            f"no run in {runs_dir}: a run is a folder <label>-<hash> that holds config.yaml or status.json."
        )
    studies = read_studies(runs_dir)
    if not select:
        name_rows(everything, studies)
        return Records(everything)
    names = [word for word in select if "=" not in word or any(record.run == word for record in everything)]
    conditions = dict(word.split("=", 1) for word in select if word not in names)
    kept = everything.where(**{key: value.split(",") for key, value in conditions.items()})
    if names:
        kept = Records(record for record in kept if any(_fits(record, name) for name in names))
    if not kept:
        there = ", ".join(record.run for record in everything[:8]) + (", ..." if len(everything) > 8 else "")
        raise NothingFound(
            f"none of the {len(everything)} runs in {runs_dir} fits {' '.join(select)!r}. There are: {there}"
        )
    digests = {record.dataset_digest for record in kept if record.dataset_digest}
    name_rows(kept, studies)
    return kept + Records(record for record in everything.references if record.dataset_digest in digests)


def _is_run(directory: Path) -> bool:
    return (directory / "status.json").is_file() or (directory / "config.yaml").is_file()


def _fits(record: Record, name: str) -> bool:
    name = Path(name).name
    return fnmatch.fnmatchcase(record.run, name) or (len(name) >= 4 and record.run_id.startswith(name))


def _table_order(record: Record) -> tuple:
    place = REFERENCES.index(record.method) if record.is_reference else -1
    seed = record.config.get("seed")
    row = record.place or (math.inf, 0)
    return place, row, record.name, seed if isinstance(seed, int) else 0, record.run


def _same(value: Any, wanted: Any) -> bool:
    return value == wanted or _as_text(value) == _as_text(wanted)


def _as_text(value: Any) -> str:
    """As it would be written on a command line: 1.0 is 1, True is true, None is null."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, tuple):
        return "[" + ",".join(value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
