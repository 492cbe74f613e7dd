"""Weights and inputs for which shared/golden holds the outputs of the published code, as its README defines them."""

import json
from zlib import crc32

import numpy as np
import torch


def state_shapes(shared, name):
    """(tensor name, shape) of a published state dict, in order."""
    state = json.loads((shared / "golden" / name).read_text())
    return list(state.items()) if isinstance(state, dict) else state


SALT = 11


def golden_weights(shapes, scale=0.2):
    """Tensors by name for (tensor name, shape), without BatchNorm's counters. scale: 0.3 Inception's, 1 AiATrack's."""
    weights = {}
    for name, shape in shapes:
        if name.endswith("num_batches_tracked"):
            continue
        r = torch.randn(shape, generator=torch.Generator().manual_seed(crc32(f"{SALT}/{name}".encode())))
        factor = 0.07 if "gcn.conv_state" in name or "gcn.conv_proj" in name else 1.0
        if name.endswith("running_var"):
            variance = 0.06 if "_down." in name else 0.01 if ".blocker." in name else 0.13
            r = variance * (1 + 0.1 * r.abs())
        elif name.endswith("running_mean"):
            r = 0.1 * r
        elif "gamma" in name:
            r = torch.full_like(r, 0.9)
        elif r.dim() > 1:
            spread = 1.5 if "query_conv" in name or "key_conv" in name else 0.1 if "conv_att" in name else scale
            r = factor * r * (spread / np.prod(shape[1:])) ** 0.5
        elif name.endswith("weight"):
            r = 1 + 0.1 * r
        else:
            r = 0.1 * factor * r
        weights[name] = r
    return weights


def complete_state(shared, name):
    """A state dict as published, with golden weights and BatchNorm's counters."""
    shapes = state_shapes(shared, name)
    return golden_weights(shapes) | {key: torch.tensor(0) for key, _ in shapes if key.endswith("tracked")}


def golden_inputs(batch, height, width):
    """What the generators were given: images [B, 3, H, W], source and target pose maps [B, 18, H, W]."""
    g = torch.Generator().manual_seed(SALT)
    image = torch.rand(batch, 3, height, width, generator=g) * 2 - 1
    poses = torch.rand(batch, 36, height, width, generator=g)
    return image, poses[:, :18], poses[:, 18:]
