"""What the published checkpoints of PATN and XingGAN have in common: how a file is read, what its layers are called,
and how a file that does not fit is refused. XingGAN's code grew out of PATN's, so both name the shared layers alike.

The state dicts differ between Market-1501 (BatchNorm) and DeepFashion (InstanceNorm, convolutions with bias).
"""

from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from xinggan.model.switches import Norm

# Module numbers, published -> ours. A block's convolutions are modules 1 and 6 and its norms 2 and 7, padding counted;
# our padding is part of the convolution.
ENCODER = {"1": "0", "2": "1", "4": "3", "5": "4", "7": "6", "8": "7"}
BLOCK = {"1": "0", "2": "1", "6": "4", "7": "5"}
DECODER = {"0": "0", "1": "1", "3": "3", "4": "4", "7": "6"}

Generator = TypeVar("Generator", bound=nn.Module)


class PublishedMismatch(ValueError):
    """A file that is not the published generator it should be; the message names every tensor that does not fit."""


def read_published(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a published checkpoint by name, read as data. Raises PublishedMismatch for any other file."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:
        reason = str(error).split(". ")[0] or type(error).__name__  # what follows is advice to load it unsafely
        raise PublishedMismatch(f"{path}: not a PyTorch state dict that is safe to load ({reason})") from error
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise PublishedMismatch(f"{path}: accepted is a state dict, names to tensors")
    return state


def norm_of(state: dict[str, Tensor]) -> Norm:
    """BatchNorm has weights. (Running statistics tell nothing: before version 0.4, PyTorch's InstanceNorm had them.)"""
    return Norm.batch if any(name.endswith("stream1_down.2.weight") for name in state) else Norm.instance


def numbered(published: str, own: str, numbers: dict[str, str]) -> dict[str, str]:
    """Published module name -> ours, for the layers of one sequence."""
    return {f"{published}.{theirs}": f"{own}.{ours}" for theirs, ours in numbers.items()}


def stream_modules(blocks: int) -> dict[str, str]:
    """Published module name -> ours, for the encoders and the blocks' convolutions: stream 1 is the image's."""
    modules: dict[str, str] = {}
    for stream, code in (("1", "appearance"), ("2", "shape")):
        modules |= numbered(f"stream{stream}_down", f"{code}_encoder", ENCODER)
        for i in range(blocks):
            modules |= numbered(f"att.{i}.conv_block_stream{stream}", f"blocks.{i}.{code}", BLOCK)
    return modules


def fill(generator: Generator, state: dict[str, Tensor], modules: dict[str, str], origin: str) -> Generator:
    """Load `state` into `generator`, whose module names `modules` gives, and set it to eval mode and to published sums.

    Raises PublishedMismatch, beginning with `origin`, with the names of all missing, unexpected and mis-shaped
    tensors. BatchNorm's counters may be missing and InstanceNorm's running statistics present, as PyTorch before 0.4
    saved them: neither changes the image.
    """
    own_state = generator.state_dict()
    fitting = {name: tensor for name, tensor in own_state.items() if name.endswith("num_batches_tracked")}
    unexpected, shapes, given = list[str](), list[str](), set[str]()
    for name, tensor in state.items():
        published, _, kind = name.removeprefix("module.").removeprefix("model.").rpartition(".")
        module = modules.get(published)
        own = f"{module}.{kind}"
        if own not in own_state:
            instance = module is not None and isinstance(generator.get_submodule(module), nn.InstanceNorm2d)
            if not instance or kind not in ("running_mean", "running_var"):
                unexpected.append(name)
            continue
        if own in given:
            unexpected.append(f"{name} (there already under another prefix)")
        given.add(own)
        if tensor.shape != own_state[own].shape:
            shapes.append(f"{own} {tuple(tensor.shape)} instead of {tuple(own_state[own].shape)}")
        fitting[own] = tensor
    found = {
        "missing (our names)": sorted(own_state.keys() - fitting.keys()),
        "unexpected": unexpected,
        "mis-shaped": shapes,
    }
    if any(found.values()):
        listing = "".join(f"\n  {misfit}: {', '.join(names)}" for misfit, names in found.items() if names)
        what = f"{type(generator).__name__} ({norm_of(state)} norm)"
        raise PublishedMismatch(f"{origin}: does not fit the published {what}{listing}")
    generator.load_state_dict(fitting)
    for layer in generator.modules():
        if hasattr(layer, "as_published"):
            vars(layer)["as_published"] = True
    return generator.eval()
