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


def numbers(name, shape, draw=torch.randn):
    """`n` of README.<method>.md, or `u` with draw=torch.rand: random numbers of a name."""
    return draw(shape, generator=torch.Generator().manual_seed(crc32(f"{SALT}/{name}".encode())))


def picture(name, batch, height, width):
    """An image of blocks of 16x16 pixels with noise, [B, 3, H, W] in [-1, 1]."""
    blocks = numbers(f"{name}_blocks", (batch, 3, height // 16, width // 16), torch.rand) * 2 - 1
    noise = numbers(f"{name}_noise", (batch, 3, height, width), torch.rand) * 2 - 1
    return 0.8 * blocks.repeat_interleave(16, dim=2).repeat_interleave(16, dim=3) + 0.2 * noise


def named_state(shared, file, prefix, scale=lambda name, shape: np.prod(shape[1:]) ** -0.5):
    """A state dict as published, with weights by README.<method>.md's rule. scale: of those of two or more axes."""
    state = {}
    for name, shape in state_shapes(shared, file):
        r = numbers(f"{prefix}.{name}", shape)
        if r.dim() > 1:
            state[name] = r * scale(name, shape)
        else:
            state[name] = 1 + 0.1 * r if name.endswith("weight") else 0.1 * r
    return state


def normalised_discriminator(shared, file, prefix):
    """A state dict with old-style spectral normalisation (weight_orig, weight_u, weight_v), by the same rule."""
    state = named_state(shared, file, prefix)
    for name in [name for name in state if name.endswith("weight_orig")]:
        u, matrix = state[name.replace("orig", "u")], state[name].flatten(1)
        state[name.replace("orig", "u")] = u / u.norm()
        state[name.replace("orig", "v")] = matrix.T @ u / (matrix.T @ u).norm()
    return state


def vgg19_layers():
    """torchvision's `vgg19().features` with golden weights."""
    from xinggan.torchvision_operators import import_torchvision

    layers = import_torchvision().models.vgg19(weights=None, init_weights=False).features
    for name, tensor in layers.state_dict().items():
        r = numbers(f"vgg19.features.{name}", tensor.shape)
        tensor.copy_(0.1 * r if name.endswith("bias") else r * (2 / np.prod(r.shape[1:])) ** 0.5)
    return layers


def assert_golden(found, golden, tolerance=1e-4):
    """float32 results against golden numbers, to a share of the largest of them (of 1 at least)."""
    difference = np.abs(np.asarray(found) - golden).max()
    assert difference < tolerance * max(1.0, np.abs(golden).max()), difference
