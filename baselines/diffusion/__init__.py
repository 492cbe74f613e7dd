"""The diffusion baselines, put together from diffusers' building blocks."""

from importlib import import_module
from types import ModuleType

from xinggan.torchvision_operators import import_torchvision


def import_diffusers(part: str = "") -> ModuleType:
    """Import diffusers, or a module of it such as `models.resnet`, where it is used: the import takes seconds.

    Declares torchvision's operators first, which diffusers' models need. Raises ImportError without diffusers.
    """
    import_torchvision()
    return import_module(f"diffusers.{part}" if part else "diffusers")
