"""Checkpoints of the published XingGAN code: read as data, checked name by name, given as our generator.

The published state dicts differ between Market-1501 (BatchNorm) and DeepFashion (InstanceNorm, convolutions with bias).
"""

import re
from pathlib import Path

import torch
from torch import Tensor

from xinggan.model.generator import XingGenerator, xinggan
from xinggan.model.switches import Norm

# Published module name -> ours. A block's stream1 is the appearance stream, its convolutions are modules 1 and 6 and
# its norms 2 and 7, padding counted; our padding is part of the convolution.
ENCODER = {"1": "0", "2": "1", "4": "3", "5": "4", "7": "6", "8": "7"}
BLOCK = {"1": "0", "2": "1", "6": "4", "7": "5"}
DECODER = {"0": "0", "1": "1", "3": "3", "4": "4", "7": "6"}
FUSION = {
    "x2_con": "shape.0",
    "x2_norm": "shape.1",
    "atte_con": "attention.0",
    "atte_norm": "attention.1",
    "atte_con1": "attention.3",
    "atte_norm1": "attention.4",
    "atte_con2": "attention.6",
}


class PublishedMismatch(ValueError):
    """A file that is not a published XingGAN generator; the message names every tensor that does not fit."""


def load_published(path: Path | str) -> XingGenerator:
    """The generator of a published checkpoint, in eval mode. Raises PublishedMismatch for any other file."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise PublishedMismatch(f"{path}: not a PyTorch state dict that is safe to load ({error})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise PublishedMismatch(f"{path}: accepted is a state dict, names to tensors")
    return from_published(state, str(path))


def from_published(state: dict[str, Tensor], origin: str = "state dict") -> XingGenerator:
    """As `load_published`, from a state dict in memory; `origin` is named in errors."""
    norm = Norm.batch if any(name.endswith("running_mean") for name in state) else Norm.instance
    generator = XingGenerator(xinggan(norm=norm))
    expected = {name: tuple(tensor.shape) for name, tensor in generator.state_dict().items()}
    renamed, foreign = {}, []
    for name, tensor in state.items():
        own = _own_name(name)
        if own not in expected:
            foreign.append(name)
            continue
        if tensor.dim() == 4 and len(expected[own]) == 2 and tensor.shape[2:] == (1, 1):
            tensor = tensor.flatten(1)  # attention projections are linear layers here
        elif name.endswith("x2_con.weight") or name.endswith("atte_con2.weight"):
            tensor = tensor.transpose(0, 1)  # a transposed 1x1 convolution is a convolution
        renamed[own] = tensor
    missing = sorted(expected.keys() - renamed.keys())
    shapes = [
        f"{name} {tuple(tensor.shape)} instead of {expected[name]}"
        for name, tensor in renamed.items()
        if tuple(tensor.shape) != expected[name]
    ]
    if missing or foreign or shapes:
        found = {"missing (our names)": missing, "unexpected": foreign, "mis-shaped": shapes}
        listing = "".join(f"\n  {what}: {', '.join(names)}" for what, names in found.items() if names)
        raise PublishedMismatch(f"{origin}: does not fit the published XingGAN generator ({norm} norm){listing}")
    generator.load_state_dict(renamed)
    return generator.eval()


def _own_name(published: str) -> str:
    """Our name of a published tensor, or "" for a name that is not in a published generator."""
    name = published.removeprefix("module.").removeprefix("model.")
    if match := re.fullmatch(r"stream([12])_down\.(\d+)\.(\w+)", name):
        encoder = "appearance_encoder" if match[1] == "1" else "shape_encoder"
        return f"{encoder}.{ENCODER.get(match[2])}.{match[3]}"
    if match := re.fullmatch(r"att\.(\d+)\.conv_block_stream([12])\.(\d+)\.(\w+)", name):
        stream = "appearance" if match[2] == "1" else "shape"
        return f"blocks.{match[1]}.{stream}.{BLOCK.get(match[3])}.{match[4]}"
    if match := re.fullmatch(r"att\.(\d+)\.(query|key|value)_conv\.(\w+)", name):
        return f"blocks.{match[1]}.shape_guided.{match[2]}.{match[3]}"
    if match := re.fullmatch(r"att\.(\d+)\.gamma", name):
        return f"blocks.{match[1]}.shape_guided.gamma"
    if match := re.fullmatch(r"stream1_up\.(\d+)\.(\w+)", name):
        return f"fusion.appearance.{DECODER.get(match[1])}.{match[2]}"
    if match := re.fullmatch(r"stream2_up\.(\d+)\.(\w+)", name):
        layer = DECODER.get(match[1])
        return f"fusion.shape.{int(layer) + 3}.{match[2]}" if layer else ""
    if match := re.fullmatch(r"(\w+)\.(\w+)", name):
        return f"fusion.{FUSION.get(match[1])}.{match[2]}"
    return ""
