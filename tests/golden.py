"""Weights and inputs for which shared/golden holds the outputs of the published code, as its README defines them."""

import json
from zlib import crc32

import numpy as np
import torch


def state_shapes(shared, name):
    """(tensor name, shape) of a published state dict, in order."""
    state = json.loads((shared / "golden" / name).read_text())
    return list(state.items()) if isinstance(state, dict) else state


def golden_weights(shapes):
    """Tensors by name for (tensor name, shape), without BatchNorm's counters."""
    weights = {}
    for name, shape in shapes:
        if name.endswith("num_batches_tracked"):
            continue
        r = torch.randn(shape, generator=torch.Generator().manual_seed(crc32(f"7/{name}".encode())))
        if name.endswith("running_var"):
            r = 1 + 0.1 * r.abs()
        elif name.endswith("gamma"):
            r = torch.full_like(r, 0.5)
        elif r.dim() > 1:
            r = r * (2 / np.prod(shape[1:])) ** 0.5
        elif name.endswith("weight"):
            r = 1 + 0.1 * r
        else:
            r = 0.1 * r
        weights[name] = r
    return weights


def complete_state(shared, name):
    """A state dict as published, with golden weights and BatchNorm's counters."""
    shapes = state_shapes(shared, name)
    return golden_weights(shapes) | {key: torch.tensor(0) for key, _ in shapes if key.endswith("tracked")}


def golden_inputs(batch, height, width):
    """What the generators were given: images [B, 3, H, W], source and target pose maps [B, 18, H, W]."""
    g = torch.Generator().manual_seed(7)
    image = torch.rand(batch, 3, height, width, generator=g) * 2 - 1
    poses = torch.rand(batch, 36, height, width, generator=g)
    return image, poses[:, :18], poses[:, 18:]
