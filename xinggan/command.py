"""The exit status of the suite's commands: done, refused with one message, or interrupted. Imports nothing heavy."""

import sys
from collections.abc import Callable


def exit_status(name: str, command: Callable[[], None]) -> int:
    """Run `command`; returns 0, 2 for what it refuses (ValueError, OSError), or 130 when it is interrupted.

    Why is said in one message on standard error that begins with `name`.
    """
    try:
        command()
    except (ValueError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0
