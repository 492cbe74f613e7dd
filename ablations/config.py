"""From words such as `scale=single` to the checked configuration of an experiment.

`compose` turns overrides such as `scale=single seed=3` into a checked configuration; `expand` turns comma lists into
one list of overrides a run. Imports neither torch nor numpy.
"""

import copy
import itertools
import re
from pathlib import Path

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ablations.checks import ConfigurationError, check, check_words, readable
from ablations.settings import CONF, SHARED, Experiment, key_of, method_files
from xinggan.files import sha256_of
from xinggan.trained import PUBLISHED

# Shared settings that a published checkpoint leaves open.
LEFT_OPEN = ("pose_map", "pose_sigma")
SEED = re.compile(r"seed=\d{1,9}")
REFERENCES = ("copy_source", "mean_image", "ground_truth")


def compose(overrides: list[str]) -> DictConfig:
    """The checked configuration for a list of overrides. Raises ConfigurationError."""
    return compose_all([overrides])[0]


def compose_all(grid: list[list[str]]) -> list[DictConfig]:
    """The checked configuration for each list of overrides. Raises ConfigurationError.

    Lists that differ in their seed alone are put together once, which takes Hydra ten times as long as the rest.
    """
    _store_schema()
    composed: dict[tuple[str, ...], DictConfig] = {}
    configs = []
    for overrides in grid:
        seeds = [word for word in overrides if SEED.fullmatch(word)]
        others = tuple(word for word in overrides if word not in seeds)
        try:
            method = check_words(overrides)
            if others not in composed:
                with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
                    composed[others] = hydra_compose("config", list(others))
            config = copy.deepcopy(composed[others])
            for word in seeds:
                config.seed = int(word.partition("=")[2])
            OmegaConf.resolve(config)
            config.method_name = method
            if config.published is not None:
                _take_published(config, overrides)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigurationError(readable(error)) from error
        check(config, overrides)
        configs.append(config)
    return configs


def _store_schema() -> None:
    """Tell Hydra the experiment's types, and the files of methods that live outside conf/."""
    store = ConfigStore.instance()
    store.store(name="experiment", node=Experiment)
    for name, file in method_files().items():
        if file.parent != CONF / "method":
            node = OmegaConf.load(file)
            store.store(group="method", name=name, node=node, package="_global_" if "method" in node else "method")


def _take_published(config: DictConfig, overrides: list[str]) -> None:
    """Put the checkpoint's generator in the method's place, with nothing to train. Raises ConfigurationError."""
    method, file = config.method_name, Path(config.published).expanduser().absolute()
    if method not in PUBLISHED:
        raise ConfigurationError(f"published={file}: accepted with method={' or method='.join(PUBLISHED)}")
    if not file.is_file():
        raise ConfigurationError(f"published={file}: no such file; expected the state dict of a published generator")
    keys = {key_of(word) for word in overrides}
    given = {key.split(".")[0] for key in keys - {"method"}}
    if fixed := sorted(given & {*SHARED, "training", "method"} - {*LEFT_OPEN}):
        raise ConfigurationError(f"{', '.join(fixed)}: fixed by the published checkpoint, leave out")
    config.method = {
        "_target_": PUBLISHED[method],
        "path": str(file),
        "sha256": sha256_of(file),
        "pose_map": config.pose_map if "pose_map" in keys else None,  # None: what the file was trained with
        "pose_sigma": config.pose_sigma,
    }
    config.training = None


def expand(overrides: list[str]) -> list[list[str]]:
    """Every combination of the comma lists in `overrides`, in order; without a list, the overrides themselves."""
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise ConfigurationError(readable(error)) from error
    options = []
    for override in parsed:
        if override.is_sweep_override():
            key = override.get_key_element()
            options.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            options.append([override.input_line or ""])
    return [list(combination) for combination in itertools.product(*options)]


def reference(config: DictConfig, method: str) -> DictConfig:
    """The configuration of a trivial reference on the same data, scored in the same way."""
    other = compose([f"method={method}"])
    for key in ("preset", "dataset", "evaluation", "device", "runs", "cache"):
        other[key] = config[key]
    return other


def plain_values(config: DictConfig) -> dict:
    """The configuration as dictionaries, lists, strings and numbers."""
    return OmegaConf.to_container(config, resolve=True, enum_to_str=True)  # type: ignore[return-value]
