"""What is refused, before any work: overrides that mean nothing here, values out of range, and how that is said."""

import difflib
import re
from dataclasses import fields
from math import inf

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf

from ablations.settings import KEYS, SHARED, Budget, Evaluation, Experiment, MethodSettings, choices_of, key_of
from xinggan.data.settings import DatasetSettings
from xinggan.metrics.protocol import LPIPS_NETWORKS
from xinggan.model.switches import Discriminators, LossWeights, XingGANSettings
from xinggan.training.settings import TrainingSettings

CHOICES = {"precision": ("fp32", "bf16"), "evaluation.lpips_net": LPIPS_NETWORKS}
LEAST = {"seed": 0, "history": 0, "evaluation.batch": 1, "dataset.seed": 0}
GROUPS = ("method", "preset", "dataset")


class ConfigurationError(ValueError):
    """An override that cannot be used; the message says which, why, and what is accepted."""


def check_words(overrides: list[str]) -> str:
    """Refuse words that Hydra would take but that mean nothing here. Returns the method's name."""
    chosen = {key_of(word): word.partition("=")[2] for word in overrides}
    method = chosen.get("method", "xinggan")
    for override in OverridesParser.create().parse_overrides(overrides):
        key, word = override.key_or_group, override.input_line
        if override.is_add() or override.is_delete():
            raise ConfigurationError(f"{word}: keys are neither added nor removed; accepted is key=value")
        if key.split("/")[0] in ("schedule", "method_name"):
            raise ConfigurationError(f"{word}: follows from method, preset and dataset; set its keys, such as blocks=3")
        if key in GROUPS and override.value() is None:
            raise ConfigurationError(f"{word}: accepted are {', '.join(sorted(choices_of(key)))}")
        if key.startswith("method.") and method in choices_of("method"):
            own = [f"method.{name}" for name in MethodSettings.of(method).own]
            if key.split("[")[0] not in own:
                accepted = ", ".join([*own, *MethodSettings.of(method).shared]) or "no settings"
                raise ConfigurationError(f"{word}: accepted with method={method} are {accepted}")
        if key.startswith("training.") and method in choices_of("method") and not MethodSettings.of(method).trained:
            raise ConfigurationError(f"{word}: method={method} is not trained")
        if key == "training":
            raise ConfigurationError(f"{word}: accepted are the keys of training, such as training.steps=100")
    return method


def check(config: DictConfig, overrides: list[str]) -> None:
    """Everything that types alone cannot refuse, all of it in one ConfigurationError."""
    reasons, method = [], config.method_name
    foreign = {key_of(word).split(".")[0] for word in overrides} & set(SHARED)
    if unknown := sorted(foreign - set(MethodSettings.of(method).shared)):
        reasons.append(f"{', '.join(unknown)}: not a setting of method={method}, which takes {_taken(method)}")
    checks = []
    if "settings" in config.method:
        values = {k: v for k, v in config.method.settings.items() if k not in ("_target_", "losses")}
        checks.append(lambda: XingGANSettings(**values))
    if "losses" in (config.method.get("settings") or config.method):
        reasons += _losses_without_effect(config)
    if config.training is not None:
        checks.append(OmegaConf.to_object(config.training).check)  # type: ignore[union-attr]
    for refuse in checks:
        try:
            refuse()
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
    if config.amount is not None and not 0 < config.amount < inf:
        reasons.append(f"amount={config.amount}: accepted is more than 0")
    if config.budget == Budget.seconds and config.amount is None:
        reasons.append("budget=seconds needs amount=SECONDS, such as amount=240")
    if config.training is None and (config.budget != Budget.images or config.amount is not None):
        reasons.append(f"budget, amount: method={method} is not trained")
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


def _losses_without_effect(config: DictConfig) -> list[str]:
    weights, reasons = config.losses, []
    if not all(0 <= weight < inf for weight in (weights.adversarial, weights.l1, weights.perceptual)):
        reasons.append("losses: weights are 0 (term left out) or more")
    judged = weights.adversarial and config.discriminators != Discriminators.none
    if not (judged or weights.l1 or weights.perceptual):
        reasons.append("losses: every weight is 0 or has no discriminator, so there is nothing to train for")
    return reasons


def _taken(method: str) -> str:
    return ", ".join(MethodSettings.of(method).shared) or "no settings"


def readable(error: Exception) -> str:
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
