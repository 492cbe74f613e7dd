"""What submitit executes: one run, by `ablations.run` in a process of its own, and what comes after it.

submitit calls `RunJob`. As long as the run has no verdict, `attempt` writes down that it begins, `work` waits for
`ablations.run`, and `attempt` writes down how that ended: after a crash the run goes on in the same job.

Two signals tell a job to leave; their handlers interrupt `work` at any line, and let the run save. At SIGUSR2, sent at
a preemption or shortly before the time limit, submitit calls `checkpoint` and puts the job back into the queue, where
the run goes on in the same folder. At SIGTERM, sent by SLURM before it kills or by slurm.cancel, the job ends: `leave`.

Of several processes of a run, rank 0 alone keeps the record; the others only work. The first that fails says so in a
file, at which the others stop; then all begin again.

`python -m slurm.job FOLDER` works off a submission on this machine: it gives submitit's local executor as many runs at
a time as there is room for, those again that died, and at last the report.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from submitit import JobEnvironment
from submitit.core.utils import DelayedSubmission
from submitit.helpers import TorchDistributedEnvironment

from slurm.queue import ClusterError, seconds, slurm_queue
from slurm.run import Run
from slurm.submission import Submission, read_submission
from xinggan.files import SUITE, locked, write_atomically

DEVICES = Path("/dev")
LOG = "slurm.log"  # in the run's folder: what all its attempts printed
POLL_S = 0.3
BUSY_S = 60.0  # how long a job of SLURM waits for a process that still works on the run
KILLED_S = 600.0  # within which SLURM ends a job that it has told to leave
LEFT = (75, -signal.SIGTERM, -signal.SIGUSR2)  # exit statuses of a process that was told to leave
BUSY = "is being worked on by another process"  # in what `ablations.run` says of a run whose lock is held


class RunJob:
    """A job that works on one row of a submission."""

    child: subprocess.Popen | None = None  # ablations.run
    leaving = False  # since SIGUSR2 has come

    def __init__(self, folder: str, gpus: str | None = None):
        self.folder, self.gpus = folder, gpus  # of the submission; CUDA_VISIBLE_DEVICES, where SLURM does not set it

    def __call__(self, index: int) -> None:
        self.place, submission = JobEnvironment(), read_submission(self.folder)  # which process of which job this is
        self.run = Run(submission, submission.rows[index])
        self.run.folder.mkdir(parents=True, exist_ok=True)
        if self.place.cluster != "debug":
            signal.signal(signal.SIGTERM, self.leave)
        if self.place.global_rank:
            self.work()
            return
        while (verdict := self.settled()) is None:
            self.attempt()
            if self.place.num_tasks > 1 and self.settled() is None:
                # All processes of the run start again: in the same job of SLURM, or in a new one on this machine.
                if self.place.cluster == "slurm":
                    signal.raise_signal(getattr(signal, f"SIG{JobEnvironment.USR_SIG}"))
                sys.exit("one of the processes has failed")
        sys.exit(0 if verdict == "finished" else verdict)

    def settled(self) -> str | None:
        """`Run.verdict`, once nobody works on the run any more: what a job left behind may still be saving."""
        deadline = time.monotonic() + (BUSY_S if self.place.cluster == "slurm" else float("inf"))
        while self.run.worked_on:
            if time.monotonic() > deadline:
                sys.exit(f"another process still works on {self.run.name} after {BUSY_S:g} s")
            time.sleep(POLL_S)
        # A job that SLURM has started again without having been asked to was preempted, or lost its node.
        restarted = self.place.cluster == "slurm" and "SLURM_RESTART_COUNT" in os.environ
        self.run.close_attempt("preempted" if restarted else "")
        return self.run.verdict()

    def attempt(self) -> None:
        """Run once, and write down how it ended."""
        record, log, here = self.run.record, self.run.folder / LOG, socket.gethostname()
        node = os.environ.get("SLURMD_NODENAME", here) if self.place.cluster == "slurm" else here
        before = record.status.get("attempts")
        self.run.begin_attempt(self.place.job_id, node)
        with log.open("a") as file:
            print(f"--- attempt {len(self.run.attempts)}: job {self.place.job_id} on {node}", file=file)
        start = log.stat().st_size
        code = self.work()
        self.child = None
        status = record.status
        how = how_ended(status.get("state") if status.get("attempts") != before else None, code)
        lines = log.read_bytes()[start:].decode(errors="replace").strip().splitlines() or [""]
        refusals = [line for line in lines if line.startswith("ablations.run: ")]
        line = (refusals or lines)[-1]
        rank, code_of_rank = json.loads(self.failure.read_text()) if self.failure.exists() else (0, 0)
        if record.finished:
            how = "finished"
        elif rank:
            how = how_ended(None, code_of_rank)
            line = (refusals or [f"process {rank} of the run ended with exit status {code_of_rank}"])[-1]
        elif code == 0:
            how = "refused"
            line = f"data or suite have changed since it was submitted, and its words make another run now ({line})"
        elif how == "refused" and BUSY in line:  # by a process that was faster, or that looked at the lock
            how = "busy"
        self.run.end_attempt(how, exit=code, said=line)
        if self.place.cluster == "debug" and code in (*LEFT, 130):
            raise KeyboardInterrupt
        # SLURM signals every process of a job: `ablations.run` may leave before this process is told to, by 5 s at most
        time.sleep(5 if how == "preempted" else 0)

    def work(self) -> int:
        """Run `ablations.run` until it ends, or another process of the run has failed; its exit status."""
        submission, several = self.run.submission, self.place.num_tasks > 1
        words = ["--alone", *(["--methods", submission.methods] if submission.methods else []), *self.run.row.words]
        if self.place.cluster == "debug":  # in this process, at this terminal
            from ablations.run import main

            with chdir(submission.directory):
                return main(words)
        if several:
            group = TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
            launcher = os.environ.get("SLURM_LAUNCH_NODE_IPADDR", group.master_addr)  # host names may not be known
            os.environ["MASTER_ADDR"] = launcher if self.place.cluster == "slurm" else "localhost"
        environment = suite_environment()
        if self.gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus
        if "SLURM_CPUS_PER_TASK" in os.environ:
            environment.setdefault("OMP_NUM_THREADS", os.environ["SLURM_CPUS_PER_TASK"])
        command = [sys.executable, "-Pu", "-m", "ablations.run", *words]
        with (self.run.folder / LOG).open("a") as log:
            pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            child = subprocess.Popen(command, env=environment, cwd=submission.directory, **pipes)
        # A thread asks for the exit status: a handler may interrupt `work` at any line and has to wait for it, too.
        threading.Thread(target=child.wait, daemon=True).start()
        self.child = child  # from now on a handler ends it
        while child.returncode is None and not (several and self.failure.exists()):
            time.sleep(POLL_S)
        code = self.end_child(child, signal.SIGKILL)
        if several and code not in (0, *LEFT) and not self.failure.exists():
            write_atomically(self.failure, json.dumps([self.place.global_rank, code]))
        return code

    @property
    def failure(self) -> Path:
        """[rank, exit status] of the first of several processes that failed since the job was started (again)."""
        return Path(self.folder) / f"{self.place.job_id}-{os.environ.get('SLURM_RESTART_COUNT', 0)}.failure"

    @staticmethod
    def end_child(child: subprocess.Popen, number: int) -> int:
        """Signal the run, and wait until the thread that asks for its exit status has it."""
        if child.returncode is None:
            child.send_signal(number)
        while child.returncode is None:
            time.sleep(0.1)
        return child.returncode

    def checkpoint(self, index: int) -> DelayedSubmission:
        """submitit calls this at SIGUSR2, and then puts the job back into the queue."""
        self.leaving = True
        if self.child is not None:
            code = self.end_child(self.child, signal.SIGTERM)
            self.run.end_attempt("finished" if self.run.record.finished else self.why_signalled(), exit=code)
            self.run.row = read_submission(self.folder).rows[index]  # slurm.cancel may have changed it
            if verdict := self.run.verdict():
                sys.exit(0 if verdict == "finished" else verdict)
        if JobEnvironment().cluster == "slurm" and not shutil.which("scontrol"):
            print("no scontrol on this node: SLURM itself requeues what it preempts; the report's job, or the same "
                  "sweep again, carries on what it does not", file=sys.stderr)  # fmt: skip
            time.sleep(KILLED_S if self.child else 0)
            sys.exit(1)
        return DelayedSubmission(RunJob(self.folder, self.gpus), index)

    def why_signalled(self) -> str:
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
        if self.leaving:
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
    """Run on this machine everything that has no verdict yet, then the report. cluster=debug: one after another."""
    folder, cluster, gpus = str(submission.folder), submission.cluster, visible_gpus()
    each = cluster.gpus_per_node  # of a run
    each = min(cluster.tasks_per_node, len(gpus)) if each is None else each
    slots = cluster.values.get("array_parallelism") or max(1, len(gpus) // each if each else 1)
    threads = cluster.values.get("cpus_per_task") or max(1, (os.cpu_count() or 1) // slots)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    executors = {
        trained: (cluster if trained else cluster.alone()).jobs(submission.folder, submission.report_name)
        for trained in (True, False)
    }
    free: SimpleQueue[str] = SimpleQueue()
    for slot in range(slots):
        places = [(slot * each + i) % len(gpus) for i in range(each) if gpus]
        free.put(",".join(gpus[place] for place in dict.fromkeys(places)))

    def complete(index: int) -> None:
        """Give the run to submitit until it has a verdict."""
        slot, run, job = free.get(), Run(submission, submission.rows[index]), ""
        try:
            while True:
                run.row = read_submission(folder).rows[index]  # slurm.cancel may have changed it
                run.close_attempt(job=job)
                if run.verdict():
                    return
                job = wait_for(executors[run.row.trained].submit(RunJob(folder, slot), index))
        finally:
            free.put(slot)

    with ThreadPoolExecutor(slots) as pool:
        list((pool.map if cluster.executor == "local" else map)(complete, range(len(submission.rows))))
    if read_submission(folder).report:  # slurm.cancel may have taken it out
        wait_for(cluster.for_report().jobs(submission.folder, submission.report_name).submit(report, folder))


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if gpu]
    return [str(number) for number, _ in enumerate(DEVICES.glob("nvidia[0-9]*"))]  # a container may have only nvidia3


def wait_for(job: Any) -> str:
    """The number of a job of submitit, once it has ended; with cluster=debug this is where it is executed."""
    try:
        while not job.done():
            time.sleep(POLL_S)
    except SystemExit:
        pass
    return job.job_id


if __name__ == "__main__":
    submission = read_submission(sys.argv[1])
    turn = submission.runs_folder / "slurm" / f".{socket.gethostname()}.lock"  # one sweep of these runs at a time
    with locked(submission.folder / "local.lock", wait_s=10), locked(turn):
        work_off(submission)
