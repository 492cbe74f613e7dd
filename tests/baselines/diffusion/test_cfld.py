"""CFLD: its attention against the plain formula, its timesteps' distribution, the source's reconstruction."""

import pytest
import torch
from method_promises import calls_of

from baselines.diffusion.cfld import (
    CFLD,
    FineFeatures,
    GuidedAttention,
    Guides,
    PerceptionRefinedDecoder,
    cubic_timesteps,
)
from baselines.diffusion.settings import CFLDSettings
from baselines.diffusion.texture_unet import Place

SMALL = {"width": 4, "multipliers": (1, 2), "level_blocks": 1, "vae_width": 4, "vae_factor": 4}
SMALL |= {"prompt_queries": 3, "prompt_channels": 8, "prompt_blocks": 1, "fine_blocks": 1}


def test_hybrid_attention_is_softmax_attention_with_the_bias_on_its_queries():
    torch.manual_seed(0)
    layer = GuidedAttention(16, 8, Place.up).block.attn2.double()
    x, prompt, bias = torch.randn(2, 5, 16).double(), torch.randn(2, 3, 8).double(), torch.randn(2, 5, 16).double()
    result = layer(x, encoder_hidden_states=prompt, query_bias=bias)
    heads, expected = layer.heads, torch.zeros(2, 5, 16).double()
    assert heads == 4
    query, key, value = x @ layer.to_q.weight.T + bias, prompt @ layer.to_k.weight.T, prompt @ layer.to_v.weight.T
    for head in range(heads):
        own = slice(4 * head, 4 * head + 4)
        weights = torch.softmax(query[..., own] @ key[..., own].transpose(1, 2) / 2, dim=-1)
        expected[..., own] = weights @ value[..., own]
    torch.testing.assert_close(result, layer.to_out[0](expected))


def test_fine_features_begin_as_no_bias_of_the_queries():
    up, x, prompt = GuidedAttention(16, 8, Place.up), torch.randn(2, 16, 3, 2), torch.randn(2, 4, 8)
    fine, pose = FineFeatures(16, 2)(torch.randn(2, 6, 16)), torch.randn(2, 6, 16)
    assert fine.abs().max() == 0
    middle = GuidedAttention(16, 8, Place.middle)
    middle.load_state_dict(up.state_dict())
    without = middle(x, Guides(prompt, pose, fine + 1))
    assert torch.equal(up(x, Guides(prompt, pose, fine)), without)
    assert not torch.equal(up(x, Guides(prompt, pose, fine + 1)), without)


def test_the_prompt_knows_where_in_the_source_a_feature_is():
    torch.manual_seed(0)
    decoder = PerceptionRefinedDecoder(queries=4, channels=8, blocks=2, source_channels=16)
    source = torch.randn(1, 6, 16)
    prompt, moved = decoder(source, (3, 2)), decoder(source.flip(1), (3, 2))
    assert prompt.shape == (1, 4, 8)
    assert (prompt - moved).abs().max() > 1e-4


def test_timesteps_are_distributed_as_the_cube_says():
    """P(t < k) = P((1 - u^3) T < k) = 1 - (1 - k / T)^(1/3)."""
    torch.manual_seed(0)
    timesteps = cubic_timesteps(torch.empty(100_000, 1))
    assert timesteps.min() >= 0
    assert timesteps.max() == 999
    for k in (100, 500, 900):
        share = (timesteps < k).float().mean().item()
        assert share == pytest.approx(1 - (1 - k / 1000) ** (1 / 3), abs=0.006)


def test_without_the_sources_reconstruction_a_step_evaluates_half_as_much(people):
    batches = []
    for weight in (1.0, 0.0):
        method = CFLD(CFLDSettings(**SMALL, reconstruction=weight, vae_share=0.1)).train()
        method.planned_steps = 2
        method.begin(people.train)
        with calls_of(method.denoiser.unet) as counted:
            terms = method.training_step(people.train.batch(range(4)), 1)
        batches.append(counted)
        assert ("reconstruction" in terms) == (weight > 0)
    assert batches == [[8], [4]]
