"""The job that comes last: it carries on what died, or else builds the report.

SLURM starts it when every job of a sweep has ended in one way or another. A run that is neither finished nor failed by
then, say because its node went down, is submitted again, and this job once more after it. The report is built with
whatever there is; it names the runs that are missing.
"""

import subprocess
import sys
from dataclasses import replace

from ablations.attempts import is_worked_on
from slurm.job import settle
from slurm.queue import ClusterError
from slurm.states import jobs_of, states_of
from slurm.submission import Submission, read_submission, submissions
from slurm.sweep import decide_and_submit
from xinggan.command import run_command


def main(arguments: list[str]) -> int:
    """`FOLDER` of the submission. Returns 0 if all runs are reported, or carried on; else 1."""
    submission, jobs = read_submission(arguments[0]), []
    try:
        if submission.cluster.executor == "slurm":
            jobs = jobs_of([submission])
            if carry_on(submission, jobs):
                return 0
    except (ClusterError, OSError) as error:
        print(f"not carried on: {error}\nThe sweep's command, given again, does it.", file=sys.stderr)
    states = states_of(submission.runs_folder, submission.everything, submissions(submission.runs_folder), jobs)
    for state in states:
        if state.state != "finished":
            print(f"{state.run}: {state.state}. {state.error}", file=sys.stderr)
    if not any(state.state == "finished" for state in states):
        print("no run is finished: there is no report", file=sys.stderr)
        return 1
    places = ["--runs", str(submission.runs_folder), "--out", str(submission.page.parent)]
    recorded = [state.run for state in states if (state.folder / "config.yaml").exists()]  # the others never began
    return subprocess.run([sys.executable, "-Pm", "reports.build", *places, "--select", *recorded]).returncode


def carry_on(submission: Submission, jobs: list) -> bool:
    """Submit again what was interrupted; whether there was any such run. Without accounting nothing is: a run that
    somebody cancelled could not be told from one that died."""
    alive = {(job.name, job.task) for job in jobs}
    for row in submission.rows:
        if (row["name"], row["task"]) not in alive and not is_worked_on(submission.runs_folder / row["run"]):
            settle(submission, row, row["job"])
    known, runs = submissions(submission.runs_folder), [row["run"] for row in submission.rows]
    states = states_of(submission.runs_folder, runs, known, jobs_of(known))
    rows = [state.row for state in states if state.action("rescue") != "skip" and not state.note]
    return bool(rows) and decide_and_submit(replace(submission, rows=rows), "rescue")


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
