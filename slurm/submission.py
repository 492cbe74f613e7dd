"""A submission: the runs that one command gives to submitit, in a folder of their own below the run records.

`<runs>/slurm/<name>/` holds sweep.json (what was asked for, which runs, their jobs), submitit's files and what the jobs
printed. sweep.json is written before anything is submitted, so that no job is without its description.
"""

import fnmatch
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import Timeout

from slurm.cluster import Cluster
from slurm.queue import ClusterError, Job
from xinggan.files import locked, write_atomically

PATIENCE_S = 180.0  # for another process that is submitting runs of the same folder


@dataclass
class Row:
    """One run of a submission, and its job."""

    run: str  # name of the folder of its record
    title: str = ""  # in tables
    words: list[str] = field(default_factory=list)  # of ablations.run
    trained: bool = True  # False for what has nothing to learn, such as the trivial references
    action: str = ""  # what the rules said: start, resume, retry, replace
    name: str = ""  # of the job array, unlike any other; "" as long as nobody was asked to take the run
    task: int = 0  # index in the array
    job: str = ""  # SLURM's number, such as 17_3
    cancelled: bool = False  # by slurm.cancel


@dataclass
class Submission:
    """What sweep.json holds."""

    runs_folder: Path  # of the run records
    cluster: Cluster
    study: str | None
    methods: str | None  # folder of methods of one's own
    directory: str  # where the command was given: relative paths among the words mean this
    everything: list[str]  # names of all runs that were asked for: what the report shows
    rows: list[Row]  # the runs that are submitted
    name: str = ""  # of its folder, in the order of time; "" before it is submitted
    series: str = ""  # the first of the submissions that carry on the same runs
    report: str = ""  # number of the job that builds the report

    @property
    def folder(self) -> Path:
        return self.runs_folder / "slurm" / self.name

    @property
    def report_name(self) -> str:
        return f"xg-{self.name}-report"

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
        """The last line that a job printed as an error, leaving out what SLURM's own commands add to it.

        "": the process that works off a submission on this machine.
        """
        path = self.folder / (f"{job}_0_log.err" if job else "local.log")
        lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
        printed = [line for line in lines if not line.startswith(("srun:", "slurmstepd:", "submitit "))]
        return (printed or [line for line in lines if "error" in line] or lines or [""])[-1]

    def report_state(self, jobs: list[Job]) -> tuple[str, str]:
        """State of the report, and where it is or what went wrong; "" where none was asked for, or taken."""
        for job in jobs:
            if job.name == self.report_name:
                return job.word, f"will be {self.page}"
        if not self.report:
            return "", ""
        if self.page.exists() and self.page.stat().st_mtime > (self.folder / "sweep.json").stat().st_mtime:
            return "finished", str(self.page)
        number = self.report if self.cluster.executor == "slurm" else ""
        return "failed", self.last_line(number) or f"its job {number} ended and printed nothing"

    def write(self) -> None:
        """Write sweep.json."""
        content = asdict(self) | {"runs_folder": ""}  # the folder may be moved
        write_atomically(self.folder / "sweep.json", json.dumps(content, indent=1) + "\n")


def read_submission(folder: Path | str) -> Submission:
    """The submission in this folder. Raises ValueError or OSError for one that cannot be read."""
    folder = Path(folder).absolute()
    content = json.loads((folder / "sweep.json").read_text())
    rows, cluster = [Row(**row) for row in content["rows"]], Cluster(**content["cluster"])
    return Submission(**content | {"runs_folder": folder.parents[1], "cluster": cluster, "rows": rows})


def submissions(runs_folder: Path) -> list[Submission]:
    """All submissions of these run records, oldest first."""
    found = []
    for path in sorted(runs_folder.glob("slurm/*/sweep.json")):
        with suppress(TypeError, KeyError):  # an older version of the suite wrote it
            found.append(read_submission(path.parent))
    return found


def latest_with(known: list[Submission], runs: list[str]) -> Submission | None:
    """The latest submission whose report shows all of these runs."""
    return next((one for one in reversed(known) if set(runs) <= set(one.everything)), None)


def submitted(runs_folder: Path, names: list[str]) -> tuple[list[Submission], list[str]]:
    """All submissions of these records, and the runs in them that fit one of the names, or every one without names:
    whole names, patterns, or the beginning of the hash at the end. Raises ValueError for what fits nothing."""
    known = submissions(runs_folder)
    if not known:
        raise ValueError(f"{runs_folder}: no sweep was submitted with its records there; --runs names another folder")
    runs = list(dict.fromkeys(row.run for submission in known for row in submission.rows))
    chosen: list[str] = [] if names else runs
    for name in (Path(name).name for name in names):
        by_hash = [run for run in runs if len(name) >= 4 and run.rpartition("-")[2].startswith(name)]
        if not (fitting := fnmatch.filter(runs, name) or by_hash):
            raise ValueError(f"{name}: fits none of the {len(runs)} submitted runs, such as {', '.join(runs[:6])}")
        chosen += fitting
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
