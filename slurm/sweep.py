"""Submit every run of a grid or a study to SLURM that is not finished or on its way, and return at once.

    python -m slurm.sweep study=components seed=0,1,2 dataset=market1501 dataset.root=market_data
    python -m slurm.sweep scale=multi,single seed=0,1,2 cluster=my_cluster.yaml gpus=4 timeout_min=1440

The words are those of `ablations.run`, study=NAME, cluster=NAME and the limits below. The same command again submits
what is missing; a run that failed is tried again once the code has changed, or with --retry.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

from slurm.cluster import KEYS, Cluster, read_cluster
from slurm.controller import ClusterError, queue
from slurm.lock import Locked, LockLost
from slurm.rules import RULES, Action, Mode, State
from slurm.submission import (
    Request,
    Submission,
    array_script,
    lock_of,
    new_submission,
    plan_arrays,
    report_script,
    submissions,
    submit,
)
from xinggan.model.from_settings import use_methods

LIMITS = [key for key in KEYS if key not in ("sbatch", "setup", "report")]


def main(arguments: list[str] | None = None) -> int:
    """Returns 0: submitted, or nothing to do; 1: SLURM refused or did not answer; 2: the words are not accepted."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m slurm.sweep",
        description=__doc__,
        epilog=f"limits: {', '.join(LIMITS)}, sbatch.OPTION (see slurm/conf/gpu.yaml)",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dry-run", action="store_true", help="print the sbatch scripts, submit nothing")
    parser.add_argument("--retry", action="store_true", help="try runs again that failed, though nothing has changed")
    parser.add_argument("--replace", action="store_true", help="put finished and failed records aside and start anew")
    parser.add_argument("--methods", type=Path, metavar="FOLDER", help="methods of your own (see CONTRIBUTING.md)")
    parser.add_argument("--no-report", action="store_true", help="leave out the job that builds the report")
    parser.add_argument("words", nargs="*", metavar="key=value", help="what to run, and where")
    options = parser.parse_intermixed_args(arguments)
    if options.retry and options.replace:
        parser.error("--retry goes on where a run failed, --replace starts anew: choose one")
    mode = Mode.replace if options.replace else Mode.retry if options.retry else Mode.sweep

    from slurm.plan import plan_runs

    try:
        cluster, words = read_cluster(options.words)
        studies = [word.partition("=")[2] for word in words if word.startswith("study=")]
        words = [word for word in words if not word.startswith("study=")]
        if len(studies) > 1 or any("," in study for study in studies):
            raise ValueError("study=: one study at a time")
        if options.methods:
            use_methods(options.methods)
        study = studies[0] if studies else None
        runs = plan_runs(study, words, cluster)
    except (ValueError, OSError) as error:
        print(f"slurm.sweep: {error}", file=sys.stderr)
        return 2
    methods = str(options.methods.absolute()) if options.methods else None
    listed = [{"run": run.folder.name, "title": run.title} for run in runs]
    request = Request(study, methods, str(Path.cwd()), listed)
    try:
        if options.dry_run:
            show(runs, cluster, mode, request, report=not options.no_report)
        else:
            decide_and_submit(runs, cluster, mode, request, report=not options.no_report)
    except (ClusterError, Locked, LockLost, OSError) as error:
        print(f"slurm.sweep: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("slurm.sweep: stopped; the same command submits what is missing", file=sys.stderr)
        return 1
    return 0


def decide_and_submit(
    runs: list, cluster: Cluster, mode: Mode, request: Request, report: bool = True
) -> Submission | None:
    """Under the lock: look at every run, submit those that the rules say, and print what was done.

    Returns the submission, or None where nothing was left to submit. Raises ClusterError, Locked and LockLost.
    """
    runs_folder = runs[0].folder.parent
    with lock_of(runs_folder) as lock:
        states, actions = look(runs, mode)
        chosen = [(run, action) for run, action in zip(runs, actions, strict=True) if action != Action.skip]
        print_decisions(states, actions)
        if request.study:
            list_study(runs_folder, request.study, runs)
        if not chosen:
            return None
        submission = new_submission(runs_folder, cluster, chosen, request)
        after = sorted({state.identifier.split("_")[0] for state in states if state.job is not None} - {""})
        replaced = [run.folder for run, action in chosen if action == Action.replace and run.folder.exists()]
        aside = [put_aside(folder, submission.name) for folder in replaced]
        try:
            submit(submission, lock, after, report)
        except (ClusterError, LockLost):
            if not any(array.identifier for array in submission.arrays):
                for before, now in aside:
                    now.rename(before)
            raise
        finally:
            print_submission(submission)
    return submission


def look(runs: list, mode: Mode) -> tuple[list, list[Action]]:
    """The state of each run, and what the rules say to do with it."""
    from slurm.states import states_of

    runs_folder = runs[0].folder.parent
    jobs = queue()
    states = states_of(runs_folder, [run.folder.name for run in runs], submissions(runs_folder), jobs)
    return states, [RULES[state.state][mode] for state in states]


def list_study(runs_folder: Path, study: str, runs: list) -> None:
    """Keep which runs are the rows of the study, for the report: a table, and a file, for each data set."""
    from ablations.config import key_of
    from ablations.record import list_rows
    from ablations.study import overlap

    of_data = [[word for word in run.words if overlap(key_of(word), "dataset")] for run in runs]
    shared = set.intersection(*map(set, of_data))
    tables: dict[str, list[tuple[str, str]]] = {}
    for run, words in zip(runs, of_data, strict=True):
        data = [Path(word.partition("=")[2]).name for word in words if word not in shared]
        tables.setdefault("-".join([study, *data]), []).append((run.title, run.folder.name))
    for name, rows in tables.items():
        list_rows(runs_folder, name, rows)


def put_aside(folder: Path, name: str) -> tuple[Path, Path]:
    """Move a record to replaced/<submission>/ beside it; returns both places."""
    place = folder.parent / "replaced" / name / folder.name
    place.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(place)
    return folder, place


def print_decisions(states: list, actions: list[Action]) -> None:
    """How many runs there are and what becomes of them; each failed one that is left alone, with its error."""
    counted = Counter(zip(actions, (state.state for state in states), strict=True))
    print(
        f"{len(states)} runs: "
        + ", ".join(f"{action.value} {count} {state}" for (action, state), count in counted.items())
    )
    for state, action in zip(states, actions, strict=True):
        if action == Action.skip and state.state == State.failed:
            print(f"  {state.run} failed and nothing has changed since (--retry tries again): {state.error}")
    for note in {state.note for state in states if state.note}:
        print(f"  note: {note}")
    if all(action == Action.skip for action in actions):
        print("nothing to submit")


def print_submission(submission: Submission) -> None:
    """What SLURM has taken."""
    for array in submission.arrays:
        if array.identifier:
            print(f"submitted job array {array.identifier}: {array.count} runs, {_limits(array.cluster)}")
        else:
            print(f"not submitted: {array.count} runs")
    if submission.report:
        print(f"submitted job {submission.report}: the report, when these have ended")
    print(f"described in {submission.folder}; python -m slurm.status --runs {submission.runs_folder} shows them")


def show(runs: list, cluster: Cluster, mode: Mode, request: Request, report: bool) -> None:
    """Print what would be submitted: decisions, runs, scripts. Without SLURM here, as if its queue were empty."""
    from slurm.states import states_of

    runs_folder = runs[0].folder.parent
    try:
        states, actions = look(runs, mode)
    except ClusterError as error:
        print(f"# {error}. Shown as if nothing were in the queue.")
        states = states_of(runs_folder, [run.folder.name for run in runs], [], [])
        actions = [RULES[state.state][mode] for state in states]
    print_decisions(states, actions)
    chosen = [(run, action) for run, action in zip(runs, actions, strict=True) if action != Action.skip]
    submission = new_submission(runs_folder, cluster, chosen, request)
    plan_arrays(submission, 1000)
    for array in submission.arrays:
        print(f"\n# sbatch --chdir={submission.request.directory} {submission.folder / array.name}.sh")
        for index, row in enumerate(submission.rows[array.first : array.first + array.count]):
            print(f"#   {index}: {row['action']} {row['run']}")
        print(array_script(submission, array), end="")
    if chosen and report:
        print(f"\n# sbatch --dependency=afterany:JOBS {submission.folder / 'report.sh'}")
        print(report_script(submission), end="")


def _limits(cluster: Cluster) -> str:
    return " ".join(f"{name}={value}" for name, value in cluster.options().items())


if __name__ == "__main__":
    sys.exit(main())
