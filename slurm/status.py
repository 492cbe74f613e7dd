"""One table of every run that was submitted: state, progress, speed, time left, node, attempts, last error line."""

import argparse
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

from slurm.queue import ClusterError, Job
from slurm.run import RULES, Run, jobs_of, observe
from slurm.submission import Submission, latest_with, submitted
from xinggan.command import exit_status, parser_of, run_command

HEADS = ("run", "state", "progress", "images/s", "left", "node", "tries", "")
MOVING = ("queued", "running", "elsewhere")  # states that --watch waits for
SHOWN_RUN = 60  # characters of a run's name
SILENT_S = 600.0  # a run that has written nothing for so long may be on a machine that is gone


def parser_with_runs(module: str, description: str | None) -> argparse.ArgumentParser:
    """A command's parser, with `--runs FOLDER`."""
    parser = parser_of(module, description)
    where, place = "folder of run records (default: runs)", Path("runs").absolute()
    parser.add_argument("--runs", type=lambda text: Path(text).absolute(), default=place, help=where)
    return parser


def command(name: str) -> Callable[[Callable[..., int | None]], Callable[..., int]]:
    """Of a command's main: its exit status as `exit_status` says, and 1 where SLURM refused or did not answer."""

    def answering(main: Callable[..., int | None], arguments: list[str] | None = None) -> int:
        try:
            return exit_status(f"slurm.{name}", lambda: main(arguments))
        except ClusterError as error:
            print(f"slurm.{name}: {error}", file=sys.stderr)
            return 1

    return lambda main: partial(answering, main)


@command("status")
def main(arguments: list[str] | None = None) -> None:
    """Exit status 0; 1: SLURM did not answer, and the table is made without it; 2: a word is not accepted."""
    parser = parser_with_runs("slurm.status", __doc__)
    parser.add_argument("names", nargs="*", metavar="RUN", help="only these: names, patterns, beginnings of hashes")
    watch = "refresh until nothing is left to wait for"
    parser.add_argument("--watch", nargs="?", type=float, const=5.0, metavar="SECONDS", help=watch)
    options = parser.parse_args(arguments)
    if options.watch is not None and options.watch < 1:
        parser.error("--watch: accepted are seconds from 1; each refresh asks SLURM's controller")
    moving = True
    while moving:
        lines, moving, problem = table(options.runs, options.names)
        clear = "\033[2J\033[H" if options.watch is not None and sys.stdout.isatty() else ""
        print(clear + "\n".join(lines), flush=True)
        if problem:
            raise problem
        moving = moving and options.watch is not None
        time.sleep(options.watch if moving else 0)


def table(runs_folder: Path, names: list[str]) -> tuple[list[str], bool, ClusterError | None]:
    """Lines of the table, whether anything in it moves, and why it was made from the records alone."""
    known, chosen = submitted(runs_folder, names)
    jobs, problem = jobs_of(known)
    runs = observe(chosen, known, jobs)
    reports = [] if names else shown_reports(known, jobs)
    rows = [HEADS, *map(cells, runs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    room = shutil.get_terminal_size((200, 24)).columns if sys.stdout.isatty() else 10_000
    counted = Counter(run.state for run in runs)
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip()[:room] for row in rows]
    lines += ["", ", ".join(f"{counted[state]} {state}" for state in RULES if counted[state])]
    lines += [f"report: {report}, {place}" for report, place in reports]
    notes = known[-1].cluster.notes | {run.note for run in runs if run.note}
    lines += [f"note: {note}" for note in sorted(notes)]
    moving = any(word in MOVING for word in [*counted, *(report for report, _ in reports)])
    return lines, moving, problem and ClusterError(f"{problem}. The table is made from the run records alone")


def shown_reports(known: list[Submission], jobs: list[Job]) -> list[tuple[str, str]]:
    """State and place of the newest report, of those to come, and of those that failed and no newer one replaces."""
    shown = []
    for submission in known:
        state, place = submission.report_state(jobs)
        newest = latest_with(known, submission.everything) is submission
        if state in MOVING or (state and (submission is known[-1] or (state == "failed" and newest))):
            shown.append((state, place))
    return shown


def cells(run: Run) -> tuple[str, ...]:
    """What the table's row says of a run."""
    status, attempts, job = run.record.status, run.attempts, run.job
    steps, queued, running = int(status.get("steps") or 0), run.state == "queued", run.state == "running"
    done, speed, left_s, silent_s = progress(run.folder, steps)
    remarks = [f"waits: {job.reason}"] if job and queued else []
    remarks += [f"no sign of life for {timedelta(seconds=round(silent_s))}"] if running and silent_s else []
    return (
        run.name if len(run.name) <= SHOWN_RUN else f"{run.name[: SHOWN_RUN - 15]}..{run.name[-13:]}",
        "requeued" if queued and attempts else run.state,
        f"{done}/{steps}" if steps else "",
        f"{speed:.1f}" if running and speed is not None else "",
        str(timedelta(seconds=round(left_s))) if running and left_s is not None else "",
        (job.node if job else "") or (attempts or [{}])[-1].get("node", ""),
        str(len(attempts) or status.get("attempts") or ""),
        "; ".join([*remarks, *filter(None, [run.error])]),
    )


def progress(folder: Path, steps: int) -> tuple[int, float | None, float | None, float]:
    """(steps done, images a second, seconds of training left, seconds of silence), from the end of history.jsonl.

    Speed and seconds left are those of the last steps, None where they are not known. Silence is 0 where it is short.
    """
    try:
        with (folder / "history.jsonl").open("rb") as file:
            beginning = file.seek(max(0, file.seek(0, 2) - 8192))
            lines = file.read().decode(errors="replace").splitlines()[bool(beginning) :]  # the first may be half a line
        silent_s = time.time() - max((folder / name).stat().st_mtime for name in ("history.jsonl", "status.json"))
    except OSError:
        return 0, None, None, 0.0
    whole = [json.loads(line) for line in lines if line.endswith("}}")]
    losses = [entry for entry in whole if "losses" in entry][-6:]
    done = losses[-1]["step"] if losses else 0
    if len(losses) < 2 or done >= steps:
        return done, None, None, 0.0
    first, *_, before, last = [losses[0], *losses]
    step_s = (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])
    if silent_s > max(SILENT_S, 20 * step_s * (last["step"] - before["step"])):
        return done, None, None, silent_s
    return done, last.get("images_per_second"), (steps - done) * step_s, 0.0


if __name__ == "__main__":
    run_command(main)
