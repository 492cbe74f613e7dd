"""The settings of each diffusion baseline; the defaults are the published ones. Imports no torch.

Making settings that do not fit raises a ValueError that names all of them.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import ClassVar

from xinggan.model.switches import MethodSettings, PublishedSettings

TIMESTEPS = 1000  # T, of every diffusion process


class Sampler(StrEnum):
    """diffusers' schedulers, by the names that `sampler` accepts."""

    ddpm = "ddpm"
    ddim = "ddim"
    dpmsolver = "dpmsolver++"
    unipc = "unipc"


class Prediction(StrEnum):
    """The network's output."""

    epsilon = "epsilon"  # the noise
    v = "v"  # sqrt(abar) noise - sqrt(1 - abar) x_0 (Salimans and Ho, 2022)


class Weighting(StrEnum):
    """What the squared errors of a timestep's predictions count in the loss."""

    uniform = "uniform"  # 1
    min_snr = "min_snr"  # less where there is little noise: Hang et al. (ICCV 2023), see `process.loss_weights`


class Guidance(StrEnum):
    """What PIDM's predictions are guided by, and what its training leaves out now and then."""

    released = "released"  # by the source alone, one scale: the published code, which never leaves the pose out
    paper = "paper"  # by source and pose, a scale each, which the paper's formula has


class Spacing(StrEnum):
    """The timesteps of PIDM's sampling."""

    released = "released"  # ddim and ddpm: 0, T // steps, ...; ddim's data are not clamped. Solvers: trailing
    trailing = "trailing"  # evenly down from T - 1, data clamped to [-1, 1]


class PIDMPoseMap(StrEnum):
    """What PIDM is given of the pose."""

    limbs = "limbs"  # as published: a drawn skeleton and each limb's distance, 20 maps
    gaussian = "gaussian"  # one map a joint, as the other methods are given
    onehot = "onehot"


def untrained_guidance(condition_dropout: float, scales: dict[str, float]) -> list[str]:
    """A sentence for guidance by these scales (1 is none) whose branches without a condition are not trained."""
    if condition_dropout or all(scale == 1 for scale in scales.values()):
        return []
    said = " ".join(f"{key}={scale}" for key, scale in scales.items())
    told = "guidance needs predictions without a condition, which are not trained with condition_dropout=0"
    return [f"{said}: {told}; set it to 0.1, or every scale to 1"]


@dataclass(kw_only=True)
class PIDMNetworkSettings(MethodSettings):
    """Settings of PIDM and of its versions in a few steps: networks, guidance and training."""

    most_steps: ClassVar[int] = TIMESTEPS
    learn_variance: ClassVar[bool] = False  # of a sampling step, as `ddpm` uses it
    prediction: ClassVar[str]
    sampler: ClassVar[str]

    weighting: Weighting = Weighting.uniform
    width: int = 128  # channels of the first level
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)  # channels of each level, in widths
    level_blocks: int = 2  # residual blocks a level
    attention_levels: int = 3  # so many of the smallest levels attend to the source
    time_multiplier: int = 4  # channels of the timestep's embedding, in widths
    dropout: float = 0.1  # in residual blocks
    zero_initialised: bool = True  # residual blocks and attentions begin as nothing; short trainings learn slower so
    pose_map: PIDMPoseMap = PIDMPoseMap.limbs  # type: ignore[assignment]
    size: tuple[int, ...] | None = None  # height and width that images are stretched to; None: their own, if it halves
    steps: int = 50  # of sampling
    guidance: Guidance = Guidance.released
    guidance_source: float = 2.0  # scales of 1: no guidance, one branch instead of two or three
    guidance_pose: float | None = None  # of guidance=paper alone, where None is 2
    condition_dropout: float = 0.1  # of the source, and with guidance=paper of the pose, each on its own
    flip: float = 0.5  # probability that a training pair is mirrored
    zoom: float = 0.05  # each training image is enlarged by up to this share and cropped to its size
    learning_rate: float = 2e-5
    warmup_steps: int = 5000  # over which the learning rate rises from 0.04 of itself

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level of the U-Net."""
        return tuple(self.width * multiplier for multiplier in self.multipliers)

    @property
    def time_channels(self) -> int:
        """Channels of the timestep's embedding."""
        return self.time_multiplier * self.width

    @property
    def scales(self) -> tuple[float, ...]:
        """The scales of guidance: of the source, and in the paper's formula of the pose. All of 1 are none."""
        if self.guidance == Guidance.released:
            return (self.guidance_source,)
        return (self.guidance_source, 2.0 if self.guidance_pose is None else self.guidance_pose)

    def attends(self, level: int) -> bool:
        """True for the levels of the U-Net that attend to the source: the smallest `attention_levels`."""
        return level >= len(self.multipliers) - self.attention_levels

    def reasons(self) -> list[str]:
        """Extended by ranges, and by guidance that has another scale or whose branches are not trained."""
        levels, factor = len(self.multipliers), 2 ** (len(self.multipliers) - 1)
        sized = self.size is None or (len(self.size) == 2 and all(x > 0 and x % factor == 0 for x in self.size))
        scale = "is 0 or more; scales of 1 are no guidance"
        found = super().reasons() + self.misfits(
            width=(self.width >= 4 and self.width % 4 == 0, "are multiples of 4"),
            multipliers=(1 <= levels <= 8 and min(self.multipliers) >= 1, "are 1 to 8 numbers from 1"),
            level_blocks=(1 <= self.level_blocks <= 8, "are 1 to 8"),
            attention_levels=(1 <= self.attention_levels <= levels, f"are 1 to {levels}, the levels"),
            time_multiplier=(self.time_multiplier >= 1, "is 1 or more"),
            dropout=(0 <= self.dropout < 1, "is 0 up to, not including, 1"),
            size=(sized, f"are null and [height,width], multiples of {factor}"),
            steps=(1 <= self.steps <= self.most_steps, f"are 1 to {self.most_steps} sampling steps"),
            guidance_source=(0 <= self.guidance_source < inf, scale),
            guidance_pose=(self.guidance_pose is None or 0 <= self.guidance_pose < inf, scale),
            condition_dropout=(0 <= self.condition_dropout < 1, "is 0 up to, not including, 1"),
            flip=(0 <= self.flip <= 1, "is 0 to 1"),
            zoom=(0 <= self.zoom <= 1, "is 0 to 1"),
            warmup_steps=(self.warmup_steps >= 0, "is 0 or more"),
        )
        if self.guidance == Guidance.released and self.guidance_pose is not None:
            found.append(
                f"guidance_pose={self.guidance_pose} has nothing to act on with guidance=released, which never leaves "
                "the pose out: leave guidance_pose out, or choose guidance=paper"
            )
        scales = zip(("guidance_source", "guidance_pose"), self.scales, strict=False)
        return found + untrained_guidance(self.condition_dropout, dict(scales))


@dataclass(kw_only=True)
class PIDMSettings(PIDMNetworkSettings):
    """PIDM."""

    learn_variance: bool = True  # type: ignore[misc]
    prediction: str = Prediction.epsilon  # type: ignore[misc]
    sampler: str = Sampler.ddim  # type: ignore[misc]
    spacing: Spacing = Spacing.released


@dataclass(kw_only=True)
class PublishedPIDMSettings(PublishedSettings):
    """A published checkpoint of PIDM, and how it generates. pose_map and pose_sigma are not used: limbs are drawn."""

    size: tuple[int, ...] = (256, 256)  # height and width that images are stretched to
    sampler: str = Sampler.ddim
    spacing: Spacing = Spacing.released
    steps: int = 100
    guidance: Guidance = Guidance.released
    guidance_source: float = 2.0
    guidance_pose: float | None = None

    def __post_init__(self) -> None:
        """Raise ValueError as PIDM's settings do."""
        super().__post_init__()
        self.pidm()

    def pidm(self) -> PIDMSettings:
        """The settings of PIDM that generates in this way."""
        shared = ("size", "sampler", "spacing", "steps", "guidance", "guidance_source", "guidance_pose")
        return PIDMSettings(**{key: getattr(self, key) for key in shared})


@dataclass(kw_only=True)
class FewStepSettings(PIDMNetworkSettings):
    """PIDM distilled into a few steps; the guidance is that of the teacher, whose predictions are distilled."""

    most_steps: ClassVar[int] = 4
    prediction: ClassVar[str] = Prediction.v
    sampler: ClassVar[str] = Sampler.ddim  # the teacher's

    steps: int = 2  # of sampling
    teacher_share: float = 0.8  # of the training steps
    teacher_ema: float = 0.9999  # decay of the average of weights that becomes the teacher

    def reasons(self) -> list[str]:
        """Extended by ranges."""
        return super().reasons() + self.misfits(
            teacher_share=(0 < self.teacher_share < 1, "is between 0 and 1, both excluded"),
            teacher_ema=(0 <= self.teacher_ema < 1, "is 0 up to, not including, 1"),
        )


@dataclass(kw_only=True)
class PIDMFewStepSettings(FewStepSettings):
    """PIDM in a few steps by regression."""

    grid: int = 24  # steps of the teacher, in distillation

    def reasons(self) -> list[str]:
        """Extended by ranges."""
        grid = "are multiples of 12 up to 240, so that 1, 2, 3 and 4 steps fall on the grid"
        return super().reasons() + self.misfits(grid=(self.grid % 12 == 0 and 12 <= self.grid <= 240, grid))


@dataclass(kw_only=True)
class PIDMAdversarialSettings(FewStepSettings):
    """PIDM in a few steps with an adversarial loss."""

    distillation: float = 2.5  # weight of the distance to the teacher, beside an adversarial loss of weight 1
    discriminator_width: int = 64
    discriminator_rate: float = 2e-4  # learning rate of the discriminators

    def reasons(self) -> list[str]:
        """Extended by ranges."""
        width = self.discriminator_width >= 4 and self.discriminator_width % 2 == 0
        return super().reasons() + self.misfits(
            distillation=(0 <= self.distillation < inf, "is 0 (none) or more"),
            discriminator_width=(width, "are even numbers from 4"),
            discriminator_rate=(0 < self.discriminator_rate < inf, "is more than 0"),
        )
