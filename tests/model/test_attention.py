"""Cross-attention against the slow, obvious versions of its equations."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xinggan.model.attention import CrossAttention, EnhancedAttention, pyramid_grids, pyramid_of, tokens
from xinggan.model.generator import XingGenerator
from xinggan.model.switches import Architecture

PYRAMID = (1, 3, 6, 8)


def code(height=8, width=4, channels=16, seed=0):
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("height", "width"), [(32, 16), (64, 44), (16, 8), (9, 23), (12, 12)])
def test_pyramid_pooling_equals_adaptive_average_pooling_of_each_level(height, width):
    x = code(height, width)
    levels = [F.adaptive_avg_pool2d(x, grid).flatten(2) for grid in pyramid_grids(height, width, PYRAMID)]
    expected = torch.cat(levels, dim=2).transpose(1, 2)
    pooled = tokens(pyramid_of(x, PYRAMID).pool(x))
    torch.testing.assert_close(pooled[:, : expected.shape[1]], expected, atol=1e-6, rtol=1e-5)
    assert pooled.shape[1] % 32 == 0 and (pooled[:, expected.shape[1] :] == 0).all()


def test_grids_on_market_1501_are_those_of_the_method_page():
    assert pyramid_grids(32, 16, PYRAMID) == [(2, 1), (6, 3), (12, 6), (16, 8)]


def test_bins_tell_each_key_its_centre_and_scale():
    bins = pyramid_of(code(8, 4), (1, 2)).bins
    assert bins[:2].tolist() == [[0.25, 0.5, 1.0, 0.0], [0.75, 0.5, 1.0, 0.0]]
    assert bins[2].tolist() == [0.125, 0.25, 2.0, 1.0]


@pytest.mark.parametrize("levels", [(), PYRAMID])
def test_a_pyramid_is_made_on_its_device_alone(levels):
    """Else a compiled generator, which makes it at each call, could not be captured as a CUDA graph."""
    made = []

    class Recorded(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, given=(), named=None):
            results = function(*given, **(named or {}))
            made.extend(tensor.device.type for tensor in tree_leaves(results))
            return results

    elsewhere = torch.empty(1, 16, 28, 20, device="meta")  # a size of this test's own: it is not there yet
    with Recorded():
        pyramid_of(elsewhere, levels)
    assert set(made) == {"meta"}


def randomised(module):
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) / 4
    return module


def test_single_scale_attention_equals_the_published_formula_position_by_position():
    x, y = code(seed=1), code(seed=2)
    attention = randomised(CrossAttention(16, enhanced=False))
    (result,) = attention([x], [x], [y], pyramid_of(x, ()))

    expected = x.clone()
    for b in range(2):
        for n in range(32):
            i, j = divmod(n, 4)
            query = attention.query(x[b, :, i : i + 1, j : j + 1]).flatten()
            keys = torch.stack([attention.key(y[b, :, k // 4, k % 4, None, None]).flatten() for k in range(32)])
            values = torch.stack([attention.value(x[b, :, k // 4, k % 4, None, None]).flatten() for k in range(32)])
            weights = torch.softmax(keys @ query, dim=0)
            expected[b, :, i, j] += attention.gamma * (weights @ values)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


def test_multi_scale_values_come_from_the_same_bin_of_the_updated_code_as_the_keys_of_the_guide():
    x, y = code(seed=1), code(seed=2)
    attention, pyramid = randomised(CrossAttention(16, enhanced=False)), pyramid_of(x, (1, 3))
    (result,) = attention([x], [pyramid.pool(x)], [pyramid.pool(y)], pyramid)

    # The other order of the definition: project every position, then pool keys and values.
    keys, values = (tokens(pyramid.pool(projected))[:, :20] for projected in (attention.key(y), attention.value(x)))
    weights = torch.softmax(tokens(attention.query(x)) @ keys.transpose(1, 2), dim=-1)
    expected = x + attention.gamma * (weights @ values).transpose(1, 2).unflatten(2, (8, 4))
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("levels", [(), PYRAMID])
def test_enhanced_attention_with_gamma_zero_equals_plain_attention(levels):
    x, y = code(seed=1), code(seed=2)
    enhanced, pyramid = randomised(CrossAttention(16, enhanced=True)), pyramid_of(x, levels)
    enhanced.enhance.gamma.data.zero_()
    plain = CrossAttention(16, enhanced=False)
    plain.load_state_dict(enhanced.state_dict(), strict=False)
    inputs = ([x], [pyramid.pool(x)], [pyramid.pool(y)], pyramid)
    torch.testing.assert_close(enhanced(*inputs), plain(*inputs), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("enhanced", [True, False])
def test_two_codes_that_share_their_weights_are_updated_as_each_alone(enhanced):
    x, y = code(seed=1), code(seed=2)
    attention, pyramid = randomised(CrossAttention(16, enhanced)), pyramid_of(x, PYRAMID)
    keys = [pyramid.pool(x), pyramid.pool(y)]
    together = attention([x, y], keys, keys[::-1], pyramid)
    alone = [*attention([x], keys[:1], keys[1:], pyramid), *attention([y], keys[1:], keys[:1], pyramid)]
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-6)


def test_enhanced_attention_equals_its_definition_key_by_key():
    pyramid = pyramid_of(code(8, 4), (1, 2))
    y, x, rows, columns = pyramid.bins.T
    angles = torch.pi * torch.stack([y, 4 * y, x, 4 * x, rows, 4 * rows, columns, 4 * columns], dim=1)
    position_of = torch.cat([angles.sin(), angles.cos()], dim=1)
    random = torch.Generator().manual_seed(3)
    queries, keys = (torch.randn(2, 32, 5, generator=random) + 0.5 for _ in range(2))  # N and S' are both 32
    logits = queries @ keys.transpose(1, 2)  # [2, N, S']
    module = randomised(EnhancedAttention())
    refined = F.pad(queries, (0, 8), value=1) @ module(queries, keys, 8, 4, pyramid).transpose(1, 2)
    assert (refined[..., 10:] < -1e8).all()  # keys without a bin: nothing looks at them, nor do they matter
    for b in range(2):
        columns = [logits[b, :, j] for j in range(10)]
        grids = [F.adaptive_avg_pool2d(column.view(1, 1, 8, 4), 8).flatten() for column in columns]
        position = module.position(position_of)
        descriptors = [module.norm(module.describe(grid)) + position[j] for j, grid in enumerate(grids)]
        values = [(column - column.mean()) / (column.var(unbiased=False) + 1e-5).sqrt() for column in columns]
        for j in range(10):
            scores = torch.stack([module.query(descriptors[j]) @ module.key(d) for d in descriptors]) / 8
            inner = sum(w * v for w, v in zip(torch.softmax(scores, 0), values, strict=True))
            torch.testing.assert_close(refined[b, :, j], logits[b, :, j] + module.gamma * inner, atol=1e-4, rtol=1e-4)


def test_enhanced_attention_of_keys_that_see_no_difference_is_finite():
    """Their correlation is the same at all positions: its variance is zero but for rounding, also below zero."""
    queries = torch.randn(2, 1, 5, generator=torch.Generator().manual_seed(4)).expand(2, 32, 5).contiguous()
    keys = 1e3 * torch.randn(2, 32, 5, generator=torch.Generator().manual_seed(5))
    module = randomised(EnhancedAttention())
    result = module(queries.requires_grad_(), keys, 8, 4, pyramid_of(code(8, 4), (1, 2)))
    assert result.isfinite().all()
    assert torch.autograd.grad(result.sum(), queries)[0].isfinite().all()


def test_attention_rows_are_distributions():
    x, y = code(seed=1), code(seed=2)
    pyramid = pyramid_of(x, PYRAMID)
    weights = randomised(CrossAttention(16, enhanced=True)).weights(x, pyramid.pool(y), pyramid)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 32))
    assert (weights >= 0).all()


def test_what_inference_made_first_can_be_trained_with():
    generator = XingGenerator(Architecture(blocks=1, width=4, candidates=1))
    image, maps = torch.rand(1, 3, 36, 20), torch.rand(1, 18, 36, 20)  # a size of this test's own
    with torch.inference_mode():
        generator(image, maps, maps)
    generator(image, maps, maps).sum().backward()
    assert all(parameter.grad is not None for parameter in generator.parameters())


def test_a_compiled_generator_is_one_graph_and_generates_the_same():
    generator = XingGenerator(Architecture(blocks=2, width=4, candidates=1)).eval()
    image, maps = torch.rand(1, 3, 32, 24), torch.rand(1, 18, 32, 24)
    with torch.no_grad():
        compiled = torch.compile(generator, backend="eager", fullgraph=True)(image, maps, maps)
        torch.testing.assert_close(compiled, generator(image, maps, maps), atol=1e-6, rtol=1e-6)
