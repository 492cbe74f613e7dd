"""Beginning and end of the suite's commands: what they print, and their exit status. Imports nothing heavy."""

import os
import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import NoReturn


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run a command's `main` and end the process with the status it returns.

    Characters that the terminal's encoding lacks are printed as `?`: an arrow in a table is no reason to fail.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(main())


def exit_status(name: str, command: Callable[[], int | None]) -> int:
    """The status that `command` returns (None: 0), 2 for what it refuses (ValueError, OSError), 130 when interrupted.

    Why is said in one message on standard error that begins with `name`.
    """
    try:
        return command() or 0
    except (ValueError, OSError) as error:
        print(f"{name}: {reason(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted; nothing was written", file=sys.stderr)
        return 130


def reason(error: BaseException) -> str:
    """The text of an error; that of the operating system begins with its path: `/full/x.json: No space left`."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)
