"""A submission: the runs that one command gives to submitit, in a folder of their own below the run records.

`<runs>/slurm/<name>/` holds sweep.json (what was asked for, which runs, their jobs), submitit's files and what the jobs
printed. sweep.json is written before anything is submitted, so that no job is without its description.
"""

import fnmatch
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import Timeout

from slurm.cluster import Cluster
from slurm.queue import ClusterError, Job
from xinggan.files import locked, write_atomically

PATIENCE_S = 180.0  # for another process that is submitting runs of the same folder


@dataclass
class Submission:
    """What sweep.json holds."""

    folder: Path
    cluster: Cluster
    study: str | None
    methods: str | None  # folder of methods of one's own
    directory: str  # where the command was given: relative paths among the words mean this
    everything: list[str]  # names of all runs that were asked for: what the report shows
    rows: list[dict]  # {run, title, words, trained} of each submitted run; its job's name, task, number; cancelled
    series: str = ""  # the first of the submissions that carry on the same runs
    report: str = ""  # number of the job that builds the report

    @property
    def runs_folder(self) -> Path:
        return self.folder.parents[1]

    @property
    def report_name(self) -> str:
        return f"xg-{self.folder.name}-report"

    @property
    def page(self) -> Path:
        """Where the report is or will be."""
        return self.runs_folder.parent / "report" / (self.study or self.series) / "index.html"

    @property
    def alive(self) -> bool:
        """Whether a process works off the queue of a submission with cluster=local."""
        try:
            with locked(self.folder / "local.lock", wait_s=0):
                return False
        except Timeout:
            return True

    def last_line(self, job: str) -> str:
        """The last line that a job printed as an error, leaving out what SLURM's own commands add to it."""
        path = self.folder / f"{job}_0_log.err"
        lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
        own = [line for line in lines if not line.startswith(("srun:", "slurmstepd:", "submitit "))]
        return (own or [line for line in lines if "error" in line] or lines or [""])[-1]

    def report_state(self, jobs: list[Job]) -> tuple[str, str]:
        """State of the report, and where it is or what went wrong; "" where none was asked for."""
        for job in jobs:
            if job.name == self.report_name:
                return job.word, f"will be {self.page}"
        if not self.report:
            return "", ""
        if self.page.exists() and self.page.stat().st_mtime > (self.folder / "sweep.json").stat().st_mtime:
            return "finished", str(self.page)
        return "failed", self.last_line(self.report) or f"job {self.report} ended without a word"

    def write(self) -> None:
        """Write sweep.json."""
        write_atomically(self.folder / "sweep.json", json.dumps(asdict(self) | {"folder": ""}, indent=1) + "\n")


def read_submission(folder: Path | str) -> Submission:
    """The submission in this folder. Raises ValueError or OSError for one that cannot be read."""
    folder = Path(folder).absolute()
    content = json.loads((folder / "sweep.json").read_text())
    return Submission(**content | {"folder": folder, "cluster": Cluster(**content["cluster"])})


def submissions(runs_folder: Path) -> list[Submission]:
    """All submissions of these run records, oldest first."""
    found = []
    for path in sorted(runs_folder.glob("slurm/*/sweep.json")):
        with suppress(TypeError, KeyError):  # an older version of the suite wrote it
            found.append(read_submission(path.parent))
    return found


def submitted(runs_folder: Path, names: list[str]) -> tuple[list[Submission], list[str]]:
    """All submissions of these records, and the runs in them that fit one of the names, or every one without names:
    whole names, patterns, or the beginning of the hash at the end. Raises ValueError for what fits nothing."""
    known = submissions(runs_folder)
    if not known:
        raise ValueError(f"{runs_folder}: no sweep was submitted with its records there; --runs names another folder")
    runs = list(dict.fromkeys(row["run"] for submission in known for row in submission.rows))
    chosen: list[str] = [] if names else runs
    for name in (Path(name).name for name in names):
        begun = [run for run in runs if len(name) >= 4 and run.rpartition("-")[2].startswith(name)]
        if not (hits := fnmatch.filter(runs, name) or begun):
            raise ValueError(f"{name}: fits none of the {len(runs)} submitted runs, such as {', '.join(runs[:6])}")
        chosen += hits
    return known, list(dict.fromkeys(chosen))


@contextmanager
def submitting(runs_folder: Path) -> Iterator[None]:
    """Within it, this process alone decides what of these run records is submitted. Raises ClusterError otherwise."""
    (runs_folder / "slurm").mkdir(parents=True, exist_ok=True)
    try:
        with locked(runs_folder / "slurm" / ".lock", PATIENCE_S):
            yield
    except Timeout as error:
        raise ClusterError(f"another process is submitting runs of {runs_folder}. Wait for it, or end it") from error
