"""A task: what a worker process is told to measure, as plain values that travel as one line of JSON. Imports no torch.

`impossible` says before anything is started what cannot be measured on a device, and why.
"""

from dataclasses import dataclass
from typing import Any

KINDS = ("inference", "training", "counts", "yardstick")  # yardstick: the same computation for everybody


@dataclass(frozen=True)
class Task:
    """One scenario to be. `settings`: the method as a run's configuration has it, `_target_` and its arguments."""

    kind: str  # one of KINDS
    method: str  # what tables call it
    settings: dict[str, Any]
    data: str  # folder of a packed data set
    device: str
    precision: str = "fp32"
    mode: str = "eager"
    batch: int = 1
    height: int = 0
    width: int = 0
    sampler: str | None = None  # with `sampling_steps`: in place of those in the settings
    sampling_steps: int | None = None
    training_steps: int = 0  # of the whole training, which a step is timed in four places of
    decay_steps: int = 0

    @property
    def circumstances(self) -> tuple:
        """What tells the scenarios of one method apart."""
        return self.kind, self.precision, self.mode, self.batch, self.sampler, self.sampling_steps

    @property
    def method_settings(self) -> dict[str, Any]:
        """The settings, with the sampler and steps of a sweep."""
        chosen = {"sampler": self.sampler, "steps": self.sampling_steps}
        return self.settings | {key: value for key, value in chosen.items() if value is not None}

    def __str__(self) -> str:
        """`pidm, inference, bf16 eager, batch 1, ddim 20 steps`."""
        words = [self.method, self.kind, f"{self.precision} {self.mode}", f"batch {self.batch}"]
        if self.sampling_steps is not None:
            words.append(f"{self.sampler or 'own sampler'} {self.sampling_steps} steps")
        return ", ".join(words)


def impossible(task: Task) -> str | None:
    """Why a task cannot be measured on its device, known without trying; None if it may be."""
    if task.mode == "cudagraph" and not task.device.startswith("cuda"):
        return f"CUDA graphs exist on NVIDIA devices, and this is {task.device}"
    if task.mode == "cudagraph" and task.kind == "training":
        return "a training step is not one fixed graph: learning rates and random draws change from step to step"
    return None
