"""The job that comes last: it carries on what died, or else builds the report.

SLURM starts it when every job of a sweep has ended in one way or another. A run that is neither finished nor failed by
then, say because its node went down, is submitted again, and this job once more after it. The report is built with
whatever there is; it names the runs that are missing.
"""

import subprocess
import sys
from dataclasses import replace

from slurm.queue import ClusterError
from slurm.run import jobs_of, observe
from slurm.submission import Submission, read_submission, submissions
from slurm.submit import decide_and_submit
from xinggan.command import run_command

# How an attempt ended that its job could not close, by the state of the job in accounting; others mean "lost".
ENDS = {"PREEMPTED": "preempted", "REQUEUED": "preempted", "TIMEOUT": "timed out", "CANCELLED": "cancelled"}


def main(arguments: list[str]) -> int:
    """`FOLDER` of the submission. Returns 0 if all runs are reported, or carried on; else 1."""
    submission = read_submission(arguments[0])
    try:
        if submission.cluster.executor == "slurm" and carry_on(submission):
            return 0
    except (ClusterError, OSError) as error:
        print(f"not carried on: {error}\nThe sweep's command, given again, does it.", file=sys.stderr)
    runs = observe(submission.everything, submissions(submission.runs_folder), [])
    for run in runs:
        if run.state != "finished":
            print(f"{run.name}: {run.state}. {run.error}", file=sys.stderr)
    if not any(run.state == "finished" for run in runs):
        print("no run is finished: there is no report", file=sys.stderr)
        return 1
    places = ["--runs", str(submission.runs_folder), "--out", str(submission.page.parent)]
    recorded = [run.name for run in runs if (run.folder / "config.yaml").exists()]  # the others never began
    return subprocess.run([sys.executable, "-Pm", "reports.build", *places, "--select", *recorded]).returncode


def carry_on(submission: Submission) -> bool:
    """Close what the jobs left open, and submit again what was interrupted; whether there was any such run.

    Without accounting nothing is: a run that somebody cancelled could not be told from one that died.
    """
    known = submissions(submission.runs_folder)
    given = {row.run for one in known for row in one.rows}
    names = [name for name in submission.everything if name in given]  # the others never were in a job
    jobs, problem = jobs_of(known, slurm=True)
    if problem:
        raise problem
    for run in observe(names, known, jobs):
        if run.row.job and not run.job and not run.worked_on:
            run.close_attempt(ENDS.get(run.end[0], "lost") if run.end[0] else "", run.row.job)
            run.verdict()
    rows = [run.row for run in observe(names, known, jobs) if run.action("rescue") != "skip" and not run.note]
    return bool(rows) and decide_and_submit(replace(submission, rows=rows), "rescue")


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
