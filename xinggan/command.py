"""Beginning and end of the suite's commands: what they print, what they refuse, and their exit status.

Imports nothing heavy.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

ROWS_SHOWN = 20  # problems in a message, by default


@dataclass(frozen=True)
class Problem:
    """One thing to repair: the file (relative to the root), its row (the header is row 1; None: the file), and what."""

    file: str
    row: int | None
    what: str


class LayoutProblems(ValueError):
    """Every problem of a folder's files, and the consequence. As text: a table of the first `ROWS_SHOWN`."""

    def __init__(self, root: Path, problems: Sequence[Problem], consequence: str = "nothing was prepared"):
        super().__init__(root, problems, consequence)
        self.root, self.problems, self.consequence = root, list(problems), consequence

    def __str__(self) -> str:
        return self.table(ROWS_SHOWN)

    def table(self, rows_shown: int) -> str:
        """The problems as text, at most `rows_shown` of them and the number of the others."""
        shown, count = self.problems[:rows_shown], len(self.problems)
        cells = [("file", "row", "problem"), *((p.file, "" if p.row is None else str(p.row), p.what) for p in shown)]
        file_width, row_width, _ = (max(map(len, column)) for column in zip(*cells, strict=True))
        lines = [f"{count} problem{'' if count == 1 else 's'} in {self.root}; {self.consequence}.", ""]
        lines += [f"  {file:<{file_width}}  {row:>{row_width}}  {what}" for file, row, what in cells]
        if count > len(shown):
            lines.append(f"  ... and {count - len(shown)} more")
        return "\n".join(lines)


class Failed(RuntimeError):
    """What a command began and could not finish; the message tells all there is to know."""


def parser_of(module: str, description: str | None, epilog: str | None = None) -> argparse.ArgumentParser:
    """The parser of `python -m MODULE`, which accepts no abbreviations; text of several lines keeps its lines."""
    raw = "\n" in f"{description}{epilog}"
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        allow_abbrev=False,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter if raw else argparse.HelpFormatter,
    )


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run a command's `main` and end the process with the status it returns.

    Characters that the terminal's encoding lacks are printed as `?`: an arrow in a table is no reason to fail. Where
    nobody reads on, as after `| head`, the process ends without a word, as other programs do.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        status = main()
        print(end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be written at exit
        status = 128 + signal.SIGPIPE
    sys.exit(status)


def exit_status(name: str, command: Callable[[], int | None], rows_shown: int = ROWS_SHOWN) -> int:
    """The status that `command` returns (None: 0), or 1: it Failed, 2: refused (ValueError, OSError), 130: interrupted.

    Why is said in one message on standard error that begins with `name`, with at most `rows_shown` problems of files.
    """
    try:
        return command() or 0
    except Failed as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # see `run_command`
        raise
    except (ValueError, OSError) as error:
        text = error.table(rows_shown) if isinstance(error, LayoutProblems) else reason(error)
        print(f"{name}: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted; nothing is left half-written", file=sys.stderr)
        return 130


def reason(error: BaseException) -> str:
    """The text of an error; that of the operating system begins with its path: `/full/x.json: No space left`."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)
