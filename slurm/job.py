"""A run's life on the cluster: what a task of the job array does, from the record as it finds it to the next job.

The run is `ablations.run` below srun. Told by SLURM to leave, at a preemption or shortly before the time limit, it
saves and ends with status 75; then, and after a crash, this supervisor puts its own job back into the queue, where it
goes on in the same folder. After three failures at the same step it leaves the run as failed.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import IO

from ablations.record import RunRecord
from ablations.run import PREEMPTED
from slurm.attempts import begin_attempt, code_version, end_attempt, given_up, is_open, read_attempts
from slurm.controller import ClusterError, Job, NoAccounting, ask, endings, queue, seconds
from slurm.submission import Submission, read_submission

LOG = "slurm.log"  # in the run's folder: all attempts, one after another
BUSY_S = 60.0  # how long to wait for a process that still works on the run
REFUSED = 2
STOPPING = (signal.SIGTERM, signal.SIGUSR2)


def main(arguments: list[str]) -> int:
    """`FOLDER FIRST`: work on row FIRST + SLURM_ARRAY_TASK_ID of the submission. 0: finished or to be continued."""
    submission = read_submission(Path(arguments[0]))
    row = submission.rows[int(arguments[1]) + int(os.environ["SLURM_ARRAY_TASK_ID"])]
    folder = submission.runs_folder / row["run"]
    job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    folder.mkdir(parents=True, exist_ok=True)
    for number in STOPPING:
        signal.signal(number, _stay)
    with (folder / LOG).open("a", buffering=1) as log:
        if not wait_until_free(folder):
            return requeue(job, log, f"another process still works on the run after {BUSY_S:g} s")
        close_lost(folder, job)
        if RunRecord(folder).finished:
            return 0
        if reason := given_up(_of_series(folder, submission.series)):
            return give_up(folder, reason, log)
        attempt(submission, row, folder, job, log)
        if RunRecord(folder).finished:
            return 0
        if (reason := given_up(read_attempts(folder))) is not None:
            return give_up(folder, reason, log)
        how = read_attempts(folder)[-1]["how"]
        return 0 if how == "cancelled" else requeue(job, log, how)


def attempt(submission: Submission, row: dict, folder: Path, job: str, log: IO) -> None:
    """Run once, and write down how it ended."""
    before = RunRecord(folder).status.get("attempts", 0)
    node = os.environ.get("SLURMD_NODENAME", socket.gethostname())
    begin_attempt(folder, job=job, node=node, series=submission.series, code=code_version(submission.request.methods))
    print(f"--- attempt {len(read_attempts(folder))}: job {job} on {node}", file=log)
    words = ["--methods", submission.request.methods, *row["words"]] if submission.request.methods else row["words"]
    command = ["srun", "--kill-on-bad-exit=1", f"--cpus-per-task={submission.cluster.cpus}"]
    command += [sys.executable, "-m", "slurm.process", *words]
    code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | _meeting_place()).returncode
    status = RunRecord(folder).status
    state = status.get("state") if status.get("attempts", 0) > before else None
    end_attempt(folder, how_ended(state, code, job, submission.cluster.signal_s), exit=code)


def how_ended(state: str | None, code: int, job: str, signal_s: int) -> str:
    """How an attempt ended, by the record that it wrote (None: it came to none), srun's exit status, and the queue."""
    if state == "finished":
        return "finished"
    asked_to_leave = code == PREEMPTED or code - 128 in STOPPING  # a signal may come before Python can save
    if state == "preempted" or (state in (None, "running") and asked_to_leave):
        return _why_told_to_leave(job, signal_s)
    if state is None and code == REFUSED:
        return "refused"
    return "failed" if state == "failed" or code == 1 else "killed"


def _why_told_to_leave(identifier: str, signal_s: int) -> str:
    """preempted, timed out, or cancelled: then the queue does not hold the job as running any more."""
    try:
        job = next((job for job in queue() if job.identifier == identifier), None)
    except ClusterError:
        return "preempted"
    if job is None or job.state in ("COMPLETING", "CANCELLED"):
        return "cancelled"
    return "timed out" if is_near_limit(job, signal_s) else "preempted"


def is_near_limit(job: Job, signal_s: int) -> bool:
    """Whether the job has used its time up to the warning, which SLURM may send a minute earlier than asked for."""
    return seconds(job.used) + signal_s + 60 >= seconds(job.limit)


def close_lost(folder: Path, job: str) -> None:
    """Close an attempt that died together with its supervisor, with what accounting knows of its end."""
    attempts = read_attempts(folder)
    if not is_open(attempts):
        return
    lost = attempts[-1]["job"]
    try:
        state = endings([lost], repeated=True).get(lost, ("", ""))[0]
    except (NoAccounting, ClusterError):  # who was put back into the queue without asking was preempted
        state = "PREEMPTED" if lost == job and "SLURM_RESTART_COUNT" in os.environ else ""
    hows = {"PREEMPTED": "preempted", "REQUEUED": "preempted", "TIMEOUT": "timed out", "CANCELLED": "cancelled"}
    end_attempt(folder, hows.get(state, "lost"), slurm=state)


def wait_until_free(folder: Path) -> bool:
    """Whether nobody works on the run any more: what a job left behind on its node may still be saving."""
    deadline = time.monotonic() + BUSY_S
    while is_worked_on(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def is_worked_on(folder: Path) -> bool:
    """Whether a living process on this machine holds the run's lock (see ablations.record)."""
    try:
        with (folder / ".lock").open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def requeue(job: str, log: IO, why: str) -> int:
    """Put this job back into the queue; SLURM ends it here."""
    print(f"--- {why}: to be continued", file=log)
    try:
        ask("scontrol", "requeue", job)
    except ClusterError as error:  # the report's job, or the same sweep again, carries on
        print(f"--- not put back into the queue: {error}", file=log)
        return PREEMPTED
    return 0


def give_up(folder: Path, reason: str, log: IO) -> int:
    """Leave the run as failed, with what its own record said before."""
    record = RunRecord(folder)
    said = (folder / LOG).read_text(errors="replace").strip().splitlines()[-1:] if not record.status else []
    record.note(state="failed", run_id=folder.name, error="\n".join([reason, *said, record.status.get("error") or ""]))
    print(f"--- failed. {reason}", file=log)
    return 1


def _of_series(folder: Path, series: str) -> list[dict]:
    return [attempt for attempt in read_attempts(folder) if attempt.get("series") == series]


def _meeting_place() -> dict[str, str]:
    """A port on this machine, where the first process runs, at which several processes find one another."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return {"MASTER_PORT": str(probe.getsockname()[1])}


def _stay(number: int, frame: FrameType | None) -> None:
    """The run gets SLURM's signals itself; the supervisor waits for it to end."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
