"""Submit runs again that failed, were interrupted or cancelled: with the words of their sweep, or other limits.

python -m slurm.retry --failed mem_gb=128
python -m slurm.retry 'xinggan-single*' timeout_min=1440
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from slurm.cluster import KEYS, Cluster, checked
from slurm.controller import ClusterError, queue
from slurm.lock import Locked, LockLost
from slurm.plan import PlannedRun
from slurm.rules import RULES, Action, Mode, State
from slurm.selection import add_runs_option, fitting, submitted
from slurm.sweep import decide_and_submit


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 1 where SLURM refused or did not answer, 2 for what is not accepted."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m slurm.retry",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--failed", action="store_true", help="every run that failed")
    parser.add_argument("--no-report", action="store_true", help="leave out the job that builds the report")
    parser.add_argument("words", nargs="*", metavar="RUN or limit=value", help="names, patterns; such as mem_gb=128")
    add_runs_option(parser)
    options = parser.parse_intermixed_args(arguments)
    limits = dict(word.split("=", 1) for word in options.words if "=" in word)
    names = [word for word in options.words if "=" not in word]
    if bool(names) == options.failed:
        parser.error("name the runs to try again, or say --failed")
    from slurm.states import states_of

    try:
        known, runs = submitted(options.runs)
        if unknown := [key for key in limits if key not in KEYS or key in ("sbatch", "setup", "report")]:
            raise ValueError(f"{', '.join(unknown)}: no limit; what a run computes cannot be changed here")
        chosen = fitting(runs, names) if names else runs
        states = states_of(options.runs, chosen, known, queue())
        wanted = [
            state
            for state in states
            if RULES[state.state][Mode.retry] != Action.skip
            and (names or state.state in (State.failed, State.repaired))
        ]
        for group in _by_submission(wanted):
            submission = group[0].submission
            cluster: Cluster = checked(limits, submission.cluster, "the command's words")
            planned = [_planned(options.runs, submission.rows[state.index]) for state in group]
            request = replace(submission.request, series="")  # three tries again
            decide_and_submit(planned, cluster, Mode.retry, request, report=not options.no_report)
    except ValueError as error:
        print(f"slurm.retry: {error}", file=sys.stderr)
        return 2
    except (ClusterError, Locked, LockLost, OSError) as error:
        print(f"slurm.retry: {error}", file=sys.stderr)
        return 1
    if not wanted:
        print("nothing to try again")
    return 0


def _by_submission(states: list) -> list[list]:
    """The states in groups that were submitted together last."""
    groups: dict[str, list] = {}
    for state in states:
        groups.setdefault(state.submission.name, []).append(state)
    return list(groups.values())


def _planned(runs_folder: Path, row: dict) -> PlannedRun:
    return PlannedRun(row["title"], row["words"], runs_folder.absolute() / row["run"], row["trained"])


if __name__ == "__main__":
    sys.exit(main())
