"""Checkpoints of the published code as methods: read as data, checked name by name, generating without training.

XingGAN's code is based on PATN's: both name encoders and blocks alike, and `stream1` is the image's, `stream2` the
pose's. The state dicts differ between Market-1501 (BatchNorm) and DeepFashion (InstanceNorm, convolutions with bias).
"""

import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import TypeVar

import torch
from safetensors.torch import load_file
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

# Entries of checkpoints that hold more than one state dict: a generator's moving average goes before its weights.
STATE_DICTS = ("net_G_ema", "ema", "ema_state_dict", "model_ema", "net_G", "netG", "model", "state_dict")
# A part of a tensor's name -> the method whose published state dict has it; the first that fits.
OWNERS = {
    "x2_con": "xinggan",
    ".gcn.": "bigraph",
    "stream1_down": "patn",
    "flow_net.": "gfla",
    "PTM.": "dptn",
    "semantic_extraction_filter": "nted",
    "cond_emb_layers": "pidm",
    "rie.": "pocold",
    "mlp_dino_pose": "xmdpt",
}

Generator = TypeVar("Generator", bound=nn.Module)


class PublishedMismatch(ValueError):
    """A file that is not the published generator asked for; the message names every tensor that does not fit."""


def checked_file(settings: PublishedSettings) -> str:
    """The path of a published checkpoint. Raises ValueError if the file has another hash than the settings say."""
    path, sha256 = settings.path, settings.sha256
    if sha256 is not None and (found := sha256_of(Path(path))) != sha256:
        raise ValueError(f"{path}: the file has changed, its SHA-256 is {found}, expected is {sha256}")
    return path


class _Inert:
    """What stands for an object of a class that is not here, such as a training's configuration; nothing is in it."""

    def __new__(cls, *_: object) -> "_Inert":
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


def read_published(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a published checkpoint by name, read as data, in float32 where they are numbers of half precision.

    Of a checkpoint with several state dicts the first of STATE_DICTS is taken. A prefix `module.` that all names have
    is dropped. Half precision is said on standard error. Raises PublishedMismatch for any other file and for tensors
    that are no weights, and OSError for a file that cannot be read.
    """
    with Path(path).open("rb") as file:
        start = file.read(2)
    try:
        content = _load_as_data(path)
    except Exception as error:
        reason = _why_unread(start, error)
        raise PublishedMismatch(f"{path}: not a PyTorch state dict that is safe to load: {reason}") from error
    state = _state_dict_in(content)
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        accepted = f"a state dict, names to tensors, or a checkpoint with one as {', '.join(STATE_DICTS)}"
        raise PublishedMismatch(f"{path}: accepted is {accepted}")
    if trouble := [f"{name} {what}" for name, tensor in state.items() if (what := _no_weights(name, tensor))]:
        more = f", and {len(trouble) - 5} more" if len(trouble) > 5 else ""
        raise PublishedMismatch(f"{path}: tensors that are no weights of a network: {', '.join(trouble[:5])}{more}")
    if any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in state.values()):
        print(f"note: {path}: weights in half precision, computed with in float32", file=sys.stderr)
    parallel = all(name.startswith("module.") for name in state)
    names = {name: name.removeprefix("module.") if parallel else name for name in state}
    return {names[key]: value.float() if value.is_floating_point() else value for key, value in state.items()}


def _load_as_data(path: Path | str) -> object:
    """What the file holds. Beside a state dict in it, objects of other classes are left empty; else they are refused.

    Nothing in the file is imported or called.
    """
    if Path(path).suffix == ".safetensors":
        return load_file(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        if not zipfile.is_zipfile(path):
            raise
        unknown: list = [(_Inert, name) for name in torch.serialization.get_unsafe_globals_in_checkpoint(path)]
        with torch.serialization.safe_globals(unknown):
            content = torch.load(path, map_location="cpu", weights_only=True)
        if _state_dict_in(content) is content:
            raise
        return content


def _why_unread(start: bytes, error: Exception) -> str:
    """The reason why no state dict is read from a file that begins with these two bytes, as a sentence."""
    if not start:
        return "the file is empty"
    if "TorchScript" in str(error):
        return "it is a TorchScript program, and accepted is a state dict"
    if "GLOBAL" in str(error).upper():
        return "it holds objects of classes, whose code would have to be run"
    if start in (b"PK", b"\x80\x02", b"\x80\x04") or type(error).__name__ == "SafetensorError":
        return "it is damaged or was cut short"
    return "it is no file that torch.save writes"


def _no_weights(name: str, tensor: Tensor) -> str | None:
    """The reason why a tensor is no weights, statistics or counter of a trained network; None where it may be."""
    if tensor.is_meta:
        return "has no values (it was saved from the device meta)"
    if tensor.layout != torch.strided:
        return "is sparse"
    if not tensor.is_floating_point():
        counts = tensor.dtype in (torch.int64, torch.bool) and not name.endswith((".weight", ".bias"))
        return None if counts else f"is of {tensor.dtype}, not of floating-point numbers"
    if not tensor.float().isfinite().all():
        return "has values that are NaN or infinite"
    if name.endswith("running_var") and (tensor < 0).any():
        return "has negative variances"
    return None


def _state_dict_in(content: object) -> object:
    """The first of STATE_DICTS in a checkpoint; the content itself where there is none."""
    entries = content if isinstance(content, dict) else {}
    return next((entries[key] for key in STATE_DICTS if isinstance(entries.get(key), dict)), content)


def owner_of(state: dict[str, Tensor]) -> str | None:
    """The method whose published generator has names as `state` has; None for names of no method known here."""
    return next((owner for part, owner in OWNERS.items() if any(part in name for name in state)), None)


def norm_of(state: dict[str, Tensor]) -> Norm:
    """The norm of a published state dict: BatchNorm has weights.

    Running statistics tell nothing: before version 0.4, PyTorch's InstanceNorm had them too.
    """
    return Norm.batch if any(name.endswith("stream1_down.2.weight") for name in state) else Norm.instance


def fill(generator: Generator, state: dict[str, Tensor], modules: dict[str, str], origin: str) -> Generator:
    """Load a published `state` into `generator`, in eval mode. `modules`: patterns of published names -> our names.

    BatchNorm's counters may be missing and InstanceNorm's running statistics present, as PyTorch before 0.4 saved them:
    neither changes the image. Raises PublishedMismatch as `load_named`.
    """
    own_state = generator.state_dict()
    named = {name: tensor for name, tensor in own_state.items() if name.endswith("num_batches_tracked")}
    given: set[str] = set()
    unexpected: list[str] = []
    shared = os.path.commonprefix([*state])
    prefix = shared[: shared.rfind(".") + 1]  # such as netG.: dropped where no name fits with it
    ours = {name: _our_name(name.removeprefix("module.").removeprefix("model."), modules) for name in state}
    if own_state.keys().isdisjoint(ours.values()):
        ours = {name: _our_name(name.removeprefix(prefix).removeprefix("model."), modules) for name in state}
    for name, tensor in state.items():
        own = ours[name]
        if own not in own_state:
            if not _is_statistic_of_instance_norm(generator, own):
                unexpected.append(name)
            continue
        if own in given:
            unexpected.append(f"{name} (there already under another prefix)")
        given.add(own)
        named[own] = _our_layout(name, tensor, own_state[own].dim())
    what = type(generator).__name__
    if any(name.startswith("appearance_encoder") for name in own_state):
        what += f" ({norm_of(state)} norm)"
    owner = owner_of(state)
    hint = f"; the file's names are those of method={owner}" if owner else ""
    hint += f"; all of them begin with {prefix}" if prefix not in ("", "model.") else ""
    return load_named(generator, named, f"{origin}: does not fit the published {what}{hint}", unexpected)


def load_named(
    generator: Generator, state: dict[str, Tensor], misfit: str, unexpected: Iterable[str] = ()
) -> Generator:
    """Load a state with our names into `generator`, in eval mode. unexpected: names in the file that have no place.

    Raises PublishedMismatch, beginning with `misfit`, with the names of all missing, unexpected and mis-shaped tensors.
    """
    own = generator.state_dict()
    shapes = {name: (tuple(tensor.shape), tuple(own[name].shape)) for name, tensor in state.items() if name in own}
    found = {
        "missing (our names)": sorted(own.keys() - state.keys()),
        "unexpected": [*unexpected, *(name for name in state if name not in own)],
        "mis-shaped": [
            f"{name} {given} instead of {wanted}" for name, (given, wanted) in shapes.items() if given != wanted
        ],
    }
    if any(found.values()):
        raise PublishedMismatch(
            misfit + "".join(f"\n  {kind}: {', '.join(names)}" for kind, names in found.items() if names)
        )
    generator.load_state_dict(state)
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


def from_published(state: dict[str, Tensor], origin: str = "state dict") -> XingGenerator:
    """The generator of a published state dict, in eval mode. Raises PublishedMismatch, naming `origin`."""
    return fill(XingGenerator(xinggan(norm=norm_of(state))), state, XINGGAN, origin)


class PublishedGenerator(Method):
    """The generator of a published checkpoint as a method that is not trained; a subclass makes it of a state dict."""

    averaged = ("generator",)
    from_state: Callable[[dict[str, Tensor], str], nn.Module]  # a static method; the text is named in errors

    def __init__(self, settings: PublishedSettings):
        """The generators of Market-1501 have BatchNorm. Those of DeepFashion have InstanceNorm, and saw pose maps that
        had become one pixel a joint. Raises ValueError for a file that is not the published generator or has another
        hash.
        """
        super().__init__()
        file = checked_file(settings)
        self.generator = self.from_state(read_published(file), file)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        dataset, pose_map = self.trained_on()
        self.size = PUBLISHED_SIZES[dataset]  # height, width of its training images
        self.settings = replace(settings, pose_map=settings.pose_map or pose_map)

    def trained_on(self) -> tuple[str, PoseMap]:
        """The data set that the generator was trained on, told by its layers, and the kind of its pose maps."""
        norms = any(isinstance(module, nn.BatchNorm2d) for module in self.generator.modules())
        return ("market1501", PoseMap.gaussian) if norms else ("deepfashion", PoseMap.onehot)

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. The seeds change nothing."""
        with self.autocast():
            return self.image(images_to_float(source), source_pose, target_pose).float().clamp(-1, 1)

    def image(self, source: Tensor, source_pose: Tensor, target_pose: Tensor) -> Tensor:
        """The generator's image [B, 3, H, W] of a float image [B, 3, H, W] and poses [B, 18, 3]."""
        return self.generator(source, self.pose_maps(source_pose, source), self.pose_maps(target_pose, source))


class PublishedXingGAN(PublishedGenerator):
    """A published checkpoint of XingGAN (ECCV 2020)."""

    from_state = staticmethod(from_published)
