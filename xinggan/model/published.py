"""Checkpoints of the published code as methods: read as data, checked name by name, generating without training.

XingGAN's code is based on PATN's: both name encoders and blocks alike, and `stream1` is the image's, `stream2` the
pose's. The state dicts differ between Market-1501 (BatchNorm) and DeepFashion (InstanceNorm, convolutions with bias).
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from xinggan.data.batch import images_to_float
from xinggan.data.settings import PUBLISHED_SIZES, PoseMap
from xinggan.files import sha256_of
from xinggan.model.generator import XingGenerator
from xinggan.model.method import Method
from xinggan.model.switches import Norm, PublishedSettings, xinggan

# Published module names -> ours; layers of a sequence keep their numbers. Each pattern ends at a dot.
STREAMS = {
    r"stream1_down": "appearance_encoder",
    r"stream2_down": "shape_encoder",
    r"att\.(\d+)\.conv_block_stream1": r"blocks.\1.appearance",
    r"att\.(\d+)\.conv_block_stream2": r"blocks.\1.shape",
}
XINGGAN = STREAMS | {
    r"att\.(\d+)\.(query|key|value)_conv": r"blocks.\1.shape_guided.\2",  # SA and AS share one attention
    r"att\.(\d+)(?=\.gamma)": r"blocks.\1.shape_guided",
    r"stream1_up": "fusion.appearance",
    r"x2_con": "fusion.shape_projection.0",
    r"x2_norm": "fusion.shape_projection.1",
    r"stream2_up": "fusion.shape",
    "atte_con": "fusion.attention.0",
    "atte_norm": "fusion.attention.1",
    r"atte_con1": "fusion.attention.3",
    r"atte_norm1": "fusion.attention.4",
    r"atte_con2": "fusion.attention.6",
}

Generator = TypeVar("Generator", bound=nn.Module)


class PublishedMismatch(ValueError):
    """A file that is not the published generator asked for; the message names every tensor that does not fit."""


def read_published(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a published checkpoint by name, read as data.

    Raises PublishedMismatch for any other file, and OSError for one that cannot be read.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        reason = str(error).split(". ")[0] or type(error).__name__  # PyTorch's advice to load it unsafely is dropped
        raise PublishedMismatch(f"{path}: not a PyTorch state dict that is safe to load ({reason})") from error
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise PublishedMismatch(f"{path}: accepted is a state dict, names to tensors")
    return state


def norm_of(state: dict[str, Tensor]) -> Norm:
    """The norm of a published state dict: BatchNorm has weights.

    Running statistics tell nothing: before version 0.4, PyTorch's InstanceNorm had them too.
    """
    return Norm.batch if any(name.endswith("stream1_down.2.weight") for name in state) else Norm.instance


def fill(generator: Generator, state: dict[str, Tensor], modules: dict[str, str], origin: str) -> Generator:
    """Load a published `state` into `generator`, in eval mode. `modules`: patterns of published names -> our names.

    Raises PublishedMismatch, beginning with `origin`, with the names of all missing, unexpected and mis-shaped
    tensors. BatchNorm's counters may be missing and InstanceNorm's running statistics present, as PyTorch before 0.4
    saved them: neither changes the image.
    """
    own_state = generator.state_dict()
    fitting = {name: tensor for name, tensor in own_state.items() if name.endswith("num_batches_tracked")}
    unexpected: list[str] = []
    shapes: list[str] = []
    given: set[str] = set()
    for name, tensor in state.items():
        own = _our_name(name.removeprefix("module.").removeprefix("model."), modules)
        if own not in own_state:
            if not _is_statistic_of_instance_norm(generator, own):
                unexpected.append(name)
            continue
        if own in given:
            unexpected.append(f"{name} (there already under another prefix)")
        given.add(own)
        fitting[own] = _our_layout(name, tensor, own_state[own].dim())
        if fitting[own].shape != own_state[own].shape:
            shapes.append(f"{own} {tuple(fitting[own].shape)} instead of {tuple(own_state[own].shape)}")
    missing = sorted(own_state.keys() - fitting.keys())
    found = {"missing (our names)": missing, "unexpected": unexpected, "mis-shaped": shapes}
    if any(found.values()):
        listing = "".join(f"\n  {misfit}: {', '.join(names)}" for misfit, names in found.items() if names)
        what = f"{type(generator).__name__} ({norm_of(state)} norm)"
        raise PublishedMismatch(f"{origin}: does not fit the published {what}{listing}")
    generator.load_state_dict(fitting)
    return generator.eval()


def _our_name(published: str, modules: dict[str, str]) -> str:
    """Our name of a published tensor; "" where no pattern fits."""
    for pattern, own in modules.items():
        if match := re.match(rf"{pattern}(?=\.)", published):
            return match.expand(own) + published[match.end() :]
    return ""


def _our_layout(published: str, tensor: Tensor, dimensions: int) -> Tensor:
    """Transposed 1x1 convolutions are convolutions here, the attention's 1x1 convolutions linear layers."""
    if tensor.dim() == 4 and published.endswith(("x2_con.weight", "atte_con2.weight")):
        return tensor.transpose(0, 1)
    return tensor.flatten(1) if (tensor.dim(), dimensions) == (4, 2) else tensor


def _is_statistic_of_instance_norm(generator: nn.Module, own: str) -> bool:
    module, _, kind = own.rpartition(".")
    try:
        owner = generator.get_submodule(module)
    except AttributeError:
        return False
    return isinstance(owner, nn.InstanceNorm2d) and kind in ("running_mean", "running_var")


def load_published(path: Path | str) -> XingGenerator:
    """The generator of a published XingGAN checkpoint, in eval mode. Raises PublishedMismatch for any other file."""
    return from_published(read_published(path), str(path))


def from_published(state: dict[str, Tensor], origin: str = "state dict") -> XingGenerator:
    """As `load_published`, from a state dict in memory; `origin` is named in errors."""
    return fill(XingGenerator(xinggan(norm=norm_of(state))), state, XINGGAN, origin)


class PublishedGenerator(Method):
    """The generator of a published checkpoint as a method that is not trained; a subclass gives `read`, its loader."""

    averaged = ("generator",)
    read: Callable[[str], nn.Module]  # a static method

    def __init__(self, settings: PublishedSettings):
        """The generators of Market-1501 have BatchNorm. Those of DeepFashion have InstanceNorm, and saw pose maps that
        had become one pixel a joint. Raises ValueError for a file that is not the published generator or has another
        hash.
        """
        super().__init__()
        path, sha256 = settings.path, settings.sha256
        if sha256 is not None and (found := sha256_of(Path(path))) != sha256:
            raise ValueError(f"{path}: the file has changed, its SHA-256 is {found}, expected is {sha256}")
        self.generator = self.read(path)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        norms = [module for module in self.generator.modules() if isinstance(module, nn.BatchNorm2d)]
        self.size = PUBLISHED_SIZES["market1501" if norms else "deepfashion"]  # height, width of its training images
        self.settings = replace(settings, pose_map=settings.pose_map or (PoseMap.gaussian if norms else PoseMap.onehot))

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. The seeds change nothing."""
        image = images_to_float(source)
        with self.autocast():
            return self.generator(image, self.pose_maps(source_pose, image), self.pose_maps(target_pose, image)).float()


class PublishedXingGAN(PublishedGenerator):
    """A published checkpoint of XingGAN (ECCV 2020)."""

    read = staticmethod(load_published)
