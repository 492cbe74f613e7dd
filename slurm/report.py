"""The job that comes last: it carries on what died, or else builds the report.

SLURM starts it when every job of a sweep has ended in one way or another. A run that is neither finished nor failed by
then, say because its node went down, is submitted again, and this job once more after it. The report is built with
whatever there is; it names the runs that are missing.
"""

import subprocess
import sys
from dataclasses import replace

from slurm.queue import ClusterError, NoAccounting, endings
from slurm.run import Run, jobs_of, observe
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
    alive = {(job.name, job.task) for job in jobs_of([submission])}
    gone = [Run(submission, row) for row in submission.rows if (row.get("name"), row.get("task")) not in alive]
    try:
        ended = endings(run.row["job"] for run in gone)
    except NoAccounting:
        ended = {}
    for run in gone:
        if not run.worked_on:
            end, _ = ended.get(run.row["job"], ("", ""))
            run.settle(ENDS.get(end, "lost") if end else "", run.row["job"])
    known = submissions(submission.runs_folder)
    runs = observe([row["run"] for row in submission.rows], known, jobs_of(known))
    rows = [run.row for run in runs if run.action("rescue") != "skip" and not run.note]
    return bool(rows) and decide_and_submit(replace(submission, rows=rows), "rescue")


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
