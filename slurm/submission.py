"""A submission: the runs that one command gives to submitit, in a folder of their own below the run records.

`<runs>/slurm/<name>/` holds sweep.json (what was asked for, which runs, their jobs), submitit's files and what the jobs
printed. sweep.json is written before anything is submitted, so that no job is without its description.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from slurm.settings import Cluster
from xinggan.files import write_atomically

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
            with FileLock(self.folder / "local.lock", timeout=0):
                return False
        except Timeout:
            return True

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


@contextmanager
def submitting(runs_folder: Path) -> Iterator[None]:
    """Within it, this process alone decides what of these run records is submitted. Raises OSError after a while."""
    (runs_folder / "slurm").mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(runs_folder / "slurm" / ".lock", timeout=PATIENCE_S):
            yield
    except Timeout as error:
        raise OSError(f"another process is submitting runs of {runs_folder}. Wait for it, or end it") from error
