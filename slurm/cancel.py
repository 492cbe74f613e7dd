"""Take runs out of the queue, or end their jobs after they have saved; the same sweep again carries on with them."""

import os
import signal
import sys
from pathlib import Path

from slurm.status import answered, parser_of, submitted


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 1 where SLURM refused or did not answer, 2 for a name that is not accepted."""
    parser = parser_of("cancel", __doc__)
    parser.add_argument("names", nargs="*", metavar="RUN", help="names, patterns, beginnings of hashes")
    parser.add_argument("--all", action="store_true", help="every run, and the jobs that would build reports")
    options = parser.parse_args(arguments)
    if bool(options.names) == options.all:
        parser.error("name the runs to cancel, or say --all")
    return answered("cancel", lambda: cancel(options.runs.absolute(), options.names))


def cancel(runs_folder: Path, names: list[str]) -> None:
    """Cancel the jobs of these runs, whichever submission they belong to; without names the reports, too."""
    from slurm.queue import ask
    from slurm.states import jobs_of
    from slurm.submission import submitting

    known, runs = submitted(runs_folder, names)
    with submitting(runs_folder):
        jobs = {(job.name, job.task): job for job in jobs_of(known)}
        taken, numbers = [], []
        for submission in known:
            rows = [row for row in submission.rows if row["run"] in runs and (row.get("name"), row.get("task")) in jobs]
            found = [jobs[row["name"], row["task"]] for row in rows]
            report = None if names else jobs.get((submission.report_name, 0))
            for row in rows:
                row["cancelled"] = True
            submission.report = "" if report else submission.report
            if rows or report:
                submission.write()  # first: a job that ends must not be carried on
            taken += found
            if submission.cluster.executor == "slurm":
                numbers += [job.identifier for job in (*found, report) if job]
            for job in found if submission.cluster.executor == "local" else ():
                os.kill(int(job.identifier), signal.SIGTERM) if job.identifier else None
        for start in range(0, len(numbers), 200):
            ask("scancel", *numbers[start : start + 200])
    running = sum(job.state == "RUNNING" for job in taken)
    print(f"cancelled {len(taken) - running} queued and {running} running runs of {len(runs)}")


if __name__ == "__main__":
    sys.exit(main())
