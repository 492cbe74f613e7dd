"""One run directory, read without torch and without trust: a run may be unfinished, failed, copied in part or damaged.

Whatever can be read is there as plain data; whatever cannot is a sentence in `Record.problems`. `config.yaml` and
`status.json` are read at once, the larger files when somebody asks for them.
"""

import json
import math
import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    import pandas

FLOORS = ("copy_source", "mean_image")  # trivial methods: who does not beat them has learnt nothing
REFERENCES = (*FLOORS, "vae_roundtrip", "ground_truth")  # no rivals: floors, and two that look at the target image
STATES = ("running", "finished", "failed", "preempted")
_HASH_AT_END = re.compile(r"-([0-9a-f]{12})$")
_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Measurement:
    """One metric of one run with the protocol it was computed under; `value` is None when there is a reason why not."""

    metric: str
    value: float | None
    protocol: dict[str, Any]
    n: int | None
    unavailable_because: str | None

    @property
    def protocol_key(self) -> str:
        """The protocol as text: two values are comparable only when these are equal."""
        return json.dumps(self.protocol, sort_keys=True, default=str)


@dataclass
class Record:
    """A run directory; every attribute is safe to ask for, whatever state the directory is in."""

    directory: Path
    config: dict[str, Any] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    _unreadable: dict[str, str] = field(default_factory=dict, repr=False)
    title: str | None = None  # of the study's row that the run is
    place: tuple[int, int] | None = None  # of the study among the studies, and of the row in it

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
        """What the run is called in tables and figures, such as `xinggan scale=single`."""
        return str(self.config.get("name") or self.status.get("name") or self.label)

    @property
    def method(self) -> str:
        """The first word of the name: the family that a variant belongs to."""
        return (self.name.split() or ["?"])[0]

    @property
    def is_reference(self) -> bool:
        return self.method in REFERENCES

    @property
    def is_timing_only(self) -> bool:
        """Whether the record is one of the study `efficiency`, which neither trains nor scores."""
        return self.status.get("measures") == "timing"

    @property
    def state(self) -> str:
        state = self.status.get("state")
        return state if state in STATES else "unknown"

    @property
    def dataset(self) -> str:
        """Name and resolution, such as `synthetic 128x64`."""
        settings = self.config.get("dataset")
        settings = settings if isinstance(settings, dict) else {"name": settings}
        size = f" {settings['height']}x{settings['width']}" if settings.get("height") and settings.get("width") else ""
        return f"{settings.get('name') or 'unknown data set'}{size}"

    @property
    def dataset_digest(self) -> str | None:
        return self.status.get("dataset_digest")

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Everything a query may ask about: what is derived above, then the configuration with dotted keys."""
        derived = ("run", "run_id", "label", "name", "method", "state", "dataset", "dataset_digest")
        return {**flatten(self.config), **{key: getattr(self, key) for key in derived}}

    @property
    def step(self) -> int | None:
        """The training step that the run has reached."""
        reached = self.status.get("step")
        return reached if isinstance(reached, int) else max((row["step"] for row in self.history), default=None)

    @cached_property
    def environment(self) -> dict[str, Any]:
        return self._read_json("environment.json", dict)

    @cached_property
    def timing(self) -> dict[str, Any]:
        return self._read_json("timing.json", dict)

    @property
    def scenarios(self) -> list[dict[str, Any]]:
        """Timing scenarios, those that could not be timed among them."""
        scenarios = self.timing.get("scenarios")
        return [row for row in scenarios if isinstance(row, dict)] if isinstance(scenarios, list) else []

    @cached_property
    def measurements(self) -> list[Measurement]:
        return [found for row in self._read_json("metrics.json", list) if (found := self._measurement(row))]

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """Lines of history.jsonl; a last line cut short by a crash is left out and named in `problems`."""
        lines: list[dict[str, Any]] = []
        try:
            text = (self.directory / "history.jsonl").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return lines
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                row = json.loads(line)
                lines.append({**row, "step": int(row["step"])})
            except (ValueError, TypeError, KeyError) as error:
                self._unreadable["history.jsonl"] = f"line {number} is not a history entry ({error!r})"
        return lines

    @cached_property
    def per_image(self) -> "pandas.DataFrame":
        """One row a test pair and metric (pair, pair_id, identity, metric, value); empty when there is no such file."""
        import pandas

        try:
            return pandas.read_parquet(self.directory / "per_image.parquet")
        except FileNotFoundError:
            pass
        except Exception as error:  # pyarrow raises types of its own for a damaged file
            self._unreadable["per_image.parquet"] = f"not a parquet file ({error})"
        return pandas.DataFrame({"pair": [], "pair_id": [], "identity": [], "metric": [], "value": []})

    def per_image_of(self, metric: str) -> "pandas.DataFrame":
        """The rows of one metric (pair, pair_id, identity, value); no others are read."""
        import pandas

        columns = ["pair", "pair_id", "identity", "value"]
        if "per_image" in self.__dict__ and {"metric", *columns} <= set(self.per_image.columns):
            return self._by_metric.get(metric, self.per_image.iloc[:0])[columns]
        try:
            from pyarrow import compute, parquet

            table = parquet.ParquetFile(self.directory / "per_image.parquet").read(columns=[*columns, "metric"])
            return table.filter(compute.equal(table["metric"], metric)).select(columns).to_pandas()
        except FileNotFoundError:
            pass
        except Exception as error:  # pyarrow raises types of its own for a damaged file
            self._unreadable["per_image.parquet"] = f"not a parquet file with {', '.join(columns)} ({error})"
        return pandas.DataFrame({column: [] for column in columns})

    @cached_property
    def _by_metric(self) -> "dict[str, pandas.DataFrame]":
        """Rows of each metric, once the whole file is in memory."""
        return {str(metric): rows.reset_index(drop=True) for metric, rows in self.per_image.groupby("metric")}

    @cached_property
    def examples(self) -> list[str]:
        """Numbers of the example pairs whose generated image is there: ["00", "01", ...]."""
        images = (self.directory / "generated" / "examples").glob("*_generated.png")
        return sorted(path.name.split("_")[0] for path in images)

    @property
    def problems(self) -> list[str]:
        """What is missing or unreadable, a sentence each; empty for a finished run with all its files."""
        expected = ["config.yaml", "status.json", "environment.json"]
        if not self.is_timing_only:
            expected += ["metrics.json", "generated"]
        if not self.is_reference:
            expected.append("timing.json")
        if self.config.get("training"):
            expected.append("history.jsonl")
        missing = [f"{name}: not there" for name in expected if not (self.directory / name).exists()]
        _ = (
            self.environment,
            self.timing,
            self.measurements,
            self.history,
            self.per_image,
        )  # reading finds what is unreadable
        return missing + [f"{name}: {why}" for name, why in self._unreadable.items()]

    def _measurement(self, row: Any) -> Measurement | None:
        if not isinstance(row, dict) or "metric" not in row:
            self._unreadable["metrics.json"] = f"an entry without a metric's name: {str(row)[:80]}"
            return None
        value, reason = row.get("value"), row.get("unavailable_because")
        if value is None:
            reason = reason or "the record gives no reason"
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            value, reason = None, f"the recorded value is {value!r}, not a finite number"
        protocol = row.get("protocol")
        protocol = protocol if isinstance(protocol, dict) else {"name": str(protocol or "not recorded")}
        return Measurement(str(row["metric"]), value, protocol, row.get("n"), reason)

    def _read_json(self, name: str, kind: type) -> Any:
        try:
            content = json.loads((self.directory / name).read_bytes())
        except OSError:
            return kind()
        except ValueError as error:
            self._unreadable[name] = f"not readable as JSON ({error})"
            return kind()
        if isinstance(content, kind):
            return content
        self._unreadable[name] = f"holds a {type(content).__name__} where a {kind.__name__} is expected"
        return kind()


def read_record(directory: Path) -> Record:
    """Read configuration and status of one run directory; never raises for what is in it."""
    record = Record(directory)
    record.status = record._read_json("status.json", dict)
    try:
        config = parse_config((directory / "config.yaml").read_text(encoding="utf-8"))
    except OSError:
        pass
    except (yaml.YAMLError, ValueError) as error:
        record._unreadable["config.yaml"] = f"not readable as YAML ({' '.join(str(error).split())})"
    else:
        if isinstance(config, dict):
            record.config = config
        else:
            record._unreadable["config.yaml"] = "holds no mapping of keys to values"
    return record


def parse_config(text: str) -> Any:
    """What `yaml.safe_load` gives, for reading only: runs of a sweep share most of their text, so each top-level block
    is parsed once and its values are shared.
    """
    blocks = re.split(r"^(?=[A-Za-z_])", text, flags=re.MULTILINE)
    try:
        parsed = [_parse_block(block) for block in blocks]
    except yaml.YAMLError:  # an anchor, or a value that goes on in the first column: not parts that stand alone
        return yaml.load(text, Loader=_YAML_LOADER)
    if blocks[0].strip() or len(blocks) == 1 or not all(isinstance(block, dict) for block in parsed[1:]):
        return yaml.load(text, Loader=_YAML_LOADER)
    return {key: value for block in parsed[1:] for key, value in block.items()}


@lru_cache(maxsize=4096)
def _parse_block(block: str) -> Any:
    return yaml.load(block, Loader=_YAML_LOADER)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"training": {"steps": 200}} -> {"training.steps": 200}; lists become tuples, so that values can be compared."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = tuple(map(str, value)) if isinstance(value, list) else value
    return flat
