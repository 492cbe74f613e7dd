"""Minimal filtering against the direct convolution in float64: results, counts, and when it is taken."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from xinggan.model import winograd
from xinggan.model.chain import ReflectedConvolution


@pytest.fixture(autouse=True)
def taken(monkeypatch):
    """On any processor, and for small maps."""
    monkeypatch.setattr(winograd, "MKL_IS_FAST", True)
    monkeypatch.setattr(winograd, "LEAST_CHANNELS", 3)
    monkeypatch.setattr(winograd, "LEAST_TILES", 1)


def drawn(count=2, channels=5, outputs=4, height=10, width=7):
    random = torch.Generator().manual_seed(0)
    shapes = (count, channels, height + 2, width + 2), (outputs, channels, 3, 3), (outputs,)
    return [torch.randn(shape, generator=random) for shape in shapes]


@pytest.mark.parametrize("size", [(1, 1), (4, 2), (5, 3), (16, 11)])
@pytest.mark.parametrize("at_once", [1, 2**23])
def test_it_is_the_convolution(monkeypatch, size, at_once):
    monkeypatch.setattr(winograd, "AT_ONCE", at_once)  # each image, row and kernel by itself
    features, weight, bias = drawn(height=size[0], width=size[1])
    found = winograd.convolution(features, weight, bias)
    expected = F.conv2d(features.double(), weight.double(), bias.double())
    torch.testing.assert_close(found.double(), expected, atol=2e-5, rtol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_at_full_width_it_rounds_like_the_direct_way():
    random = torch.Generator().manual_seed(1)
    features = torch.randn(1, 256, 34, 18, generator=random).to(memory_format=torch.channels_last)
    weight = torch.randn(256, 256, 3, 3, generator=random) / 48
    exact = F.conv2d(features.double(), weight.double())
    errors = [
        (result - exact).pow(2).mean().sqrt()
        for result in (winograd.convolve(features, weight, None), F.conv2d(features, weight))
    ]
    assert 0 < errors[0] < 2 * errors[1]


def test_it_counts_as_the_convolution_that_it_stands_for():
    features, weight, bias = drawn()
    counts = []
    for convolve in (winograd.convolve, F.conv2d):
        with FlopCounterMode(display=False) as counter:
            convolve(features, weight, bias)
        counts.append(counter.get_total_flops())
    by_hand = 2 * 2 * 4 * 10 * 7 * 5 * 9
    assert counts == [by_hand, by_hand]


def test_it_is_one_of_the_librarys_operations():
    torch.library.opcheck(winograd.convolution, drawn(), test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize(
    "change",
    [
        lambda features, weight: (features.double(), weight.double()),
        lambda features, weight: (features.bfloat16(), weight.bfloat16()),
        lambda features, weight: (features[:, :2], weight[:, :2]),
        lambda features, weight: (features, weight[:2]),
        lambda features, weight: (features, weight[..., :2]),
        lambda features, weight: (features, nn.Parameter(weight)),
        lambda features, weight: (features, weight, nn.Parameter(torch.zeros(len(weight)))),
    ],
)
def test_where_it_is_not_known_to_be_faster_the_library_convolves(monkeypatch, change):
    features, weight, bias = drawn()
    assert winograd._suits(features, weight, bias)
    features, weight, *others = change(features, weight)
    bias = others[0] if others else None
    assert not winograd._suits(features, weight, bias)
    torch.testing.assert_close(winograd.convolve(features, weight, bias), F.conv2d(features, weight, bias))


@torch.no_grad()
def test_published_weights_keep_the_sums_of_the_library():
    layer, features = ReflectedConvolution(4, 4, 3, padding=1), torch.randn(1, 4, 8, 8)
    library = F.conv2d(F.pad(features, [1, 1, 1, 1], mode="reflect"), layer.weight, layer.bias)
    assert not torch.equal(layer(features), library)
    torch.testing.assert_close(layer(features), library)
    layer.as_published = True
    assert torch.equal(layer(features), library)
