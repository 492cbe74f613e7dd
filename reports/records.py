"""Run records and the questions a report asks of them, written so that a question reads like a sentence:

load_records("runs").where(method="xinggan", scale=["single", "multi"]).metric("ssim").by("scale", "seed")

Everything is also there as a tidy table for pandas: `runs`, `values`, `per_image`, `timings` and `history`. A run
directory is read without torch and without trust: it may be unfinished, failed, copied in part or damaged.
"""

import difflib
import fnmatch
import json
import re
from collections import UserList
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas
import yaml

from ablations.config import Evaluation
from reports.comparison import MetricValues
from reports.formats import is_number, plural
from reports.settings import DERIVED, NO_RIVALS, arrange, differing, flatten, read_studies, resolve_key, same
from xinggan.data.settings import Split
from xinggan.metrics import catalogue
from xinggan.metrics.protocol import CLEAN, plain
from xinggan.metrics.values import MetricValue, protocol_key

ROOM = 12  # runs in a figure that has a line or a shape for each
STATES = ("running", "finished", "failed", "preempted", "unknown")
# Of each question (structure, perception, distribution, pose) the first metric that the runs have answers it.
QUESTIONS = (("ssim",), ("lpips", "perceptual_embedded"), ("fid", "fd_embedded"), ("pckh", "pckh_embedded"))
PAIR_COLUMNS = ["run", "title", "protocol", "metric", "pair", "pair_id", "identity", "value"]
VALUE_COLUMNS = [
    *("run", "title", "state", "seed", "dataset", "dataset_digest", "metric", "value", "unit", "better", "n"),
    *("protocol", "left_out", "unavailable_because"),
]
SCENARIO = (
    *("run", "title", "method", "name", "kind", "timed", "machine", "precision", "mode", "batch", "height"),
    *("width", "sampler", "sampling_steps", "evaluations", "median_ms", "p5_ms", "p95_ms", "p99_ms", "first_call_ms"),
    *("images_per_second", "peak_memory_mb", "halves_differ_by", "device_median_ms", "joules_per_image"),
    *("samples_ms", "schedule", "unavailable_because"),
)
EVALUATION = {f"evaluation.{key}": value for key, value in json.loads(json.dumps(plain(Evaluation()))).items()}
_load_yaml = partial(yaml.load, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


class NothingFound(ValueError):
    """There is no such folder, no run in it, or none that was asked for; the message says which and what there is."""


class Record:
    """A run directory; every attribute is safe to ask for, whatever state the directory is in.

    What can be read is plain data; what cannot is a sentence in `problems`. Values, history and single images are read
    when somebody asks for them.
    """

    def __init__(self, directory: Path, config: dict[str, Any] | None = None, status: dict[str, Any] | None = None):
        self.directory, self._unreadable = directory, dict[str, str]()
        self.config = self._read("config.yaml", dict, _load_yaml) if config is None else config
        self.status = self._read("status.json", dict) if status is None else status
        self.environment = self._read("environment.json", dict)
        self.timing = self._read("timing.json", dict)
        self.run = directory.name  # <label>-<run id>
        self.label, _, self.run_id = self.run.rpartition("-")
        self.name = str(self.config.get("name") or self.status.get("name") or self.label or self.run)
        self.method = self.name.split(maxsplit=1)[0]
        state = self.status.get("state")
        self.state: str = state if state in STATES else "unknown"
        groups = (self.config.get(key) for key in ("dataset", "evaluation"))
        dataset, evaluation = (group if isinstance(group, dict) else {} for group in groups)
        size = f" {dataset['height']}x{dataset['width']}" if dataset.get("height") and dataset.get("width") else ""
        # Scored on people who left the training, to choose settings by (see `xinggan.data.validation`).
        self.is_validation = evaluation.get("split") == Split.validation
        called = f"{dataset.get('name', 'unknown data set')}{size}"  # as `synthetic 128x64`
        self.dataset = f"{called}{', validation' * self.is_validation}"
        self.dataset_digest: str | None = self.status.get("dataset_digest")
        self.is_reference = self.method in NO_RIVALS
        self.is_timing_only = self.status.get("measures") == "timing"  # of the study `efficiency`, which scores nothing
        self.title = self.variant = self.name  # until `load_records` tells the runs of a report apart
        self.number, self.leads_its_method = 0, True  # among the runs of the report
        self.facts = flatten(self.config)  # what a query may ask about
        if "evaluation" in self.config:  # earlier records lack keys that came later, and have their defaults
            self.facts |= {key: value for key, value in EVALUATION.items() if key not in self.facts}
        self.facts |= {key: getattr(self, key) for key in DERIVED}

    def __repr__(self) -> str:
        return f"<{self.title}: {self.state}>"

    @property
    def is_scored(self) -> bool:
        return any(row.value is not None for row in self.measurements)

    @property
    def step(self) -> int | None:
        """The training step that the run has reached."""
        reached = self.status.get("step")
        return max((row["step"] for row in self.history), default=None) if reached is None else reached

    @property
    def state_sentence(self) -> str:
        """The state, how far the run has come, and the last line of its error."""
        steps = self.status.get("steps")
        reached = f" at step {self.step} of {steps}" if self.step is not None and steps is not None else ""
        error = str(self.status.get("error") or "").strip().splitlines()
        return f"{self.state}{reached}" + (f": {error[-1]}" if error else "")

    @property
    def machine(self) -> str:
        """What the run ran on: an accelerator, or a processor and how many of its threads."""
        return self._machine(self.environment.get("device"), self.environment.get("threads"))

    def _machine(self, device: Any, threads: Any) -> str:
        if device == "cpu" and threads:
            return f"{self.environment.get('cpu')}, {plural(threads, 'thread')}"
        return str(device or "an unknown device")

    @property
    def scenarios(self) -> list[dict[str, Any]]:
        """Timing scenarios, those that could not be timed among them."""
        return self.timing.get("scenarios") or []

    @cached_property
    def measurements(self) -> list[MetricValue]:
        """The entries of metrics.json. A value that is no finite number is unavailable."""
        found = []
        for row in self._read("metrics.json", list):
            if not isinstance(row, dict) or "metric" not in row:
                self._unreadable["metrics.json"] = f"an entry without a metric's name: {str(row)[:80]}"
                continue
            value, reason = row.get("value"), row.get("unavailable_because")
            if value is None:
                reason = reason or "the record gives no reason"
            elif not is_number(value):
                value, reason = None, f"the recorded value is {value!r}, not a finite number"
            found.append(MetricValue(row["metric"], value, row.get("protocol") or {}, row.get("n"), reason))
        return found

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """Lines of history.jsonl; a last line cut short by a crash is left out and named in `problems`."""
        file, lines = self.directory / "history.jsonl", []
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                row = json.loads(line)
                lines.append({**row, "step": int(row["step"])})
            except (ValueError, TypeError, KeyError) as error:
                self._unreadable["history.jsonl"] = f"line {number} is not a history entry ({error!r})"
        return lines

    @cached_property
    def learning(self) -> list[dict[str, Any]]:
        """A row an evaluated step and metric: step, images, seconds, flops, metric, protocol (as text), value."""
        content, rows = self._read("learning.json", dict), []
        try:
            for point in content.get("points", []):
                step, seconds = int(point["step"]), float(point["seconds"])
                costs = {"images": step * content["batch"], "seconds": seconds, "flops": float(point["flops"])}
                for metric, value in point["values"].items():
                    protocol = protocol_key(content["protocols"][metric])
                    rows.append({"step": step, **costs, "metric": metric, "protocol": protocol, "value": float(value)})
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            self._unreadable["learning.json"] = f"holds no learning curve ({error!r})"
            return []
        return rows

    @cached_property
    def pairs(self) -> dict[str, pandas.DataFrame]:
        """Metric -> its value of every test pair under each protocol; empty when the run kept none."""
        columns = PAIR_COLUMNS[2:]
        try:
            frame = pandas.read_parquet(self.directory / "per_image.parquet")
            frame = frame.assign(protocol=frame.get("protocol", CLEAN.name))[columns]  # earlier records have no other
        except FileNotFoundError:
            return {}
        except Exception as error:  # pyarrow raises types of its own for a damaged file
            self._unreadable["per_image.parquet"] = f"not a parquet file with {', '.join(columns)} ({error})"
            return {}
        frame = frame.assign(run=self.run, title=self.title)[PAIR_COLUMNS].sort_values("pair", kind="stable")
        return {str(metric): rows.reset_index(drop=True) for metric, rows in frame.groupby("metric")}

    def per_image(self, metric: str, protocol: str = CLEAN.name) -> pandas.DataFrame:
        """One metric of every test pair (PAIR_COLUMNS) by pair; empty when the run kept none."""
        found = self.pairs.get(metric, pandas.DataFrame(columns=PAIR_COLUMNS))
        return found[found["protocol"] == protocol]

    @cached_property
    def examples(self) -> list[str]:
        """Numbers of the example pairs whose generated image is there: ["00", "01", ...]."""
        images = (self.directory / "generated" / "examples").glob("*_generated.png")
        return sorted(path.name.split("_")[0] for path in images)

    @property
    def problems(self) -> list[str]:
        """What is missing or unreadable, a sentence each; empty for a finished run with all its files.

        Pictures and checkpoints are no part of that: records are kept and handed on without them.
        """
        expected = ["config.yaml", "status.json", "environment.json"]
        expected += [] if self.is_timing_only else ["metrics.json"]
        expected += [] if self.is_reference else ["timing.json"]
        expected += ["history.jsonl"] if self.config.get("training") else []
        missing = [f"{name}: not there" for name in expected if not (self.directory / name).exists()]
        _ = self.measurements, self.history, self.pairs  # reading finds what is unreadable
        return missing + [f"{name}: {why}" for name, why in self._unreadable.items()]

    def _read(self, name: str, kind: type, parse: Callable[[bytes], Any] = json.loads) -> Any:
        """The content of a file; an empty `kind` where there is none, or one of another kind, noted as unreadable."""
        try:
            content = parse((self.directory / name).read_bytes())
        except OSError:
            return kind()
        except (ValueError, yaml.YAMLError) as error:
            self._unreadable[name] = f"not readable ({' '.join(str(error).split())})"
            return kind()
        if isinstance(content, kind):
            return content
        self._unreadable[name] = f"holds a {type(content).__name__} where a {kind.__name__} is expected"
        return kind()


class Records(UserList[Record]):
    """Run records in the order of a table: rows of a study, other methods by name and seed, the trivial references."""

    @property
    def methods(self) -> "Records":
        return Records(record for record in self if not record.is_reference)

    @property
    def references(self) -> "Records":
        return Records(record for record in self if record.is_reference)

    @property
    def drawn(self) -> "Records":
        """Those that a figure with a line or shape a run has room for: all of up to ROOM, else each variant's first."""
        if len(self) <= ROOM:
            return self
        return Records({record.variant: record for record in reversed(self)}.values())[::-1]

    @property
    def told_of_drawn(self) -> str:
        """A sentence for a figure's caption where `drawn` leaves out seeds."""
        return " Of models with several training seeds, the first is drawn." if len(self.drawn) < len(self) else ""

    def where(self, **conditions: Any) -> "Records":
        """Records whose fact equals the value, or is one of a list of values.

        A key is a fact such as `method`, `state` or `seed`, or the end of a dotted configuration key: `steps` finds
        `training.steps` when no other key ends so. Raises ValueError for a key that is not there.
        """
        kept = list(self)
        for key, wanted in conditions.items():
            fact = resolve_key([record.facts for record in self], key)
            choices = wanted if isinstance(wanted, (list, tuple, set)) else [wanted]
            kept = [record for record in kept if any(same(record.facts.get(fact), choice) for choice in choices)]
        return Records(kept)

    def metric(self, name: str, protocol: str | dict[str, Any] | None = None) -> MetricValues:
        """Values of one metric, one a run and protocol. `protocol` is a protocol's name, or settings that it must have.

        A metric that no run has yet is refused only when the suite does not know it either; so is a protocol under
        which no run has the metric. The ValueError says which there are.
        """
        values = self.values[self.values["metric"] == name]
        if values.empty and name not in catalogue.METRICS:
            counts = self.metrics()
            near = difflib.get_close_matches(name, [*counts, *catalogue.METRICS], n=5, cutoff=0.5)
            raise ValueError(
                f"no run has the metric {name!r}{'; like it: ' + ', '.join(near) if near else ''}. "
                f"These runs have: {', '.join(counts) or 'none yet'}"
            )
        wanted = {"name": protocol} if isinstance(protocol, str) else protocol or {}
        there = {text: json.loads(text) for text in values["protocol"].unique()}
        fitting = [text for text, of in there.items() if all(same(of.get(key), v) for key, v in wanted.items())]
        if there and not fitting:
            names = ", ".join(dict.fromkeys(str(of.get("name")) for of in there.values()))
            raise ValueError(f"no run has {name} under the protocol {protocol!r}; there are: {names}")
        facts = {record.run: record.facts for record in self}
        return MetricValues(name, facts, values[values["protocol"].isin(fitting)], self.per_image(name, protocol=None))

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
        return differing([record.facts for record in self])

    def titles(self) -> dict[str, str]:
        """Run directory's name -> a short, distinct title: its name or study row, with what tells namesakes apart."""
        return {record.run: record.title for record in self}

    def by_dataset(self) -> dict[str, "Records"]:
        """Records that were scored on the same test set, by a heading such as `synthetic 128x64 (digest 1a2b3c4d)`.

        Those of validation splits come last.
        """
        groups: dict[str, Records] = {}
        for record in sorted(self, key=lambda record: record.is_validation):
            digest = f"digest {record.dataset_digest[:8]}" if record.dataset_digest else "no digest recorded"
            groups.setdefault(f"{record.dataset} ({digest})", Records()).append(record)
        return groups

    @property
    def runs(self) -> pandas.DataFrame:
        """A row a run, indexed by its directory's name, a column a fact (`reports.settings.DERIVED`, then settings)."""
        frame = pandas.DataFrame.from_dict({record.run: record.facts for record in self}, orient="index")
        return frame[[*DERIVED[1:], *(key for key in frame if key not in DERIVED)]].rename_axis("run")

    @cached_property
    def values(self) -> pandas.DataFrame:
        """A row a run, metric and protocol, with unit, direction, sample count, and why a value is unavailable."""
        rows = [
            {key: record.facts.get(key) for key in VALUE_COLUMNS[:6]}
            | vars(row)
            | {"protocol": row.protocol_key, "left_out": row.protocol.get("left_out")}
            for record in self
            for row in record.measurements
        ]
        frame = pandas.DataFrame(rows, columns=VALUE_COLUMNS).astype({"value": float})
        better = {True: "higher", False: "lower", None: ""}
        directions = [better[catalogue.higher_is_better(metric)] for metric in frame["metric"]]
        return frame.assign(unit=frame["metric"].map(catalogue.unit), better=directions)

    def per_image(self, *metrics: str, protocol: str | None = CLEAN.name) -> pandas.DataFrame:
        """A row a run, metric, protocol and test pair: PAIR_COLUMNS. `protocol` is one's name; None: all of them."""
        frames = [record.pairs[name] for name in metrics for record in self if name in record.pairs]
        found = pandas.concat(frames, ignore_index=True) if frames else pandas.DataFrame(columns=PAIR_COLUMNS)
        return found if protocol is None else found[found["protocol"] == protocol].reset_index(drop=True)

    @property
    def timings(self) -> pandas.DataFrame:
        """A row a run and timing scenario as recorded, with run, title, method, name, and whether it was `timed`."""
        rows = [
            row
            | {key: record.facts[key] for key in ("run", "title", "method", "name")}
            | {"machine": record._machine(row["device"], row.get("threads")) if row.get("device") else None}
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
    found = (Record(path) for path in runs_dir.iterdir() if path.is_dir() and _is_run(path))
    everything = Records(sorted(found, key=lambda record: (record.is_reference, record.run)))
    if not everything:
        told = "a run is a folder <label>-<hash> that holds config.yaml or status.json."
        raise NothingFound(f"no run in {runs_dir}: {told}")
    names = [word for word in select if "=" not in word or any(record.run == word for record in everything)]
    kept = everything
    for key, value in (word.split("=", 1) for word in select if word not in names):
        fitting = everything.where(**{key: re.split(r",(?![^\[]*\])", value)})
        kept = Records(record for record in kept if record in fitting)
    kept = Records(record for record in kept if not names or any(_fits(record, name) for name in names))
    if not kept:
        there = ", ".join(record.run for record in everything[:8]) + (", ..." if len(everything) > 8 else "")
        told = f"fits {' '.join(select)!r}. There are: {there}"
        raise NothingFound(f"none of the {len(everything)} runs in {runs_dir} {told}")
    if select:
        digests = {record.dataset_digest for record in kept if record.dataset_digest}
        kept += [r for r in everything.references if r.dataset_digest in digests and r not in kept]
    by_run = {record.run: record for record in kept}
    arranged = arrange({run: record.facts for run, record in by_run.items()}, read_studies(runs_dir))
    ordered, methods = Records(by_run[run] for run in arranged), [by_run[run].method for run in arranged]
    for number, record in enumerate(ordered):
        record.title, record.variant = record.facts["title"], record.facts["variant"]
        record.number, record.leads_its_method = number, methods.index(record.method) == number
    return ordered


def _is_run(directory: Path) -> bool:
    return (directory / "status.json").is_file() or (directory / "config.yaml").is_file()


def _fits(record: Record, name: str) -> bool:
    name = Path(name).name
    return fnmatch.fnmatchcase(record.run, name) or (len(name) >= 4 and record.run_id.startswith(name))
