"""Cross-attention against the slow, obvious versions of its equations."""

import numpy as np
import pytest
import torch
from golden import golden_weights, state_shapes
from torch.nn import functional as F

from xinggan.model.attention import (
    AiATrackAttention,
    CrossAttention,
    EnhancedAttention,
    cell_sinusoids,
    cell_waves,
    region_grids,
    regions,
    tokens,
)
from xinggan.model.generator import XingGenerator
from xinggan.model.switches import Attention, Scale, XingGANSettings

PYRAMID = (1, 3, 6, 8)
SCALES = [("single", PYRAMID), ("multi", PYRAMID), ("multi", (1, 3))]


def code(height=8, width=4, channels=16, seed=0):
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(seed))


def randomised(module):
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) / 4
    return module


def cross_attention(scale="single", pyramid=PYRAMID, attention="plain"):
    return randomised(CrossAttention(16, Attention(attention))), region_grids(8, 4, Scale(scale), pyramid)


def update(attention, updated, guide, grids):
    """The module on codes, as a crossing block calls it."""
    return attention(updated, regions(updated, grids), regions(guide, grids), grids)


@pytest.mark.parametrize(("height", "width"), [(32, 16), (64, 44), (16, 8), (9, 23), (12, 12)])
def test_regions_of_a_pyramid_are_means_over_the_bins_of_each_grid(height, width):
    x = code(height, width, channels=3)
    expected = []
    grids = region_grids(height, width, Scale.multi, PYRAMID)
    for rows, columns in grids:
        for i in range(rows):
            for j in range(columns):
                top, bottom = i * height // rows, -(-(i + 1) * height // rows)
                left, right = j * width // columns, -(-(j + 1) * width // columns)
                expected.append(x[:, :, top:bottom, left:right].mean(dim=(2, 3)))
    torch.testing.assert_close(regions(x, grids), torch.stack(expected, dim=1), atol=1e-6, rtol=1e-5)


def test_grids_on_market_1501_are_those_of_the_method_page():
    assert region_grids(32, 16, Scale.multi, PYRAMID) == ((2, 1), (6, 3), (12, 6), (16, 8))
    assert region_grids(32, 16, Scale.single, PYRAMID) == ((32, 16),)


def test_sinusoids_tell_each_key_its_centre_and_scale():
    found = cell_sinusoids(((2, 1), (4, 2)), torch.device("cpu"))
    y, x, rows, columns = torch.tensor([[0.25, 0.5, 1, 0], [0.75, 0.5, 1, 0], [0.125, 0.25, 2, 1]]).T
    angles = torch.pi * torch.stack([y, 4 * y, x, 4 * x, rows, 4 * rows, columns, 4 * columns], dim=1)
    torch.testing.assert_close(found[:3], torch.cat([angles.sin(), angles.cos()], dim=1), atol=1e-5, rtol=0)


def test_single_scale_attention_equals_the_published_formula_position_by_position():
    x, y = code(seed=1), code(seed=2)
    attention, grids = cross_attention()
    expected = x.clone()
    for b in range(2):
        for n in range(32):
            i, j = divmod(n, 4)
            query = attention.query(x[b, :, i, j])
            keys = torch.stack([attention.key(y[b, :, k // 4, k % 4]) for k in range(32)])
            values = torch.stack([attention.value(x[b, :, k // 4, k % 4]) for k in range(32)])
            weights = torch.softmax(keys @ query, dim=0)
            expected[b, :, i, j] += attention.gamma * (weights @ values)
    torch.testing.assert_close(update(attention, x, y, grids), expected, atol=1e-5, rtol=1e-5)


def test_multi_scale_values_come_from_the_same_bin_of_the_updated_code_as_the_keys_of_the_guide():
    x, y = code(seed=1), code(seed=2)
    attention, grids = cross_attention("multi", (1, 3))
    # The other order of the definition: project every position, then average keys and values.
    projected = (
        layer(tokens(c)).transpose(1, 2).unflatten(2, (8, 4)) for layer, c in ((attention.key, y), (attention.value, x))
    )
    keys, values = (regions(p, grids) for p in projected)
    weights = torch.softmax(attention.query(tokens(x)) @ keys.transpose(1, 2), dim=-1)
    expected = x + attention.gamma * (weights @ values).transpose(1, 2).unflatten(2, (8, 4))
    torch.testing.assert_close(update(attention, x, y, grids), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("scale", "pyramid"), SCALES)
def test_enhanced_attention_with_gamma_zero_equals_plain_attention(scale, pyramid):
    x, y = code(seed=1), code(seed=2)
    (enhanced, grids), (plain, _) = cross_attention(scale, pyramid, "enhanced"), cross_attention(scale, pyramid)
    enhanced.inner.gamma.data.zero_()
    plain.load_state_dict(enhanced.state_dict(), strict=False)
    torch.testing.assert_close(update(enhanced, x, y, grids), update(plain, x, y, grids), atol=1e-6, rtol=1e-6)


def test_enhanced_attention_equals_its_definition_key_by_key():
    grids = ((2, 1), (4, 2))
    correlation = torch.randn(2, 32, 10, generator=torch.Generator().manual_seed(3)) + 0.5  # N = 8 x 4, S = 10
    module = randomised(EnhancedAttention())
    refined = module(correlation, (8, 4), grids)
    position = module.position(cell_sinusoids(grids, correlation.device))
    for b in range(2):
        columns = [correlation[b, :, j] for j in range(10)]
        pooled = [F.adaptive_avg_pool2d(column.view(1, 1, 8, 4), 8).flatten() for column in columns]
        descriptors = [module.norm(module.descriptor(grid)) + position[j] for j, grid in enumerate(pooled)]
        values = [(column - column.mean()) / (column.var(unbiased=False) + 1e-5).sqrt() for column in columns]
        for j in range(10):
            scores = torch.stack([module.query(descriptors[j]) @ module.key(d) for d in descriptors]) / 8
            inner = sum(w * v for w, v in zip(torch.softmax(scores, 0), values, strict=True))
            torch.testing.assert_close(refined[b, :, j], columns[j] + module.gamma * inner, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("scale", "pyramid"), SCALES)
def test_attention_rows_are_distributions(scale, pyramid):
    attention, grids = cross_attention(scale, pyramid, "enhanced")
    weights = attention.weights(code(seed=1), regions(code(seed=2), grids), grids)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 32))
    assert (weights >= 0).all()


OF_AIATRACK = {
    "corr_proj": "descriptor",
    "feat_norm1": "descriptor_norm",
    "feat_norm2": "value_norm",
    "corr_attn.out_proj": "output",
    "corr_attn.q_proj_weight": "query.weight",
    "corr_attn.q_proj_bias": "query.bias",
    "corr_attn.k_proj_weight": "key.weight",
    "corr_attn.k_proj_bias": "key.bias",
}


@pytest.mark.parametrize(("array", "file", "size"), [("", "aiatrack", (16, 8)), ("square_", "aiatrack_square", (8, 8))])
def test_aiatrack_attention_equals_the_published_module(shared, array, file, size):
    golden = np.load(shared / "golden" / "aiatrack_attention.npz")
    state = {}
    for name, tensor in golden_weights(state_shapes(shared, f"{file}_state.json"), scale=1).items():
        inner = name.removeprefix("inner_attn.")
        for theirs, ours in OF_AIATRACK.items():
            if inner != name and inner.startswith(theirs):
                state[ours + inner.removeprefix(theirs)] = tensor
    module = AiATrackAttention(size).eval()
    module.load_state_dict(state)
    with torch.no_grad():
        refined = module(torch.from_numpy(golden[f"{array}correlation"])[None], size, ((16, 4),))[0]
    torch.testing.assert_close(refined, torch.from_numpy(golden[f"{array}corrected"]), atol=1e-5, rtol=0)
    position = torch.from_numpy(golden["position"])  # of both
    torch.testing.assert_close(cell_waves(((16, 4),), 64, refined.device), position, atol=1e-6, rtol=0)


def test_aiatrack_attention_refuses_codes_of_another_size():
    generator = small(blocks=1, attention="aiatrack", code_size=(8, 6))
    image, maps = torch.rand(1, 3, 32, 24), torch.rand(1, 18, 32, 24)
    assert generator(image, maps, maps).shape == image.shape
    with pytest.raises(ValueError, match="built for images of 32x24, not 24x32"):
        generator(image.mT, maps.mT, maps.mT)


def small(**changes):
    return XingGenerator(XingGANSettings(width=4, candidates=1, **changes))


def test_what_inference_made_first_can_be_trained_with():
    generator = small(blocks=1)
    image, maps = torch.rand(1, 3, 36, 20), torch.rand(1, 18, 36, 20)  # a size of this test's own
    with torch.inference_mode():
        generator(image, maps, maps)
    generator(image, maps, maps).sum().backward()
    assert all(parameter.grad is not None for parameter in generator.parameters())


def test_a_compiled_generator_is_one_graph_and_generates_the_same():
    generator = small(blocks=2).eval()
    image, maps = torch.rand(1, 3, 32, 24), torch.rand(1, 18, 32, 24)
    with torch.no_grad():
        compiled = torch.compile(generator, backend="eager", fullgraph=True)(image, maps, maps)
        torch.testing.assert_close(compiled, generator(image, maps, maps), atol=1e-6, rtol=1e-6)
