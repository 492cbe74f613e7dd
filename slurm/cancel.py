"""Take runs out of the queue, or end their jobs after they have saved; the same sweep again carries on with them."""

import argparse
import json
import sys
from collections import defaultdict

from slurm.controller import ClusterError, ask, queue
from slurm.lock import Locked
from slurm.rules import State
from slurm.selection import add_runs_option, fitting, submitted
from slurm.submission import lock_of
from xinggan.files import write_atomically


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 1 where SLURM refused or did not answer, 2 for a name that is not accepted."""
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="python -m slurm.cancel", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="RUN", help="names, patterns, beginnings of hashes")
    parser.add_argument("--all", action="store_true", help="every run, and the jobs that would build reports")
    add_runs_option(parser)
    options = parser.parse_args(arguments)
    if bool(options.names) == options.all:
        parser.error("name the runs to cancel, or say --all")
    from slurm.states import CANCELLED, states_of

    try:
        known, runs = submitted(options.runs)
        runs = fitting(runs, options.names) if options.names else runs
        with lock_of(options.runs) as lock:
            states = states_of(options.runs, runs, known, queue())
            there = [state for state in states if state.job is not None]
            taken = defaultdict(list)
            for state in there:
                taken[state.submission.name].append(state.run)  # type: ignore[union-attr]
            for submission in known:  # written first: a job that ends must not be carried on
                path = submission.folder / CANCELLED
                if submission.name in taken:
                    earlier = json.loads(path.read_text()) if path.exists() else []
                    write_atomically(path, json.dumps(sorted({*earlier, *taken[submission.name]})))
            identifiers = [state.job.identifier for state in there if state.job]
            if options.all:
                reports = {submission.report_name for submission in known}
                identifiers += [job.identifier for job in queue() if job.name in reports]
            lock.check()
            for start in range(0, len(identifiers), 200):
                ask("scancel", *identifiers[start : start + 200])
    except ValueError as error:
        print(f"slurm.cancel: {error}", file=sys.stderr)
        return 2
    except (ClusterError, Locked, OSError) as error:
        print(f"slurm.cancel: {error}", file=sys.stderr)
        return 1
    running = sum(state.state == State.running for state in there)
    print(f"cancelled {len(there) - running} queued and {running} running runs of {len(runs)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
