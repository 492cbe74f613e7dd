"""The queue of a sweep on this machine: a process of its own that gives runs to submitit's local executor.

It starts `array_parallelism` runs at a time, those again that died, and at last the report. It outlives the terminal.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from filelock import FileLock

from slurm.job import ReportJob, RunJob, settle, suite_environment
from slurm.submission import Submission, read_submission
from slurm.submit import executor_of

POLL_S = 0.3


def start(submission: Submission, report: bool) -> None:
    """Begin to work on the submission's runs: in the background, or with cluster=debug here and now."""
    for task, row in enumerate(submission.rows):
        row |= {"name": f"xg-{submission.folder.name}", "task": task}
    submission.report = "report" if report else ""
    submission.write()
    if submission.cluster.executor == "debug":
        return work(submission)
    command = [sys.executable, "-Pm", "slurm.local", str(submission.folder)]
    with (submission.folder / "local.log").open("a") as log:
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        process = subprocess.Popen(command, env=suite_environment(), start_new_session=True, **pipes)
    while process.poll() is None and not submission.alive:
        time.sleep(0.1)
    return None


def work(submission: Submission) -> None:
    """Run everything that is not settled, then the report."""
    folder, values = submission.folder, submission.cluster.values
    devices = sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    gpus = os.environ["CUDA_VISIBLE_DEVICES"].split(",") if os.environ.get("CUDA_VISIBLE_DEVICES") else devices
    own = values.get("gpus_per_node", min(1, len(gpus)))
    slots = values.get("array_parallelism") or max(1, len(gpus) // own if own else 1)
    cores = values.get("cpus_per_task") or max(1, (os.cpu_count() or 1) // slots)
    os.environ.setdefault("OMP_NUM_THREADS", str(cores))
    executor = executor_of(submission, submission.cluster, submission.report_name)
    waiting = list(range(len(submission.rows)))
    running: dict[int, tuple[Any, int]] = {}  # slot -> its job and row
    while waiting or running:
        submission = read_submission(folder)  # slurm.cancel may have changed it
        for slot, (job, index) in list(running.items()):
            if ended(job):
                del running[slot]
                waiting += [index] if settle(submission, submission.rows[index], job.job_id) is None else []
        waiting = [index for index in waiting if not submission.rows[index].get("cancelled")]
        for slot, index in zip(set(range(slots)) - set(running), waiting[:slots], strict=False):
            mine = ",".join(gpus[(slot * own + i) % len(gpus)] for i in range(own)) if gpus else ""
            running[slot] = executor.submit(RunJob(str(folder), mine), index), index
            waiting.remove(index)
        time.sleep(POLL_S)
    job = executor.submit(ReportJob(str(folder)), 0) if read_submission(folder).report else None
    while job and not ended(job):
        time.sleep(POLL_S)


def ended(job: Any) -> bool:
    """Whether a job of submitit has ended; with cluster=debug this is where it is executed."""
    try:
        return job.done()
    except SystemExit:
        return True


if __name__ == "__main__":
    with FileLock(Path(sys.argv[1]) / "local.lock", timeout=10):
        work(read_submission(sys.argv[1]))
