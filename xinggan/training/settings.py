"""The `training` part of a configuration: length and rhythm of a training. Imports nothing heavy."""

from dataclasses import dataclass


@dataclass
class TrainingSettings:
    """Numbers of steps are counted in generator updates over the whole (global) batch."""

    steps: int = 600
    decay_steps: int = 300  # the last so many steps lower the learning rate linearly to 0
    batch: int = 16  # pairs a step, over all processes together
    ema: float = 0.99  # decay of the moving average that is evaluated; 0: evaluate the weights themselves
    log_every: int = 10
    sample_every: int = 200  # sample grid and evaluation point; 0: none
    checkpoint_every: int = 200
    checkpoint_activations: bool = False  # less memory: backward computes activations of blocks a second time

    def __post_init__(self) -> None:
        """Raise ValueError naming every number that is out of range."""
        reasons = []
        if self.steps < 1:
            reasons.append(f"training.steps={self.steps}: accepted is 1 or more")
        if not 0 <= self.decay_steps <= self.steps:
            reasons.append(f"training.decay_steps={self.decay_steps}: accepted is 0 to training.steps ({self.steps})")
        if self.batch < 1:
            reasons.append(f"training.batch={self.batch}: accepted is 1 or more")
        if not 0 <= self.ema < 1:
            reasons.append(f"training.ema={self.ema}: accepted is 0 up to, not including, 1")
        for key in ("log_every", "checkpoint_every"):
            if getattr(self, key) < 1:
                reasons.append(f"training.{key}={getattr(self, key)}: accepted is 1 or more")
        if self.sample_every < 0:
            reasons.append(f"training.sample_every={self.sample_every}: accepted is 0 (none) or more")
        if reasons:
            raise ValueError("; ".join(reasons))
