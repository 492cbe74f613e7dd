"""Checkpoints of the published XingGAN code: read as data, checked name by name, given as our generator."""

from pathlib import Path

from torch import Tensor

from xinggan.model.generator import XingGenerator, xinggan
from xinggan.model.published_state import (
    DECODER,
    PublishedMismatch,
    fill,
    norm_of,
    numbered,
    read_published,
    stream_modules,
)

__all__ = ["PublishedMismatch", "from_published", "load_published"]

POSE_DECODER = {theirs: str(int(ours) + 3) for theirs, ours in DECODER.items()}  # ours begins with the 1x1 convolution
FUSION = {
    "x2_con": "fusion.shape.0",
    "x2_norm": "fusion.shape.1",
    "atte_con": "fusion.attention.0",
    "atte_norm": "fusion.attention.1",
    "atte_con1": "fusion.attention.3",
    "atte_norm1": "fusion.attention.4",
    "atte_con2": "fusion.attention.6",
}


def load_published(path: Path | str) -> XingGenerator:
    """The generator of a published checkpoint, in eval mode. Raises PublishedMismatch for any other file."""
    return from_published(read_published(path), str(path))


def from_published(state: dict[str, Tensor], origin: str = "state dict") -> XingGenerator:
    """As `load_published`, from a state dict in memory; `origin` is named in errors."""
    generator = XingGenerator(xinggan(norm=norm_of(state)))
    modules = stream_modules(len(generator.blocks)) | FUSION
    modules |= numbered("stream1_up", "fusion.appearance", DECODER)
    modules |= numbered("stream2_up", "fusion.shape", POSE_DECODER)
    for i in range(len(generator.blocks)):  # SA and AS share one attention
        attention = f"blocks.{i}.shape_guided"
        modules[f"att.{i}"] = attention  # gamma
        modules |= {f"att.{i}.{role}_conv": f"{attention}.{role}" for role in ("query", "key", "value")}
    return fill(generator, {name: _as_ours(name, tensor) for name, tensor in state.items()}, modules, origin)


def _as_ours(name: str, tensor: Tensor) -> Tensor:
    """Transposed 1x1 convolutions are convolutions here."""
    if name.endswith(("x2_con.weight", "atte_con2.weight")) and tensor.dim() == 4:
        return tensor.transpose(0, 1)
    return tensor
