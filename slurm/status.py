"""One table of every run that was submitted: state, progress, speed, time left, node, attempts, last error line."""

import argparse
import fnmatch
import functools
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from slurm.queue import ClusterError
from xinggan.command import run_command

HEADS = ("run", "state", "progress", "images/s", "left", "node", "tries", "")
MOVING = ("queued", "running", "elsewhere")  # states that --watch waits for
SHOWN_RUN = 60  # characters of a run's name


def command(main: Callable[..., int | None]) -> Callable[..., int]:
    """A command's main, with the exit status 2 where what was asked is not accepted, and 1 where SLURM or the files do
    not allow it."""

    @functools.wraps(main)
    def answering(arguments: list[str] | None = None) -> int:
        name = main.__globals__["__spec__"].name  # such as slurm.sweep, also where it is started by -m
        try:
            return main(arguments) or 0
        except (ValueError, ClusterError, OSError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2 if isinstance(error, ValueError) else 1
        except KeyboardInterrupt:
            return 1

    return answering


def parser_of(name: str, description: str | None, epilog: str | None = None) -> argparse.ArgumentParser:
    """A command's parser, with `--runs FOLDER` but for slurm.sweep, where runs= says it."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(f"python -m slurm.{name}", None, description, epilog, formatter_class=raw)
    parser.allow_abbrev = False
    if name != "sweep":
        told, place = "folder of run records (default: runs)", Path("runs").absolute()
        parser.add_argument("--runs", type=lambda text: Path(text).absolute(), default=place, help=told)
    return parser


def submitted(runs_folder: Path, names: list[str]) -> tuple[list, list[str]]:
    """All submissions of these records, and the runs in them that fit one of the names, or every one without names:
    whole names, patterns, or the beginning of the hash at the end. Raises ValueError for what fits nothing."""
    from slurm.submission import submissions

    known = submissions(runs_folder)
    if not known:
        raise ValueError(f"{runs_folder}: no sweep was submitted with its records there; --runs names another folder")
    runs = list(dict.fromkeys(row["run"] for submission in known for row in submission.rows))
    chosen: list[str] = [] if names else runs
    for name in (Path(name).name for name in names):
        begun = [run for run in runs if len(name) >= 4 and run.rpartition("-")[2].startswith(name)]
        if not (hits := fnmatch.filter(runs, name) or begun):
            raise ValueError(f"{name}: fits none of the {len(runs)} submitted runs, such as {', '.join(runs[:6])}")
        chosen += hits
    return known, list(dict.fromkeys(chosen))


@command
def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 1 where SLURM did not answer (the table is made from the records then), 2 for what is not accepted."""
    parser = parser_of("status", __doc__)
    parser.add_argument("names", nargs="*", metavar="RUN", help="only these: names, patterns, beginnings of hashes")
    watch = "refresh until nothing is left to wait for"
    parser.add_argument("--watch", nargs="?", type=float, const=5.0, metavar="SECONDS", help=watch)
    options = parser.parse_args(arguments)
    if options.watch is not None and options.watch < 1:
        parser.error("--watch: accepted are seconds from 1; each refresh asks SLURM's controller")
    while True:
        lines, moving, code = table(options.runs, options.names)
        clear = "\033[2J\033[H" if options.watch is not None and sys.stdout.isatty() else ""
        print(clear + "\n".join(lines), flush=True)
        if options.watch is None or not (moving or code):
            return code
        time.sleep(options.watch)


def table(runs_folder: Path, names: list[str]) -> tuple[list[str], bool, int]:
    """Lines of the table, whether anything in it moves, and the exit status."""
    from slurm.states import RULES, jobs_of, report_of, states_of

    known, runs = submitted(runs_folder, names)
    jobs, code, notes = [], 0, known[-1].cluster.notes
    try:
        jobs = jobs_of(known)
    except ClusterError as error:
        notes, code = {f"{error}. The table is made from the run records alone"}, 1
    states = states_of(runs_folder, runs, known, jobs)
    reports = [] if names else [report_of(submission, jobs) for submission in known]
    reports = [*(one for one in reports[:-1] if one[0] in MOVING), *(one for one in reports[-1:] if one[0])]
    rows = [HEADS, *map(row_of, states)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    room = shutil.get_terminal_size((200, 24)).columns if sys.stdout.isatty() else 10_000
    counted = Counter(state.state for state in states)
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip()[:room] for row in rows]
    lines += ["", ", ".join(f"{counted[state]} {state}" for state in RULES if counted[state])]
    lines += [f"report: {report}, {told}" for report, told in reports]
    lines += [f"note: {note}" for note in sorted(notes | {state.note for state in states if state.note})]
    return lines, any(word in MOVING for word in [*counted, *(report for report, _ in reports)]), code


def row_of(state) -> tuple[str, ...]:
    """The cells of one run."""
    from ablations.attempts import progress

    steps, last = int(state.status.get("steps") or 0), (state.attempts or [{}])[-1]
    done, speed, left_s, silent_s = progress(state.folder, steps)
    moving = state.state == "running"
    told = [f"waits: {state.job.reason}"] if state.state == "queued" else []
    told += (
        [f"no sign of life for {timedelta(seconds=round(silent_s))}"] if state.state == "running" and silent_s else []
    )
    return (
        state.run if len(state.run) <= SHOWN_RUN else f"{state.run[: SHOWN_RUN - 15]}..{state.run[-13:]}",
        "requeued" if state.state == "queued" and state.attempts else state.state,
        f"{done}/{steps}" if steps else "",
        f"{speed:.1f}" if moving and speed is not None else "",
        str(timedelta(seconds=round(left_s))) if moving and left_s is not None else "",
        (state.job.node if state.job else "") or last.get("node", ""),
        str(len(state.attempts) or state.status.get("attempts") or ""),
        "; ".join([*told, *filter(None, [state.error])]),
    )


if __name__ == "__main__":
    run_command(main)
