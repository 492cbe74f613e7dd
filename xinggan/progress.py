"""Progress with speed and time left: a bar on a terminal, a line every ten seconds in a log file."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Count `unit`s done out of `total`; `update(n, note)` after each piece of work. Use as a context manager.

    `done` says how much was there already when the work was resumed; speed counts only what this process did.
    """

    def __init__(self, description: str, total: int, unit: str = "items", done: int = 0, enabled: bool = True):
        self.description, self.total, self.unit, self.done = description, total, unit, done
        self.enabled = enabled
        self._resumed_at = done
        self._bar: Any = None

    def __enter__(self) -> "Progress":
        self._started = self._last_line = time.monotonic()
        if self.enabled and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns: list[Any] = ["{task.description}", BarColumn(bar_width=None), MofNCompleteColumn(), self.unit]
            self._bar = Bar(
                *columns, TextColumn("{task.fields[note]}"), TimeRemainingColumn(), console=Console(stderr=True)
            )
            self._bar.start()
            self._task = self._bar.add_task(self.description, total=self.total, completed=self.done, note="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()
        elif self.enabled and self._last_line > self._started:
            self._print_line("")

    @property
    def speed(self) -> float:
        """Units a second since this process began."""
        return (self.done - self._resumed_at) / max(time.monotonic() - self._started, 1e-9)

    def update(self, count: int = 1, note: str = "") -> None:
        """Say that `count` more units are done; `note` is a short text such as the current losses."""
        self.done += count
        if self._bar:
            self._bar.update(self._task, completed=self.done, note=f"{self.speed:.1f} {self.unit}/s {note}")
        elif self.enabled and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._print_line(note)

    def _print_line(self, note: str) -> None:
        line = f"{self.description}: {self.done}/{self.total} {self.unit}"
        if self.speed:  # nothing is known of the time left before the first is done
            line += f", {self.speed:.1f}/s, {(self.total - self.done) / self.speed:.0f} s left"
        print(f"{line}  {note}".rstrip(), file=sys.stderr, flush=True)


def track(
    iterable: Iterable[Item], description: str, total: int, unit: str = "items", enabled: bool = True
) -> Iterator[Item]:
    """Yield from `iterable` while a progress display counts its items."""
    with Progress(description, total, unit, enabled=enabled) as progress:
        for item in iterable:
            yield item
            progress.update()
