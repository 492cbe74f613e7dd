"""A checkpoint of PIDM's published code as a method that is not trained.

The file holds the weights and their moving average, under the names of the published modules; results use the average.
"""

import re

from torch import Tensor

from baselines.diffusion.pidm import PIDM
from baselines.diffusion.settings import PublishedPIDMSettings
from xinggan.data.settings import PUBLISHED_SIZES
from xinggan.model.published import checked_file, load_named, owner_of, read_published
from xinggan.model.switches import PublishedSettings

MODULES = {
    "time_embed.time_embed.0": "denoiser.time_embedding.linear_1",
    "time_embed.time_embed.2": "denoiser.time_embedding.linear_2",
    "input_blocks.0.0": "denoiser.stem",
    "out.0": "denoiser.norm",
    "out.2": "denoiser.head",
    "encoder.input_blocks.0.0": "source_encoder.stem",
}
RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
ATTENTION = {"norm": "group_norm", "to_q": "to_q", "to_k": "to_k", "to_v": "to_v", "proj_out2": "to_out.0"}
BLOCK = re.compile(r"(encoder\.)?(input|middle|output)_blocks?\.(\d+)\.(?:(\d)\.)?(.+)")
UNUSED = re.compile(r"cond_emb_layers|\.qkv\.|\.proj_out1\.|^encoder\.time_embed\.|^encoder\..*\.emb_layers\.")


class PublishedPIDM(PIDM):
    """A published checkpoint of PIDM."""

    size = PUBLISHED_SIZES["deepfashion"]  # height, width of the images that it was trained for

    def __init__(self, settings: PublishedSettings):
        """Raises ValueError for a file that is not the published network or has another hash."""
        path = checked_file(settings)
        if not isinstance(settings, PublishedPIDMSettings):
            settings = PublishedPIDMSettings(path=path)
        super().__init__(settings.pidm())
        self.optimisers.clear()
        load_published(self, read_published(path), path)


def load_published(method: PIDM, state: dict[str, Tensor], origin: str = "state dict") -> PIDM:
    """The method with the weights of a published state dict, in eval mode.

    Raises PublishedMismatch, beginning with `origin`, with the names of all tensors that do not fit.
    """
    ours: dict[str, Tensor] = {}
    unexpected = []
    for name, tensor in state.items():
        if UNUSED.search(name):
            continue
        shared = ".to_kv." in name  # keys and values in one layer
        for half, part in zip(("to_k", "to_v"), tensor.chunk(2) if shared else (tensor,), strict=False):
            if own := our_name(name.replace("to_kv", half)):
                ours[own] = part.squeeze(2) if part.dim() == 3 else part  # 1 x 1 convolutions are linear layers here
            else:
                unexpected.append(name)
    hint = f"; the file's names are those of method={owner}" if (owner := owner_of(state)) else ""
    return load_named(method, ours, f"{origin}: does not fit the published PIDM{hint}", unexpected)


def our_name(published: str) -> str:
    """Our name of a published tensor; "" where there is none."""
    module, _, kind = published.rpartition(".")
    if module in MODULES:
        return f"{MODULES[module]}.{kind}"
    if not (match := BLOCK.fullmatch(module)):
        return ""
    encoder, part, number, inner, layer = match.groups()
    if layer in ATTENTION:
        own = f"attention.{ATTENTION[layer]}"
    elif layer in RESIDUAL:
        own = f"{'enlarging' if part == 'output' and inner == '1' else 'residual'}.{RESIDUAL[layer]}"
    else:
        return ""
    if encoder:
        return f"source_encoder.blocks.{int(number) - 1}.{own.removeprefix('residual.')}.{kind}"
    places = {"input": f"down.{int(number) - 1}", "middle": f"middle.{int(number) // 2}", "output": f"up.{number}"}
    return f"denoiser.{places[part]}.{own}.{kind}"
