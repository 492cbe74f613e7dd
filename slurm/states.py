"""The state of each run, from its record, the queue and accounting together, and what a sweep does in each state."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.attempts import code_version, is_worked_on, read_attempts
from ablations.record import RunRecord
from slurm.queue import Job, NoAccounting, endings, slurm_queue
from slurm.submission import Submission

MODES = ("sweep", "retry", "replace", "rescue")  # the usual command, --retry, --replace, and the report's job
# resume goes on from the last checkpoint, retry does so after a failure, replace puts the record aside and starts anew
RULES = {
    #                sweep     retry     replace    rescue
    "new":         ("start",  "start",  "start",   "start"),   # there is no record of it
    "queued":      ("skip",   "skip",   "skip",    "skip"),    # waiting for its first job, or for the next one
    "held":        ("skip",   "skip",   "skip",    "skip"),    # in the queue until a person releases it
    "running":     ("skip",   "skip",   "skip",    "skip"),
    "elsewhere":   ("skip",   "skip",   "skip",    "skip"),    # worked on by a process outside the queue
    "interrupted": ("resume", "resume", "replace", "resume"),  # begun, and no job is left
    "cancelled":   ("resume", "resume", "replace", "skip"),    # by slurm.cancel or scancel
    "failed":      ("skip",   "retry",  "replace", "skip"),
    "failed, code changed": ("retry", "retry", "replace", "skip"),  # since then: worth another try
    "unscored":    ("resume", "resume", "replace", "resume"),  # trained, but its metrics.json was deleted
    "finished":    ("skip",   "skip",   "replace", "skip"),
}  # fmt: skip


@dataclass
class RunState:
    """What is known of a run at this moment."""

    folder: Path  # of the record
    state: str  # a key of RULES
    status: dict[str, Any]  # status.json
    attempts: list[dict[str, Any]]
    submission: Submission | None  # the latest one that it is in
    row: dict[str, Any]  # its row there
    job: Job | None  # in the queue
    ended: str = ""  # how its last job ended, where the record does not tell
    note: str = ""

    @property
    def run(self) -> str:
        return self.folder.name

    def action(self, mode: str) -> str:
        """What the rules say."""
        return RULES[self.state][MODES.index(mode)]

    @property
    def error(self) -> str:
        """One line of what went wrong, if the run is not well."""
        last = self.attempts[-1] if self.attempts else {}
        if self.state in ("finished", "running", "elsewhere"):
            return ""
        if self.state == "held" and self.job:
            return f"{self.job.reason}: scontrol release {self.job.identifier}"
        if self.state.startswith("failed"):
            return (self.status.get("error") or "").strip().rpartition("\n")[2]
        if last.get("unwarned"):
            return "preempted without a warning in which to save: SLURM needs preempt_send_user_signal and a GraceTime"
        return self.ended or (
            f"{last['how']} at step {last['step']}" if last.get("how") not in (None, "finished") else ""
        )


def jobs_of(known: list[Submission], slurm: bool = False) -> list[Job]:
    """Jobs that wait and run: SLURM is asked once, if anything went there, or if `slurm`. Raises ClusterError."""
    jobs = slurm_queue() if slurm or any(one.cluster.executor == "slurm" for one in known) else []
    for submission in known:
        if submission.cluster.executor == "local" and submission.alive:
            own = [job for row in submission.rows if (job := _local_job(submission, row))]
            last = Job(submission.report_name, 0, "", "PENDING" if own else "RUNNING", reason="its turn")
            jobs += [*own, last] if submission.report else own
    return jobs


def _local_job(submission: Submission, row: dict) -> Job | None:
    """The job of a run in a queue of this machine."""
    folder = submission.runs_folder / row["run"]
    last = (read_attempts(folder) or [{"how": ""}])[-1]
    if last["how"] is None:
        return Job(row["name"], row["task"], last["job"], "RUNNING", last["node"])
    failed = RunRecord(folder).status.get("state") == "failed" and last.get("series") == submission.series
    settled = failed or RunRecord(folder).finished or row.get("cancelled")
    return None if settled else Job(row["name"], row["task"], "", "PENDING", reason="its turn")


def states_of(runs_folder: Path, runs: list[str], known: list[Submission], jobs: list[Job]) -> list[RunState]:
    """The state of each of these runs, given all submissions, oldest first, and what is in the queue."""
    latest = {row["run"]: (submission, row) for submission in known for row in submission.rows}
    waiting: dict[Any, Job] = {(job.name, job.task): job for job in jobs}
    codes: dict[str | None, str] = {}
    found = []
    for run in runs:
        record, attempts = RunRecord(runs_folder / run), read_attempts(runs_folder / run)
        submission, row = latest.get(run, (None, {}))
        job, recorded = waiting.get((row.get("name"), row.get("task"))), record.status.get("state")
        if job is not None:
            word = job.word
        elif recorded == "finished":
            word = "finished" if record.finished else "unscored"
        elif recorded == "failed":
            methods = submission.methods if submission else None
            codes[methods] = codes.get(methods) or code_version(methods)
            word = "failed" if attempts and attempts[-1].get("code") == codes[methods] else "failed, code changed"
        elif recorded and is_worked_on(runs_folder / run):
            word = "elsewhere"
        elif row.get("cancelled") or (attempts and attempts[-1]["how"] == "cancelled"):
            word = "cancelled"
        else:
            word = "interrupted" if recorded or attempts else "new"
        found.append(RunState(runs_folder / run, word, record.status, attempts, submission, row, job))
    unclear = [state for state in found if state.state in ("new", "interrupted") and state.row.get("job")]
    ended: dict[str, tuple[str, str]] = {}
    try:
        ended = endings([state.row["job"] for state in unclear]) if unclear else {}
    except NoAccounting as error:
        for state in unclear:
            state.note = str(error)
    for state in unclear:
        name, (end, node) = state.row["job"], ended.get(state.row["job"], ("", ""))
        said = last_line(state.submission, name)
        if end == "CANCELLED":
            state.state = "cancelled"
        elif end not in ("", "COMPLETED") or (said and not state.attempts):
            state.ended = f"job {name} ended{end and f' as {end}'}{node and f' on {node}'}{said and f': {said}'}"
    return found


def last_line(submission: Submission | None, job: str) -> str:
    """The last line that a job printed as an error, leaving out what SLURM's own commands add to it."""
    path = (submission.folder if submission else Path()) / f"{job}_0_log.err"
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    own = [line for line in lines if not line.startswith(("srun:", "slurmstepd:", "submitit "))]
    return (own or [line for line in lines if "error" in line] or lines or [""])[-1]


def report_of(submission: Submission, jobs: list[Job]) -> tuple[str, str]:
    """State of a submission's report, and where it is or what went wrong; "" where none was asked for."""
    job = next((job for job in jobs if job.name == submission.report_name), None)
    if job is not None:
        return job.word, f"will be {submission.page}"
    if not submission.report:
        return "", ""
    if (
        submission.page.exists()
        and submission.page.stat().st_mtime > (submission.folder / "sweep.json").stat().st_mtime
    ):
        return "finished", str(submission.page)
    return "failed", last_line(submission, submission.report) or f"job {submission.report} ended without a word"
