"""A `Task` to measure becomes a `Scenario` with every raw sample, as timing.json keeps it.

`noise_verdict` judges whether the machine was quiet enough for medians to be trusted, `print_timing` prints the table.
Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from statistics import median
from typing import Any

REPEATS_WITHIN = 0.10  # medians of two measurements are to agree this well (protocols, Timing)
KINDS = ("inference", "training")
MODES = ("eager", "compiled", "cudagraph")  # cudagraph: compiled, and replayed as one CUDA graph
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Task:
    """The measurement that a process is told to make, as plain values that are sent as a line of JSON."""

    kind: str  # one of KINDS; or counts; or control: a computation that is always the same
    method: str  # what tables call it
    settings: dict[str, Any]  # the method as a run's configuration has it: `_target_` and its arguments
    data: str  # folder of a packed data set
    device: str
    precision: str = "fp32"
    mode: str = "eager"
    batch: int = 1
    height: int = 0
    width: int = 0
    sampler: str | None = None  # in place of that in the settings, as is `sampling_steps`
    sampling_steps: int | None = None
    training_steps: int = 0  # of the whole training, of which a few are timed; 0: the method is not trained
    decay_steps: int = 0

    @property
    def method_settings(self) -> dict[str, Any]:
        """The settings, with the sampler and the sampling steps of the task."""
        chosen = {"sampler": self.sampler, "steps": self.sampling_steps}
        return self.settings | {key: value for key, value in chosen.items() if value is not None}

    @property
    def impossible(self) -> str | None:
        """The reason, known without trying, why the device cannot do the task; None where it may."""
        if self.mode == "cudagraph" and not self.device.startswith("cuda"):
            return f"CUDA graphs exist on NVIDIA devices, and this is {self.device}"
        if self.mode == "cudagraph" and self.kind == "training":
            return "a training step is not one fixed graph: learning rates and random draws change from step to step"
        return None

    def __str__(self) -> str:
        """`pidm, inference, bf16 eager, batch 1, ddim 20 steps`."""
        words = [self.method, self.kind, f"{self.precision} {self.mode}", f"batch {self.batch}"]
        if self.sampling_steps is not None:
            words.append(f"{self.sampler or 'own sampler'} {self.sampling_steps} steps")
        return ", ".join(words)


@dataclass
class Scenario:
    """One measurement; times in milliseconds a call: generating a batch, or one training step."""

    kind: str
    method: str
    device: str
    precision: str
    batch: int
    height: int
    width: int
    mode: str = "eager"
    evaluations: float | None = None  # an image, of the network evaluated most; None: not counted
    attention_kernels: list[str] | None = None  # of PyTorch's, that were really used; None: not looked at
    sampler: str | None = None  # where a sweep chose them; None: the method's own
    sampling_steps: int | None = None
    threads: int = 0
    first_call_ms: float | None = None
    samples_ms: list[float] = field(default_factory=list)
    device_ms: list[float] = field(default_factory=list)  # the same calls between CUDA events
    control_ms: float | None = None  # the median of the control workload, which took turns with it
    rounds: list[int] = field(default_factory=list)  # samples of each round, in their order; between rounds, others'
    stage_ms: list[list[float]] = field(default_factory=list)  # training: the steps that each sample is the mean of
    peak_memory_mb: float | None = None
    memory_of: str | None = None  # "device": what its allocator gave out; "process": all of it, libraries included
    joules_per_image: float | None = None
    energy_unavailable_because: str | None = None
    schedule: dict[str, Any] | None = None  # training: the published one, and the hours it would take
    unavailable_because: str | None = None
    counts: dict[str, Any] = field(default_factory=dict)  # of a task of that kind: parameters and macs_per_image

    @classmethod
    def of(cls, task: Task, unavailable_because: str | None = None) -> "Scenario":
        """The scenario of a task before anything is measured, or with the reason why nothing will be."""
        shared = {each.name for each in fields(cls)} & {each.name for each in fields(Task)}
        return cls(**{name: getattr(task, name) for name in shared}, unavailable_because=unavailable_because)

    @property
    def halves_differ_by(self) -> float | None:
        """Relative difference of the medians of the earlier and the later rounds (0.1: 10 %); None for a single round.

        The halves are minutes apart, as two runs of a study would be, so that a slow drift shows. Each has half of
        the samples, so the difference is rather overestimated.
        """
        if len(self.rounds) < 2:
            return None
        middle = sum(self.rounds[: len(self.rounds) // 2])
        halves = median(self.samples_ms[:middle]), median(self.samples_ms[middle:])
        return max(halves) / min(halves) - 1

    def record(self) -> dict[str, Any]:
        """The entry of timing.json: with median, percentiles and images a second, None where nothing was measured."""
        values = asdict(self)
        del values["counts"]  # of the method, not of a scenario
        summary: dict[str, Any] = dict.fromkeys(("median_ms", "p5_ms", "p95_ms", "p99_ms", "images_per_second"))
        if self.samples_ms:
            import numpy as np

            p5, p50, p95, p99 = np.percentile(self.samples_ms, [5, 50, 95, 99]).tolist()
            speed = 1000 * self.batch / p50
            summary = {"median_ms": p50, "p5_ms": p5, "p95_ms": p95, "p99_ms": p99, "images_per_second": speed}
        return values | summary | {"halves_differ_by": self.halves_differ_by}


def circumstances(scenario: dict[str, Any]) -> tuple:
    """The values that distinguish the scenarios of one method, from a scenario's record or from `asdict(task)`."""
    return tuple(scenario.get(key) for key in ("kind", "precision", "mode", "batch", "sampler", "sampling_steps"))


def noise_verdict(scenarios: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Whether medians can be expected to repeat within REPEATS_WITHIN, from scenarios as `Scenario.record` gives them.

    {limit, judged, unsteady, worst, machine_differs_by, too_noisy, says}: how many scenarios were judged, how many of
    them differ by more, by how much the worst does, by how much the control workload took longer beside some of them
    than beside others, and a sentence of it.
    """
    differences = [one["halves_differ_by"] for one in scenarios if one.get("halves_differ_by") is not None]
    unsteady = [difference for difference in differences if difference > REPEATS_WITHIN]
    controls = [one["control_ms"] for one in scenarios if one.get("control_ms")]
    drift = max(controls) / min(controls) - 1 if controls else None
    worst, limit = max(differences, default=None), f"{REPEATS_WITHIN:.0%}"
    halves = "the medians of the earlier and the later rounds"
    reasons = []
    if unsteady:
        counted = f"{len(unsteady)} of {len(differences)} scenarios"
        reasons.append(f"in {counted} {halves} differ by more, by up to {worst:.0%}")
    if drift is not None and drift > REPEATS_WITHIN:
        reasons.append(f"the machine itself was up to {drift:.0%} slower in some scenarios than in others")
    if reasons:
        says = f"too noisy for medians to repeat within {limit}: {', and '.join(reasons)}"
    elif worst is None:
        says = "not judged: no scenario was measured in two rounds or more"
    else:
        counted = f"all {len(differences)} scenarios"
        says = f"quiet: in {counted} {halves} agree within {limit}, the worst differ by {worst:.1%}"
    return {
        "limit": REPEATS_WITHIN, "judged": len(differences), "unsteady": len(unsteady), "worst": worst,
        "machine_differs_by": drift, "too_noisy": bool(reasons), "says": says,
    }  # fmt: skip


HEADS = {
    "method": "method", "kind": "what", "sampler": "sampler", "sampling_steps": "steps", "precision": "precision",
    "mode": "mode", "batch": "batch", "median_ms": "median ms", "p5_ms": "p5", "p95_ms": "p95", "p99_ms": "p99",
    "first_call_ms": "first ms", "images_per_second": "images/s", "peak_memory_mb": "MB", "evaluations": "evaluations",
    "halves_differ_by": "halves differ",
}  # fmt: skip


def print_timing(timings: dict[str, dict[str, Any]]) -> None:
    """timings: a method's title -> content of its timing.json. Prints one table over all methods, what was counted of
    each, what could not be measured with the reason, and how noisy it was.
    """
    import pandas

    scenarios = [one | {"method": title} for title, timing in timings.items() for one in timing.get("scenarios", ())]
    timed = [one for one in scenarios if one["median_ms"] is not None]
    timed.sort(key=lambda one: (one["kind"], one["batch"], one["precision"], one["mode"]))
    frame = pandas.DataFrame(timed, columns=[*HEADS]).dropna(axis="columns", how="all").rename(columns=HEADS)
    formats = {"method": f"{{:<{max(map(len, timings))}}}".format, HEADS["halves_differ_by"]: "{:.1%}".format}
    print(f"\n{frame.to_string(index=False, na_rep='-', float_format=brief, formatters=formats)}")
    for title, timing in timings.items():
        if "macs_per_image" in timing:
            macs = timing["macs_per_image"]
            counted = "no operations counted" if macs is None else f"{macs / 1e9:.3g} GMACs per image"
            print(f"{title}: {timing.get('parameters') or 0:,} parameters, {counted}")
    print("".join(f"{line}\n" for line in ratio_lines(timed)), end="")
    reasons: dict[str, list[str]] = {}
    for one in scenarios:
        if one["unavailable_because"]:
            keys = ("kind", "sampler", "sampling_steps", "precision", "mode")
            where = " ".join([*(str(one[key]) for key in keys if one[key] is not None), f"batch {one['batch']}"])
            reasons.setdefault(f"{where}: {one['unavailable_because']}", []).append(one["method"])
    for reason, titles in reasons.items():
        print(f"unavailable: {', '.join(titles)}, {reason}")
    print(f"noise: {noise_verdict(scenarios)['says']}")


def ratio_lines(timed: Sequence[dict[str, Any]], reference: str = "pidm") -> list[str]:
    """How many times as fast as `reference` each method generates, a line for each precision, mode and batch.

    timed: scenarios of several methods, as timing.json has them; sweeps over samplers are left out. Evaluations of the
    network for an image are in brackets.
    """
    own = [one for one in timed if one["kind"] == "inference" and one.get("sampling_steps") is None]
    lines = []
    for slow in (one for one in own if one["method"] == reference):
        same = [all(one[key] == slow[key] for key in ("precision", "mode", "batch")) for one in own]
        others = [one for one, alike in zip(own, same, strict=True) if alike and one is not slow]
        told = [f"{o['method']} {brief(slow['median_ms'] / o['median_ms'])} ({_evaluated(o)})" for o in others]
        if told:
            where = f"{slow['precision']} {slow['mode']}, batch {slow['batch']}"
            lines.append(f"times as fast as {reference} ({_evaluated(slow)} an image), {where}: {', '.join(told)}")
    return lines


def _evaluated(scenario: dict[str, Any]) -> str:
    """`100 evaluations`, `1 evaluation`."""
    number = scenario.get("evaluations")
    return "evaluations not counted" if number is None else f"{number:g} evaluation{'s' * (number != 1)}"


def brief(value: float) -> str:
    """Three digits or more, no exponent."""
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
