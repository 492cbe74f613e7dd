"""Stopping in an orderly way: a signal asks, the training loop answers at the end of its step."""

import signal
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


class Preempted(Exception):
    """A signal asked to stop; what was computed so far is saved."""


class StopRequest:
    """Context in which SIGTERM, SIGINT and SIGUSR2 set `signal_name` and kill nothing; a second SIGINT interrupts."""

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raise Preempted if a signal has asked to stop."""
        if self.signal_name:
            raise Preempted(self.signal_name)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal_name:
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name
