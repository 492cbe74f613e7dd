"""One run of a sweep: its record, its attempts in jobs, its state at this moment, and what a sweep does in each state.

attempts.json in the run's folder lists the attempts; the last is open (`how` is null) while a job works on it.
"""

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from ablations.environment import SUITE
from ablations.record import RunBusy, RunRecord, now
from slurm.queue import Job, NoAccounting, endings, slurm_queue
from slurm.submission import Submission

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
    "interrupted": ("resume", "resume", "replace", "resume"),  # begun, and no job is left
    "cancelled":   ("resume", "resume", "replace", "skip"),    # by slurm.cancel or scancel
    "failed":      ("skip",   "retry",  "replace", "skip"),
    "failed, code changed": ("retry", "retry", "replace", "skip"),  # since then: worth another try
    "unscored":    ("resume", "resume", "replace", "resume"),  # trained, but its metrics.json was deleted
    "finished":    ("skip",   "skip",   "replace", "skip"),
}  # fmt: skip


@dataclass
class Run:
    """A row of a submission, and what is known of its run."""

    submission: Submission  # the latest one that it is in
    row: dict[str, Any]
    state: str = "new"  # a key of RULES
    job: Job | None = None  # in the queue
    ended: str = ""  # how its last job ended, where the record does not tell
    note: str = ""

    def __post_init__(self) -> None:
        self.name: str = self.row["run"]
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
        """Whether a living process holds the run's lock."""
        try:
            if self.folder.is_dir():
                with self.record:
                    pass
        except RunBusy:
            return True
        except OSError:  # a file system without locks: `ablations.run` refuses it with the reason
            pass
        return False

    def begin_attempt(self, job: str, node: str = "") -> None:
        """Add an open attempt."""
        series, code = self.submission.series, code_version(self.submission.methods)
        begun = {"began": now(), "from_step": self.saved_step, "job": job, "node": node, "series": series, "code": code}
        self.record.write("attempts.json", [*self.attempts, begun | {"how": None}])

    def end_attempt(self, how: str, **facts: Any) -> None:
        """Close the last attempt as finished, failed, refused, killed, lost, timed out, preempted or cancelled."""
        *earlier, last = self.attempts
        ended = last | {"ended": now(), "how": how, "step": self.saved_step, **facts}
        self.record.write("attempts.json", [*earlier, ended])

    def settle(self, how: str = "", job: str = "") -> str | None:
        """Close the attempt that the last job has left open: as `how`, or as the record tells where that is not known.

        Returns "finished", "cancelled", or why the run has failed; None for a run that needs a further attempt. `job`
        has ended: without an attempt it died before it could begin one, which is a try, too.
        """
        record, cancelled = self.record, self.row.get("cancelled")
        if job and not record.finished and not any(attempt["job"] == job for attempt in self.attempts):
            self.begin_attempt(job)
        if self.open:
            saved = record.status.get("state") == "preempted"
            how = how or ("preempted" if saved else "lost")
            how = "finished" if record.finished else "cancelled" if cancelled else how
            self.end_attempt(how, unwarned=how == "preempted" and not saved)
        if record.finished or cancelled:
            return "finished" if record.finished else "cancelled"
        reason = given_up([one for one in self.attempts if one["series"] == self.submission.series])
        error = record.status.get("error") or ""
        if reason and not error.startswith(reason):
            record.note(state="failed", run_id=self.name, error="\n".join(filter(None, [reason, error])))
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
        return self.ended or (f"{how} at step {last['step']}" if how != "finished" else "")


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


def jobs_of(known: list[Submission], slurm: bool = False) -> list[Job]:
    """Jobs that wait and run: SLURM is asked once, if anything went there, or if `slurm`. Raises ClusterError."""
    jobs = slurm_queue() if slurm or any(one.cluster.executor == "slurm" for one in known) else []
    for submission in known:
        if submission.cluster.executor == "local" and submission.alive:
            own = [job for row in submission.rows if (job := job_here(Run(submission, row)))]
            last = Job(submission.report_name, 0, "", "PENDING" if own else "RUNNING", reason="its turn")
            jobs += [*own, last] if submission.report else own
    return jobs


def job_here(run: Run) -> Job | None:
    """The job of a run in a queue of this machine."""
    row, last = run.row, (run.attempts or [{}])[-1]
    if run.open:
        return Job(row["name"], row["task"], last["job"], "RUNNING", last["node"])
    failed = run.record.status.get("state") == "failed" and last.get("series") == run.submission.series
    settled = failed or run.record.finished or row.get("cancelled")
    return None if settled else Job(row["name"], row["task"], "", "PENDING", reason="its turn")


def observe(names: list[str], known: list[Submission], jobs: list[Job], new: Submission | None = None) -> list[Run]:
    """These runs with their states, given all submissions, oldest first, and what is in the queue.

    A run that is in none of the submissions belongs to `new`. Accounting is asked once, if something is unclear.
    """
    latest = {row["run"]: (submission, row) for submission in known for row in submission.rows}
    waiting: dict[Any, Job] = {(job.name, job.task): job for job in jobs}
    version = cache(code_version)
    runs = [Run(*latest.get(name, (new or known[-1], {"run": name}))) for name in names]
    for run in runs:
        run.job = waiting.get((run.row.get("name"), run.row.get("task")))
        recorded, last = run.record.status.get("state"), (run.attempts or [{}])[-1]
        if run.job is not None:
            run.state = run.job.word
        elif recorded == "finished":
            run.state = "finished" if run.record.finished else "unscored"
        elif recorded == "failed":
            same = last.get("code") == version(run.submission.methods)
            run.state = "failed" if same else "failed, code changed"
        elif recorded and run.worked_on:
            run.state = "elsewhere"
        elif run.row.get("cancelled") or last.get("how") == "cancelled":
            run.state = "cancelled"
        elif recorded or run.attempts:
            run.state = "interrupted"
    ask_accounting([run for run in runs if run.state in ("new", "interrupted") and run.row.get("job")])
    return runs


def ask_accounting(runs: list[Run]) -> None:
    """Add how the last job of each of these runs ended, and which of them were cancelled."""
    ended, note = dict[str, tuple[str, str]](), ""
    try:
        ended = endings(run.row["job"] for run in runs) if runs else {}
    except NoAccounting as error:
        note = str(error)
    for run in runs:
        run.note, job = note, run.row["job"]
        end, node = ended.get(job, ("", ""))
        said = run.submission.last_line(job)
        if end == "CANCELLED":
            run.state = "cancelled"
        elif end not in ("", "COMPLETED") or (said and not run.attempts):
            run.ended = f"job {job} ended{end and f' as {end}'}{node and f' on {node}'}{said and f': {said}'}"
