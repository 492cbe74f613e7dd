"""Many run records and the questions a report asks of them, written so that a question reads like a sentence:

load_records("runs").where(method="xinggan", scale=["single", "multi"]).metric("ssim").by("scale", "seed")

Everything is also there as a tidy table for pandas: `runs`, `values`, `per_image`, `timings` and `history`.
"""

import difflib
import fnmatch
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas

from reports.comparison import MetricValues, differing, differing_beside_seed, resolve_key
from reports.formats import as_text, is_number
from reports.run_directory import DERIVED, NO_RIVALS, Record, read_record
from xinggan.metrics import catalogue

# Of each question (structure, perception, distribution, pose) the first metric that the runs have answers it.
QUESTIONS = (("ssim",), ("lpips", "perceptual_embedded"), ("fid", "fd_embedded"), ("pckh", "pckh_embedded"))
SCENARIO = (
    *("run", "title", "method", "name", "kind", "timed", "device", "precision", "mode", "batch", "height", "width"),
    *("sampler", "sampling_steps", "evaluations", "median_ms", "p5_ms", "p95_ms", "p99_ms", "first_call_ms"),
    *("images_per_second", "peak_memory_mb", "halves_differ_by", "device_median_ms", "joules_per_image"),
    *("samples_ms", "schedule", "unavailable_because"),
)
VALUE_COLUMNS = [
    *("run", "title", "state", "seed", "dataset", "dataset_digest", "metric", "value", "unit", "better", "n"),
    *("protocol", "unavailable_because"),
]
Rows = list[tuple[str, str]]  # of a study: title and run directory's name, in the order of its table
_SEED = re.compile(r" seed=\S+")


class NothingFound(ValueError):
    """There is no such folder, no run in it, or none that was asked for; the message says which and what there is."""


class Records(Sequence[Record]):
    """Run records in the order of a table: rows of a study, other methods by name and seed, the trivial references."""

    def __init__(self, records: Iterable[Record]):
        self._records = sorted(records, key=_table_order)

    def __getitem__(self, index: Any) -> Any:
        return Records(self._records[index]) if isinstance(index, slice) else self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    @property
    def methods(self) -> "Records":
        return Records(record for record in self if not record.is_reference)

    @property
    def references(self) -> "Records":
        return Records(record for record in self if record.is_reference)

    def where(self, **conditions: Any) -> "Records":
        """Records whose fact equals the value, or is one of a list of values.

        A key is a fact such as `method`, `state` or `seed`, or the end of a dotted configuration key: `steps` finds
        `training.steps` when no other key ends so. Raises ValueError for a key that is not there.
        """
        kept = list(self)
        for key, wanted in conditions.items():
            fact, choices = resolve_key(self, key), wanted if isinstance(wanted, (list, tuple, set)) else [wanted]
            kept = [record for record in kept if any(_same(record.facts.get(fact), choice) for choice in choices)]
        return Records(kept)

    def metric(self, name: str, protocol: str | dict[str, Any] | None = None) -> MetricValues:
        """Values of one metric, one a run. `protocol` is a protocol's name, or settings that it must have.

        A metric that no run has yet is refused only when the suite does not know it either; so is a protocol under
        which no run has the metric. The ValueError says which there are.
        """
        found = [(record, row) for record in self for row in record.measurements if row.metric == name]
        if not found and name not in catalogue.METRICS:
            counts = self.metrics()
            near = difflib.get_close_matches(name, [*counts, *catalogue.METRICS], n=5, cutoff=0.5)
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
        found = self.values.dropna(subset=["value"]).groupby("metric")["run"].nunique()
        return {name: int(found[name]) for name in catalogue.in_order(found.index)}

    def main_metrics(self) -> list[str]:
        """The metric that answers each of QUESTIONS, of those that the methods' runs have."""
        there = self.methods.metrics()
        return [name for choices in QUESTIONS for name in [*filter(there.get, choices)][:1]]

    def differing(self) -> list[str]:
        """Configuration keys whose value is not the same in all records, in the order of the configuration."""
        return differing(self)

    def titles(self) -> dict[str, str]:
        """Run directory's name -> a short, distinct title: its name or study row, with what tells namesakes apart."""
        return {record.run: record.title for record in self}

    def by_dataset(self) -> dict[str, "Records"]:
        """Records that were scored on the same test set, by a heading such as `synthetic 128x64 (digest 1a2b3c4d)`."""
        groups: dict[str, list[Record]] = {}
        for record in self:
            digest = f"digest {record.dataset_digest[:8]}" if record.dataset_digest else "no digest recorded"
            groups.setdefault(f"{record.dataset} ({digest})", []).append(record)
        return {heading: Records(members) for heading, members in groups.items()}

    @property
    def runs(self) -> pandas.DataFrame:
        """A row a run, indexed by its directory's name: title, the facts DERIVED, reference, and the settings."""
        rows = {}
        for record in self:
            settings = {key: value for key, value in record.facts.items() if key not in DERIVED}
            derived = {key: record.facts[key] for key in DERIVED if key != "run"}
            rows[record.run] = {"title": record.title, **derived, "reference": record.is_reference, **settings}
        return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("run")

    @property
    def values(self) -> pandas.DataFrame:
        """A row a run and metric, with unit, direction, sample count, protocol, and why a value is unavailable."""
        better = {True: "higher", False: "lower", None: ""}
        rows = [
            (
                *(record.run, record.title, record.state, record.facts.get("seed"), record.dataset),
                *(record.dataset_digest, row.metric, row.value, catalogue.unit(row.metric)),
                *(better[catalogue.higher_is_better(row.metric)], row.n, row.protocol_key, row.unavailable_because),
            )
            for record in self
            for row in record.measurements
        ]
        return pandas.DataFrame(rows, columns=VALUE_COLUMNS)

    def per_image(self, *metrics: str) -> pandas.DataFrame:
        """A row a run, metric and test pair: run, title, metric, pair, pair_id, identity, value."""
        frames = [self.metric(name).per_image().assign(metric=name) for name in metrics if name in self.metrics()]
        return pandas.concat(frames, ignore_index=True) if frames else pandas.DataFrame(columns=["run", "metric"])

    @property
    def timings(self) -> pandas.DataFrame:
        """A row a run and timing scenario as recorded, with run, title, method, name, and whether it was `timed`."""
        rows = [
            {**row, "run": record.run, "title": record.title, "method": record.method, "name": record.name}
            | {"timed": not row.get("unavailable_because") and is_number(row.get("median_ms"))}
            | {"device_median_ms": pandas.Series(row.get("device_ms") or [], dtype=float).median()}
            for record in self
            for row in record.scenarios
        ]
        columns = dict.fromkeys([*SCENARIO, *(key for row in rows for key in row)])
        return pandas.DataFrame(rows, columns=list(columns)).astype({"timed": bool})

    @property
    def history(self) -> pandas.DataFrame:
        """A row a run, training step and name: run, title, entry ("losses" or "evaluation"), name, step, value.

        Of a step done again after an interruption, the last values count.
        """
        rows = [
            (record.run, record.title, entry, name, row["step"], value)
            for record in self
            for row in record.history
            for entry in ("losses", "evaluation")
            for name, value in row.get(entry, {}).items()
        ]
        frame = pandas.DataFrame(rows, columns=["run", "title", "entry", "name", "step", "value"])
        key = ["run", "entry", "name", "step"]
        return frame.drop_duplicates(key, keep="last").sort_values("step", kind="stable", ignore_index=True)


def load_records(runs_dir: Path | str, select: Sequence[str] | None = None) -> Records:
    """All run records in a folder (or the one that the folder is), or those selected with their test sets' references.

    Each word of `select` is a run directory's name, a pattern of it (`xinggan*`), the beginning of a run id, or a
    condition such as `scale=single,multi`. A run is kept when it fits one of the names (if there are any) and all the
    conditions. Raises NothingFound when nothing fits, with what there is.
    """
    runs_dir, select = Path(runs_dir), list(select or [])
    if not runs_dir.is_dir():
        told = "Runs are written by `python -m ablations.run`; name theirs by --runs."
        raise NothingFound(f"no such folder: {runs_dir}. {told}")
    if _is_run(runs_dir):
        runs_dir, select = runs_dir.resolve().parent, [*select, runs_dir.resolve().name]
    everything = Records(read_record(path) for path in sorted(runs_dir.iterdir()) if path.is_dir() and _is_run(path))
    if not everything:
        told = "a run is a folder <label>-<hash> that holds config.yaml or status.json."
        raise NothingFound(f"no run in {runs_dir}: {told}")
    names = [word for word in select if "=" not in word or any(record.run == word for record in everything)]
    conditions = dict(word.split("=", 1) for word in select if word not in names)
    kept = list(everything.where(**{key: value.split(",") for key, value in conditions.items()}))
    kept = [record for record in kept if not names or any(_fits(record, name) for name in names)]
    if not kept:
        there = ", ".join(record.run for record in everything[:8]) + (", ..." if len(everything) > 8 else "")
        told = f"fits {' '.join(select)!r}. There are: {there}"
        raise NothingFound(f"none of the {len(everything)} runs in {runs_dir} {told}")
    if select:
        digests = {record.dataset_digest for record in kept if record.dataset_digest}
        kept += [r for r in everything.references if r.dataset_digest in digests and r not in kept]
    _name(kept, read_studies(runs_dir))
    return Records(kept)


def read_studies(runs: Path | str) -> dict[str, Rows]:
    """Study -> its rows, from runs/studies/<study>.json, which `ablations.study` writes; rows that never ran included.

    A file that is none, or damaged, is left out.
    """
    studies: dict[str, Rows] = {}
    for path in sorted((Path(runs) / "studies").glob("*.json")):
        try:
            studies[path.stem] = [(str(row["title"]), str(row["run"])) for row in json.loads(path.read_bytes())]
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return studies


def without_seed(title: str) -> str:
    """What runs are called that differ in nothing but their seed."""
    return _SEED.sub("", title)


def _name(records: Iterable[Record], studies: dict[str, Rows]) -> None:
    """Give the runs of a report their titles, variants, places in a table and numbers."""
    records = list(records)
    titles = {record.run: record.name for record in records}
    by_run = {record.run: record for record in records if not record.is_reference}
    # A run of several studies is a row of the one that holds most of these runs; rows of a study stay together.
    held = {study: sum(run in by_run for _, run in rows) for study, rows in studies.items()}
    for rank, study in enumerate(sorted(studies, key=lambda name: (held[name], name))):
        for place, (title, run) in enumerate(studies[study]):
            if run in by_run:
                titles[run], by_run[run].place = title, (-rank, place)
    scored = {titles[record.run] for record in records if not record.is_timing_only}
    namesakes: dict[str, list[Record]] = {}
    for record in records:
        alone = record.is_timing_only and titles[record.run] in scored
        namesakes.setdefault(titles[record.run] + (" (timed alone)" if alone else ""), []).append(record)
    for title, members in namesakes.items():
        keys = ["seed"] if "seed" in differing(members) else differing(members)[:2]
        for record in members:
            record.title = " ".join([title, *(f"{key.split('.')[-1]}={record.facts.get(key)}" for key in keys)])
    used = Counter(record.title for record in records)
    variants: dict[str, list[Record]] = {}
    for record in records:
        record.title += f" {record.run_id[:6]}" if used[record.title] > 1 else ""
        variants.setdefault(without_seed(record.title), []).append(record)
    for variant, members in variants.items():
        apart = differing_beside_seed(members)
        for record in members:
            record.variant = record.title if apart else variant
            record.facts["variant"] = record.variant
    methods: set[str] = set()
    for number, record in enumerate(Records(records)):
        record.number, record.leads_its_method = number, record.method not in methods
        methods.add(record.method)


def _is_run(directory: Path) -> bool:
    return (directory / "status.json").is_file() or (directory / "config.yaml").is_file()


def _fits(record: Record, name: str) -> bool:
    name = Path(name).name
    return fnmatch.fnmatchcase(record.run, name) or (len(name) >= 4 and record.run_id.startswith(name))


def _table_order(record: Record) -> tuple:
    place = NO_RIVALS.index(record.method) if record.is_reference else -1
    seed = record.config.get("seed")
    row = record.place or (math.inf, 0)
    return place, row, record.name, seed if isinstance(seed, int) else 0, record.run


def _same(value: Any, wanted: Any) -> bool:
    return value == wanted or as_text(value).replace(", ", ",") == as_text(wanted).replace(", ", ",")
