"""Submit runs again that failed, were interrupted or cancelled: with the words of their sweep, or other settings.

python -m slurm.retry --failed mem_gb=128
python -m slurm.retry 'xinggan-single*' timeout_min=1440
"""

import sys
from dataclasses import replace
from pathlib import Path

from slurm.status import answered, parser_of, submitted


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 1 where SLURM refused or did not answer, 2 for what is not accepted."""
    parser = parser_of("retry", __doc__)
    parser.add_argument("--failed", action="store_true", help="every run that failed")
    parser.add_argument("--no-report", action="store_true", help="leave out the job that builds the report")
    parser.add_argument("words", nargs="*", metavar="RUN or setting=value", help="names, patterns; such as mem_gb=128")
    options = parser.parse_intermixed_args(arguments)
    names = [word for word in options.words if "=" not in word]
    if bool(names) == options.failed:
        parser.error("name the runs to try again, or say --failed")
    changes = [word for word in options.words if "=" in word]
    return answered("retry", lambda: retry(options.runs, names, changes, not options.no_report))


def retry(runs_folder: Path, names: list[str], changes: list[str], report: bool) -> None:
    """Submit the runs of these names again, or without names those that failed, each with its sweep's words."""
    from slurm.settings import read_cluster
    from slurm.states import jobs_of, states_of
    from slurm.sweep import decide_and_submit

    known, runs = submitted(runs_folder, names)
    states = states_of(runs_folder, runs, known, jobs_of(known))
    wanted = [state for state in states if state.action("retry") != "skip" and (names or "failed" in state.state)]
    for submission in known:
        cluster, others = read_cluster(changes, submission.cluster)
        if others:
            raise ValueError(f"{' '.join(others)}: no setting; what a run computes cannot be changed here")
        if rows := [state.row for state in wanted if state.submission is submission]:  # three tries again
            decide_and_submit(replace(submission, rows=rows, cluster=cluster, series=""), "retry", report)
    if not wanted:
        print("nothing to try again")


if __name__ == "__main__":
    sys.exit(main())
