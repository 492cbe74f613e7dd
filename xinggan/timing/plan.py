"""The grid of scenarios of an efficiency study: groups in their order, and the end of a batch sweep.

A group holds every method under the same circumstances, to be measured side by side. Imports no torch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from xinggan.timing.scenario import KINDS, MODES, PRECISIONS, Task
from xinggan.timing.turns import Pace


@dataclass(frozen=True)
class Plan:
    """The grid of an efficiency study. Set as `timing.<key>=value`, or a comma list of values."""

    kinds: tuple[str, ...] = KINDS
    precisions: tuple[str, ...] = PRECISIONS
    modes: tuple[str, ...] = MODES  # of inference
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # each method's until memory ends
    compiled_batches: tuple[int, ...] = ()  # of the compiled modes; none: all batches
    compiled_precisions: tuple[str, ...] = ()  # of the same; none: all precisions
    training_modes: tuple[str, ...] = ("eager", "compiled")
    samplers: tuple[str, ...] | None = None  # of the sweep, at batch 1, fp32 and eager; None: all that there are
    steps: tuple[int, ...] = (1, 2, 4, 8, 10, 20, 50, 100)  # of the same
    rounds: int = 6  # up to twice as many where the machine is noisy
    seconds: float = 1.0  # of a scenario's turn in a round
    calls: int = 20  # at most so many in a turn
    slow_s: float = 60.0  # a call that takes longer ends the batch sweep
    together: int = 16  # processes alive at a time

    def __post_init__(self) -> None:
        """Raise ValueError for values that are not accepted."""
        for key, value in vars(self).items():
            values = value if isinstance(value, tuple) else (value,)
            if unknown := [each for each in values if each not in CHOICES.get(key, values)]:
                raise ValueError(f"timing.{key}={','.join(unknown)}: accepted are {', '.join(CHOICES[key])}")
            if any(isinstance(each, int | float) and each <= 0 for each in values):
                raise ValueError(f"timing.{key}: accepted are numbers above 0")

    @property
    def pace(self) -> Pace:
        """The number of samples of each scenario."""
        return Pace(self.rounds, self.seconds, self.calls)


CHOICES: dict[str, tuple[str, ...]] = {
    "kinds": KINDS,
    "precisions": PRECISIONS,
    "compiled_precisions": PRECISIONS,
    "modes": MODES,
    "training_modes": MODES[:2],
}
# A plan for each preset, and `quick`, a look of about a minute at a few methods.
PLANS = {
    "quick": Plan(
        precisions=("fp32",), modes=("eager",), batches=(1,), training_modes=("eager",), steps=(), rounds=2, seconds=0.5
    ),
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
    "small": Plan(batches=(1, 2, 4, 8, 16), compiled_batches=(1,), seconds=0.5),
    "paper": Plan(),
}


def plan_of(preset: str, words: Sequence[str], samplers: tuple[str, ...]) -> Plan:
    """The preset's plan, or that of `timing.plan`, with words such as `timing.batches=1,2,4`; an empty list is none.

    samplers: all that the methods know. Raises ValueError naming a word that is not accepted, and what is.
    """
    values = dict(word.removeprefix("timing.").partition("=")[::2] for word in words)
    name = values.pop("plan", preset if preset in PLANS else "paper")
    if name not in PLANS:
        raise ValueError(f"timing.plan={name}: accepted are {', '.join(PLANS)}")
    kinds = {each.name: str(each.type) for each in fields(Plan)}
    if unknown := [f"timing.{key}={text}" for key, text in values.items() if key not in kinds]:
        known = ", ".join(f"timing.{key}=" for key in ("plan", *kinds))
        raise ValueError(f"{', '.join(unknown)}: accepted are {known}")
    plan = replace(PLANS[name], **{key: _value(key, kinds[key], text) for key, text in values.items()})
    chosen = samplers if plan.samplers is None else plan.samplers
    if strange := [sampler for sampler in chosen if sampler not in samplers]:
        raise ValueError(f"timing.samplers={','.join(strange)}: accepted are {', '.join(samplers)}")
    return replace(plan, samplers=chosen)


def _value(key: str, kind: str, text: str) -> Any:
    """The value of a word: a tuple, of numbers in ascending order, or one number. Raises ValueError."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    number = float if "float" in kind else int if "int" in kind else str
    try:
        values = [number(part) for part in parts]
    except ValueError:
        accepted = "whole numbers" if number is int else "numbers"
        raise ValueError(f"timing.{key}={text}: accepted are {accepted}") from None
    if "tuple" in kind:
        return tuple(dict.fromkeys(values if number is str else sorted(values)))
    if len(values) != 1:
        raise ValueError(f"timing.{key}={text}: one number is accepted")
    return values[0]


def grid(methods: Sequence[Task], plan: Plan) -> list[list[Task]]:
    """All groups: counts; training; inference from the smallest batch up; the sweep over samplers and their steps.

    methods: a training task of each, of the batch it trains with; with training_steps=0 where it is not trained.
    """
    groups = [[replace(method, kind="counts", batch=1) for method in methods]]
    if "training" in plan.kinds:
        trained = [method for method in methods if method.training_steps]
        for precision in plan.precisions:
            for mode in plan.training_modes:
                groups.append([replace(method, precision=precision, mode=mode) for method in trained])
    if "inference" in plan.kinds:
        generating = [replace(method, kind="inference", batch=1) for method in methods]
        for batch in sorted({*plan.batches, *plan.compiled_batches}):
            for precision in plan.precisions:
                for mode in plan.modes:
                    batches, precisions = plan.batches, plan.precisions
                    if mode != "eager":
                        batches, precisions = plan.compiled_batches or batches, plan.compiled_precisions or precisions
                    if batch in batches and precision in precisions:
                        groups.append([replace(m, precision=precision, mode=mode, batch=batch) for m in generating])
        sampled = [method for method in generating if {"sampler", "steps"} <= method.settings.keys()]
        for steps in plan.steps:
            sweep = [(sampler, method) for sampler in plan.samplers or () for method in sampled]
            groups.append([replace(method, sampler=sampler, sampling_steps=steps) for sampler, method in sweep])
    return [group[start : start + plan.together] for group in groups for start in range(0, len(group), plan.together)]


def left_out(task: Task, scenarios: Iterable[dict[str, Any]], slow_s: float) -> str | None:
    """The reason to leave out a task: a smaller batch of it did not fit or took longer than slow_s. None to measure it.

    scenarios: of its method, as timing.json has them.
    """
    same = ("kind", "precision", "mode", "sampler", "sampling_steps")
    for one in scenarios:
        batch, because, median_ms = one["batch"], one["unavailable_because"], one["median_ms"]
        if batch >= task.batch or any(one[key] != getattr(task, key) for key in same):
            continue
        if because:
            return because if because.startswith("left out") else f"left out: at batch {batch}, {because}"
        if median_ms is not None and median_ms > 1000 * slow_s:
            return f"left out: at batch {batch} a call took {median_ms / 1000:.0f} s, more than {slow_s:g} s"
    return None
