"""What a run printed, over all its attempts; for a job that died before its run began, what SLURM printed."""

import argparse
import sys
import time
from pathlib import Path

from slurm.controller import ClusterError, queue
from slurm.selection import add_runs_option, fitting, submitted

LOG = "slurm.log"
ASKED_EVERY_S = 10.0  # how often --follow asks whether the job still is in the queue


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 1 where there is nothing printed yet, 2 for a name that is not accepted."""
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="python -m slurm.logs", description=__doc__)
    parser.add_argument("name", metavar="RUN", help="a run's name, a pattern, or the beginning of its hash")
    parser.add_argument("--lines", type=int, default=0, metavar="N", help="only the last N")
    parser.add_argument("--follow", action="store_true", help="go on printing until the run's job has ended")
    add_runs_option(parser)
    options = parser.parse_args(arguments)
    try:
        known, runs = submitted(options.runs)
        chosen = fitting(runs, [options.name])
        if len(chosen) > 1:
            raise ValueError(f"{options.name}: fits {len(chosen)} runs: {', '.join(chosen[:6])}. Say more of it")
    except ValueError as error:
        print(f"slurm.logs: {error}", file=sys.stderr)
        return 2
    run = chosen[0]
    places = [
        (submission, row) for submission in known for row, entry in enumerate(submission.rows) if entry["run"] == run
    ]
    submission, index = places[-1]
    array = submission.array_of(index)
    task = index - array.first
    by_slurm = submission.folder / f"{array.name}-{task}.out"
    path = options.runs / run / LOG
    texts = [file for file in (path, by_slurm) if file.exists() and file.stat().st_size]
    if not texts and not options.follow:
        print(f"{run}: nothing printed yet (neither {path} nor {by_slurm} is there)", file=sys.stderr)
        return 1
    for file in texts:
        lines = file.read_text(errors="replace").splitlines()
        print("\n".join(lines[-options.lines :] if options.lines > 0 else lines), flush=True)
    if options.follow:
        follow(path, path.stat().st_size if path.exists() else 0, (array.name, task))
    return 0


def follow(path: Path, position: int, job: tuple[str, int]) -> None:
    """Print what is added to the file until the job has left the queue or Ctrl-C is pressed."""
    asked, waiting = 0.0, True
    try:
        while waiting:
            if time.monotonic() - asked > ASKED_EVERY_S:
                waiting = job in {(found.name, found.index) for found in queue()}
                asked = time.monotonic()
            if path.exists():
                with path.open(errors="replace") as file:
                    file.seek(position)
                    print(file.read(), end="", flush=True)
                    position = file.tell()
            time.sleep(0.5)
    except ClusterError as error:
        print(f"slurm.logs: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    sys.exit(main())
