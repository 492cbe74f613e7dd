"""Take runs out of the queue, or end their jobs after they have saved; the same sweep again carries on with them."""

import os
import signal
from contextlib import suppress

from slurm.queue import ask
from slurm.run import jobs_of
from slurm.status import command, parser_of
from slurm.submission import submitted, submitting
from xinggan.command import run_command


@command("cancel")
def main(arguments: list[str] | None = None) -> None:
    """Exit status 0, 1 where SLURM refused or did not answer, 2 for a name that is not accepted."""
    parser = parser_of("cancel", __doc__)
    parser.add_argument("names", nargs="*", metavar="RUN", help="names, patterns, beginnings of hashes")
    parser.add_argument("--all", action="store_true", help="every run, and the jobs that would build reports")
    options = parser.parse_args(arguments)
    if bool(options.names) == options.all:
        parser.error("name the runs to cancel, or say --all")
    known, runs = submitted(options.runs, options.names)
    with submitting(options.runs):
        rows = {
            (row.get("name"), row.get("task")): (one, row) for one in known for row in one.rows if row["run"] in runs
        }
        rows |= {} if options.names else {(one.report_name, 0): (one, {}) for one in known}
        taken = [(job, *rows[job.name, job.task]) for job in jobs_of(known) if (job.name, job.task) in rows]
        for _, submission, row in taken:
            row["cancelled"] = True
            submission.report = submission.report if "run" in row else ""
        for submission in {one.folder: one for _, one, _ in taken}.values():
            submission.write()  # first: a job that ends must not be carried on
        numbers = [job.identifier for job, submission, _ in taken if submission.cluster.executor == "slurm"]
        for start in range(0, len(numbers), 200):
            ask("scancel", *numbers[start : start + 200])
        for job, submission, _ in taken:
            if submission.cluster.executor == "local" and job.identifier:
                with suppress(ProcessLookupError):
                    os.kill(int(job.identifier), signal.SIGTERM)
    running = [job.state == "RUNNING" for job, _, row in taken if "run" in row]
    print(f"cancelled {running.count(False)} queued and {sum(running)} running runs of {len(runs)}")


if __name__ == "__main__":
    run_command(main)
