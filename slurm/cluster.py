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

from ablations.environment import SUITE

if TYPE_CHECKING:
    from submitit import AutoExecutor

CONF = Path(__file__).parent / "conf"
SHORT = {"cpus": "cpus_per_task", "signal_s": "signal_delay_s", "sbatch": "additional_parameters"}
SHARED = ("nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node", "mem_gb", "timeout_min")  # by all executors
LEAST = dict.fromkeys((*SHARED, "signal_delay_s", "array_parallelism", "cpus_per_gpu", "gpus_per_task"), 1)
LEAST |= {"gpus": 0, "gpus_per_node": 0, "max_num_timeout": 0}  # the whole numbers, with what each is at least
ONE_LINE = (
    *("partition", "qos", "account", "constraint", "exclude", "nodelist", "gres", "exclusive", "mem_per_cpu"),
    *("mem_per_gpu", "comment", "mail_type", "mail_user", "wckey", "python"),
)
LINES = ("setup", "teardown")
NAMES = {*LEAST, *ONE_LINE, *LINES, "additional_parameters"}
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
    def processes(self) -> int:
        """Processes of a run on all its nodes."""
        return self.values.get("nodes", 1) * self.values["tasks_per_node"]

    @property
    def notes(self) -> set[str]:
        """What may surprise about the lines of setup."""
        lines = [] if "python" in self.values else self.values.get("setup", [])
        told = "does not choose the Python of the runs; python=COMMAND does"
        return {f"setup: {line} {told}" for line in lines if "activate" in line}

    def alone(self, **changes: Any) -> "Cluster":
        """The same for a run that is not trained, which gains nothing from several processes."""
        one = {"nodes": 1, "tasks_per_node": 1, "gpus_per_node": min(1, self.values.get("gpus_per_node", 0))}
        return Cluster(self.executor, self.values | one | changes)

    def jobs(self, folder: Path, name: str, **options: str) -> "AutoExecutor":
        """submitit's executor for jobs called `name`, with their files in `folder` and further options of sbatch."""
        from submitit import AutoExecutor

        values = {key: value for key, value in self.values.items() if key != "gpus" and value != 0}
        made = {f"{kind}_max_num_timeout": values.pop("max_num_timeout", FOREVER) for kind in ("slurm", "local")}
        executor = AutoExecutor(folder, self.executor, slurm_python=values.pop("python", None), **made)
        if self.executor == "slurm":
            values["additional_parameters"] = {"requeue": True} | values.get("additional_parameters", {}) | options
            told = [(line, shlex.quote(f"setup failed: {line.strip()}")) for line in values.get("setup", [])]
            paths = f"export PYTHONPATH={shlex.quote(str(SUITE))}${{PYTHONPATH:+:$PYTHONPATH}} PYTHONSAFEPATH=1"
            values["setup"] = [f"{{ {line}\n}} || {{ echo {said} >&2; exit 1; }}" for line, said in told] + [paths]
            # srun passes on neither what setup exported (after sbatch --export=NONE) nor, since 22.05, the cpus.
            cpus = [f"--cpus-per-task={values['cpus_per_task']}"] if "cpus_per_task" in values else []
            values["srun_args"] = ["--export=ALL", "--kill-on-bad-exit=1", *cpus]
        given = {key if key in SHARED else f"slurm_{key}": value for key, value in values.items()}
        executor.update_parameters(name=name, **given)
        if self.executor == "local":
            executor.parameters["signal_delay_s"] = values.get("signal_delay_s", 30)
        return executor


def read_cluster(words: list[str], known: Cluster | None = None) -> tuple[Cluster, list[str]]:
    """The cluster that `cluster=NAME` and settings among `words` describe, or that change the `known` one; other words.

    Raises ValueError for a file, key or value that is not accepted.
    """
    name, changes, others = "slurm" if shutil.which("sbatch") else "local", dict[str, Any](), []
    for word in words:
        key, _, text = word.partition("=")
        value = {"null": None, "true": True, "false": False}.get(text, text)
        if key == "cluster":
            name = text
        elif key.startswith("sbatch."):
            changes["sbatch"] = changes.get("sbatch", {}) | {key.removeprefix("sbatch."): value}
        elif submitits_name(key) in NAMES:
            changes[key] = value
        else:
            others.append(word)
    cluster, changes = known or read_file(name), checked(changes, "the command's words")
    if options := changes.get("additional_parameters"):
        changes["additional_parameters"] = cluster.values.get("additional_parameters", {}) | options
    values = {key: value for key, value in (cluster.values | changes).items() if value is not None}
    if "SBATCH_ACCOUNT" in os.environ:  # the one default that people keep in their shell
        values.setdefault("account", os.environ["SBATCH_ACCOUNT"])
    gpus, nodes = values.get("gpus"), values.get("nodes", 1)
    if gpus is not None and {"gpus", "nodes"} & {*changes, *([] if known else values)}:
        if max(1, gpus) % nodes:
            raise ValueError(f"gpus={gpus} do not divide among nodes={nodes}; one process a GPU")
        values |= {"tasks_per_node": max(1, gpus) // nodes, "gpus_per_node": gpus // nodes}
    values.setdefault("tasks_per_node", max(1, values.get("gpus_per_node", 0)))
    if values.get("signal_delay_s", 0) >= 60 * values.get("timeout_min", 60):
        raise ValueError(f"signal_s={values['signal_delay_s']} must be less than timeout_min={values['timeout_min']}")
    if cluster.executor != "slurm" and nodes > 1:
        raise ValueError(f"nodes={nodes}: cluster={cluster.executor} is one machine")
    if cluster.executor != "slurm" and values.get("setup"):
        raise ValueError(f"setup: cluster={cluster.executor} has the environment of the command; set it up before")
    return Cluster(cluster.executor, values, cluster.report), others


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
    if executor not in ("slurm", "local", "debug"):
        raise ValueError(f"{file}: cluster: {executor}; accepted are slurm, local, debug")
    return Cluster(executor, checked(content, str(file)), checked(report, f"{file}: report"))


def checked(given: dict[str, Any], where: str) -> dict[str, Any]:
    """The settings by submitit's names. ValueError names each one that is not accepted: a shell will read them."""
    values = {submitits_name(str(key)): value for key, value in given.items()}
    told = [f"{key}={value!r}: accepted is {what}" for key, value in values.items() if (what := accepted(key, value))]
    if told:
        raise ValueError(f"{where}: {'; '.join(told)}")
    return {key: int(value) if key in LEAST and value is not None else value for key, value in values.items()}


def accepted(key: str, value: Any) -> str:
    """What is accepted instead of the setting; "" where it is accepted itself."""
    if key not in NAMES:
        return "one of these: " + ", ".join(sorted({*NAMES, *SHORT, "report"} - {*SHORT.values()}))
    fits: object
    if key in LEAST:
        fits, what = re.fullmatch(r"\d+", str(value)) and int(value) >= LEAST[key], f"a whole number from {LEAST[key]}"
    elif key in LINES:
        fits, what = type(value) is list and all(type(line) is str for line in value), "a list of lines of shell"
    elif key in ONE_LINE:
        fits, what = not isinstance(value, dict | list) and str(value).isprintable(), "one value, on one line"
    else:
        options = value if isinstance(value, dict) else {"": ""}
        fits = all(re.fullmatch(OPTION, f"{key}") and f"{text}".isprintable() for key, text in options.items())
        what = "what the sweep does not set itself, by its long name and on one line: mail-type=END"
    return "" if fits or value is None else what


def submitits_name(key: str) -> str:
    """Parameter of submitit that a key of a file, or of a word, names."""
    return SHORT.get(key, key.removeprefix("slurm_"))
