"""Where runs are executed: submitit's parameters, from a file of conf/ or one of your own and words such as `gpus=4`.

A key is a parameter of submitit, with or without its prefix `slurm_`, or one of the words in SHORT. What submitit has
no name for is an option of sbatch: `sbatch: {reservation: deadline}`, or as a word `sbatch.reservation=deadline`.
"""

import os
import re
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from xinggan.files import SUITE

if TYPE_CHECKING:
    from submitit import AutoExecutor

CONF = Path(__file__).parent / "conf"
SHORT = {"cpus": "cpus_per_task", "signal_s": "signal_delay_s", "sbatch": "additional_parameters"}
# Parameters that all of submitit's executors take; the others are SLURM's and begin with `slurm_` there.
SHARED = ("nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node", "mem_gb", "timeout_min")
# What a setting holds: a whole number of at least this, one value on one line, lines of shell, or options of sbatch.
KINDS: dict[str, int | type] = {
    **dict.fromkeys((*SHARED, "signal_delay_s", "array_parallelism", "cpus_per_gpu", "gpus_per_task"), 1),
    **dict.fromkeys(("gpus", "gpus_per_node", "max_num_timeout"), 0),
    **dict.fromkeys(("partition", "qos", "account", "constraint", "exclude", "nodelist", "gres", "exclusive"), str),
    **dict.fromkeys(("mem_per_cpu", "mem_per_gpu", "comment", "mail_type", "mail_user", "wckey", "python"), str),
    **{"setup": list, "teardown": list, "additional_parameters": dict},
}
# An option of sbatch that the sweep does not set itself.
OPTION = r"(?!(array|chdir|dependency|error|job-name|(no-)?requeue|open-mode|output|signal)$)[a-z][a-z0-9-]*"
FOREVER = 1_000_000  # time-outs that submitit may count: three without progress end a run here, not their number


@dataclass
class Cluster:
    """One of submitit's executors and its parameters (by their names without `slurm_`)."""

    executor: str = "slurm"  # or local, debug
    values: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)  # what differs for the job that builds the report

    @property
    def nodes(self) -> int:
        return self.values.get("nodes", 1)

    @property
    def gpus_per_node(self) -> int | None:
        """GPUs of a run on each node; None where nothing is said of them."""
        gpus = self.values.get("gpus")
        return self.values.get("gpus_per_node", None if gpus is None else gpus // self.nodes)

    @property
    def tasks_per_node(self) -> int:
        """Processes of a run on each node: where nothing is said of them, one for each GPU."""
        return self.values.get("tasks_per_node", max(1, self.gpus_per_node or 0))

    @property
    def processes(self) -> int:
        """Processes of a run on all its nodes."""
        return self.nodes * self.tasks_per_node

    @property
    def notes(self) -> set[str]:
        """What may surprise about the lines of setup."""
        lines = [] if "python" in self.values else self.values.get("setup", [])
        note = "does not choose the Python of the runs; python=COMMAND does"
        return {f"setup: {line} {note}" for line in lines if "activate" in line}

    def __str__(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.values.items() if value not in ([], {}))

    def alone(self, **changes: Any) -> "Cluster":
        """The same for a run that is not trained, which gains nothing from several processes."""
        one = {"nodes": 1, "tasks_per_node": 1, "gpus_per_node": min(1, self.gpus_per_node or 0)}
        values = self.values | one | changes | {"gpus": None}
        return Cluster(self.executor, {key: value for key, value in values.items() if value is not None})

    def for_report(self) -> "Cluster":
        """The same for the job that builds the report."""
        return self.alone(**{"gpus_per_node": 0} | self.report)

    def jobs(self, folder: Path, name: str, **options: str) -> "AutoExecutor":
        """submitit's executor for jobs called `name`, with their files in `folder` and further options of sbatch."""
        from submitit import AutoExecutor

        values = {key: value for key, value in self.values.items() if key not in ("gpus", "gpus_per_node")}
        values |= {"tasks_per_node": self.tasks_per_node}
        values |= {"gpus_per_node": self.gpus_per_node} if self.gpus_per_node else {}
        timeouts = values.pop("max_num_timeout", FOREVER)
        counted = {f"{kind}_max_num_timeout": timeouts for kind in ("slurm", "local")}
        executor = AutoExecutor(folder, self.executor, slurm_python=values.pop("python", None), **counted)
        if self.executor == "slurm":
            values["additional_parameters"] = {"requeue": True} | values.get("additional_parameters", {}) | options
            lines = [(line, shlex.quote(f"setup failed: {line.strip()}")) for line in values.get("setup", [])]
            paths = f"export PYTHONPATH={shlex.quote(str(SUITE))}${{PYTHONPATH:+:$PYTHONPATH}} PYTHONSAFEPATH=1"
            values["setup"] = [f"{{ {line}\n}} || {{ echo {failed} >&2; exit 1; }}" for line, failed in lines] + [paths]
            # srun passes on neither what setup exported (after sbatch --export=NONE) nor, since 22.05, the cpus.
            cpus = [f"--cpus-per-task={values['cpus_per_task']}"] if "cpus_per_task" in values else []
            values["srun_args"] = ["--export=ALL", "--kill-on-bad-exit=1", *cpus]
        parameters = {key if key in SHARED else f"slurm_{key}": value for key, value in values.items()}
        executor.update_parameters(name=name, **parameters)
        if self.executor == "local":
            executor.parameters["signal_delay_s"] = values.get("signal_delay_s", 30)
        return executor


def read_cluster(words: list[str], known: Cluster | None = None) -> tuple[Cluster, list[str]]:
    """The cluster that `cluster=NAME` and settings among `words` describe, or that change the `known` one; other words.

    Raises ValueError for a file, key or value that is not accepted.
    """
    name, changes, others = "", dict[str, Any](), []
    for word in words:
        key, _, text = word.partition("=")
        value = {"null": None, "true": True, "false": False}.get(text, text)
        if key == "cluster":
            name = text
        elif key.startswith("sbatch."):
            changes["sbatch"] = (changes.get("sbatch") or {}) | {key.removeprefix("sbatch."): value}
        elif submitits_name(key) in KINDS:
            changes[key] = value
        else:
            others.append(word)
    if name or known is None:
        known = read_file(name or ("slurm" if shutil.which("sbatch") else "local"))
    before, changes = known.values, checked(changes, "the command's words")
    options = (before.get("additional_parameters") or {}) | (changes.get("additional_parameters") or {})
    replaced = {"gpus", "gpus_per_node", "tasks_per_node"} if {"gpus", "gpus_per_node"} & changes.keys() else set()
    values = {key: value for key, value in before.items() if key not in replaced} | changes
    values["additional_parameters"] = {key: text for key, text in options.items() if text is not None}
    values = {key: value for key, value in values.items() if value is not None}
    if "SBATCH_ACCOUNT" in os.environ:  # the one default that people keep in their shell
        values.setdefault("account", os.environ["SBATCH_ACCOUNT"])
    cluster = Cluster(known.executor, values, known.report)
    nodes, gpus, tasks, place = cluster.nodes, cluster.gpus_per_node or 0, cluster.tasks_per_node, cluster.executor
    if values.get("gpus", gpus * nodes) != gpus * nodes:
        raise ValueError(f"gpus={values['gpus']} do not divide among nodes={nodes} with gpus_per_node={gpus}")
    if tasks > gpus > 0:
        raise ValueError(f"tasks_per_node={tasks} for gpus_per_node={gpus}: one process a GPU, or with gpus=0 on CPUs")
    if values.get("signal_delay_s", 0) >= 60 * values.get("timeout_min", 60):
        raise ValueError(f"signal_s={values['signal_delay_s']} must be less than timeout_min={values['timeout_min']}")
    if place != "slurm" and nodes > 1:
        raise ValueError(f"nodes={nodes}: cluster={place} is one machine")
    if place != "slurm" and values.get("setup"):
        raise ValueError(f"setup: cluster={place} has the environment of the command; set it up before")
    return cluster, others


def read_file(name: str) -> Cluster:
    """The cluster of conf/<name>.yaml, or of a file of this name. Raises ValueError."""
    file = CONF / f"{name}.yaml" if (CONF / f"{name}.yaml").exists() else Path(name).expanduser()
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in CONF.glob("*.yaml")))
        raise ValueError(f"cluster={name}: no such file; accepted are {known}, or a yaml file of your own")
    try:
        content = yaml.safe_load(file.read_text()) or {}
        executor, report = content.pop("cluster", "slurm"), content.pop("report", None) or {}
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError) as error:
        raise ValueError(f"{file}: not a yaml file of `key: value` lines ({' '.join(str(error).split())})") from error
    if not isinstance(report, dict):
        raise ValueError(f"{file}: report: {report!r}; accepted are `key: value` lines, settings of the report's job")
    if executor not in ("slurm", "local", "debug"):
        raise ValueError(f"{file}: cluster: {executor}; accepted are slurm, local, debug")
    return Cluster(executor, checked(content, str(file)), checked(report, f"{file}: report"))


def checked(given: dict[str, Any], where: str) -> dict[str, Any]:
    """The settings by submitit's names. ValueError names each one that is not accepted: a shell will read them."""
    values = {submitits_name(str(key)): value for key, value in given.items()}
    wrong = [f"{key}={value!r}: accepted is {what}" for key, value in values.items() if (what := accepted(key, value))]
    if wrong:
        raise ValueError(f"{where}: {'; '.join(wrong)}")
    return {key: int(value) if isinstance(KINDS[key], int) and value else value for key, value in values.items()}


def accepted(key: str, value: Any) -> str:
    """What is accepted instead of the setting; "" where it is accepted itself."""
    kind = KINDS.get(key)
    if kind is None:
        return "one of these: " + ", ".join(sorted({*KINDS, *SHORT, "report"} - {*SHORT.values()}))
    if isinstance(kind, int):
        what, fits = f"a whole number from {kind}", str(value).isdecimal() and int(value) >= kind
    elif kind is str:
        what, fits = "one value, on one line", not isinstance(value, dict | list) and str(value).isprintable()
    elif kind is list:
        what = "a list of lines of shell"
        fits = type(value) is list and all(type(line) is str for line in value)
    else:
        what = "what the sweep does not set itself, by its long name and on one line: mail-type=END"
        options = value if isinstance(value, dict) else {"": ""}
        fits = all(re.fullmatch(OPTION, f"{key}") and f"{text}".isprintable() for key, text in options.items())
    return "" if fits or value is None else what


def submitits_name(key: str) -> str:
    """Parameter of submitit that a key of a file, or of a word, names."""
    return SHORT.get(key, key.removeprefix("slurm_"))
