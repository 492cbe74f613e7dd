"""What a run asks of the cluster: settings from a file in conf/, or one of your own, and words such as `gpus=4`.

Every value is checked here, because it ends up in a script that a shell reads.
"""

import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

CONF = Path(__file__).parent / "conf"
DEFAULT = "gpu"
_SAFE = re.compile(r"[\w.,:@%+=/&|*()\[\]-]+", re.ASCII)  # neither blanks nor quotes: stands in a line of #SBATCH
_OPTION = re.compile(r"[a-z][a-z0-9-]*")
_OURS = ("array", "dependency", "job-name", "output", "error", "open-mode", "requeue", "no-requeue", "signal", "chdir")


@dataclass(frozen=True)
class Cluster:
    """Limits of one run's job. Numbers left None are the cluster's own defaults."""

    partition: str | None = None
    gpus: int = 0  # of a run, all nodes together; one process each
    nodes: int = 1
    cpus: int = 1  # of each process
    mem_gb: int | None = None  # on each node
    timeout_min: int = 60
    array_parallelism: int | None = None  # runs of a sweep at the same time
    signal_s: int = 60  # so long before the time limit a run saves and leaves
    constraint: str | None = None
    qos: str | None = None
    account: str | None = None
    sbatch: dict[str, str] = field(default_factory=dict)  # further options of sbatch, without their dashes
    setup: list[str] = field(default_factory=list)  # lines of shell before Python starts
    report: dict[str, Any] = field(default_factory=dict)  # what differs for the job that builds the report

    @property
    def processes(self) -> int:
        """Processes of a run: one a GPU, or one without GPUs."""
        return max(1, self.gpus)

    @property
    def alone(self) -> "Cluster":
        """The same limits for a run of one process: what is not trained gains nothing from several."""
        return replace(self, gpus=min(1, self.gpus), nodes=1)

    @property
    def for_report(self) -> "Cluster":
        """The limits of the job that builds the report."""
        return checked({"gpus": 0, "nodes": 1, **self.report}, replace(self, report={}), "report")

    def options(self) -> dict[str, str]:
        """sbatch's options, by their long names without dashes."""
        chosen: dict[str, Any] = {
            "partition": self.partition,
            "nodes": self.nodes,
            "ntasks-per-node": self.processes // self.nodes,
            "gpus-per-node": self.gpus // self.nodes or None,
            "cpus-per-task": self.cpus,
            "mem": None if self.mem_gb is None else f"{self.mem_gb}G",
            "time": self.timeout_min,
            "constraint": self.constraint,
            "qos": self.qos,
            "account": self.account,
        }
        return {name: str(value) for name, value in (chosen | self.sbatch).items() if value is not None}


KEYS = tuple(setting.name for setting in fields(Cluster))
_LEAST = {"gpus": 0, "nodes": 1, "cpus": 1, "mem_gb": 1, "timeout_min": 1, "array_parallelism": 1, "signal_s": 1}


def read_cluster(words: list[str]) -> tuple[Cluster, list[str]]:
    """The cluster that `cluster=NAME` and limits among `words` describe, and the words that remain.

    Raises ValueError for a file, key or value that is not accepted.
    """
    name, changes, others = DEFAULT, dict[str, Any](), []
    for word in words:
        key, _, value = word.partition("=")
        if key == "cluster":
            name = value
        elif key.startswith("sbatch."):
            changes.setdefault("sbatch", {})[key.removeprefix("sbatch.")] = value
        elif key in KEYS and key not in ("sbatch", "setup", "report"):
            changes[key] = None if value == "null" else value
        else:
            others.append(word)
    file = CONF / f"{name}.yaml"
    if not re.fullmatch(r"\w+", name) or not file.exists():
        file = Path(name).expanduser()
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in CONF.glob("*.yaml")))
        raise ValueError(f"cluster={name}: no such file; accepted are {known}, or a yaml file of your own")
    try:
        content = yaml.safe_load(file.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not a yaml file ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected `key: value` lines with the keys {', '.join(KEYS)}")
    cluster = checked(content, Cluster(), str(file))
    if "sbatch" in changes:
        changes["sbatch"] = cluster.sbatch | changes["sbatch"]
    cluster = checked(changes, cluster, "the command's words")
    _ = cluster.for_report  # its settings are refused now, not when the sweep has ended
    return cluster, others


def checked(values: dict[str, Any], base: Cluster, where: str) -> Cluster:
    """`base` with `values` in place; ValueError names every one that is not accepted and where it stands."""
    reasons, accepted = [], dict[str, Any]()
    for key, value in values.items():
        if key not in KEYS:
            reasons.append(f"{key}: not a setting; accepted are {', '.join(KEYS)}")
        elif key in _LEAST:
            whole = (value is None and getattr(Cluster, key) is None) or re.fullmatch(r"\d+", str(value))
            if not whole or (value is not None and int(value) < _LEAST[key]):
                reasons.append(f"{key}={value}: accepted is a whole number from {_LEAST[key]}")
            else:
                accepted[key] = value if value is None else int(value)
        elif key == "sbatch":
            options = value if isinstance(value, dict) else {str(value): ""}
            reasons += [reason for name, text in options.items() if (reason := _refused_option(str(name), text))]
            accepted[key] = {str(name): str(text) for name, text in options.items()}
        elif key == "setup":
            if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
                reasons.append("setup: accepted is a list of lines of shell")
            accepted[key] = value
        elif key == "report":
            if not isinstance(value, dict):
                reasons.append("report: accepted are settings like those of a run, such as {gpus: 0}")
            accepted[key] = value
        elif value is None or _SAFE.fullmatch(str(value)):
            accepted[key] = None if value is None else str(value)
        else:
            reasons.append(f"{key}={value!r}: accepted are letters, digits and .,:@%+=/&|*()[]- without blanks")
    if reasons:
        raise ValueError(f"{where}: {'; '.join(reasons)}")
    cluster = replace(base, **accepted)
    if cluster.processes % cluster.nodes:
        raise ValueError(f"{where}: gpus={cluster.gpus} do not divide among nodes={cluster.nodes}; one process a GPU")
    if cluster.signal_s >= 60 * cluster.timeout_min:
        raise ValueError(f"{where}: signal_s={cluster.signal_s} must be less than timeout_min={cluster.timeout_min}")
    return cluster


def _refused_option(name: str, text: Any) -> str | None:
    if not _OPTION.fullmatch(name):
        return f"sbatch.{name}: not the long name of an option, such as sbatch.mail-type=END"
    if name in _OURS:
        return f"sbatch.{name}: set by the sweep itself"
    return None if _SAFE.fullmatch(str(text)) else f"sbatch.{name}={text!r}: neither blanks nor quotes are accepted"
