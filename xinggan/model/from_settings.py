"""Modules and settings rebuilt from plain values such as a run record's config.yaml, which may come from elsewhere.

So it is read as data: `_target_` names classes of this suite, and nothing else that could be called.
"""

import importlib
import inspect
import re
from dataclasses import is_dataclass
from enum import Enum
from typing import Any, get_args

from xinggan.model.outside import outside_modules

PACKAGES = ("xinggan", "baselines")


def check_targets(settings: dict[str, Any], where: str) -> None:
    """Refuse every `_target_` outside the suite, and Hydra's other words, before anything is imported."""
    target = settings.get("_target_")
    accepted = [*PACKAGES, *outside_modules()]
    if not isinstance(target, str) or not re.fullmatch(rf"({'|'.join(map(re.escape, accepted))})(\.\w+)+", target):
        raise ValueError(f"{where}: _target_ is {target!r}; accepted are names in {' and '.join(accepted)}")
    for key, value in settings.items():
        if key != "_target_" and str(key).startswith("_"):
            raise ValueError(f"{where}: {key} is not accepted")
        if isinstance(value, dict) and "_target_" in value:
            check_targets(value, f"{where}.{key}")


def build(settings: dict[str, Any], where: str) -> Any:
    """What `_target_` names, made from the other keys. Raises ValueError; `where` is named in it.

    Words become the choices they stand for, where a parameter's type or default is one of them.
    """
    kind = _target(settings["_target_"], where)
    parameters = inspect.signature(kind).parameters
    values = {}
    for key, value in settings.items():
        if key == "_target_":
            continue
        if isinstance(value, dict) and "_target_" in value:
            value = build(value, f"{where}.{key}")
        elif value is not None and key in parameters and (choices := _choices(parameters[key])):
            if value not in choices.__members__:
                raise ValueError(f"{where}.{key} is {value!r}; accepted are {', '.join(choices.__members__)}")
            value = choices[value]
        values[key] = value
    try:
        return kind(**values)
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{where} does not fit this version of {settings['_target_']}: {error}") from error


def _choices(parameter: inspect.Parameter) -> type[Enum] | None:
    kinds = [parameter.annotation, *get_args(parameter.annotation), type(parameter.default)]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)), None)


def _target(target: str, where: str) -> type:
    """The class that a `_target_` names: a module or a dataclass defined under this very name in the suite."""
    from torch import nn

    module, _, name = target.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{where}: _target_ {target} is not in this version of the suite") from error
    own = isinstance(kind, type) and kind.__module__ == module  # not something that the module imports
    if not own or not (issubclass(kind, nn.Module) or is_dataclass(kind)):
        raise ValueError(f"{where}: _target_ {target} is neither a method nor settings of one")
    return kind
