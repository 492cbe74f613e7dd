"""Measuring scenarios side by side: each has a process of its own, and they take turns, so that drift hits all alike.

All are built first, several at once; from then on exactly one of them works at any time: each its first call and its
warming up, then rounds in which each takes a few samples. Imports no torch.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from xinggan.timing.scenario import REPEATS_WITHIN, Scenario, halves_differ_by
from xinggan.timing.task import Task, impossible

ROOT = Path(__file__).parents[2]  # where workers import the suite from


@dataclass(frozen=True)
class Pace:
    """How many samples are taken. While halves of the rounds disagree, there are up to twice as many rounds."""

    rounds: int = 6
    seconds: float = 0.5  # a scenario's turn in a round takes this long, or one sample,
    calls: int = 10  # or so many
    answer_s: float = 3600.0  # a process that has not answered by then is given up


@dataclass
class Measured:
    """What came of a task."""

    task: Task
    scenario: Scenario
    counts: dict[str, Any]  # of a task of that kind


def scenario_of(task: Task, because: str | None = None) -> Scenario:
    """Its scenario before anything is measured, or with the reason why nothing will be."""
    scenario = Scenario(task.kind, task.method, task.device, task.precision, task.batch, task.height, task.width)
    scenario.mode, scenario.sampler, scenario.sampling_steps = task.mode, task.sampler, task.sampling_steps
    scenario.unavailable_because = because
    return scenario


class Worker:
    """The process of one task. Its answers are plain values; after a failure it only says why it is unavailable."""

    def __init__(self, task: Task, pace: Pace):
        self.task, self.pace = task, pace
        self.measured = Measured(task, scenario_of(task), {})
        self._folder = tempfile.TemporaryDirectory(prefix="timing-", ignore_cleanup_errors=True)
        self._errors = Path(self._folder.name, "stderr")
        self._process: subprocess.Popen | None = None
        self._joules: list[float] = []

    @property
    def lives(self) -> bool:
        return self.measured.scenario.unavailable_because is None

    def start(self) -> None:
        """Start the process and let it build, without waiting for it."""
        if because := impossible(self.task):
            self._give_up(because)
            return
        compiled = str(Path(self._folder.name, "compiled"))  # nothing compiled for another scenario is found there
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "xinggan.timing.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": compiled, "PYTHONPATH": path},
                start_new_session=True,  # with the compilers that it starts; Ctrl-C reaches the parent alone
            )
        self._tell(asdict(self.task))
        self._tell({"do": "build"})

    def built(self) -> None:
        """Wait until it is."""
        if answer := self._answer():
            self.measured.scenario.device = answer["device_name"]
            self.measured.scenario.threads = answer["threads"]

    def first(self) -> None:
        """Its first call, warming up, and what was seen by then."""
        answer = self._turn({"do": "first"})
        if answer and self.task.kind == "counts":
            self.measured.counts = answer
        elif answer:
            vars(self.measured.scenario).update(answer)

    def round(self) -> None:
        """A few samples."""
        answer = self._turn({"do": "round", "seconds": self.pace.seconds, "calls": self.pace.calls})
        if not answer:
            return
        scenario = self.measured.scenario
        walls = [[wall for wall, _ in sample] for sample in answer["samples"]]
        scenario.samples_ms += [sum(stages) / len(stages) for stages in walls]
        scenario.stage_ms += walls if self.task.kind == "training" else []
        on_device = [[of for _, of in sample] for sample in answer["samples"]]
        scenario.device_ms += [sum(stages) / len(stages) for stages in on_device if None not in stages]
        scenario.rounds.append(len(walls))
        if answer["joules"] is not None:
            self._joules.append(answer["joules"])
            images = len(scenario.samples_ms) * len(walls[0]) * scenario.batch
            scenario.joules_per_image = sum(self._joules) / images

    def end(self) -> None:
        """Let the process go."""
        if self.lives and (answer := self._turn({"do": "end"})):
            self.measured.scenario.energy_unavailable_because = answer["energy_unavailable_because"]
        self.stop()

    def stop(self) -> None:
        """End the process, whatever it is at."""
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe:
                    pipe.close()
            self._process = None
        self._folder.cleanup()

    def _turn(self, what: dict[str, Any]) -> dict[str, Any] | None:
        if not self.lives:
            return None
        self._tell(what)
        return self._answer()

    def _tell(self, what: dict[str, Any]) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the missing answer says it

    def _answer(self) -> dict[str, Any] | None:
        """The next answer; None, and the reason kept, where there is none."""
        if not self.lives:
            return None
        assert self._process is not None and self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], self.pace.answer_s)[0]:
            self._give_up(f"no answer within {self.pace.answer_s:.0f} s")
            return None
        line = self._process.stdout.readline()
        if not line:
            self._give_up(reason_of_death(self._process.wait(), self._errors))
            return None
        answer = json.loads(line)
        if because := answer.get("unavailable_because"):
            self._give_up(because)
            return None
        return answer

    def _give_up(self, because: str) -> None:
        self.measured.scenario.unavailable_because = because
        self.stop()


def reason_of_death(status: int, errors: Path) -> str:
    """Why a process ended without an answer: its signal, else the last line it wrote to standard error."""
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
) -> list[Measured]:
    """Measure tasks side by side. `check` is called between turns and may raise, which ends all the processes.

    A yardstick takes turns with those that are timed. `tell` is given what is being done, for a progress display.
    """
    workers = [Worker(task, pace) for task in tasks]
    measured = [worker.measured for worker in workers]
    devices = sorted({task.device for task in tasks if task.kind != "counts" and not impossible(task)})
    yardsticks = [Worker(Task("yardstick", "yardstick", {}, "", device), pace) for device in devices]
    workers += yardsticks
    building = max(1, min(4, os.cpu_count() or 1))  # processes that are built at once
    try:
        for start in range(0, len(workers), building):
            check()
            for worker in workers[start : start + building]:
                worker.start()
            for worker in workers[start : start + building]:
                worker.built()
        for worker in workers:
            check()
            if worker.lives:
                tell(f"{worker.task}: {'compiling' if worker.task.mode != 'eager' else 'first calls'}")
            worker.first()
        timed = [worker for worker in workers if worker.task.kind != "counts"]
        for done in range(2 * pace.rounds):
            going = [worker for worker in timed if worker.lives]
            steady = not any(unsteady(worker.measured.scenario) for worker in going)
            if not going or (done >= pace.rounds and steady):
                break
            tell(f"{going[0].task}{f' and {len(going) - 1} more' if going[1:] else ''}: round {done + 1}")
            for worker in going[done % len(going) :] + going[: done % len(going)]:
                check()
                worker.round()
        for worker in workers:
            worker.end()
    finally:
        for worker in workers:
            worker.stop()
    for one in measured:
        for yardstick in yardsticks:
            if one.scenario.samples_ms and one.task.device == yardstick.task.device:
                one.scenario.yardstick_ms = median(yardstick.measured.scenario.samples_ms or [0.0]) or None
    return measured


def unsteady(scenario: Scenario) -> bool:
    """Whether the halves of the rounds so far disagree by more than medians may."""
    return (halves_differ_by(scenario.samples_ms, scenario.rounds) or 0) > REPEATS_WITHIN
