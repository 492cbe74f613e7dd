"""Submit every run of a grid or a study that is not finished or on its way, and return at once.

    python -m slurm.sweep study=components seed=0,1,2
    python -m slurm.sweep scale=multi,single seed=0,1,2 cluster=slurm partition=gpu gpus=4 timeout_min=1440

The words are those of `ablations.run`, study=NAME, cluster=NAME and the settings below. With cluster=local, the default
where there is no sbatch, this machine works them off in the background. The same command again submits what is missing;
a run that failed is tried again once the code has changed, or with --retry.
"""

import secrets
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from slurm.queue import ClusterError
from slurm.status import command, parser_of
from xinggan.command import run_command

if TYPE_CHECKING:
    from slurm.submission import Submission

EPILOG = """settings: partition gpus nodes cpus mem_gb timeout_min array_parallelism signal_s constraint qos account
python, any other parameter of submitit, and sbatch.OPTION (see slurm/conf/slurm.yaml and docs/cluster.md)"""


@command
def main(arguments: list[str] | None = None) -> None:
    """Exit status 0: submitted, or nothing to do; 1: SLURM refused or did not answer; 2: words are not accepted."""
    parser = parser_of("sweep", __doc__, EPILOG)
    parser.add_argument("--dry-run", action="store_true", help="print what sbatch would be given, submit nothing")
    parser.add_argument("--retry", action="store_true", help="try runs again that failed, though nothing has changed")
    parser.add_argument("--replace", action="store_true", help="put finished and failed records aside and start anew")
    parser.add_argument("--methods", type=Path, metavar="FOLDER", help="methods of your own (see CONTRIBUTING.md)")
    parser.add_argument("--no-report", action="store_true", help="leave out the job that builds the report")
    parser.add_argument("words", nargs="*", metavar="key=value", help="what to run, and where")
    options = parser.parse_intermixed_args(arguments)
    if options.retry and options.replace:
        parser.error("--retry goes on where a run failed, --replace starts anew: choose one")
    from ablations.plan import list_study, plan_runs
    from slurm.settings import read_cluster
    from slurm.submission import Submission
    from xinggan.model.from_settings import use_methods

    cluster, words = read_cluster(options.words)
    places = [word for word in [*words, f"folder={Path.cwd()}"] if word.startswith(("runs=", "folder="))]
    if bad := [word for word in places if "%" in word or "\\" in word]:
        raise ValueError(f"{bad[0]}: SLURM and submitit replace % and \\ in paths; name a folder without them")
    if options.methods:
        use_methods(options.methods)
    try:
        study, runs_folder, rows = plan_runs(words, cluster.processes)
    except OSError as error:
        raise ValueError(str(error)) from error
    if study and not options.dry_run:
        list_study(runs_folder, study, rows)
    everything, folder = [row["run"] for row in rows], runs_folder / "slurm" / "new"
    methods = str(options.methods.absolute()) if options.methods else None
    wanted = Submission(folder, cluster, study, methods, str(Path.cwd()), everything, rows)
    mode = "replace" if options.replace else "retry" if options.retry else "sweep"
    decide_and_submit(wanted, mode, not options.no_report, options.dry_run)


def decide_and_submit(wanted: "Submission", mode: str, report: bool = True, dry_run: bool = False) -> bool:
    """Under the lock: look at every row of `wanted`, submit those that the rules say, and print what was done.

    Whether anything was left to submit. Raises ClusterError, and OSError for a lock that others hold.
    """
    from slurm.states import jobs_of, states_of
    from slurm.submission import submissions, submitting

    folder, slurm, jobs = wanted.runs_folder, wanted.cluster.executor == "slurm", []
    with nullcontext() if dry_run else submitting(folder):
        known = submissions(folder)
        try:
            jobs = jobs_of(known, slurm)
        except ClusterError as error:
            if not dry_run:
                raise
            print(f"# {error}. Shown as if nothing were in the queue.")
        states = states_of(folder, [row["run"] for row in wanted.rows], known, jobs)
        counted = Counter(f"{state.action(mode)} COUNT {state.state}" for state in states)
        print(f"{len(states)} runs: " + ", ".join(text.replace("COUNT", f"{n}") for text, n in counted.items()))
        for state in states:
            if state.action(mode) == "skip" and state.state == "failed":
                print(f"  {state.run} failed and nothing has changed since (--retry tries again): {state.error}")
        for note in {state.note for state in states if state.note} | wanted.cluster.notes:
            print(f"  note: {note}")
        now = datetime.now(UTC)
        name = f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}-{secrets.token_hex(2)}"  # in the order of time
        rows = [
            {key: row[key] for key in ("run", "title", "words", "trained")} | {"action": state.action(mode)}
            for row, state in zip(wanted.rows, states, strict=True)
            if state.action(mode) != "skip"
        ]
        rows.sort(key=lambda row: not row["trained"])  # jobs know their row's number: what is refused comes last
        submission = replace(wanted, folder=folder / "slurm" / name, rows=rows, series=wanted.series or name, report="")
        if rows:
            after = {state.job.identifier.split("_")[0] for state in states if state.job}
            hand_over(submission, report, after, dry_run)
        else:
            print("nothing to submit")
    return bool(rows)


def hand_over(submission: "Submission", report: bool, after: set[str], dry_run: bool) -> None:
    """Give the rows to SLURM or to a queue of this machine, replaced records put aside, and print what was taken."""
    from slurm import local
    from slurm.submit import submit

    folder, cluster = submission.runs_folder, submission.cluster
    if dry_run:
        print("".join(f"# {row['action']} {row['run']}\n" for row in submission.rows))
        return submit(submission, report, after, dry_run) if cluster.executor == "slurm" else None
    place = folder / "replaced" / submission.folder.name
    replaced = [row["run"] for row in submission.rows if row["action"] == "replace" and (folder / row["run"]).exists()]
    for run in replaced:
        place.mkdir(parents=True, exist_ok=True)
        (folder / run).rename(place / run)
    try:
        if cluster.executor == "slurm":
            submit(submission, report, after, dry_run)
        else:
            local.start(submission, report)
    finally:
        for run in set(replaced) - {row["run"] for row in submission.rows}:  # refused
            (place / run).rename(folder / run)
        settings = " ".join(f"{key}={value}" for key, value in cluster.values.items())
        for job, count in Counter(row.get("job", "").split("_")[0] for row in submission.rows).items():
            how = f"submitted job array {job}" if job else "worked off on this machine"
            print(f"{how}: {count} runs, {settings}")
        print(f"the report, when these have ended: {submission.page}\n" if submission.report else "", end="")
        print(f"python -m slurm.status --runs {folder} shows them")
    return None


if __name__ == "__main__":
    run_command(main)
