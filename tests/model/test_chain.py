"""Convolutions taken as one with the layers before them, against the same layers one after another."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn

from xinggan.model import chain
from xinggan.model.chain import Chain, Dropout, InstanceNorm, ReflectedConvolution

CONVOLUTIONS = {
    "reflecting": lambda: ReflectedConvolution(8, 6, 3, padding=1),
    "striding": lambda: nn.Conv2d(8, 6, 3, stride=2, padding=1, bias=False),
    "transposed": lambda: nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1),
    "padding otherwise": lambda: nn.Conv2d(8, 6, 3, padding=1, padding_mode="replicate"),
}
NORMS = {"batch": nn.BatchNorm2d, "instance": InstanceNorm, "affine": partial(InstanceNorm, affine=True)}
NORMS["cumulative"] = partial(nn.BatchNorm2d, momentum=None)


def drawn(norm, convolution, probability):
    """A chain with weights that let every layer matter, and the same one as a plain nn.Sequential."""
    torch.manual_seed(0)
    middle = [norm(8), nn.ReLU(True), Dropout(probability), CONVOLUTIONS[convolution]()]
    layers = Chain(ReflectedConvolution(4, 8, 3, padding=1), *middle, norm(6))
    for parameter in layers.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    return layers, nn.Sequential(*deepcopy(layers))


def trained(layers, precision=None):
    """What a pass and its gradient leave: the result, gradients, running statistics; the masks are the same."""
    torch.manual_seed(1)
    features = torch.randn(3, 4, 8, 10).to(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", precision or torch.bfloat16, enabled=precision is not None):
        result = layers(features)
    (result.float() * torch.linspace(-1, 1, result.numel()).view(result.shape)).sum().backward()
    return [result, features.grad, *(p.grad for p in layers.parameters()), *layers.buffers()]


@pytest.mark.parametrize("probability", [0.0, 0.3])
@pytest.mark.parametrize("convolution", CONVOLUTIONS)
@pytest.mark.parametrize("norm", NORMS)
def test_a_chain_of_large_maps_is_the_layers_one_by_one(monkeypatch, norm, convolution, probability):
    monkeypatch.setattr(chain, "LARGE", 0)
    layers, plain = drawn(NORMS[norm], convolution, probability)
    for found, expected in zip(trained(layers), trained(plain), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, InstanceNorm])
def test_in_bfloat16_its_gradients_are_as_near_to_float32_as_those_of_the_layers_one_by_one(monkeypatch, norm):
    monkeypatch.setattr(chain, "LARGE", 0)
    layers, plain = drawn(norm, "reflecting", 0.3)
    exact = trained(deepcopy(plain))[1]
    ours, theirs = ((trained(one, torch.bfloat16)[1] - exact).abs().mean() for one in (layers, plain))
    assert 0 < ours < 1.1 * theirs


def test_a_frozen_chain_passes_the_gradient_on_and_has_none(monkeypatch):
    """As a discriminator while the generator is updated."""
    monkeypatch.setattr(chain, "LARGE", 0)
    layers, plain = drawn(nn.BatchNorm2d, "reflecting", 0.3)
    expected = trained(plain)[1]
    found = trained(layers.requires_grad_(False))
    torch.testing.assert_close(found[1], expected, atol=1e-5, rtol=1e-5)
    assert all(p.grad is None for p in layers.parameters())


@pytest.mark.parametrize("place", [1, 3])
def test_a_norm_or_dropout_that_is_not_in_training_stays_as_it_is(monkeypatch, place):
    """The norm keeps the statistics that it has learnt, the dropout drops nothing."""
    monkeypatch.setattr(chain, "LARGE", 0)
    layers, plain = drawn(nn.BatchNorm2d, "reflecting", 0.3)
    for one in (layers, plain):
        one[place].eval()
    for found, expected in zip(trained(layers), trained(plain), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_gradient_may_be_asked_for_where_autocast_is_on(monkeypatch):
    monkeypatch.setattr(chain, "LARGE", 0)
    layers, _ = drawn(nn.BatchNorm2d, "reflecting", 0.3)
    expected = trained(deepcopy(layers), torch.bfloat16)[1]
    torch.manual_seed(1)
    features = torch.randn(3, 4, 8, 10).to(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        result = layers(features).float()
        (result * torch.linspace(-1, 1, result.numel()).view(result.shape)).sum().backward()
    torch.testing.assert_close(features.grad, expected)


def test_little_more_than_the_convolutions_results_is_kept(monkeypatch):
    """One by one, the layers keep the norm's result, the mask, what dropout leaves and the padded map as well."""

    def kept_bytes(layers):
        kept = {}

        def keep(tensor):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            layers(torch.randn(2, 32, 32, 32).to(memory_format=torch.channels_last))
        return sum(kept.values()) - sum(p.nbytes for p in layers.parameters())

    convolutions = [ReflectedConvolution(32, 32, 3, padding=1) for _ in range(4)]
    between = [[nn.BatchNorm2d(32), nn.ReLU(True), Dropout(0.5), one] for one in convolutions[1:]]
    layers = Chain(convolutions[0], *(layer for group in between for layer in group))
    plain = nn.Sequential(*layers)
    monkeypatch.setattr(chain, "LARGE", 0)
    map_bytes = 4 * 2 * 32 * 32 * 32
    assert kept_bytes(layers) < 5 * map_bytes  # the input, three results, three masks of a byte an element
    assert kept_bytes(plain) > 12 * map_bytes
