"""One table of every run that was submitted: state, progress, speed, time left, node, attempts, last error line."""

import argparse
import fnmatch
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from slurm.queue import ClusterError

HEADS = ("run", "state", "progress", "images/s", "left", "node", "tries", "")
SHOWN_RUN = 60  # characters of a run's name
SILENT_S = 600.0  # a run that has written nothing for so long may be on a node that is gone


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 1 where SLURM did not answer (the table is made from the records then), 2 for what is not accepted."""
    parser = parser_of("status", __doc__)
    parser.add_argument("names", nargs="*", metavar="RUN", help="only these: names, patterns, beginnings of hashes")
    parser.add_argument(
        "--watch", nargs="?", type=float, const=5.0, metavar="SECONDS", help="refresh until nothing is left to wait for"
    )
    options = parser.parse_args(arguments)
    if options.watch is not None and options.watch < 1:
        parser.error("--watch: accepted are seconds from 1; each refresh asks SLURM's controller")

    def show() -> int:
        while True:
            lines, moving, code = table(options.runs.absolute(), options.names)
            clear = "\033[2J\033[H" if options.watch is not None and sys.stdout.isatty() else ""
            print(clear + "\n".join(lines), flush=True)
            if options.watch is None or not (moving or code):
                return code
            time.sleep(options.watch)

    return answered("status", show)


def parser_of(command: str, description: str | None, epilog: str | None = None) -> argparse.ArgumentParser:
    """A command's parser, with `--runs FOLDER` but for slurm.sweep, where runs= says it."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(f"python -m slurm.{command}", None, description, epilog, formatter_class=raw)
    parser.allow_abbrev = False
    if command != "sweep":
        parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of run records (default: runs)")
    return parser


def answered(command: str, act: Callable[[], int | None]) -> int:
    """Exit status of a command: 2 where what was asked is not accepted, 1 where SLURM or the files do not allow it."""
    try:
        return act() or 0
    except (ValueError, ClusterError, OSError) as error:
        print(f"slurm.{command}: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    except KeyboardInterrupt:
        print(f"slurm.{command}: stopped; the same command goes on", file=sys.stderr)
        return 1


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
        hits = fnmatch.filter(runs, name) or begun
        if not hits:
            there = ", ".join(runs[:6]) + (", ..." if len(runs) > 6 else "")
            raise ValueError(f"{name}: fits none of the {len(runs)} submitted runs. There are: {there}")
        chosen += hits
    return known, list(dict.fromkeys(chosen))


def table(runs_folder: Path, names: list[str]) -> tuple[list[str], bool, int]:
    """Lines of the table, whether anything in it still moves, and the exit status."""
    from slurm.states import RULES, jobs_of, report_of, states_of

    known, runs = submitted(runs_folder, names)
    jobs, code, notes = [], 0, setup_notes(known[-1].cluster)
    try:
        jobs = jobs_of(known)
    except ClusterError as error:
        notes, code = {f"{error}. The table is made from the run records alone"}, 1
    states = states_of(runs_folder, runs, known, jobs)
    report, told = ("", "") if names else report_of(known[-1], jobs)
    rows = [HEADS, *(row_of(runs_folder, state) for state in states)]
    rows += [("report", report, "", "", "", "", "", told)] if report else []
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    room = shutil.get_terminal_size((200, 24)).columns if sys.stdout.isatty() else 10_000
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip()[:room] for row in rows]
    counted = Counter(state.state for state in states)
    lines += ["", ", ".join(f"{counted[state]} {state}" for state in RULES if counted[state])]
    lines += [f"note: {note}" for note in sorted(notes | {state.note for state in states if state.note})]
    return lines, bool({"queued", "running", "elsewhere"} & {*counted, report}), code


def setup_notes(cluster) -> set[str]:
    """What may surprise about the lines of setup."""
    lines = [line for line in cluster.values.get("setup", []) if "activate" in line and "python" not in cluster.values]
    return {f"setup: {line} does not choose the Python of the runs; python=COMMAND does" for line in lines}


def row_of(runs_folder: Path, state) -> tuple[str, ...]:
    """The cells of one run."""
    progress, speed, left, silent = progress_of(runs_folder / state.run, state)
    last = (state.attempts or [{}])[-1]
    name = state.run if len(state.run) <= SHOWN_RUN else f"{state.run[: SHOWN_RUN - 15]}..{state.run[-13:]}"
    word = "requeued" if state.state == "queued" and state.attempts else state.state
    waits = f"waits: {state.job.reason}" if state.state == "queued" else ""
    node = (state.job.node if state.job else "") or last.get("node", "")
    tries = str(len(state.attempts) or state.status.get("attempts") or "")
    return name, word, progress, speed, left, node, tries, "; ".join(filter(None, (waits, silent, state.error)))


def progress_of(folder: Path, state) -> tuple[str, str, str, str]:
    """From the end of history.jsonl: steps done and planned, images a second and the training time left at the speed of
    the last steps, and for how long the run has been silent, where that is long."""
    steps, losses = int(state.status.get("steps") or 0), []
    try:
        with (folder / "history.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 8192))
            lines = file.read().decode(errors="replace").splitlines()
        silent_s = time.time() - max((folder / name).stat().st_mtime for name in ("history.jsonl", "status.json"))
    except OSError:
        return f"0/{steps}" if steps else "", "", "", ""
    for line in lines:
        if (
            line.startswith("{") and line.endswith("}") and "losses" in (entry := json.loads(line))
        ):  # not cut in the middle
            losses.append(entry)
    last, first = losses[-1] if losses else {"step": 0}, losses[max(0, len(losses) - 6)] if losses else {"step": 0}
    progress = f"{last['step']}/{steps}" if steps else ""
    if state.state != "running" or not first["step"] < last["step"] < steps:
        return progress, "", "", ""
    step_s = (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])
    if silent_s > max(SILENT_S, 20 * step_s * (last["step"] - losses[-2]["step"])):
        return progress, "", "", f"no sign of life for {timedelta(seconds=round(silent_s))}"
    left = timedelta(seconds=round((steps - last["step"]) * step_s))
    return progress, f"{last.get('images_per_second', 0):.1f}", str(left), ""


if __name__ == "__main__":
    sys.exit(main())
