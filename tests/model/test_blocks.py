"""Layers that every method is built of."""

import pytest
import torch
from torch.nn import functional as F

from xinggan.model.blocks import GroupNorm, use_exact_norms


@pytest.mark.parametrize("mean, deviation", [(0, 1), (1, 1e-2), (10, 1e-2)])
@pytest.mark.parametrize("precision, tolerance", [(torch.float32, 5e-4), (torch.bfloat16, 8e-2)])
def test_group_norm_of_channels_last_features_that_hardly_vary_is_that_of_float64(
    mean, deviation, precision, tolerance
):
    layer = torch.nn.Sequential(torch.nn.GroupNorm(32, 64))
    use_exact_norms(layer)
    assert type(layer[0]) is GroupNorm
    features = torch.randn(2, 64, 64, 64, generator=torch.Generator().manual_seed(0))
    features = (mean + deviation * features).to(precision, memory_format=torch.channels_last)
    expected = F.group_norm(features.double(), 32)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        found = layer(features)
    assert found.dtype == precision and found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=0)
