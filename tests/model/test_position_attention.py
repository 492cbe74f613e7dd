"""Attention in blocks against all weights at once, images and gradients alike; what a gradient keeps in memory."""

import pytest
import torch

import xinggan.model.position_attention as position_attention
from xinggan.model.position_attention import attend, weighted


def tensors(count=3, positions=40, keys=24, channels=16, dtype=torch.float32):
    random = torch.Generator().manual_seed(positions * keys)
    shapes = (count, positions, 8), (count, keys, 8), (count, keys, channels)
    return [torch.randn(shape, generator=random, dtype=dtype).requires_grad_() for shape in shapes]


def plain(query, key, value):
    return torch.bmm(torch.softmax(torch.bmm(query, key.transpose(1, 2)), dim=-1), value)


def gradients(function, inputs):
    result = function(*inputs)
    weights = torch.linspace(-1, 1, result.numel()).view_as(result)
    return [result, *torch.autograd.grad((result * weights).sum(), inputs)]


@pytest.mark.parametrize("block", [1, 24, 7 * 24, 40 * 24, 2 * 40 * 24, 10**9])  # from a query to all images at once
@pytest.mark.parametrize("large", [0, 10**9])  # without a gradient by convolutions, or by matrix products
def test_attention_in_blocks_equals_all_at_once_with_its_gradients(monkeypatch, block, large):
    monkeypatch.setattr(position_attention, "BLOCK", block)
    monkeypatch.setattr(position_attention, "LARGE_PRODUCT", large)
    monkeypatch.setattr(position_attention, "MKL_IS_FAST", False)
    for count in (1, 3):
        inputs = tensors(count)
        with torch.no_grad():
            torch.testing.assert_close(attend(*inputs), plain(*inputs), atol=1e-5, rtol=1e-5)
        for ours, slow in zip(gradients(attend, inputs), gradients(plain, inputs), strict=True):
            torch.testing.assert_close(ours, slow, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("positions", [512, 2816])
@pytest.mark.parametrize("mkl_is_fast", [True, False])
def test_attention_at_published_sizes_equals_all_at_once(monkeypatch, positions, mkl_is_fast):
    monkeypatch.setattr(position_attention, "MKL_IS_FAST", mkl_is_fast)
    inputs = [tensor.detach() / 4 for tensor in tensors(1, positions, positions, 256)]
    torch.testing.assert_close(attend(*inputs), plain(*inputs), atol=1e-5, rtol=1e-5)


def test_a_gradient_keeps_no_weights_of_all_positions_to_all(monkeypatch):
    monkeypatch.setattr(position_attention, "BLOCK", 8 * 24)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        inputs = tensors(1)
        attend(*inputs)
    assert max(kept) < 40 * 24 == plain_kept(inputs)


def plain_kept(inputs):
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        plain(*inputs)
    return max(kept)


def test_products_of_a_batch_are_each_images_own(monkeypatch):
    monkeypatch.setattr(position_attention, "LARGE_PRODUCT", 0)
    monkeypatch.setattr(position_attention, "MKL_IS_FAST", False)
    weights, values = torch.rand(3, 40, 24), torch.rand(3, 24, 16)
    torch.testing.assert_close(weighted(weights, values), weights @ values, atol=1e-5, rtol=1e-5)
    assert weighted(weights, values).shape == (3, 40, 16)
