"""The job that comes last: it carries on what died without a word, or else prints the table and builds the report.

SLURM starts it when every job of a sweep has ended in one way or another. A run that is neither finished nor failed by
then, say because its node went down, is submitted again, and this job once more after it. The report is built with
whatever there is; it names the runs that are missing.
"""

import sys
from dataclasses import replace
from pathlib import Path

from ablations.record import RunRecord
from slurm.attempts import given_up, is_open, read_attempts
from slurm.controller import ClusterError, queue
from slurm.job import LOG, close_lost, give_up, is_worked_on
from slurm.lock import Locked, LockLost
from slurm.plan import PlannedRun
from slurm.rules import RULES, Action, Mode, State
from slurm.states import states_of
from slurm.submission import Submission, read_submission, submissions
from slurm.sweep import decide_and_submit


def main(arguments: list[str]) -> int:
    """`FOLDER` of the submission. Returns 0 if all runs are finished and reported, or carried on; else 1."""
    submission = read_submission(Path(arguments[0]))
    close_the_lost(submission)
    try:
        if carry_on(submission):
            return 0
    except (ClusterError, Locked, LockLost, OSError) as error:
        print(f"not carried on: {error}\nThe sweep's command, given again, does it.", file=sys.stderr)
    return build(submission)


def close_the_lost(submission: Submission) -> None:
    """End the attempts whose supervisors died, and the runs that have failed by that."""
    try:
        alive = {(job.name, job.index) for job in queue()}
    except ClusterError:
        return
    for index, row in enumerate(submission.rows):
        folder, array = submission.runs_folder / row["run"], submission.array_of(index)
        if (array.name, index - array.first) in alive or is_worked_on(folder):
            continue
        if not folder.is_dir() or RunRecord(folder).finished or not is_open(read_attempts(folder)):
            continue
        close_lost(folder, "")
        if reason := given_up(read_attempts(folder)):
            with (folder / LOG).open("a") as log:
                give_up(folder, reason, log)


def carry_on(submission: Submission) -> bool:
    """Submit again what was interrupted; whether there was any such run. Without accounting nothing is: a run that
    somebody cancelled could not be told from one that died."""
    rows = submission.rows
    runs = [PlannedRun(row["title"], row["words"], submission.runs_folder / row["run"], row["trained"]) for row in rows]
    states = states_of(
        submission.runs_folder, [row["run"] for row in rows], submissions(submission.runs_folder), queue()
    )
    left = [
        run
        for run, state in zip(runs, states, strict=True)
        if RULES[state.state][Mode.rescue] != Action.skip and not state.note
    ]
    if not left:
        return False
    request = replace(submission.request, series=submission.series)
    carried = decide_and_submit(left, submission.cluster, Mode.rescue, request)
    return carried is not None


def build(submission: Submission) -> int:
    """Print the state and the metrics of all runs, and build the report's page."""

    from ablations.run import build as build_page
    from ablations.run import print_table
    from ablations.study import finish

    runs_folder = submission.runs_folder
    runs = [row["run"] for row in submission.request.everything]
    states = states_of(runs_folder, runs, submissions(runs_folder), _queue_if_any())
    titled = [(row["title"], runs_folder / row["run"]) for row in submission.request.everything]
    for state in states:
        if state.state != State.finished:
            print(f"{state.run}: {state.state}. {state.error}")
    done = [(title, folder) for title, folder in titled if RunRecord(folder).finished]
    if not done:
        print("no run is finished: there is no report", file=sys.stderr)
        return 1
    data_sets = {RunRecord(folder).status.get("dataset_digest") for _, folder in done}
    if submission.request.study and len(data_sets) == 1:
        finish(submission.request.study, titled, report=False)
    else:
        print_table(done)
    recorded = [folder for _, folder in titled if (folder / "status.json").exists()]
    code = build_page(recorded, runs_folder.parent / "report" / (submission.request.study or submission.series))
    return code or (1 if len(done) < len(titled) else 0)


def _queue_if_any() -> list:
    try:
        return queue()
    except ClusterError as error:
        print(f"states are told from the records alone: {error}", file=sys.stderr)
        return []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
