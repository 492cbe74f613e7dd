"""A submission: the runs that one command gave to SLURM, in a folder of their own below the run records.

`<runs>/slurm/<name>/` holds sweep.json (what was asked for, which runs, which job arrays), the scripts that SLURM got,
and what SLURM itself printed. It is written before anything is submitted, so that no job is without its description.
"""

import json
import secrets
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from slurm.cluster import Cluster
from slurm.controller import ClusterError, ask, largest_array, queue
from slurm.lock import SubmissionLock
from slurm.plan import PlannedRun
from slurm.rules import Action
from xinggan.files import write_atomically


@dataclass(frozen=True)
class Request:
    """What a command asked for, whichever part of it a submission carries out."""

    study: str | None
    methods: str | None  # folder of methods of one's own
    directory: str  # where the command was given: relative paths among the words mean this
    everything: list[dict]  # {run, title} of each run that was asked for: what the report shows
    series: str = ""  # the submission whose runs are carried on, if any


@dataclass
class JobArray:
    """Runs number `first` to `first + count - 1` of a submission; `identifier` is "" until SLURM has taken them."""

    name: str
    first: int
    count: int
    cluster: Cluster
    identifier: str = ""


@dataclass
class Submission:
    """What sweep.json holds."""

    runs_folder: Path
    name: str
    request: Request
    cluster: Cluster
    rows: list[dict]  # {run, title, words, trained, action} of each run that is submitted
    arrays: list[JobArray] = field(default_factory=list)
    report: str = ""  # identifier of the job that builds the report

    @property
    def folder(self) -> Path:
        return self.runs_folder / "slurm" / self.name

    @property
    def series(self) -> str:
        """The name of the first submission of a row of them that carry on the same runs."""
        return self.request.series or self.name

    @property
    def report_name(self) -> str:
        return f"xg-{self.name}-report"

    def write(self) -> None:
        """Write sweep.json."""
        content = asdict(self) | {"runs_folder": None}
        write_atomically(self.folder / "sweep.json", json.dumps(content, indent=1) + "\n")

    def array_of(self, index: int) -> JobArray:
        """The job array that row `index` belongs to."""
        return next(array for array in self.arrays if array.first <= index < array.first + array.count)


def lock_of(runs_folder: Path) -> SubmissionLock:
    """The lock under which is decided what of these run records is submitted."""
    return SubmissionLock(runs_folder / "slurm" / "lock")


def new_submission(
    runs_folder: Path, cluster: Cluster, chosen: Sequence[tuple[PlannedRun, Action]], request: Request
) -> Submission:
    """A submission of the chosen (run, action) pairs, trained ones first. Nothing is written yet."""
    now = datetime.now(UTC)
    name = f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}-{secrets.token_hex(2)}"  # in the order of time
    rows = [
        {"run": run.folder.name, "title": run.title, "words": run.words, "trained": run.trained, "action": action.value}
        for run, action in sorted(chosen, key=lambda pair: not pair[0].trained)
    ]
    return Submission(runs_folder.absolute(), name, request, cluster, rows)


def read_submission(folder: Path) -> Submission:
    """The submission in this folder. Raises ValueError or OSError for one that cannot be read."""
    content = json.loads((folder / "sweep.json").read_text())
    arrays = [JobArray(**array | {"cluster": Cluster(**array["cluster"])}) for array in content.pop("arrays")]
    content |= {"runs_folder": folder.absolute().parents[1], "cluster": Cluster(**content["cluster"])}
    content["request"] = Request(**content["request"])
    return Submission(**content, arrays=arrays)


def submissions(runs_folder: Path) -> list[Submission]:
    """All submissions of these run records, oldest first."""
    return [read_submission(path.parent) for path in sorted(runs_folder.glob("slurm/*/sweep.json"))]


def plan_arrays(submission: Submission, largest: int) -> None:
    """Divide the rows into job arrays: trained runs, and those that are not and need one process only."""
    trained = sum(row["trained"] for row in submission.rows)
    parts = [(0, trained, submission.cluster), (trained, len(submission.rows), submission.cluster.alone)]
    for begin, end, cluster in parts:
        for first in range(begin, end, largest):
            name = f"xg-{submission.name}-{len(submission.arrays)}"
            submission.arrays.append(JobArray(name, first, min(largest, end - first), cluster))


def submit(submission: Submission, lock: SubmissionLock, after: list[str], report: bool) -> None:
    """Give the submission's arrays to SLURM, then the report's job, which waits for them and for the jobs `after`.

    Raises ClusterError when SLURM takes no more; what it has taken until then stays, and is in sweep.json.
    """
    plan_arrays(submission, largest_array())
    submission.write()
    identifiers = []
    try:
        for array in submission.arrays:
            lock.check()
            path = submission.folder / f"{array.name}.sh"
            write_atomically(path, array_script(submission, array))
            array.identifier = _sbatch(submission, array.name, path, [f"--output={submission.folder}/%x-%a.out"])
            identifiers.append(array.identifier)
            submission.write()
    finally:
        if report and identifiers:
            path = submission.folder / "report.sh"
            write_atomically(path, report_script(submission))
            depends = f"--dependency=afterany:{':'.join([*identifiers, *after])}"
            output = f"--output={submission.folder}/%x.out"
            submission.report = _sbatch(submission, submission.report_name, path, [output, depends])
            submission.write()


def _sbatch(submission: Submission, name: str, script: Path, further: list[str]) -> str:
    """The new job's identifier. If sbatch gives no answer, the queue is asked whether it got the job nevertheless."""
    words = [f"--chdir={submission.request.directory}", *further, str(script)]
    try:
        return ask("sbatch", "--parsable", *words).strip().split(";")[0]
    except ClusterError:
        taken = [job.identifier.split("_")[0] for job in queue() if job.name == name]
        if taken:
            return taken[0]
        raise


def array_script(submission: Submission, array: JobArray) -> str:
    """What SLURM runs for each run of the array: the supervisor, which starts and watches `ablations.run`."""
    parallelism = f"%{array.cluster.array_parallelism}" if array.cluster.array_parallelism else ""
    own = {"array": f"0-{array.count - 1}{parallelism}", "signal": f"USR2@{array.cluster.signal_s}"}
    command = [sys.executable, "-m", "slurm.job", str(submission.folder), str(array.first)]
    return _script(array.name, array.cluster, own, command)


def report_script(submission: Submission) -> str:
    """What SLURM runs when all the runs have ended in one way or another."""
    command = [sys.executable, "-m", "slurm.report", str(submission.folder)]
    return _script(submission.report_name, submission.cluster.for_report, {}, command)


def _script(name: str, cluster: Cluster, own: dict[str, str], command: list[str]) -> str:
    options = {"job-name": name, **own, **cluster.options(), "open-mode": "append"}
    directives = [
        f"#SBATCH --{option}={value}" if value else f"#SBATCH --{option}" for option, value in options.items()
    ]
    suite = shlex.quote(str(Path(__file__).resolve().parents[1]))
    lines = ["#!/bin/bash", *directives, "#SBATCH --requeue", "", *cluster.setup]
    lines += [f"export PYTHONPATH={suite}${{PYTHONPATH:+:$PYTHONPATH}}", f"exec {shlex.join(command)}"]
    return "\n".join(lines) + "\n"
