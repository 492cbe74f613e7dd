"""From a configuration to a method on its device."""

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from xinggan.model.method import Method


def build_method(config: DictConfig, device: str) -> Method:
    """The configured method on its device, with fresh weights drawn from the configured seed.

    Raises what the method refuses, such as FileNotFoundError for a missing weight file.
    """
    try:
        method: Method = instantiate(config.method, _convert_="all")
    except InstantiationException as error:  # Hydra's wrapping of what the constructor raised
        if isinstance(error.__cause__, (ValueError, OSError)):
            raise error.__cause__ from None
        raise
    method.precision = config.precision
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32; matrix products are so by default
    method.to(device)
    if config.compile:
        for part in method.averaged:
            getattr(method, part).compile()
    return method
