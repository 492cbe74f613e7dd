"""The typed configuration of an experiment: what can be set, to what, and which run it is.

`compose` turns overrides such as `scale=single seed=3` into a checked configuration; `expand` turns comma lists into
one list of overrides a run; `identity` is what a run computes, hashed into its name. Imports neither torch nor numpy.
"""

import difflib
import itertools
import json
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from xinggan.data.settings import DatasetSettings
from xinggan.model.switches import (
    AdversarialLoss,
    Architecture,
    Attention,
    Branches,
    Discriminators,
    Fusion,
    Norm,
    PerceptualNetwork,
    PoseMap,
    Scale,
)
from xinggan.training.settings import TrainingSettings

CONF = Path(__file__).parent / "conf"
SCHEMA = 1  # raised when what a configuration means changes, so that old runs are not taken for new ones
REFERENCES = ("copy_source", "mean_image", "ground_truth")


@dataclass
class Losses:
    """lambda_GAN, lambda_L1, lambda_per and the kinds of their terms; 0 leaves a term out."""

    adversarial: float = 5.0
    l1: float = 50.0
    perceptual: float = 50.0
    adversarial_kind: AdversarialLoss = AdversarialLoss.bce
    perceptual_network: PerceptualNetwork = PerceptualNetwork.embedded


@dataclass
class Evaluation:
    """How the test pairs are generated and scored."""

    batch: int = 16
    lpips_net: str = "alex"  # alex | vgg | squeeze


@dataclass
class Experiment:
    """One experiment. The keys from `scale` to `losses` belong to `method=xinggan`."""

    method: Any = field(default_factory=dict)
    preset: str = "small"

    scale: Scale = Scale.multi
    attention: Attention = Attention.enhanced
    fusion: Fusion = Fusion.dense
    branches: Branches = Branches.both
    discriminators: Discriminators = Discriminators.both
    blocks: int = 9
    candidates: int = 10
    pyramid: list[int] = field(default_factory=lambda: [1, 3, 6, 8])
    tie_projections: bool = True
    pose_map: PoseMap = PoseMap.gaussian
    pose_sigma: float = 6.0  # pixels
    width: int = 64
    norm: Norm = Norm.batch
    dropout: float = 0.5
    history: int = 50  # images in each discriminator's pool
    learning_rate: float = 2e-4
    losses: Losses = field(default_factory=Losses)

    dataset: DatasetSettings = field(default_factory=DatasetSettings)
    training: TrainingSettings | None = field(default_factory=TrainingSettings)
    evaluation: Evaluation = field(default_factory=Evaluation)
    seed: int = 0
    precision: str = "fp32"  # fp32 | bf16
    compile: bool = False

    device: str = "auto"  # auto | cpu | cuda | cuda:N | mps
    runs: str = "runs"  # where run records go
    cache: str = "data"  # where packed data sets go


OF_XINGGAN = tuple(Experiment.__dataclass_fields__)[2:19]
SWITCHES = ("scale", "attention", "fusion", "branches", "discriminators", "pose_map", "tie_projections")
CHOICES = {"precision": ("fp32", "bf16"), "evaluation.lpips_net": ("alex", "vgg", "squeeze")}


class ConfigurationError(ValueError):
    """An override that cannot be used; the message says which, why, and what is accepted."""


def compose(overrides: list[str]) -> DictConfig:
    """The checked configuration for a list of overrides. Raises ConfigurationError."""
    ConfigStore.instance().store(name="experiment", node=Experiment)
    try:
        with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
            config = hydra_compose("config", overrides)
        OmegaConf.resolve(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigurationError(_readable(error)) from error
    _check(config, overrides)
    return config


def expand(overrides: list[str]) -> list[list[str]]:
    """Every combination of the comma lists in `overrides`, in order; without a list, the overrides themselves."""
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise ConfigurationError(_readable(error)) from error
    options = []
    for override in parsed:
        if override.is_sweep_override():
            key = override.get_key_element()
            options.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            options.append([override.input_line or ""])
    return [list(combination) for combination in itertools.product(*options)]


def identity(config: DictConfig, dataset_digest: str) -> dict:
    """What a run computes, as plain values: equal for two configurations exactly if their results are.

    Device, folders and the data set's whereabouts are left out (its content's digest stands for it), as are, for a
    method that is not trained, seed and precision.
    """
    plain = plain_values(config)
    computed = {key: plain[key] for key in ("method", "evaluation")} | {"schema": SCHEMA, "data": dataset_digest}
    if plain["training"] is not None:
        rhythm = ("log_every", "sample_every", "checkpoint_every")  # what is looked at, not what is computed
        computed["training"] = {key: value for key, value in plain["training"].items() if key not in rhythm}
        computed |= {key: plain[key] for key in ("seed", "precision", "compile")}
    return computed


def run_id(config: DictConfig, dataset_digest: str) -> str:
    """`<label>-<hash12>`: readable first, unique by its hash."""
    canonical = json.dumps(identity(config, dataset_digest), sort_keys=True)
    return f"{label(config)}-{sha256(canonical.encode()).hexdigest()[:12]}"


def reference(config: DictConfig, method: str) -> DictConfig:
    """The configuration of a trivial reference on the same data, scored in the same way."""
    other = compose([f"method={method}"])
    for key in ("preset", "dataset", "evaluation", "device", "runs", "cache"):
        other[key] = config[key]
    return other


def method_name(config: DictConfig) -> str:
    """The method's name as in `method=`: its yaml file's stem."""
    target = config.method["_target_"]
    return next(file.stem for file in (CONF / "method").glob("*.yaml") if f"_target_: {target}\n" in file.read_text())


def name(config: DictConfig) -> str:
    """What a table calls the run, such as `xinggan scale=single`: the method and the switches that were changed."""
    return " ".join([method_name(config), *(f"{key}={value}" for key, value in _changed(config).items())])


def label(config: DictConfig) -> str:
    """The readable part of a run's name: method, changed switches, data set, preset, seed."""
    parts = [method_name(config), *map(str, _changed(config).values()), config.dataset.name]
    if config.training is not None:
        parts += [config.preset, f"s{config.seed}"]
    return "-".join(parts)


def plain_values(config: DictConfig) -> dict:
    """The configuration as dictionaries, lists, strings and numbers."""
    return OmegaConf.to_container(config, resolve=True, enum_to_str=True)  # type: ignore[return-value]


def _changed(config: DictConfig) -> dict[str, Any]:
    if method_name(config) != "xinggan":
        return {}
    defaults = OmegaConf.structured(Experiment)
    return {key: getattr(config[key], "name", config[key]) for key in SWITCHES if config[key] != defaults[key]}


def _check(config: DictConfig, overrides: list[str]) -> None:
    """Everything that types alone cannot refuse."""
    reasons = []
    if method_name(config) == "xinggan":
        fields = {key: value for key, value in config.method.architecture.items() if key != "_target_"}
        checks = [Architecture(**fields).check]
        weights = config.losses
        if min(weights.adversarial, weights.l1, weights.perceptual) < 0:
            reasons.append("losses: weights are 0 (term left out) or more")
        judged = weights.adversarial and config.discriminators != Discriminators.none
        if not (judged or weights.l1 or weights.perceptual):
            reasons.append("losses: every weight is 0 or has no discriminator, so there is nothing to train for")
    else:
        checks = []
        foreign = sorted({o.lstrip("+~").split("=")[0].split(".")[0] for o in overrides} & set(OF_XINGGAN))
        if foreign:
            reasons.append(f"{', '.join(foreign)}: belongs to method=xinggan, not to method={method_name(config)}")
    if config.training is not None:
        checks.append(OmegaConf.to_object(config.training).check)  # type: ignore[union-attr]
    for check in checks:
        try:
            check()
        except ValueError as error:
            reasons.append(str(error))
    for key, accepted in CHOICES.items():
        if (value := OmegaConf.select(config, key)) not in accepted:
            reasons.append(f"{key}={value}: accepted are {', '.join(accepted)}")
    dataset = config.dataset
    if dataset.name != "synthetic" and not dataset.root:
        reasons.append(
            f"dataset={dataset.name} needs dataset.root=FOLDER, a folder in Pose-Transfer layout (see README)"
        )
    for key in ("height", "width"):
        if dataset[key] is not None and (dataset[key] % 4 or dataset[key] < 16):
            reasons.append(f"dataset.{key}={dataset[key]}: accepted are multiples of 4 from 16")
    if reasons:
        raise ConfigurationError("; ".join(reasons))


def _readable(error: Exception) -> str:
    """Hydra's and OmegaConf's messages without their internals, with the keys that a misspelt one may have meant."""
    lines = [line.strip().removeprefix("In 'config': ") for line in f"{error}".splitlines()]
    if error.__cause__ is not None:
        lines += [line.strip() for line in f"{error.__cause__}".splitlines()]
    hidden = ("full_key", "object_type", "reference_type", "To append", "Config search path", "provider=", "See https")
    kept = list(dict.fromkeys(line for line in lines if line and not line.startswith(hidden)))
    message = " ".join(kept)
    if isinstance(error, OverrideParseException):
        message = f"cannot read {error.override!r} as key=value: {message}"
    if "not in" in message and "Key '" in message:
        key = message.split("Key '")[1].split("'")[0]
        keys = [
            *Experiment.__dataclass_fields__,
            *TrainingSettings.__dataclass_fields__,
            *DatasetSettings.__dataclass_fields__,
        ]
        close = difflib.get_close_matches(key, keys, n=3)
        message += (
            f" Did you mean {' or '.join(close)}?"
            if close
            else f" Known keys: {', '.join(Experiment.__dataclass_fields__)}."
        )
    return message
