"""What can be set of an experiment: every key with its type and default, and which of them a method takes.

The files in conf/ hold the values; this is their structure, so that Hydra refuses a wrong key or value.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from xinggan.data.settings import DatasetSettings, PoseMap
from xinggan.model.outside import method_folders
from xinggan.model.switches import (
    Attention,
    Branches,
    Discriminators,
    Fusion,
    LossWeights,
    Norm,
    Scale,
    XingGANSettings,
)
from xinggan.training.settings import TrainingSettings

CONF = Path(__file__).parent / "conf"


class Budget(StrEnum):
    """What every method of a comparison gets the same amount of for its training."""

    images = "images"  # training pairs
    seconds = "seconds"  # on this device
    flops = "flops"  # floating-point operations, forward and backward


@dataclass
class Evaluation:
    """How the test pairs are generated and scored."""

    batch: int = 16
    lpips_net: str = "alex"  # alex | vgg | squeeze


@dataclass
class Experiment:
    """One experiment. Of the keys from `scale` to `losses`, a method takes those that its file in conf/method names."""

    method: Any = field(default_factory=dict)
    method_name: str = "xinggan"  # the word of method=, filled in
    preset: str = "small"
    published: str | None = None  # file of a published checkpoint, evaluated instead of training

    scale: Scale = XingGANSettings.scale
    attention: Attention = XingGANSettings.attention
    fusion: Fusion = XingGANSettings.fusion
    branches: Branches = XingGANSettings.branches
    discriminators: Discriminators = Discriminators.both
    blocks: int = XingGANSettings.blocks
    candidates: int = XingGANSettings.candidates
    pyramid: list[int] = field(default_factory=lambda: list(XingGANSettings.pyramid))
    tie_projections: bool = XingGANSettings.tie_projections
    pose_map: PoseMap = PoseMap.gaussian
    pose_sigma: float = 6.0  # pixels
    width: int = XingGANSettings.width
    norm: Norm = XingGANSettings.norm
    dropout: float = XingGANSettings.dropout
    history: int = 50  # images in each discriminator's pool
    learning_rate: float = 2e-4
    losses: LossWeights = field(default_factory=LossWeights)

    dataset: DatasetSettings = field(default_factory=DatasetSettings)
    training: TrainingSettings | None = field(default_factory=TrainingSettings)
    budget: Budget = Budget.images
    amount: float | None = None  # of the budget; None: the preset's steps, or the FLOPs that XingGAN++ takes for them
    evaluation: Evaluation = field(default_factory=Evaluation)
    seed: int = 0
    precision: str = "fp32"  # fp32 | bf16
    compile: bool = False

    device: str = "auto"  # auto | cpu | cuda | cuda:N | mps
    runs: str = "runs"  # where run records go
    cache: str = "data"  # where packed data sets go


KEYS = tuple(Experiment.__dataclass_fields__)
SHARED = KEYS[KEYS.index("scale") : KEYS.index("losses") + 1]  # settings that several methods know


@dataclass(frozen=True)
class MethodSettings:
    """What can be set of a method, read off its file in conf/method, so that a new method needs no other place."""

    shared: tuple[str, ...]  # keys of SHARED that the file refers to as ${key}
    own: tuple[str, ...]  # set as method.key=value
    trained: bool

    @classmethod
    def of(cls, method: str) -> "MethodSettings":
        """The settings of the method of this name."""
        text = method_files()[method].read_text()
        file = yaml.safe_load(text)
        values = file.get("method", file)
        own = tuple(key for key, value in values.items() if key != "_target_" and "${" not in str(value))
        shared = tuple(key for key in SHARED if re.search(rf"\$\{{{key}\b", text))
        return cls(shared, own, trained=file.get("training", "") is not None)


def key_of(word: str) -> str:
    """The key that an override such as `losses.l1=1` sets."""
    return word.lstrip("+~").split("=")[0].strip()


def method_files() -> dict[str, Path]:
    """Name -> yaml file of every method, those of `--methods` folders included. The suite's own names stay its own."""
    outside = [file for folder in method_folders() for file in sorted(folder.glob("*.yaml"))]
    return {file.stem: file for file in [*outside, *sorted((CONF / "method").glob("*.yaml"))]}


def choices_of(group: str) -> list[str]:
    """The names of the files in conf/<group>, the one that conf/config.yaml takes by default first."""
    defaults = yaml.safe_load((CONF / "config.yaml").read_text())["defaults"]
    default = next(entry[group] for entry in defaults if isinstance(entry, dict) and group in entry)
    names = method_files() if group == "method" else [file.stem for file in (CONF / group).glob("*.yaml")]
    return sorted(names, key=lambda name: (name != default, name))
