"""What a run printed, over all its attempts, and what its last job printed as errors around them."""

import sys
import time

from slurm.run import jobs_of, observe
from slurm.status import command, parser_with_runs
from slurm.submission import submitted
from xinggan.command import run_command

ASKED_EVERY_S = 10.0  # how often --follow asks whether the job still is in the queue


@command("logs")
def main(arguments: list[str] | None = None) -> int:
    """Exit status 0, 1 where there is nothing printed yet, 2 for a name that is not accepted."""
    parser = parser_with_runs("slurm.logs", __doc__)
    parser.add_argument("name", metavar="RUN", help="a run's name, a pattern, or the beginning of its hash")
    parser.add_argument("--lines", type=int, default=0, metavar="N", help="only the last N")
    parser.add_argument("--follow", action="store_true", help="go on printing until the run's job has ended")
    options = parser.parse_args(arguments)
    known, names = submitted(options.runs, [options.name])
    if len(names) > 1:
        raise ValueError(f"{options.name}: fits {len(names)} runs: {', '.join(names[:6])}. Say more of it")
    (run,) = observe(names, known, [])
    job = run.row.job or (run.attempts[-1]["job"] if run.attempts else "")
    log, errors = run.folder / "slurm.log", run.submission.folder / f"{job}_0_log.err"
    printed = [file.read_bytes() if file.exists() else b"" for file in (log, errors)]
    texts = [text.decode(errors="replace") for text in printed if text]
    for text in texts:
        print("\n".join(text.splitlines()[-options.lines :]), flush=True)
    if not texts and not options.follow:
        print(f"{run.name}: nothing printed yet (neither {log} nor {errors} is there)", file=sys.stderr)
        return 1
    position, asked, follow = len(printed[0]), 0.0, options.follow
    while follow:
        if time.monotonic() - asked > ASKED_EVERY_S:
            jobs, problem = jobs_of([run.submission])
            if problem:
                raise problem
            (run,), asked = observe(names, known, jobs), time.monotonic()
            follow = run.job is not None
        added = log.read_bytes()[position:] if log.exists() else b""
        print(added.decode(errors="replace"), end="", flush=True)
        position += len(added)
        time.sleep(0.5)
    return 0


if __name__ == "__main__":
    run_command(main)
