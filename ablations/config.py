"""The typed configuration of an experiment: what can be set, to what, and which run it is.

`compose` turns overrides such as `scale=single seed=3` into a checked configuration; `expand` turns comma lists into
one list of overrides a run; `identity` is what a run computes, hashed into its name. Imports neither torch nor numpy.
"""

import difflib
import itertools
import json
import re
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import lru_cache
from hashlib import sha256
from math import inf
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
from xinggan.files import sha256_of
from xinggan.metrics.protocol import LPIPS_NETWORKS
from xinggan.model.switches import (
    Architecture,
    Attention,
    Branches,
    Discriminators,
    Fusion,
    LossWeights,
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
class Evaluation:
    """How the test pairs are generated and scored."""

    batch: int = 16
    lpips_net: str = "alex"  # alex | vgg | squeeze


@dataclass
class Experiment:
    """One experiment. The keys from `scale` to `losses` belong to `method=xinggan`."""

    method: Any = field(default_factory=dict)
    preset: str = "small"

    scale: Scale = Architecture.scale
    attention: Attention = Architecture.attention
    fusion: Fusion = Architecture.fusion
    branches: Branches = Architecture.branches
    discriminators: Discriminators = Discriminators.both
    blocks: int = Architecture.blocks
    candidates: int = Architecture.candidates
    pyramid: list[int] = field(default_factory=lambda: list(Architecture.pyramid))
    tie_projections: bool = Architecture.tie_projections
    pose_map: PoseMap = PoseMap.gaussian
    pose_sigma: float = 6.0  # pixels
    width: int = Architecture.width
    norm: Norm = Architecture.norm
    dropout: float = Architecture.dropout
    history: int = 50  # images in each discriminator's pool
    learning_rate: float = 2e-4
    losses: LossWeights = field(default_factory=LossWeights)

    dataset: DatasetSettings = field(default_factory=DatasetSettings)
    training: TrainingSettings | None = field(default_factory=TrainingSettings)
    evaluation: Evaluation = field(default_factory=Evaluation)
    seed: int = 0
    precision: str = "fp32"  # fp32 | bf16
    compile: bool = False

    device: str = "auto"  # auto | cpu | cuda | cuda:N | mps
    runs: str = "runs"  # where run records go
    cache: str = "data"  # where packed data sets go


KEYS = tuple(Experiment.__dataclass_fields__)
OF_XINGGAN = KEYS[KEYS.index("scale") : KEYS.index("losses") + 1]
CHOICES = {"precision": ("fp32", "bf16"), "evaluation.lpips_net": LPIPS_NETWORKS}
LEAST = {"seed": 0, "history": 0, "evaluation.batch": 1, "dataset.seed": 0}
METHODS = CONF / "method"
EMBEDDED = Path(__file__).parents[1] / "xinggan" / "metrics" / "embedded" / "weights"


class ConfigurationError(ValueError):
    """An override that cannot be used; the message says which, why, and what is accepted."""


def compose(overrides: list[str]) -> DictConfig:
    """The checked configuration for a list of overrides. Raises ConfigurationError."""
    ConfigStore.instance().store(name="experiment", node=Experiment)
    try:
        _check_words(overrides)
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

    Device, folders and the data set's whereabouts are left out (its content's digest stands for it), as is what has
    nothing to act on, such as the pyramid of a single scale. Embedded networks count by their files' content.
    """
    plain = plain_values(config)
    computed: dict[str, Any] = {"schema": SCHEMA, "data": dataset_digest, "method": _with_effect(plain["method"])}
    computed["lpips_net"] = plain["evaluation"]["lpips_net"]
    networks = ["attributes", "pose"] if plain["dataset"]["name"] == "synthetic" else []
    if plain["training"] is not None:
        rhythm = ("log_every", "sample_every", "checkpoint_every")  # what is looked at, not what is computed
        computed["training"] = {key: value for key, value in plain["training"].items() if key not in rhythm}
        computed |= {key: plain[key] for key in ("seed", "precision", "compile")}
        losses = computed["method"].get("losses", {})
        networks += ["perceptual"] if losses.get("perceptual_network") == PerceptualNetwork.embedded else []
    computed["networks"] = {network: sha256_of(EMBEDDED / f"{network}.safetensors") for network in networks}
    return computed


def _with_effect(method: dict) -> dict:
    """The method's settings without those that its other settings leave nothing to act on."""
    if "architecture" not in method:
        return method
    architecture, losses = dict(method["architecture"]), dict(method["losses"])
    method = method | {"architecture": architecture, "losses": losses}
    if architecture["scale"] == Scale.single or architecture["attention"] == Attention.none:
        del architecture["pyramid"]
    if architecture["fusion"] == Fusion.concat:
        del architecture["candidates"]
    if not losses["perceptual"]:
        del losses["perceptual_network"]
    if not losses["adversarial"] or method["discriminators"] == Discriminators.none:
        del losses["adversarial"], losses["adversarial_kind"], method["discriminators"], method["history"]
    if method["pose_map"] == PoseMap.onehot:
        del method["pose_sigma"]
    return method


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
    return next(file.stem for file in METHODS.glob("*.yaml") if f"_target_: {target}\n" in file.read_text())


def name(config: DictConfig) -> str:
    """What a table calls the run, such as `xinggan scale=single`: the method and what of it differs from the preset."""
    changed = [f"{key}={_word(value)}" for key, value in _changed(config).items()]
    return " ".join([method_name(config), *changed])


def label(config: DictConfig) -> str:
    """The readable part of a run's name: method, what differs from the preset, data set, preset, seed."""
    parts = [method_name(config)]
    for key, value in _changed(config).items():
        parts.append(value.name if isinstance(value, Enum) else f"{key.split('.')[-1]}_{_word(value)}")
    parts.append(config.dataset.name)
    if config.training is not None:
        parts += [config.preset, f"s{config.seed}"]
    return re.sub(r"[^\w.-]+", "_", "-".join(parts))[:120]


def _word(value: Any) -> str:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else str(value).replace(" ", "")


def plain_values(config: DictConfig) -> dict:
    """The configuration as dictionaries, lists, strings and numbers."""
    return OmegaConf.to_container(config, resolve=True, enum_to_str=True)  # type: ignore[return-value]


def _changed(config: DictConfig) -> dict[str, Any]:
    """Key -> value of what was set on XingGAN, beyond what data set and preset say."""
    if method_name(config) != "xinggan":
        return {}
    usual = _usual(config.preset, config.dataset.name)
    changed = {key: config[key] for key in OF_XINGGAN if key != "losses" and config[key] != usual[key]}
    weights = {key: value for key, value in config.losses.items() if value != usual.losses[key]}
    return changed | {f"losses.{key}": value for key, value in weights.items()}


@lru_cache(maxsize=16)
def _usual(preset: str, dataset: str) -> DictConfig:
    return compose([f"preset={preset}", f"dataset={dataset}", "dataset.root=."])


def _check_words(overrides: list[str]) -> None:
    """Refuse words that Hydra would take but that mean nothing here."""
    for override in OverridesParser.create().parse_overrides(overrides):
        key, word = override.key_or_group, override.input_line
        if override.is_add() or override.is_delete():
            raise ConfigurationError(f"{word}: keys are neither added nor removed; accepted is key=value")
        if key == "schedule" or key.startswith("method."):
            raise ConfigurationError(f"{word}: follows from method, preset and dataset; set its keys, such as blocks=3")
        if key in ("method", "preset", "dataset") and override.value() is None:
            choices = sorted(file.stem for file in (CONF / key).glob("*.yaml"))
            raise ConfigurationError(f"{word}: accepted are {', '.join(choices)}")
        if key == "training" or (key.startswith("training.") and _untrained(overrides)):
            raise ConfigurationError(f"{word}: accepted are the keys of training, for a method that is trained")


def _untrained(overrides: list[str]) -> bool:
    return any(f"method={method}" in overrides for method in REFERENCES)


def _check(config: DictConfig, overrides: list[str]) -> None:
    """Everything that types alone cannot refuse."""
    reasons = []
    if method_name(config) == "xinggan":
        fields = {key: value for key, value in config.method.architecture.items() if key != "_target_"}
        checks = [Architecture(**fields).check]
        weights = config.losses
        if not all(0 <= weight < inf for weight in (weights.adversarial, weights.l1, weights.perceptual)):
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
    for key, least in LEAST.items():
        if not least <= OmegaConf.select(config, key) < inf:
            reasons.append(f"{key}={OmegaConf.select(config, key)}: accepted is {least} or more")
    for key in ("pose_sigma", "learning_rate"):
        if not 0 < config[key] < inf:
            reasons.append(f"{key}={config[key]}: accepted is more than 0")
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
    if missed := re.search(r"Key '(\w+)' (?:is )?not in '(\w+)'", message):
        kinds = (Experiment, TrainingSettings, DatasetSettings, LossWeights, Evaluation)
        keys = next(([f.name for f in fields(kind)] for kind in kinds if kind.__name__ == missed[2]), list(KEYS))
        close = difflib.get_close_matches(missed[1], keys, n=3)
        message += f" Did you mean {' or '.join(close)}?" if close else f" Known keys: {', '.join(keys)}."
    return message
