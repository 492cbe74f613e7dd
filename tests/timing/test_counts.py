"""Operations and evaluations are counted as one would by hand."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from baselines.diffusion.latent_settings import PoCoLDSettings, VaeRoundtripSettings
from baselines.diffusion.pidm import PIDM
from baselines.diffusion.pocold import PoCoLD
from baselines.diffusion.settings import PIDMSettings
from baselines.diffusion.vae_roundtrip import VaeRoundtrip
from baselines.trivial import CopySource
from xinggan.model.generator import XingGAN
from xinggan.model.method import Method
from xinggan.model.switches import Attention, Fusion, XingGANSettings
from xinggan.timing.counts import (
    attention_kernels,
    evaluations,
    multiply_accumulates,
    operations,
    outermost_networks,
    parameters,
)
from xinggan.timing.measurement import inference_call

SMALL = {"width": 4, "multipliers": (1, 2), "level_blocks": 1}


def macs_of(method, people):
    return multiply_accumulates(method, inference_call(method, people.test, "cpu", 1))


def test_multiply_accumulates_equal_a_hand_count_of_the_convolutions(people):
    method = XingGAN(XingGANSettings(blocks=1, width=4, candidates=1, attention=Attention.none, fusion=Fusion.concat))
    counted = 0

    def count(module, inputs, output):
        nonlocal counted
        positions = inputs[0] if isinstance(module, torch.nn.ConvTranspose2d) else output
        counted += module.weight.numel() * positions.shape[-2:].numel()

    for module in method.generator.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            module.register_forward_hook(count)
    macs = macs_of(method, people)
    assert macs == counted
    assert macs_of(CopySource(), people) is None
    assert parameters(method) == sum(weights.numel() for weights in method.generator.parameters())


class OneLayer(Method):
    """A method that is a single known operation on the source image."""

    averaged = ("network",)

    def __init__(self, network):
        super().__init__()
        self.network = network

    def generate(self, source, source_pose, target_pose, seeds):
        self.network(source.float())
        return source.float() / 127.5 - 1


class Attends(nn.Module):
    """Attention of 12 queries to 20 keys by the fused function, with values wider than keys."""

    def forward(self, source):
        query, key, value = torch.ones(1, 2, 12, 8), torch.ones(1, 2, 20, 8), torch.ones(1, 2, 20, 16)
        return scaled_dot_product_attention(query, key, value)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (nn.ConvTranspose2d(3, 5, 3, stride=2, bias=False), 32 * 16 * 3 * 5 * 9),  # every input meets the kernel
        (nn.Conv2d(3, 6, 3, padding=1, groups=3, bias=False), 32 * 16 * 6 * 1 * 9),
        (Attends(), 2 * (12 * 20 * 8 + 12 * 20 * 16)),
        (nn.Linear(16, 7, bias=False), 3 * 32 * 16 * 7),
    ],
)
def test_operations_equal_a_hand_count(people, network, expected):
    assert macs_of(OneLayer(network), people) == expected


def test_operations_of_a_training_step_are_those_of_both_passes_attention_included():
    width, count = 8, 12
    tokens = torch.randn(1, 1, count, width)
    layer = nn.Linear(width, width, bias=False)

    def step():
        attended = scaled_dot_product_attention(layer(tokens), tokens, tokens)
        attended.sum().backward()

    forward = count * width * width + 2 * count * count * width  # projection, correlation, weighted sum
    # Of the projection's weights alone, and of what attends: the weights' gradient and that of the queries.
    backward = count * width * width + 2 * count * count * width
    assert operations(OneLayer(layer), step) == 2 * (forward + backward)


def pidm(guidance):
    return PIDM(PIDMSettings(**SMALL, attention_levels=1, steps=3, sampler="dpmsolver++", guidance_source=guidance))


def pocold():
    size = SMALL | {"filters": 2, "steps": 2, "vae_width": 4, "vae_factor": 4}
    return PoCoLD(PoCoLDSettings(**size, guidance_source=1.0, guidance_pose=1.0, guidance_start=0.0))


@pytest.mark.parametrize(
    ("make", "expected", "networks"),
    [
        (lambda: XingGAN(XingGANSettings(blocks=1, width=4)), 1, {"generator"}),
        (CopySource, 0, set()),
        (
            lambda: VaeRoundtrip(VaeRoundtripSettings(vae_width=4, vae_factor=4)),
            1,
            {"autoencoder.encoder", "autoencoder.decoder"},
        ),
        (lambda: pidm(guidance=1.0), 3, {"source_encoder", "denoiser"}),
        (lambda: pidm(guidance=2.0), 3 * 2, {"source_encoder", "denoiser"}),
        (pocold, 2, {"denoiser", "denoiser.source_encoder", "autoencoder.encoder", "autoencoder.decoder"}),
    ],
)
def test_evaluations_are_those_of_the_busiest_of_the_outermost_networks(people, make, expected, networks):
    method = make()
    call = inference_call(method, people.test, "cpu", 2)
    found = outermost_networks(method, call)
    names = {name for name, module in method.named_modules() if module in found}
    assert networks <= names and "denoiser.unet" not in names
    assert evaluations(method, call, 2) == expected
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in method.modules())


@pytest.mark.parametrize("backend", [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
def test_attention_is_named_by_the_operation_that_computed_it(backend):
    query = torch.randn(1, 2, 16, 8)
    with sdpa_kernel(backend):
        (used,) = attention_kernels(CopySource(), lambda: scaled_dot_product_attention(query, query, query))
    assert ("math" in used) == (backend == SDPBackend.MATH)
    assert attention_kernels(CopySource(), lambda: torch.softmax(query @ query.mT, dim=-1) @ query) == []
