"""Measuring scenarios side by side: each has a process of its own, and they take turns, so that drift affects all.

All methods are built first, several at once. From then on exactly one process works at any time: first calls and
warm-up, one process after another, then rounds in which each process takes a few samples. Imports no torch.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

from xinggan.timing.scenario import REPEATS_WITHIN, Scenario, Task

ROOT = Path(__file__).parents[2]  # where the processes import the suite from


@dataclass(frozen=True)
class Pace:
    """The number of samples. While the halves of the rounds disagree, there are up to twice as many rounds."""

    rounds: int = 6
    seconds: float = 0.5  # a scenario's turn in a round takes this long, or one sample,
    calls: int = 10  # or so many
    answer_s: float = 3600.0  # a process that has not answered by then is killed


class Worker:
    """The process of one task. After a failure its scenario says why it is unavailable, and its turns do nothing."""

    def __init__(self, task: Task, pace: Pace):
        self.task, self.pace, self.scenario = task, pace, Scenario.of(task, task.impossible)
        self._process: subprocess.Popen | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="timing-", ignore_cleanup_errors=True)
        self._errors = Path(self._folder.name, "stderr")

    @property
    def alive(self) -> bool:
        """Whether nothing failed so far."""
        return self.scenario.unavailable_because is None

    def start(self) -> None:
        """Start the process and tell it to build, without waiting for it."""
        if not self.alive:
            return
        compiled = str(Path(self._folder.name, "compiled"))  # nothing compiled for another scenario is found there
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "xinggan.timing.measurement"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": compiled, "PYTHONPATH": path},
                start_new_session=True,  # with the compilers that it starts; Ctrl-C reaches the parent alone
            )
        self._tell(asdict(self.task))
        self._tell({"turn": "build"})

    def turn(self, turn: str, **arguments: float) -> None:
        """Let the process work, "first" or "round", and wait for its answer."""
        if self.alive:
            self._tell({"turn": turn} | arguments)
            self.wait()

    def wait(self) -> None:
        """Take the scenario so far from the next answer, or the reason why there is none."""
        if not self.alive:
            return
        assert self._process is not None and self._process.stdout is not None
        because = None
        if not select.select([self._process.stdout], [], [], self.pace.answer_s)[0]:
            because = f"no answer within {self.pace.answer_s:.0f} s"
        elif line := self._process.stdout.readline():
            self.scenario = Scenario(**json.loads(line))
        else:
            because = reason_of_death(self._process.wait(), self._errors)
        self.scenario.unavailable_because = because or self.scenario.unavailable_because
        if not self.alive:
            self.stop()  # at once: the others may need its memory

    def stop(self) -> None:
        """Kill the process and remove its files."""
        if process := self._process:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in filter(None, (process.stdin, process.stdout)):
                with suppress(BrokenPipeError):
                    pipe.close()
            self._process = None
        self._folder.cleanup()

    def _tell(self, what: dict) -> None:
        """Send the process a line of JSON."""
        assert self._process is not None and self._process.stdin is not None
        with suppress(BrokenPipeError):  # the missing answer says it
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
            self._process.stdin.flush()


def reason_of_death(status: int, errors: Path) -> str:
    """The reason why a process ended without an answer: its signal, else its last line on standard error."""
    if status == -signal.SIGKILL:
        return "the process was killed by signal 9, as happens when the computer's memory is used up"
    if status < 0:
        return f"the process was killed by signal {-status}"
    lines = errors.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"the process ended with status {status}"


def measure_together(
    tasks: Sequence[Task],
    pace: Pace,
    check: Callable[[], None] = lambda: None,
    tell: Callable[[str], None] = lambda what: None,
) -> list[Scenario]:
    """A scenario for each task, measured side by side; on each device a control workload takes turns with them.

    `check` is called between turns and may raise, which ends all the processes. `tell` is given what is being done, for
    a progress display.
    """
    devices = sorted({task.device for task in tasks if task.kind != "counts" and not task.impossible})
    controls = [Worker(Task("control", "control workload", {}, "", device), pace) for device in devices]
    measured = [Worker(task, pace) for task in tasks]
    workers = measured + controls
    building = max(1, min(4, os.cpu_count() or 1))  # processes that are built at once
    try:
        for start in range(0, len(workers), building):
            check()
            for worker in workers[start : start + building]:
                worker.start()
            for worker in workers[start : start + building]:
                worker.wait()
        for worker in workers:
            check()
            if worker.alive:
                tell(f"{worker.task}: {'compiling' if worker.task.mode != 'eager' else 'first calls'}")
            worker.turn("first")
        for done in range(2 * pace.rounds):
            going = [worker for worker in workers if worker.alive and worker.task.kind != "counts"]
            differences = [worker.scenario.halves_differ_by or 0 for worker in going]
            if not going or (done >= pace.rounds and max(differences) <= REPEATS_WITHIN):
                break
            tell(f"{going[0].task}{f' and {len(going) - 1} more' if going[1:] else ''}: round {done + 1}")
            first = done % len(going)
            for worker in going[first:] + going[:first]:
                check()
                worker.turn("round", seconds=pace.seconds, calls=pace.calls)
    finally:
        for worker in workers:
            worker.stop()
    medians = {one.task.device: median(one.scenario.samples_ms) for one in controls if one.scenario.samples_ms}
    return [
        replace(one.scenario, control_ms=medians.get(one.task.device) if one.scenario.samples_ms else None)
        for one in measured
    ]
