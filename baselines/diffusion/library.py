"""Imports diffusers where its parts are used: that takes seconds, and needs torchvision's operators declared first."""

from importlib import import_module
from types import ModuleType

from xinggan.torchvision_operators import import_torchvision


def import_diffusers(part: str = "") -> ModuleType:
    """The package diffusers, or a module in it such as `models.resnet`. Raises ImportError where it is missing."""
    import_torchvision()
    return import_module(f"diffusers.{part}" if part else "diffusers")
