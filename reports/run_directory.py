"""One run directory, read without torch and without trust: a run may be unfinished, failed, copied in part or damaged.

What can be read is there as plain data; what cannot is a sentence in `Record.problems`. `config.yaml` and `status.json`
are read at once, the larger files when somebody asks for them.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas
import yaml

from baselines import REFERENCES
from reports.formats import is_number
from xinggan.metrics.values import MetricValue

NO_RIVALS = (*REFERENCES, "vae_roundtrip")  # what sees the target image or was not trained is never called best
STATES = ("running", "finished", "failed", "preempted", "unknown")
DERIVED = ("run", "run_id", "label", "name", "method", "state", "dataset", "dataset_digest", "variant")  # facts
PAIR_COLUMNS = ["pair", "pair_id", "identity", "value"]
_HASH_AT_END = re.compile(r"-([0-9a-f]{12})$")
_load_yaml = partial(yaml.load, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@dataclass
class Record:
    """A run directory; every attribute is safe to ask for, whatever state the directory is in.

    `reports.records.load_records` gives it the title, the variant and the number that it has in a report.
    """

    directory: Path
    config: dict[str, Any] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    title: str = ""  # distinct among the runs of the report
    variant: str = ""  # the title without the seed, where runs differ in nothing but their seed
    place: tuple[int, int] | None = None  # of the study among the studies, and of the run's row in it
    number: int = 0  # among the runs of the report
    leads_its_method: bool = True  # whether it is the first run of its method
    _unreadable: dict[str, str] = field(default_factory=dict, repr=False)  # file -> why

    @property
    def run(self) -> str:
        return self.directory.name

    @property
    def run_id(self) -> str:
        """The hash of the configuration, with which a run directory's name ends."""
        at_end = _HASH_AT_END.search(self.run)
        return at_end.group(1) if at_end else str(self.status.get("run_id") or self.run)

    @property
    def label(self) -> str:
        return str(self.status.get("label") or _HASH_AT_END.sub("", self.run))

    @property
    def name(self) -> str:
        """Method and what is not as its preset says, such as `xinggan scale=single`."""
        return str(self.config.get("name") or self.status.get("name") or self.label)

    @property
    def method(self) -> str:
        """The first word of the name: the family that a variant belongs to."""
        return self.name.split(maxsplit=1)[0]

    @property
    def is_reference(self) -> bool:
        return self.method in NO_RIVALS

    @property
    def is_timing_only(self) -> bool:
        """Whether the record is one of the study `efficiency`, which neither trains nor scores."""
        return self.status.get("measures") == "timing"

    @property
    def is_scored(self) -> bool:
        return any(row.value is not None for row in self.measurements)

    @property
    def state(self) -> str:
        state = self.status.get("state")
        return state if state in STATES else "unknown"

    @property
    def state_sentence(self) -> str:
        """The state, how far the run has come, and the last line of its error."""
        steps = self.status.get("steps")
        reached = f" at step {self.step} of {steps}" if self.step is not None and steps is not None else ""
        error = str(self.status.get("error") or "").strip().splitlines()
        return f"{self.state}{reached}" + (f": {error[-1]}" if error else "")

    @property
    def dataset(self) -> str:
        """Name and resolution, such as `synthetic 128x64`."""
        settings = self.config.get("dataset") or {"name": "unknown data set"}
        size = f" {settings['height']}x{settings['width']}" if settings.get("height") and settings.get("width") else ""
        return f"{settings['name']}{size}"

    @property
    def dataset_digest(self) -> str | None:
        return self.status.get("dataset_digest")

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Everything a query may ask about: the configuration with dotted keys, and DERIVED."""
        return {**flatten(self.config), **{key: getattr(self, key) for key in DERIVED}}

    @property
    def step(self) -> int | None:
        """The training step that the run has reached."""
        reached = self.status.get("step")
        return max((row["step"] for row in self.history), default=None) if reached is None else reached

    @cached_property
    def environment(self) -> dict[str, Any]:
        return self._read("environment.json", dict)

    @cached_property
    def timing(self) -> dict[str, Any]:
        return self._read("timing.json", dict)

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

    def per_image(self, metric: str) -> pandas.DataFrame:
        """One metric of every test pair (pair, pair_id, identity, value) by pair; empty when the run kept none."""
        return self._by_metric.get(metric, pandas.DataFrame({column: [] for column in PAIR_COLUMNS}))

    @cached_property
    def _by_metric(self) -> dict[str, pandas.DataFrame]:
        try:
            frame = pandas.read_parquet(self.directory / "per_image.parquet", columns=[*PAIR_COLUMNS, "metric"])
        except FileNotFoundError:
            return {}
        except Exception as error:  # pyarrow raises types of its own for a damaged file
            self._unreadable["per_image.parquet"] = f"not a parquet file with {', '.join(PAIR_COLUMNS)} ({error})"
            return {}
        frame = frame.sort_values("pair", kind="stable")
        return {str(of): rows[PAIR_COLUMNS].reset_index(drop=True) for of, rows in frame.groupby("metric")}

    @cached_property
    def examples(self) -> list[str]:
        """Numbers of the example pairs whose generated image is there: ["00", "01", ...]."""
        images = (self.directory / "generated" / "examples").glob("*_generated.png")
        return sorted(path.name.split("_")[0] for path in images)

    @property
    def problems(self) -> list[str]:
        """What is missing or unreadable, a sentence each; empty for a finished run with all its files."""
        expected = ["config.yaml", "status.json", "environment.json"]
        expected += [] if self.is_timing_only else ["metrics.json", "generated"]
        expected += [] if self.is_reference else ["timing.json"]
        expected += ["history.jsonl"] if self.config.get("training") else []
        missing = [f"{name}: not there" for name in expected if not (self.directory / name).exists()]
        for name in ("environment", "timing", "measurements", "history", "_by_metric"):
            getattr(self, name)  # reading finds what is unreadable
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


def read_record(directory: Path) -> Record:
    """Read configuration and status of one run directory; never raises for what is in it."""
    record = Record(directory)
    record.config = record._read("config.yaml", dict, _load_yaml)
    record.status = record._read("status.json", dict)
    record.title = record.name
    return record


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"training": {"steps": 200}} -> {"training.steps": 200}; lists become tuples, so that values can be compared."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = tuple(map(str, value)) if isinstance(value, list) else value
    return flat
