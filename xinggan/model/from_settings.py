"""Methods rebuilt from plain values such as a run record's config.yaml, and the folders of users' own methods.

A record may come from elsewhere, so it is read as data: `_target_` names a class of the suite or of a folder in use,
`_settings_` the dataclass of its settings, and nothing else is imported or called. Importing this loads no torch.

Methods outside the suite stand in a folder with one Python and one yaml file for each. Commands take such folders as
`--methods FOLDER` and pass them on to the processes they start in XINGGAN_METHODS.
"""

import importlib
import os
import re
import sys
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from xinggan.model.switches import PerceptualNetwork

PACKAGES = ("xinggan", "baselines")
CLASSES = ("_target_", "_settings_")  # keys whose values name classes
VARIABLE = "XINGGAN_METHODS"


def use_methods(folder: Path) -> None:
    """Make the folder's methods known to this process and those it starts. Raises ValueError for one without any."""
    if not list(folder.glob("*.yaml")):
        raise ValueError(f"--methods {folder}: expected a folder with one .py and one .yaml file for each method")
    known = os.environ.get(VARIABLE, "").split(os.pathsep)
    os.environ[VARIABLE] = os.pathsep.join(filter(None, dict.fromkeys([*known, str(folder.absolute())])))


def method_folders() -> list[Path]:
    """The folders in use, after adding them to the import path."""
    folders = [Path(folder) for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]
    sys.path.extend(str(folder) for folder in folders if str(folder) not in sys.path)
    return folders


def check_targets(method: dict[str, Any], where: str) -> None:
    """Refuse classes outside the suite and the folders in use, and whatever is not plain data, before any import."""
    accepted = [*PACKAGES, *(file.stem for folder in method_folders() for file in folder.glob("*.py"))]
    named = re.compile(rf"({'|'.join(map(re.escape, accepted))})(\.\w+)+")
    for key in CLASSES:
        name = method.get(key)
        if (name is not None or key == "_target_") and not (isinstance(name, str) and named.fullmatch(name)):
            raise ValueError(f"{where}: {key} is {name!r}; accepted are names in {' and '.join(accepted)}")
    _check_plain({key: value for key, value in method.items() if key not in CLASSES}, where)


def _check_plain(values: Any, where: str) -> None:
    """Raise ValueError for keys and texts that would be more than plain data to a reader of configurations."""
    if isinstance(values, dict):
        for key, value in values.items():
            if str(key).startswith("_"):
                raise ValueError(f"{where}: {key} is not accepted")
            _check_plain(value, f"{where}.{key}")
    elif isinstance(values, list):
        for value in values:
            _check_plain(value, where)
    elif isinstance(values, str) and "${" in values:
        raise ValueError(f"{where} is {values!r}: references to other values are not accepted")


def build(method: dict[str, Any], where: str = "method") -> Any:
    """The method that plain values describe: `_target_` called with its settings, on the CPU, with fresh weights.

    method: `_target_`, the settings, and `_settings_`, the dataclass that holds them; without it the class takes them
    as keyword arguments. Raises ValueError, in which `where` is named, for classes and settings that this version of
    the suite does not have, and what the class itself raises, such as FileNotFoundError for missing weights.
    """
    from torch import nn

    check_targets(method, where)
    kind = _named(method["_target_"], where, "_target_")
    if not issubclass(kind, nn.Module):
        raise ValueError(f"{where}: _target_ {method['_target_']} is not a method")
    settings = {key: value for key, value in method.items() if key not in CLASSES}
    if method.get("_settings_") is None:
        try:
            return kind(**settings)
        except TypeError as error:
            raise ValueError(f"{where} does not fit this version of {method['_target_']}: {error}") from error
    return kind(read_settings(settings_class(method["_settings_"], where), settings, where))


def without_training_weights(
    method: dict[str, Any], instead: PerceptualNetwork = PerceptualNetwork.embedded
) -> dict[str, Any]:
    """The same method for generating alone, or for timing: its losses look through a network that needs no file."""
    losses = method.get("losses")
    if not isinstance(losses, dict) or losses.get("perceptual_network") != PerceptualNetwork.vgg19:
        return method
    return method | {"losses": losses | {"perceptual_network": instead}}


def settings_class(name: str, where: str) -> type:
    """The dataclass of this name. Raises ValueError where there is none."""
    kind = _named(name, where, "_settings_")
    if not is_dataclass(kind):
        raise ValueError(f"{where}: _settings_ {name} is not a dataclass")
    return kind


def read_settings(kind: type, values: dict[str, Any], where: str) -> Any:
    """An instance of the dataclass `kind` with these values: words become the choices they stand for.

    Raises ValueError for a key or value that the dataclass does not have.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), values))
    except (OmegaConfBaseException, ValueError) as error:
        place = ".".join(filter(None, [where, getattr(error, "full_key", None)]))
        reason = str(error).splitlines()[0]
        raise ValueError(f"{place} does not fit this version of {kind.__name__}: {reason}") from error


def _named(name: str, where: str, key: str) -> type:
    """The class `module.Class`, which the module itself defines. Raises ValueError."""
    module, _, attribute = name.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{where}: {key} {name} is not in this version of the suite ({error})") from error
    if not isinstance(kind, type) or kind.__module__ != module:
        raise ValueError(f"{where}: {key} {name} is neither a method nor settings of one")
    return kind
