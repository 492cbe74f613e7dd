"""Which run a configuration is: what it computes, hashed into its name, and what tables and folders call it.

Two configurations have the same run id exactly if their results are the same. Imports neither torch nor numpy.
"""

import json
import re
from enum import Enum
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ablations.config import LEFT_OPEN, compose, plain_values
from ablations.settings import Budget, MethodSettings
from xinggan.data.settings import PoseMap
from xinggan.files import sha256_of
from xinggan.model.switches import Attention, Discriminators, Fusion, PerceptualNetwork, Scale

SCHEMA = 1  # raised when what a configuration means changes, so that old runs are not taken for new ones
EMBEDDED = Path(__file__).parents[1] / "xinggan" / "metrics" / "embedded" / "weights"


def identity(config: DictConfig, dataset_digest: str) -> dict:
    """What a run computes, as plain values: equal for two configurations exactly if their results are.

    (Only a pose_map that says what a published checkpoint was trained with anyway has an identity of its own.)
    Device, folders and the data set's whereabouts are left out (its content's digest stands for it), as is what has
    nothing to act on, such as the pyramid of a single scale. Embedded networks count by their files' content.
    """
    plain = plain_values(config)
    computed: dict[str, Any] = {"schema": SCHEMA, "data": dataset_digest, "method": _with_effect(plain["method"])}
    computed["lpips_net"] = plain["evaluation"]["lpips_net"]
    networks = ["attributes", "pose"] if plain["dataset"]["name"] == "synthetic" else []
    if plain["training"] is not None or plain["published"] is not None:
        computed |= {key: plain[key] for key in ("precision", "compile")}
    if plain["training"] is not None:
        rhythm = ("log_every", "sample_every", "checkpoint_every")  # what is looked at, not what is computed
        computed["training"] = {key: value for key, value in plain["training"].items() if key not in rhythm}
        computed["seed"] = plain["seed"]
        if plain["budget"] != Budget.images or plain["amount"] is not None:
            computed["budget"] = [plain["budget"], plain["amount"]]
        losses = computed["method"].get("settings", computed["method"]).get("losses", {})
        networks += ["perceptual"] if losses.get("perceptual_network") == PerceptualNetwork.embedded else []
    computed["networks"] = {network: sha256_of(EMBEDDED / f"{network}.safetensors") for network in networks}
    return computed


def _with_effect(method: dict) -> dict:
    """The method's settings without those that its other settings leave nothing to act on."""
    method = dict(method)
    if "settings" in method:
        return method | {"settings": _with_effect(method["settings"])}
    if "sha256" in method:  # a published checkpoint counts by its content, wherever it lies
        del method["path"]
    if method.get("vae", "trained") != "trained":  # so does an autoencoder from a file
        method["vae"] = _content(Path(method["vae"]).expanduser())
    if method.get("pose_map") == PoseMap.onehot:
        del method["pose_sigma"]
    if "scale" in method:
        if method["scale"] == Scale.single or method["attention"] == Attention.none:
            del method["pyramid"]
        if method["fusion"] == Fusion.concat:
            del method["candidates"]
    if "losses" in method:
        method["losses"] = losses = dict(method["losses"])
        if not losses["perceptual"]:
            del losses["perceptual_network"]
        if not losses["adversarial"] or method.get("discriminators") == Discriminators.none:
            del losses["adversarial"], losses["adversarial_kind"]
            for key in {"discriminators", "history"} & method.keys():  # not every method has them
                del method[key]
    return method


def _content(path: Path) -> dict[str, str]:
    """Name -> SHA-256 of a file or of a folder's files; empty where there is neither, which the method refuses."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path] * path.is_file()
    return {file.name: sha256_of(file) for file in files}


def run_id(config: DictConfig, dataset_digest: str) -> str:
    """`<label>-<hash12>`: readable first, unique by its hash."""
    canonical = json.dumps(identity(config, dataset_digest), sort_keys=True)
    return f"{label(config)}-{sha256(canonical.encode()).hexdigest()[:12]}"


def name(config: DictConfig) -> str:
    """What a table calls the run, such as `xinggan scale=single`: the method and what of it differs from the preset."""
    changed = [f"{key}={_word(value)}" for key, value in _changed(config).items()]
    return " ".join([config.method_name, *changed])


def label(config: DictConfig) -> str:
    """The readable part of a run's name: method, what differs from the preset, data set, preset, seed."""
    parts = [config.method_name]
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


def _changed(config: DictConfig) -> dict[str, Any]:
    """Key -> value of what was set on the method, beyond what data set, preset and its own file say."""
    method = config.method_name
    usual = _usual(config.preset, config.dataset.name, method)
    if config.published is not None:
        opened = {key: config.method[key] for key in LEFT_OPEN if config.method[key] not in (None, usual[key])}
        return {"published": Path(config.published).stem} | opened
    settings = MethodSettings.of(method)
    changed = {key: config[key] for key in settings.shared if key != "losses" and config[key] != usual[key]}
    if "losses" in settings.shared:
        weights = {key: value for key, value in config.losses.items() if value != usual.losses[key]}
        changed |= {f"losses.{key}": value for key, value in weights.items()}
    changed |= {key: config[key] for key in ("budget", "amount") if config[key] != usual[key]}
    own = {key: config.method[key] for key in settings.own if config.method[key] != usual.method[key]}
    return changed | {f"method.{key}": value for key, value in own.items()}


@lru_cache(maxsize=16)
def _usual(preset: str, dataset: str, method: str) -> DictConfig:
    return compose([f"preset={preset}", f"dataset={dataset}", "dataset.root=.", f"method={method}"])
