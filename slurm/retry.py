"""Submit runs again that failed, were interrupted or cancelled: with the words of their sweep, or other settings.

python -m slurm.retry --failed mem_gb=128
python -m slurm.retry 'xinggan-single*' timeout_min=1440
python -m slurm.retry --failed cluster=local
"""

from dataclasses import replace

from slurm.cluster import read_cluster
from slurm.run import jobs_of, observe
from slurm.status import command, parser_with_runs
from slurm.submission import submitted
from slurm.submit import decide_and_submit
from xinggan.command import run_command


@command("retry")
def main(arguments: list[str] | None = None) -> None:
    """Exit status 0, 1 where SLURM refused or did not answer, 2 for what is not accepted."""
    parser = parser_with_runs("slurm.retry", __doc__)
    parser.add_argument("--failed", action="store_true", help="every run that failed")
    parser.add_argument("--no-report", action="store_true", help="leave out the job that builds the report")
    parser.add_argument("words", nargs="*", metavar="RUN or setting=value", help="names, patterns; such as mem_gb=128")
    options = parser.parse_intermixed_args(arguments)
    if all("=" in word for word in options.words) != options.failed:
        parser.error("name the runs to try again, or say --failed")
    names = [word for word in options.words if "=" not in word]
    known, runs = submitted(options.runs, names)
    wanted = [run for run in observe(runs, known, jobs_of(known)[0]) if run.action("retry") != "skip"]
    wanted = [run for run in wanted if names or "failed" in run.state]
    for submission in known:
        cluster, others = read_cluster([word for word in options.words if "=" in word], submission.cluster)
        if others:
            raise ValueError(f"{' '.join(others)}: no setting; what a run computes cannot be changed here")
        if rows := [run.row for run in wanted if run.submission is submission]:
            changed = replace(submission, rows=rows, cluster=cluster, series="")
            decide_and_submit(changed, "retry", not options.no_report)
    if not wanted:
        print("nothing to try again")


if __name__ == "__main__":
    run_command(main)
