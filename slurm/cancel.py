"""Take runs out of the queue, or end their jobs after they have saved; the same sweep again carries on with them."""

import os
import signal
import socket
from contextlib import suppress
from typing import Any

from slurm.queue import ClusterError, ask
from slurm.run import jobs_of
from slurm.status import command, parser_with_runs
from slurm.submission import Row, Submission, submitted, submitting
from xinggan.command import run_command


@command("cancel")
def main(arguments: list[str] | None = None) -> None:
    """Exit status 0, 1 where SLURM refused or did not answer, 2 for a name that is not accepted."""
    parser = parser_with_runs("slurm.cancel", __doc__)
    parser.add_argument("names", nargs="*", metavar="RUN", help="names, patterns, beginnings of hashes")
    parser.add_argument("--all", action="store_true", help="every run, and the jobs that would build reports")
    options = parser.parse_args(arguments)
    if bool(options.names) == options.all:
        parser.error("name the runs to cancel, or say --all")
    submitted(options.runs, options.names)  # names that fit nothing are refused before anything is waited for
    with submitting(options.runs):
        known, runs = submitted(options.runs, options.names)
        jobs, problem = jobs_of(known)
        rows: dict[Any, tuple[Submission, Row | None]] = {
            (row.name, row.task): (one, row) for one in known for row in one.rows if row.run in runs
        }
        rows |= {} if options.names else {(one.report_name, 0): (one, None) for one in known}
        found = [(job, *rows[job.name, job.task]) for job in jobs if (job.name, job.task) in rows]
        local_nodes = {job.node for job, one, _ in found if one.cluster.executor == "local"}
        elsewhere = local_nodes - {"", socket.gethostname()}
        taken = [one for one in found if one[1].cluster.executor == "slurm" or one[0].node not in elsewhere]
        for _, submission, row in taken:
            if row:
                row.cancelled = True
            else:
                submission.report = ""
        for submission in {one.folder: one for _, one, _ in taken}.values():
            submission.write()  # first: a job that ends must not be carried on
        numbers = [job.identifier for job, one, _ in taken if one.cluster.executor == "slurm"]
        for start in range(0, len(numbers), 200):
            ask("scancel", *numbers[start : start + 200])
        for job, one, _ in taken:
            if one.cluster.executor == "local" and job.identifier:
                with suppress(ProcessLookupError):
                    os.kill(int(job.identifier), signal.SIGTERM)
    running = [job.state == "RUNNING" for job, _, row in taken if row]
    print(f"cancelled {running.count(False)} queued and {sum(running)} running runs of {len(runs)}")
    if elsewhere:
        raise ClusterError(f"others are worked on by {', '.join(sorted(elsewhere))}: give the same command there")
    if problem:
        raise problem


if __name__ == "__main__":
    run_command(main)
