"""One table of every run that was submitted: state, progress, speed, time left, node, attempts, last error line."""

import argparse
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

from slurm.controller import ClusterError, queue
from slurm.rules import State
from slurm.selection import add_runs_option, fitting, submitted

HEADS = ("run", "state", "progress", "images/s", "left", "node", "tries", "")
SHOWN_RUN = 60  # characters of a run's name
MOVING = (State.queued, State.running, State.elsewhere)


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 1 where SLURM did not answer (the table is made from the records then), 2 for what is not accepted."""
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="python -m slurm.status", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="RUN", help="only these: names, patterns, beginnings of hashes")
    parser.add_argument(
        "--watch", nargs="?", type=float, const=5.0, metavar="SECONDS", help="refresh until nothing is left to wait for"
    )
    add_runs_option(parser)
    options = parser.parse_args(arguments)
    if options.watch is not None and options.watch < 1:
        parser.error("--watch: accepted are seconds from 1; each refresh asks SLURM's controller")
    try:
        while True:
            lines, moving, code = table(options.runs, options.names)
            if options.watch is not None and sys.stdout.isatty():
                print("\033[2J\033[H", end="")
            print("\n".join(lines), flush=True)
            if options.watch is None or (not moving and code == 0):
                return code
            time.sleep(options.watch)
    except ValueError as error:
        print(f"slurm.status: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0


def table(runs_folder: Path, names: list[str]) -> tuple[list[str], bool, int]:
    """Lines of the table, whether anything in it still moves, and the exit status."""
    from slurm.states import states_of

    known, runs = submitted(runs_folder)
    runs = fitting(runs, names) if names else runs
    code, jobs = 0, []
    try:
        jobs = queue()
    except ClusterError as error:
        print(f"slurm.status: {error}. The table is made from the run records alone.", file=sys.stderr)
        code = 1
    try:
        states = states_of(runs_folder, runs, known, jobs)
    except ClusterError as error:
        raise ValueError(str(error)) from error
    rows = [row_of(runs_folder, state) for state in states]
    widths = [max(len(row[column]) for row in [HEADS, *rows]) for column in range(len(HEADS) - 1)]
    room = shutil.get_terminal_size((200, 24)).columns if sys.stdout.isatty() else 10_000
    lines = [
        ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)) + "  " + row[-1]).rstrip()[
            :room
        ]
        for row in [HEADS, *rows]
    ]
    counted = Counter(state.state for state in states)
    lines += ["", ", ".join(f"{counted[state]} {state}" for state in State if counted[state])]
    lines += sorted({f"note: {state.note}" for state in states if state.note})
    return lines, any(counted[state] for state in MOVING), code


def row_of(runs_folder: Path, state) -> tuple[str, ...]:
    """The cells of one run."""
    from slurm.states import progress_of

    progress = progress_of(runs_folder / state.run, state)
    word = str(state.state)
    if state.state == State.queued and state.attempts:
        word = "requeued"
    node = state.job.node if state.job else (state.attempts[-1].get("node", "") if state.attempts else "")
    waits = f"waits: {state.job.reason}" if state.job and state.job.state == "PENDING" else ""
    return (
        state.run if len(state.run) <= SHOWN_RUN else f"{state.run[: SHOWN_RUN - 15]}..{state.run[-13:]}",
        word,
        f"{progress.step}/{progress.steps}" if progress.steps else "",
        "" if progress.images_per_second is None else f"{progress.images_per_second:.1f}",
        "" if progress.left_s is None else duration(progress.left_s),
        node,
        str(len(state.attempts) or state.status.get("attempts") or ""),
        "; ".join(part for part in (waits, state.error) if part),
    )


def duration(seconds: float) -> str:
    """Such as 2 d 3 h, 4 h 05 min, 7 min or 12 s."""
    minutes, hours = round(seconds / 60), int(seconds // 3600)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


if __name__ == "__main__":
    sys.exit(main())
