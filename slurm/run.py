"""One run of a sweep: its record, its attempts in jobs, its state at this moment, and what a sweep does in each state.

attempts.json in the run's folder lists the attempts; the last is open (`how` is null) while a job works on it.
"""

import fcntl
import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from ablations.record import RunRecord, now
from slurm.queue import ClusterError, Job, NoAccounting, endings, slurm_queue
from slurm.submission import Row, Submission
from xinggan.files import SUITE

TRIES = 3  # as many attempts may end at one step without a new checkpoint
COUNTED = ("failed", "killed", "lost", "timed out")  # ends that count as a try; a preemption does not

MODES = ("sweep", "retry", "replace", "rescue")  # the usual command, --retry, --replace, and the report's job
# resume goes on from the last checkpoint, retry does so after a failure, replace puts the record aside and starts anew
RULES = {
    #                sweep     retry     replace    rescue
    "new":         ("start",  "start",  "start",   "start"),   # there is no record of it
    "queued":      ("skip",   "skip",   "skip",    "skip"),    # waiting for its first job, or for the next one
    "held":        ("skip",   "skip",   "skip",    "skip"),    # in the queue until a person releases it
    "running":     ("skip",   "skip",   "skip",    "skip"),
    "elsewhere":   ("skip",   "skip",   "skip",    "skip"),    # worked on by a process outside the queue
    "interrupted": ("resume", "resume", "replace", "resume"),  # begun, and no job is left; or its metrics.json is gone
    "cancelled":   ("resume", "resume", "replace", "skip"),    # by slurm.cancel or scancel
    "failed":      ("skip",   "retry",  "replace", "skip"),
    "failed, code changed": ("retry", "retry", "replace", "skip"),  # since then: worth another try
    "finished":    ("skip",   "skip",   "replace", "skip"),
}  # fmt: skip


@dataclass
class Run:
    """A row of a submission, and what is known of its run."""

    submission: Submission  # the latest one that it is in
    row: Row
    state: str = "new"  # a key of RULES
    job: Job | None = None  # in the queue
    end: tuple[str, str] = ("", "")  # of a job that left the run undone: SLURM's word and the node, where known
    note: str = ""  # why that is not known

    def __post_init__(self) -> None:
        self.name = self.row.run
        self.folder = self.submission.runs_folder / self.name
        self.record = RunRecord(self.folder)

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """All attempts, oldest first; [] for a run that never was in a job."""
        return self.record.read("attempts.json", [])

    @property
    def open(self) -> bool:
        """Whether the last attempt has no end yet."""
        return [attempt["how"] for attempt in self.attempts][-1:] == [None]

    @property
    def saved_step(self) -> int:
        """The step of the newest checkpoint, 0 without any: what the next attempt goes on from."""
        names = (path.name for path in (self.folder / "checkpoint").glob("step-*.pt"))
        return max((int(name[5:13]) for name in names if re.fullmatch(r"step-\d{8}-.*\.pt", name)), default=0)

    @property
    def worked_on(self) -> bool:
        """Whether a living process holds the run's lock, which is left as it is."""
        try:
            with (self.folder / ".lock").open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # no run yet, or a file system without locks: `ablations.run` refuses it with the reason
            pass
        return False

    def begin_attempt(self, job: str, node: str = "") -> None:
        """Add an open attempt."""
        series, code = self.submission.series, code_version(self.submission.methods)
        facts = {"began": now(), "from_step": self.saved_step, "job": job, "node": node, "series": series, "code": code}
        self.record.write("attempts.json", [*self.attempts, facts | {"how": None}])

    def end_attempt(self, how: str, **facts: Any) -> None:
        """Close the last attempt: finished, failed, refused, busy, killed, lost, timed out, preempted or cancelled."""
        *earlier, last = self.attempts
        ended = last | {"ended": now(), "how": how, "step": self.saved_step, **facts}
        self.record.write("attempts.json", [*earlier, ended])

    def close_attempt(self, how: str = "", job: str = "") -> None:
        """Close an attempt that its job has left open: as `how`, or where that is not known as the record tells.

        `job` has ended: if it has begun no attempt, it died before it could, which is added: it is a try, too.
        """
        if job and not self.record.finished and not any(attempt["job"] == job for attempt in self.attempts):
            self.begin_attempt(job)
        if self.open:
            saved = self.record.status.get("state") == "preempted"
            how = how or ("preempted" if saved else "lost")
            how = "finished" if self.record.finished else "cancelled" if self.row.cancelled else how
            self.end_attempt(how, unwarned=how == "preempted" and not saved)

    def verdict(self) -> str | None:
        """None for a run that needs a further attempt; else "finished", "cancelled", or why it has failed.

        A failure is written into the record.
        """
        if self.record.finished:
            return "finished"
        if self.row.cancelled:
            return "cancelled"
        reason = given_up([one for one in self.attempts if one["series"] == self.submission.series])
        error = self.record.status.get("error") or ""
        if reason and not error.startswith(reason):
            self.record.note(state="failed", run_id=self.name, error="\n".join(filter(None, [reason, error])))
        return reason

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
            return (self.record.status.get("error") or "").strip().rpartition("\n")[2]
        if last.get("unwarned"):
            return "preempted without a warning in which to save: SLURM needs preempt_send_user_signal and a GraceTime"
        how = last.get("how") or "finished"
        return self.job_end or (f"{how} at step {last['step']}" if how != "finished" else "")

    @property
    def job_end(self) -> str:
        """How its last job ended, and the last line that it printed as an error, where the record does not tell."""
        if self.job or self.state not in ("new", "interrupted"):
            return ""
        (end, node), line = self.end, self.submission.last_line(self.row.job)
        if end in ("", "COMPLETED") and (self.attempts or not line):
            return ""
        job = f"job {self.row.job}" if self.row.job else "the process on this machine"
        return f"{job} ended{end and f' as {end}'}{node and f' on {node}'}{line and f': {line}'}"


def given_up(attempts: list[dict[str, Any]]) -> str | None:
    """The reason to end the run as failed after these attempts; None where another attempt may help."""
    last = attempts[-1] if attempts else {"how": None}
    if last["how"] == "refused":
        return last.get("said") or "refused"
    tries = [one["how"] for one in attempts if one["how"] in COUNTED and one["step"] == last.get("step")]
    if last["how"] not in COUNTED or len(tries) < TRIES:
        return None
    advice = ""
    if set(tries) == {"timed out"}:
        advice = ". The time limit is too short for anything to be saved: raise timeout_min or signal_s"
    elif "killed" in tries:
        advice = ". What is killed without a traceback often had too little memory: raise mem_gb"
    return f"{len(tries)} attempts ended at step {last['step']} ({', '.join(tries)}){advice}"


def code_version(methods: str | None) -> str:
    """A digest of the suite's code and of the user's own methods: after a change, a failed run is tried again."""
    digest = sha256()
    folders = [SUITE / "xinggan", SUITE / "baselines", SUITE / "ablations", *([Path(methods)] if methods else [])]
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*.*") if path.suffix in (".py", ".yaml")):
            digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def jobs_of(known: list[Submission], slurm: bool = False) -> tuple[list[Job], ClusterError | None]:
    """Jobs that wait and run here and in SLURM, which is asked once, if anything went there or if `slurm`; and why
    those of SLURM are not known."""
    jobs: list[Job] = []
    for submission in known:
        if submission.cluster.executor == "local" and submission.alive:
            queue = [job for row in submission.rows if (job := job_here(Run(submission, row)))]
            report = Job(submission.report_name, 0, "", "PENDING" if queue else "RUNNING", reason="its turn")
            jobs += [*queue, report] if submission.report else queue
    try:
        if slurm or any(submission.cluster.executor == "slurm" for submission in known):
            jobs += slurm_queue()
    except ClusterError as error:
        return jobs, error
    return jobs, None


def job_here(run: Run) -> Job | None:
    """The job of a run in a queue of this machine."""
    row, last = run.row, (run.attempts or [{}])[-1]
    own = last.get("series") == run.submission.series  # else of an earlier submission, whose process is gone
    if own and run.open:
        return Job(row.name, row.task, last["job"], "RUNNING", last["node"])
    settled = run.record.finished or row.cancelled or (own and run.record.status.get("state") == "failed")
    return None if settled else Job(row.name, row.task, "", "PENDING", reason="its turn")


def observe(names: list[str], known: list[Submission], jobs: list[Job], new: Submission | None = None) -> list[Run]:
    """These runs with their states, given all submissions, oldest first, and what is in the queue.

    A run that is in none of the submissions belongs to `new`. Accounting is asked once, if something is unclear.
    """
    latest = {row.run: (submission, row) for submission in known for row in submission.rows}
    waiting = {(job.name, job.task): job for job in jobs}
    version = cache(code_version)
    runs = [Run(*latest.get(name, (new or known[-1], Row(name)))) for name in names]
    for run in runs:
        run.job = waiting.get((run.row.name, run.row.task))
        recorded, last = run.record.status.get("state"), (run.attempts or [{}])[-1]
        if run.job is not None:
            run.state = run.job.word
        elif run.record.finished:
            run.state = "finished"
        elif recorded == "failed":
            same = last.get("code") == version(run.submission.methods)
            run.state = "failed" if same else "failed, code changed"
        elif recorded and run.worked_on:
            run.state = "elsewhere"
        elif run.row.cancelled or last.get("how") == "cancelled":
            run.state = "cancelled"
        elif recorded or run.attempts:
            run.state = "interrupted"
    ask_accounting([run for run in runs if run.state in ("new", "interrupted") and run.row.job])
    return runs


def ask_accounting(runs: list[Run]) -> None:
    """Add how the last job of each of these runs ended, or why that is not known; cancelled ones are told by it."""
    ends, note = dict[str, tuple[str, str]](), ""
    try:
        ends = endings(run.row.job for run in runs) if runs else {}
    except NoAccounting as error:
        note = str(error)
    for run in runs:
        run.note, run.end = note, ends.get(run.row.job, ("", ""))
        run.state = "cancelled" if run.end[0] == "CANCELLED" else run.state
