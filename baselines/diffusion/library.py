"""Imports diffusers where its parts are used: that takes seconds, and needs torchvision's operators declared first."""

from types import ModuleType

from xinggan.torchvision_operators import import_torchvision


def import_diffusers() -> ModuleType:
    """The package diffusers. Raises ImportError where it is not installed."""
    import_torchvision()
    import diffusers

    return diffusers
