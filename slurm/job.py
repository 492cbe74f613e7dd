"""What submitit executes on a node: one run, by `ablations.run` in a process of its own, and what comes after it.

Told by a signal to leave, at a preemption or shortly before the time limit, the run saves, and submitit puts its job
back into the queue, where the run goes on in the same folder. After a crash it goes on in the same job. Three failures
at the same step leave it as failed. The pickled callables hold words and paths only.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from submitit import JobEnvironment
from submitit.core.utils import DelayedSubmission
from submitit.helpers import TorchDistributedEnvironment

from ablations.attempts import SUITE, begin_attempt, code_version, end_attempt, given_up, is_worked_on, read_attempts
from ablations.record import RunRecord
from slurm.queue import ClusterError, endings, seconds, slurm_queue
from slurm.submission import Submission, read_submission

LOG = "slurm.log"  # in the run's folder: what all its attempts printed
POLL_S = 0.5
BUSY_S = 60.0  # how long a job of SLURM waits for a process that still works on the run
KILLED_S = 600.0  # within which SLURM ends a job that it has told to leave
LEFT = (75, -signal.SIGTERM, -signal.SIGUSR2)  # exit statuses of a process that was told to leave
# How an attempt ended that its job could not close, by the state of the job in accounting.
ENDS = {"PREEMPTED": "preempted", "REQUEUED": "preempted", "TIMEOUT": "timed out", "CANCELLED": "cancelled"}


class RunJob:
    """A job that works on one row of a submission."""

    child: subprocess.Popen | None = None  # ablations.run
    told = False  # by submitit's signal, to leave

    def __init__(self, folder: str, gpus: str = ""):
        self.folder, self.gpus = folder, gpus  # of the submission; for CUDA_VISIBLE_DEVICES on this machine

    def __call__(self, index: int) -> None:
        self.place, self.submission = JobEnvironment(), read_submission(self.folder)
        self.row = self.submission.rows[index]
        self.run = self.submission.runs_folder / self.row["run"]
        self.run.mkdir(parents=True, exist_ok=True)
        if self.place.cluster != "debug":
            signal.signal(signal.SIGTERM, self.leave)
        if self.place.global_rank:
            if (code := self.work()) not in (0, *LEFT):
                self.broken.write_text(f"process {self.place.global_rank} of the run ended with exit status {code}")
            return
        while (settled := self.settled()) is None:
            self.attempt()
            if self.place.num_tasks > 1 and self.settled() is None:  # all of them start again
                signal.raise_signal(getattr(signal, f"SIG{JobEnvironment.USR_SIG}"))
        sys.exit(0 if settled == "finished" else settled)

    def settled(self) -> str | None:
        """`settle`, once nobody works on the run any more: what a job left behind may still be saving."""
        deadline = time.monotonic() + (BUSY_S if self.place.cluster == "slurm" else float("inf"))
        while is_worked_on(self.run):
            if time.monotonic() > deadline:
                sys.exit(f"another process still works on {self.run.name} after {BUSY_S:g} s")
            time.sleep(POLL_S)
        return settle(self.submission, self.row)

    def attempt(self) -> None:
        """Run once, and write down how it ended."""
        node, before = os.environ.get("SLURMD_NODENAME", socket.gethostname()), RunRecord(self.run).status
        facts = {"series": self.submission.series, "code": code_version(self.submission.methods)}
        begin_attempt(self.run, job=self.place.job_id, node=node, **facts)
        with (self.run / LOG).open("a") as log:
            print(f"--- attempt {len(read_attempts(self.run))}: job {self.place.job_id} on {node}", file=log)
        start, code, self.child = (self.run / LOG).stat().st_size, self.work(), None
        state = RunRecord(self.run).status
        said = (self.run / LOG).read_bytes()[start:].decode(errors="replace").strip().splitlines() or [""]
        own = [line for line in said if line.startswith("ablations.run: ")]
        how = how_ended(state.get("state") if state.get("attempts") != before.get("attempts") else None, code)
        if self.broken.exists():
            own = [self.broken.read_text()]
            how = "failed" if own[0].endswith(" 1") else "killed"
        elif how == "refused" and is_worked_on(self.run):  # by a process that was faster
            how = "preempted"
        end_attempt(self.run, how, exit=code, said=(own or said)[-1])
        time.sleep(5 if how == "preempted" else 0)  # the signal that told it so may still come to this process

    def work(self) -> int:
        """Run `ablations.run` until it ends, or another process of the run has died; its exit status."""
        environment = suite_environment() | ({"CUDA_VISIBLE_DEVICES": self.gpus} if self.gpus else {})
        if "SLURM_CPUS_PER_TASK" in os.environ:
            environment.setdefault("OMP_NUM_THREADS", os.environ["SLURM_CPUS_PER_TASK"])
        if self.place.num_tasks > 1:
            several, before = TorchDistributedEnvironment(), dict(os.environ)
            several.master_addr = os.environ.get("SLURM_LAUNCH_NODE_IPADDR", several.master_addr)
            several.export(set_cuda_visible_devices=False, overwrite=True)
            environment |= {key: value for key, value in os.environ.items() if before.get(key) != value}
        restarts = os.environ.get("SLURM_RESTART_COUNT") or sum(
            one["how"] is not None for one in read_attempts(self.run)
        )
        self.broken = Path(self.folder) / f"{self.place.job_id}-{restarts}.broken"
        methods = ["--methods", self.submission.methods] if self.submission.methods else []
        command = [sys.executable, "-Pu", "-m", "ablations.run", "--alone", *methods, *self.row["words"]]
        with (self.run / LOG).open("a") as log:
            pipes = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            child = subprocess.Popen(command, env=environment, cwd=self.submission.directory, **pipes)
        self.child, self.codes = child, list[int]()
        threading.Thread(target=lambda: self.codes.append(child.wait()), daemon=True).start()
        while not self.codes and not self.broken.exists():
            time.sleep(POLL_S)
        return self.end_child(signal.SIGKILL)

    def end_child(self, number: int) -> int:
        """Signal the run and wait for its exit status; without a lock, because a handler may do so within `work`."""
        if self.child is not None and not self.codes:
            self.child.send_signal(number)
        while not self.codes:
            time.sleep(0.1)
        return self.codes[0]

    def checkpoint(self, index: int) -> DelayedSubmission:
        """submitit calls this when the job has to leave, and then puts it back into the queue."""
        self.told = True
        if self.child is not None:
            code = self.end_child(signal.SIGTERM)
            end_attempt(self.run, "finished" if RunRecord(self.run).finished else self.why_told(), exit=code)
            self.submission = read_submission(self.folder)  # slurm.cancel may have changed it
            if settled := settle(self.submission, self.submission.rows[index]):
                sys.exit(0 if settled == "finished" else settled)
        if self.place.cluster == "slurm" and not shutil.which("scontrol"):
            print("no scontrol on this node: SLURM itself requeues what it preempts; the report's job, or the same "
                  "sweep again, carries on what it does not", file=sys.stderr)  # fmt: skip
            time.sleep(KILLED_S if self.child else 0)
            sys.exit(1)
        return DelayedSubmission(RunJob(self.folder, self.gpus), index)

    def why_told(self) -> str:
        """timed out, where the queue says that little of the job's time is left; else preempted."""
        try:
            jobs = slurm_queue(f"--jobs={self.place.job_id}") if self.place.cluster == "slurm" else []
        except ClusterError:
            return "preempted"
        warning = self.submission.cluster.values.get("signal_delay_s", 90) + 60  # SLURM may send it a minute earlier
        late = all(seconds(job.used) + warning >= seconds(job.limit) for job in jobs)
        return "timed out" if late and (jobs or self.place.cluster != "slurm") else "preempted"

    def leave(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM: the run saves. SLURM kills the job then, and its accounting tells the next one why."""
        if self.told:
            return
        if self.child is not None:
            self.end_child(signal.SIGTERM)
        time.sleep(KILLED_S if self.place.cluster == "slurm" else 0)
        sys.exit("told to leave")


class ReportJob:
    """The job that comes last: see slurm.report. It has a process of its own, too."""

    def __init__(self, folder: str):
        self.folder = folder

    def __call__(self, _: int) -> None:
        command = [sys.executable, "-Pum", "slurm.report", self.folder]
        sys.exit(subprocess.run(command, env=suite_environment()).returncode)


def how_ended(state: str | None, code: int) -> str:
    """How an attempt ended, by the record that it wrote (None: it came to none) and its exit status."""
    if state in ("finished", "failed", "preempted"):
        return state
    if code in LEFT:
        return "preempted"
    return {1: "failed", 2: "failed" if state else "refused"}.get(code, "killed")


def settle(submission: Submission, row: dict, ended: str = "") -> str | None:
    """Close the attempt that the run's last job has left open, with what accounting knows of its end.

    Returns "finished", "cancelled", or why the run has failed; None for a run that needs a further attempt. `ended` is
    a job that has ended: without an attempt it died before it could begin one, which is a try, too.
    """
    folder = submission.runs_folder / row["run"]
    record, slurm = RunRecord(folder), submission.cluster.executor == "slurm"
    if ended and not record.finished and not any(one.get("job") == ended for one in read_attempts(folder)):
        begin_attempt(folder, job=ended, node="", series=submission.series, code="")
    last = (read_attempts(folder) or [{"how": ""}])[-1]
    if last["how"] is None:
        saved = record.status.get("state") == "preempted"
        try:
            state = endings([last["job"]]).get(last["job"], ("", ""))[0] if slurm else "PREEMPTED" if saved else ""
        except ClusterError:  # a job that is started again without having asked for it was preempted
            state = "PREEMPTED" if "SLURM_RESTART_COUNT" in os.environ else ""
        how = "finished" if record.finished else "cancelled" if row.get("cancelled") else ENDS.get(state, "lost")
        end_attempt(folder, how, slurm=state, unwarned=state == "PREEMPTED" and not saved)
    if record.finished or row.get("cancelled"):
        return "finished" if record.finished else "cancelled"
    reason = given_up([one for one in read_attempts(folder) if one["series"] == submission.series])
    error = record.status.get("error") or ""
    if reason and not error.startswith(reason):
        record.note(state="failed", run_id=folder.name, error="\n".join(filter(None, [reason, error])))
        with (folder / LOG).open("a") as log:
            print(f"--- failed. {reason}", file=log)
    return reason


def suite_environment() -> dict[str, str]:
    """The environment of a process that is to use this copy of the suite, wherever it is started."""
    path = os.pathsep.join(filter(None, [str(SUITE), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
