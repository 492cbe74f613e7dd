"""Cross-attention against the slow, obvious versions of its equations."""

import pytest
import torch
from torch.nn import functional as F

from xinggan.model.attention import CrossAttention, EnhancedAttention, PyramidPooling, pyramid_grids, tokens
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
    pooled = tokens(PyramidPooling(PYRAMID)(x))
    torch.testing.assert_close(pooled[:, : expected.shape[1]], expected, atol=1e-6, rtol=1e-5)
    assert pooled.shape[1] % 32 == 0 and (pooled[:, expected.shape[1] :] == 0).all()


def test_grids_on_market_1501_are_those_of_the_method_page():
    assert pyramid_grids(32, 16, PYRAMID) == [(2, 1), (6, 3), (12, 6), (16, 8)]


def test_bins_tell_each_key_its_centre_and_scale():
    bins = PyramidPooling((1, 2)).bins(code(8, 4))
    assert bins[:2].tolist() == [[0.25, 0.5, 1.0, 0.0], [0.75, 0.5, 1.0, 0.0]]
    assert bins[2].tolist() == [0.125, 0.25, 2.0, 1.0]


def randomised(module):
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) / 4
    return module


def test_single_scale_attention_equals_the_published_formula_position_by_position():
    x, y = code(seed=1), code(seed=2)
    attention = randomised(CrossAttention(16, enhanced=False))
    pool = PyramidPooling()
    (result,) = attention([x], [pool(x)], [pool(y)], pool.bins(x))

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
    attention, pool = randomised(CrossAttention(16, enhanced=False)), PyramidPooling((1, 3))
    (result,) = attention([x], [pool(x)], [pool(y)], pool.bins(x))

    # The other order of the definition: project every position, then pool keys and values.
    keys, values = (tokens(pool(projected))[:, :20] for projected in (attention.key(y), attention.value(x)))
    weights = torch.softmax(tokens(attention.query(x)) @ keys.transpose(1, 2), dim=-1)
    expected = x + attention.gamma * (weights @ values).transpose(1, 2).unflatten(2, (8, 4))
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pyramid", [(), PYRAMID])
def test_enhanced_attention_with_gamma_zero_equals_plain_attention(pyramid):
    x, y = code(seed=1), code(seed=2)
    enhanced, pool = randomised(CrossAttention(16, enhanced=True)), PyramidPooling(pyramid)
    enhanced.enhance.gamma.data.zero_()
    plain = CrossAttention(16, enhanced=False)
    plain.load_state_dict(enhanced.state_dict(), strict=False)
    inputs = ([x], [pool(x)], [pool(y)], pool.bins(x))
    torch.testing.assert_close(enhanced(*inputs), plain(*inputs), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("enhanced", [True, False])
def test_two_codes_that_share_their_weights_are_updated_as_each_alone(enhanced):
    x, y = code(seed=1), code(seed=2)
    attention, pool = randomised(CrossAttention(16, enhanced)), PyramidPooling(PYRAMID)
    keys, bins = [pool(x), pool(y)], pool.bins(x)
    together = attention([x, y], keys, keys[::-1], bins)
    alone = [*attention([x], keys[:1], keys[1:], bins), *attention([y], keys[1:], keys[:1], bins)]
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-6)


def test_enhanced_attention_equals_its_definition_key_by_key():
    pool = PyramidPooling((1, 2))
    bins = pool.bins(code(8, 4))
    random = torch.Generator().manual_seed(3)
    queries, keys = (torch.randn(2, count, 5, generator=random) + 0.5 for count in (32, len(bins) + 3))
    logits = queries @ keys.transpose(1, 2)  # [2, N, S + 3]
    module = randomised(EnhancedAttention())
    refined = F.pad(queries, (0, 8), value=1) @ module(queries, keys, 8, 4, bins).transpose(1, 2)
    assert (refined[..., len(bins) :] < -1e8).all()  # keys without a bin: nothing looks at them, nor do they matter

    from xinggan.model.attention import _sinusoids

    for b in range(2):
        columns = [logits[b, :, j] for j in range(len(bins))]
        grids = [F.adaptive_avg_pool2d(column.view(1, 1, 8, 4), 8).flatten() for column in columns]
        position = module.position(_sinusoids(bins, len(bins)))
        descriptors = [module.norm(module.describe(grid)) + position[j] for j, grid in enumerate(grids)]
        values = [(column - column.mean()) / (column.var(unbiased=False) + 1e-5).sqrt() for column in columns]
        for j in range(len(bins)):
            scores = torch.stack([module.query(descriptors[j]) @ module.key(d) for d in descriptors]) / 8
            inner = sum(w * v for w, v in zip(torch.softmax(scores, 0), values, strict=True))
            torch.testing.assert_close(refined[b, :, j], logits[b, :, j] + module.gamma * inner, atol=1e-4, rtol=1e-4)


def test_enhanced_attention_of_keys_that_see_no_difference_is_finite():
    """Their correlation is the same at all positions: its variance is zero but for rounding, also below zero."""
    queries = torch.randn(2, 1, 5, generator=torch.Generator().manual_seed(4)).expand(2, 32, 5).contiguous()
    keys = 1e3 * torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(5))
    module = randomised(EnhancedAttention())
    result = module(queries.requires_grad_(), keys, 8, 4, PyramidPooling((1, 2)).bins(code(8, 4))[:5])
    assert result.isfinite().all()
    assert torch.autograd.grad(result.sum(), queries)[0].isfinite().all()


def test_attention_rows_are_distributions():
    x, y = code(seed=1), code(seed=2)
    pool = PyramidPooling(PYRAMID)
    weights = randomised(CrossAttention(16, enhanced=True)).weights(x, pool(y), pool.bins(x))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 32))
    assert (weights >= 0).all()


def test_what_inference_made_first_can_be_trained_with():
    generator = XingGenerator(Architecture(blocks=1, width=4, candidates=1))
    image, maps = torch.rand(1, 3, 36, 20), torch.rand(1, 18, 36, 20)  # a size of this test's own
    with torch.inference_mode():
        generator(image, maps, maps)
    generator(image, maps, maps).sum().backward()
    assert all(parameter.grad is not None for parameter in generator.parameters())
