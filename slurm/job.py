"""What submitit executes: one run, by `ablations.run` in a process of its own, and what comes after it.

Told by a signal to leave, at a preemption or shortly before the time limit, the run saves, and submitit puts its job
back into the queue, where the run goes on in the same folder. After a crash it goes on in the same job. Three failures
at the same step leave it as failed. The pickled callables hold words and paths only.

`python -m slurm.job FOLDER` works off a submission on this machine: it gives submitit's local executor as many runs at
a time as there is room for, those again that died, and at last the report.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from submitit import JobEnvironment
from submitit.core.utils import DelayedSubmission
from submitit.helpers import TorchDistributedEnvironment

from ablations.environment import SUITE
from slurm.queue import ClusterError, seconds, slurm_queue
from slurm.run import Run
from slurm.submission import Submission, read_submission
from xinggan.files import locked

LOG = "slurm.log"  # in the run's folder: what all its attempts printed
POLL_S = 0.3
BUSY_S = 60.0  # how long a job of SLURM waits for a process that still works on the run
KILLED_S = 600.0  # within which SLURM ends a job that it has told to leave
LEFT = (75, -signal.SIGTERM, -signal.SIGUSR2)  # exit statuses of a process that was told to leave


class RunJob:
    """A job that works on one row of a submission."""

    child: subprocess.Popen | None = None  # ablations.run
    told = False  # by submitit's signal, to leave

    def __init__(self, folder: str, gpus: str = ""):
        self.folder, self.gpus = folder, gpus  # of the submission; for CUDA_VISIBLE_DEVICES on this machine

    def __call__(self, index: int) -> None:
        self.place, submission = JobEnvironment(), read_submission(self.folder)
        self.run = Run(submission, submission.rows[index])
        self.run.folder.mkdir(parents=True, exist_ok=True)
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
        """`Run.settle`, once nobody works on the run any more: what a job left behind may still be saving."""
        deadline = time.monotonic() + (BUSY_S if self.place.cluster == "slurm" else float("inf"))
        while self.run.worked_on:
            if time.monotonic() > deadline:
                sys.exit(f"another process still works on {self.run.name} after {BUSY_S:g} s")
            time.sleep(POLL_S)
        # A job that is started again without having asked for it was preempted, or lost its node.
        return self.run.settle("preempted" if "SLURM_RESTART_COUNT" in os.environ else "")

    def attempt(self) -> None:
        """Run once, and write down how it ended."""
        node, before = os.environ.get("SLURMD_NODENAME", socket.gethostname()), self.run.record.status
        self.run.begin_attempt(self.place.job_id, node)
        log = self.run.folder / LOG
        with log.open("a") as file:
            print(f"--- attempt {len(self.run.attempts)}: job {self.place.job_id} on {node}", file=file)
        start, code, self.child = log.stat().st_size, self.work(), None
        state = self.run.record.status
        said = log.read_bytes()[start:].decode(errors="replace").strip().splitlines() or [""]
        own = [line for line in said if line.startswith("ablations.run: ")]
        how = how_ended(state.get("state") if state.get("attempts") != before.get("attempts") else None, code)
        if self.broken.exists():
            own = [self.broken.read_text()]
            how = "failed" if own[0].endswith(" 1") else "killed"
        elif how == "refused" and self.run.worked_on:  # by a process that was faster
            how = "preempted"
        self.run.end_attempt(how, exit=code, said=(own or said)[-1])
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
        closed = sum(attempt["how"] is not None for attempt in self.run.attempts)
        self.broken = Path(self.folder) / f"{self.place.job_id}-{os.environ.get('SLURM_RESTART_COUNT', closed)}.broken"
        submission = self.run.submission
        methods = ["--methods", submission.methods] if submission.methods else []
        command = [sys.executable, "-Pu", "-m", "ablations.run", "--alone", *methods, *self.run.row["words"]]
        with (self.run.folder / LOG).open("a") as log:
            pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            child = subprocess.Popen(command, env=environment, cwd=submission.directory, **pipes)
        threading.Thread(target=child.wait, daemon=True).start()
        self.child = child  # from now on a signal's handler ends it
        while child.returncode is None and not self.broken.exists():
            time.sleep(POLL_S)
        return self.end_child(child, signal.SIGKILL)

    @staticmethod
    def end_child(child: subprocess.Popen, number: int) -> int:
        """Signal the run, and wait until the thread that asks for its exit status has it."""
        if child.returncode is None:
            child.send_signal(number)
        while child.returncode is None:
            time.sleep(0.1)
        return child.returncode

    def checkpoint(self, index: int) -> DelayedSubmission:
        """submitit calls this when the job has to leave, and then puts it back into the queue."""
        self.told = True
        if self.child is not None:
            code = self.end_child(self.child, signal.SIGTERM)
            self.run.end_attempt("finished" if self.run.record.finished else self.why_told(), exit=code)
            self.run.row = read_submission(self.folder).rows[index]  # slurm.cancel may have changed it
            if settled := self.run.settle():
                sys.exit(0 if settled == "finished" else settled)
        if self.place.cluster == "slurm" and not shutil.which("scontrol"):
            print("no scontrol on this node: SLURM itself requeues what it preempts; the report's job, or the same "
                  "sweep again, carries on what it does not", file=sys.stderr)  # fmt: skip
            time.sleep(KILLED_S if self.child else 0)
            sys.exit(1)
        return DelayedSubmission(RunJob(self.folder, self.gpus), index)

    def why_told(self) -> str:
        """timed out, where the queue says that little of the job's time is left; else preempted."""
        if self.place.cluster != "slurm":
            return "timed out"
        warning_s = self.run.submission.cluster.values.get("signal_delay_s", 90) + 60  # SLURM may be a minute early
        try:
            late = any(seconds(job.left) <= warning_s for job in slurm_queue(f"--jobs={self.place.job_id}"))
        except ClusterError:
            late = False
        return "timed out" if late else "preempted"

    def leave(self, *_: Any) -> None:
        """SIGTERM: the run saves. SLURM kills the job then, and its accounting tells the next one why."""
        if self.told:
            return
        if self.child is not None:
            self.end_child(self.child, signal.SIGTERM)
        time.sleep(KILLED_S if self.place.cluster == "slurm" else 0)
        sys.exit("told to leave")


def report(folder: str) -> None:
    """The job that comes last, see slurm.report, which has a process of its own, too."""
    sys.exit(subprocess.run([sys.executable, "-Pum", "slurm.report", folder], env=suite_environment()).returncode)


def how_ended(state: str | None, code: int) -> str:
    """How an attempt ended, by the record that it wrote (None: it came to none) and its exit status."""
    if state in ("finished", "failed", "preempted"):
        return state
    if code in LEFT:
        return "preempted"
    return {1: "failed", 2: "failed" if state else "refused"}.get(code, "killed")


def suite_environment() -> dict[str, str]:
    """The environment of a process that is to use this copy of the suite, wherever it is started."""
    path = os.pathsep.join(filter(None, [str(SUITE), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def work_off(submission: Submission) -> None:
    """Run on this machine everything that is not settled, then the report. With cluster=debug, one after another."""
    folder, values = str(submission.folder), submission.cluster.values
    devices = sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    gpus = os.environ["CUDA_VISIBLE_DEVICES"].split(",") if os.environ.get("CUDA_VISIBLE_DEVICES") else devices
    own = values.get("gpus_per_node", min(1, len(gpus)))  # of each run
    slots = values.get("array_parallelism") or max(1, len(gpus) // own if own else 1)
    os.environ.setdefault("OMP_NUM_THREADS", str(values.get("cpus_per_task") or max(1, (os.cpu_count() or 1) // slots)))
    executor = submission.cluster.jobs(submission.folder, submission.report_name)
    free: SimpleQueue[str] = SimpleQueue()
    for slot in range(slots):
        free.put(",".join(gpus[(slot * own + i) % len(gpus)] for i in range(own)) if gpus else "")

    def complete(index: int) -> None:
        """Give the run to submitit until it is settled or cancelled."""
        mine, ended = free.get(), ""
        try:
            while not Run(now := read_submission(folder), now.rows[index]).settle(job=ended):
                ended = wait_for(executor.submit(RunJob(folder, mine), index))
        finally:
            free.put(mine)

    with ThreadPoolExecutor(slots) as pool:
        list((pool.map if submission.cluster.executor == "local" else map)(complete, range(len(submission.rows))))
    if read_submission(folder).report:  # slurm.cancel may have taken it out
        wait_for(executor.submit(report, folder))


def wait_for(job: Any) -> str:
    """The number of a job of submitit, once it has ended; with cluster=debug this is where it is executed."""
    try:
        while not job.done():
            time.sleep(POLL_S)
    except SystemExit:
        pass
    return job.job_id


if __name__ == "__main__":
    with locked(Path(sys.argv[1]) / "local.lock", wait_s=10):
        work_off(read_submission(sys.argv[1]))
