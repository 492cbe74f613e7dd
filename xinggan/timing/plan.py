"""Which scenarios are measured, in which company and order, and where a ladder of growing batches ends.

A group is what is measured side by side: every method under the same circumstances. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from xinggan.timing.scenario import MODES, PRECISIONS
from xinggan.timing.task import Task
from xinggan.timing.turns import Pace

SAMPLERS = ("ddpm", "ddim", "dpmsolver++", "unipc")
SAMPLING_STEPS = (1, 2, 4, 8, 10, 20, 50, 100)


@dataclass(frozen=True)
class Plan:
    """The grid of an efficiency study. Set as `timing.<key>=value`, or a comma list of values."""

    methods: tuple[str, ...] = ()  # none: all of them
    precisions: tuple[str, ...] = PRECISIONS
    modes: tuple[str, ...] = MODES
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # each method's until memory ends
    compiled_batches: tuple[int, ...] = ()  # of the compiled modes; none: all batches
    compiled_precisions: tuple[str, ...] = ()  # of the same; none: all precisions
    training_modes: tuple[str, ...] = ("eager", "compiled")
    samplers: tuple[str, ...] = SAMPLERS  # of the sweep, which is at batch 1, fp32 and eager
    steps: tuple[int, ...] = SAMPLING_STEPS
    rounds: int = 6  # up to twice as many where the machine is noisy
    seconds: float = 1.0  # of a scenario's turn in a round
    calls: int = 20  # at most so many in a turn
    slow_s: float = 60.0  # a call that takes longer ends the ladder of batches
    together: int = 16  # processes alive at a time

    @property
    def pace(self) -> Pace:
        return Pace(self.rounds, self.seconds, self.calls)


PLANS = {
    "smoke": Plan(
        batches=(1, 4),
        compiled_batches=(1,),
        compiled_precisions=("fp32",),  # compiling takes most of the time
        training_modes=("eager",),
        samplers=("ddim", "dpmsolver++"),
        steps=(1, 4, 20),
        rounds=4,
        seconds=0.2,
        calls=10,
    ),
    "small": Plan(batches=(1, 2, 4, 8, 16), compiled_batches=(1,), rounds=6, seconds=0.5),
    "paper": Plan(),
}
CHOICES: dict[str, tuple[str, ...]] = {
    "precisions": PRECISIONS,
    "compiled_precisions": PRECISIONS,
    "modes": MODES,
    "training_modes": MODES[:2],
    "samplers": SAMPLERS,
}


def plan_of(preset: str, words: Sequence[str]) -> Plan:
    """The preset's plan with words such as `timing.batches=1,2,4`; an empty value is an empty list.

    Raises ValueError naming every word that is not accepted.
    """
    plan = PLANS.get(preset, Plan())
    values: dict[str, Any] = {}
    problems = []
    kinds = {field.name: field.type for field in fields(Plan)}
    for word in words:
        key, _, text = word.removeprefix("timing.").partition("=")
        if key not in kinds:
            problems.append(f"{word}: accepted are {', '.join(f'timing.{known}=' for known in kinds)}")
            continue
        parts = [part.strip() for part in text.split(",") if part.strip()]
        try:
            values[key] = _value(key, kinds[key], parts)
        except ValueError as error:
            problems.append(f"{word}: {error}")
    if problems:
        raise ValueError("; ".join(problems))
    return replace(plan, **values)


def _value(key: str, kind: Any, parts: list[str]) -> Any:
    """The value that the parts of a comma list stand for. Raises ValueError saying what is accepted."""
    if key == "methods":
        return tuple(parts)
    if key in CHOICES:
        if unknown := [part for part in parts if part not in CHOICES[key]]:
            raise ValueError(f"{', '.join(unknown)}: accepted are {', '.join(CHOICES[key])}")
        return tuple(dict.fromkeys(parts))
    whole = kind is not float
    try:
        numbers = [int(part) if whole else float(part) for part in parts]
    except ValueError:
        raise ValueError(f"accepted are {'whole numbers' if whole else 'numbers'}") from None
    if any(not 0 < number < float("inf") for number in numbers):
        raise ValueError("accepted are numbers above 0")
    if kind in (int, float):
        if len(numbers) != 1:
            raise ValueError("one number is accepted")
        return numbers[0]
    return tuple(sorted(set(numbers)))


@dataclass(frozen=True)
class Subject:
    """A method that takes part: what its tasks have in common."""

    title: str
    settings: dict[str, Any]
    data: str  # folder of the packed data set
    device: str
    height: int
    width: int
    training_steps: int = 0  # 0: it is not trained
    decay_steps: int = 0
    training_batch: int = 0

    def task(self, kind: str, **circumstances: Any) -> Task:
        return Task(
            kind, self.title, self.settings, self.data, self.device, height=self.height, width=self.width,
            **circumstances,
        )  # fmt: skip

    @property
    def training(self) -> dict[str, int]:
        """What a training task has beyond its precision and mode."""
        steps = {"training_steps": self.training_steps, "decay_steps": self.decay_steps}
        return steps | {"batch": self.training_batch}


def grid(subjects: Sequence[Subject], plan: Plan) -> list[list[Task]]:
    """All groups: counts; training; inference from the smallest batch up; the sweep over samplers and their steps."""
    groups = [[subject.task("counts") for subject in subjects]]
    trained = [subject for subject in subjects if subject.training_steps]
    for precision in plan.precisions:
        for mode in plan.training_modes:
            place = {"precision": precision, "mode": mode}
            groups.append([one.task("training", **place, **one.training) for one in trained])
    for batch in sorted({*plan.batches, *plan.compiled_batches}):
        for precision in plan.precisions:
            for mode in plan.modes:
                batches, precisions = plan.batches, plan.precisions
                if mode != "eager":
                    batches = plan.compiled_batches or batches
                    precisions = plan.compiled_precisions or precisions
                if batch in batches and precision in precisions:
                    every = [one.task("inference", precision=precision, mode=mode, batch=batch) for one in subjects]
                    groups.append(every)
    sampled = [subject for subject in subjects if {"sampler", "steps"} <= subject.settings.keys()]
    for steps in plan.steps:
        sweep = [(sampler, one) for sampler in plan.samplers for one in sampled]
        groups.append([one.task("inference", sampler=sampler, sampling_steps=steps) for sampler, one in sweep])
    return [group[start : start + plan.together] for group in groups for start in range(0, len(group), plan.together)]


class Ladders:
    """Where each method's batches stop growing: once one does not fit or takes too long, larger ones are not tried."""

    def __init__(self, slow_s: float):
        self.slow_s = slow_s
        self._ended: dict[tuple, str] = {}

    def left_out(self, task: Task) -> str | None:
        """Why a task is not even tried; None if it is."""
        return self._ended.get(_ladder(task.method, asdict(task)))

    def note(self, method: str, scenario: dict[str, Any]) -> None:
        """Take account of what was measured, now or in an earlier attempt."""
        batch, because, median_ms = scenario["batch"], scenario["unavailable_because"], scenario["median_ms"]
        if because:
            ended = because if because.startswith("left out") else f"left out: at batch {batch}, {because}"
        elif median_ms is not None and median_ms > 1000 * self.slow_s:
            ended = f"left out: at batch {batch} a call took {median_ms / 1000:.0f} s, more than {self.slow_s:g} s"
        else:
            return
        self._ended.setdefault(_ladder(method, scenario), ended)


def _ladder(method: str, scenario: dict[str, Any]) -> tuple:
    return (method, *(scenario[key] for key in ("kind", "precision", "mode", "sampler", "sampling_steps")))
