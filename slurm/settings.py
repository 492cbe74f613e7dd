"""What a run asks for: submitit's parameters, from a file of conf/ or one of your own, and words such as `gpus=4`.

A key is a parameter of submitit, with or without its prefix `slurm_`, or one of the words in SHORT. What submitit has
no name for is an option of sbatch: `sbatch: {reservation: deadline}`, or as a word `sbatch.reservation=deadline`.
"""

import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CONF = Path(__file__).parent / "conf"
SHORT = {"cpus": "cpus_per_task", "signal_s": "signal_delay_s", "sbatch": "additional_parameters"}
LEAST = dict.fromkeys(("nodes", "tasks_per_node", "cpus_per_task", "mem_gb", "timeout_min", "signal_delay_s"), 1)
LEAST |= {"array_parallelism": 1, "gpus": 0, "gpus_per_node": 0}
SWEEPS_OWN = r"array|chdir|dependency|error|job-name|(no-)?requeue|open-mode|output|signal"  # options of sbatch


@dataclass
class Cluster:
    """Where runs are executed, and with which of submitit's parameters (by their names without `slurm_`)."""

    executor: str = "slurm"  # or submitit's others: local, debug
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
        elif _name(key) in parameters():
            changes[key] = value
        else:
            others.append(word)
    cluster, changes = known or _read_file(name), checked(changes, "the command's words")
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
    return Cluster(cluster.executor, values, cluster.report), others


def _read_file(name: str) -> Cluster:
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


def parameters() -> dict[str, str]:
    """Every accepted setting -> the parameter of submitit's AutoExecutor that it sets."""
    from submitit import AutoExecutor
    from submitit.slurm.slurm import SlurmExecutor

    shared = AutoExecutor._valid_parameters() - {"name", "stderr_to_stdout"}
    ours = {*SlurmExecutor._equivalence_dict().values(), "num_gpus", "dependency", "srun_args", "use_srun"}
    of_slurm = SlurmExecutor._valid_parameters() - ours - shared | {"python", "max_num_timeout"}
    return {"gpus": ""} | {name: name for name in shared} | {name: f"slurm_{name}" for name in of_slurm}


def checked(given: dict[str, Any], where: str) -> dict[str, Any]:
    """The settings by submitit's names. ValueError names each one that is not accepted: a shell will read them."""
    values = {_name(str(key)): value for key, value in given.items()}
    told = [f"{key}={value!r}: accepted is {what}" for key, value in values.items() if (what := _accepted(key, value))]
    if told:
        raise ValueError(f"{where}: {'; '.join(told)}")
    return {key: int(value) if key in LEAST and value is not None else value for key, value in values.items()}


def _accepted(key: str, value: Any) -> str:
    """What is accepted instead of the setting; "" where it is accepted itself."""
    if key not in parameters():
        return "one of these: " + ", ".join(sorted({*parameters(), *SHORT, "report"} - {*SHORT.values()}))
    if value is None:
        return ""
    if key in LEAST:
        fits = re.fullmatch(r"\d+", str(value)) and int(value) >= LEAST[key]
        return "" if fits else f"a whole number from {LEAST[key]}"
    if key in ("setup", "teardown"):
        fits = isinstance(value, list) and all(isinstance(line, str) for line in value)
        return "" if fits else "a list of lines of shell"
    if key == "additional_parameters":
        options = value if isinstance(value, dict) else {"": value}
        fits = all(
            re.fullmatch("[a-z][a-z0-9-]*", str(name)) and str(text).isprintable() for name, text in options.items()
        )
        fits = fits and not any(re.fullmatch(SWEEPS_OWN, name) for name in options)
        return "" if fits else "what the sweep does not set itself, by its long name and on one line: mail-type=END"
    return "" if str(value).isprintable() and not isinstance(value, dict | list) else "one value, on one line"


def _name(key: str) -> str:
    return SHORT.get(key, key.removeprefix("slurm_"))
