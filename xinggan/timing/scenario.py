"""A scenario: under what something was timed, every raw sample of it, and what follows from the samples.

Also the judgement whether the machine was quiet enough for the median to mean anything. Imports nothing heavy.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

REPEATS_WITHIN = 0.10  # medians of two measurements are to agree this well (protocols, Timing)
MODES = ("eager", "compiled", "cudagraph")  # cudagraph: compiled, and replayed as one CUDA graph
PRECISIONS = ("fp32", "bf16")


@dataclass
class Scenario:
    """One measurement; times in milliseconds a call (`inference`: a batch; `training`: a step)."""

    kind: str  # inference | training
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
    yardstick_ms: float | None = None  # the median of a fixed computation that took turns with it
    rounds: list[int] = field(default_factory=list)  # samples of each round, in their order; between rounds, others'
    stage_ms: list[list[float]] = field(default_factory=list)  # training: the steps that each sample is the mean of
    peak_memory_mb: float | None = None
    memory_of: str | None = None  # "device": what its allocator gave out; "process": all of it, libraries included
    joules_per_image: float | None = None
    energy_unavailable_because: str | None = None
    schedule: dict[str, Any] | None = None  # training: the published one, and the hours it would take
    unavailable_because: str | None = None

    def record(self) -> dict[str, Any]:
        """As in timing.json: with median, percentiles and images a second, null where nothing was measured."""
        summary: dict[str, Any] = dict.fromkeys(("median_ms", "p5_ms", "p95_ms", "p99_ms", "images_per_second"))
        if self.samples_ms:
            import numpy as np

            p5, p50, p95, p99 = np.percentile(self.samples_ms, [5, 50, 95, 99]).tolist()
            speed = 1000 * self.batch / p50
            summary = {"median_ms": p50, "p5_ms": p5, "p95_ms": p95, "p99_ms": p99, "images_per_second": speed}
        return asdict(self) | summary | {"halves_differ_by": halves_differ_by(self.samples_ms, self.rounds)}


def halves_differ_by(samples_ms: Sequence[float], rounds: Sequence[int]) -> float | None:
    """How much larger the median of one half of the rounds is than that of the other: 0.1 is 10 %; None for one round.

    The halves are the earlier and the later rounds, minutes apart, as two runs of a study would be: so a slow drift
    shows, which taking turns between the halves would hide. Each has half the samples, so this errs on the safe side.
    """
    if len(rounds) < 2:
        return None
    middle = sum(rounds[: len(rounds) // 2])
    halves = median(samples_ms[:middle]), median(samples_ms[middle:])
    return max(halves) / min(halves) - 1


def noise_verdict(scenarios: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Whether medians can be expected to repeat within REPEATS_WITHIN, from scenarios as `Scenario.record` gives them.

    {limit, judged, unsteady, worst, machine_differs_by, too_noisy, says}: how many scenarios were judged, how many of
    them differ by more, by how much the worst does, by how much a fixed computation took longer beside some of them
    than beside others, and a sentence of it.
    """
    differences = [one["halves_differ_by"] for one in scenarios if one.get("halves_differ_by") is not None]
    unsteady = [difference for difference in differences if difference > REPEATS_WITHIN]
    yardsticks = [one["yardstick_ms"] for one in scenarios if one.get("yardstick_ms")]
    drift = max(yardsticks) / min(yardsticks) - 1 if yardsticks else None
    drifted = drift is not None and drift > REPEATS_WITHIN
    verdict = {
        "limit": REPEATS_WITHIN,
        "judged": len(differences),
        "unsteady": len(unsteady),
        "worst": max(differences, default=None),
        "machine_differs_by": drift,
        "too_noisy": bool(unsteady) or drifted,
    }
    if not differences:
        return verdict | {"says": "not judged: no scenario was measured in two rounds or more"}
    halves = "the medians of the earlier and the later rounds"
    reasons = []
    if unsteady:
        share = f"in {len(unsteady)} of {len(differences)} scenarios {halves}"
        reasons.append(f"{share} differ by more than {REPEATS_WITHIN:.0%}, by up to {max(differences):.0%}")
    if drifted:
        reasons.append(f"the machine itself was up to {drift:.0%} slower in some scenarios than in others")
    quiet = f"in all {len(differences)} scenarios {halves} agree within {REPEATS_WITHIN:.0%}, the worst differ by "
    says = (
        f"the machine was too noisy: {', and '.join(reasons)}" if reasons else f"quiet: {quiet}{max(differences):.1%}"
    )
    return verdict | {"says": says}
