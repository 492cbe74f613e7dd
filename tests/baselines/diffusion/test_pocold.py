"""PoCoLD: its attention, penalty and joint maps against loops and formulas."""

import math

import pytest
import torch

from baselines.body_parts import part_labels
from baselines.diffusion.pocold import PoCoLD, PoseConstrainedAttention, Texture, latent_joint_maps
from baselines.diffusion.settings import PoCoLDSettings
from xinggan.data.settings import PoseMap


def test_attention_and_penalty_are_those_of_loops_over_positions_and_filters():
    torch.manual_seed(0)
    attention = PoseConstrainedAttention(8, filters=3).double()
    torch.nn.init.normal_(attention.out.weight)
    x, features = torch.randn(2, 8, 2, 3).double(), torch.randn(2, 5, 8).double()
    elsewhere, seen = torch.rand(2, 6, 5) < 0.5, torch.tensor([True, False])
    penalties = []
    with torch.no_grad():
        result = attention(x, Texture(features, seen, elsewhere, penalties))
    source, heads, c = attention.norm(features), attention.heads, 8 // attention.heads
    assert heads == 2
    expected, penalty = torch.zeros(2, 6, 8).double(), 0.0
    for b in range(2):
        for head in range(heads):
            own = slice(head * c, (head + 1) * c)
            keys, values = attention.key(source[b])[:, own], attention.value(source[b])[:, own]
            for n in range(6):
                query = attention.query(x[b].flatten(1)[:, n])[own]
                to_filters = torch.softmax(attention.distributing[head] @ query / c**0.5, dim=0)  # [K]
                weights = torch.zeros(5).double()
                for k in range(3):
                    weights += to_filters[k] * torch.softmax(keys @ attention.gathering[head, k] / c**0.5, dim=0)
                assert weights.sum().item() == pytest.approx(1)
                expected[b, n, own] = weights @ values
                penalty += sum(weights[s].item() ** 2 for s in range(5) if elsewhere[b, n, s]) / (2 * heads * 6 * 5)
    expected = attention.out(expected) * seen[:, None, None]
    torch.testing.assert_close(result, x + expected.transpose(1, 2).unflatten(2, (2, 3)))
    assert torch.equal(result[1], x[1])
    assert penalties[0].item() == pytest.approx(penalty)


def test_the_constraint_compares_the_parts_of_every_pair_of_positions(people):
    batch = people.train.batch([0, 3])
    denoiser = PoCoLD(PoCoLDSettings(width=4, multipliers=(1, 2), vae_width=4, vae_factor=4)).denoiser
    masks = denoiser.elsewhere(batch.source_pose, batch.target_pose, (8, 4), levels=2)
    source, target = part_labels(batch.source_pose, 4, (8, 4)), part_labels(batch.target_pose, 4, (8, 4))
    assert [mask.shape for mask in masks] == [(2, 32, 32), (2, 8, 8)]
    for row in range(4):
        for column in range(2):
            for y in range(4):
                for x in range(2):
                    other = target[:, 2 * row, 2 * column] != source[:, 2 * y, 2 * x]
                    assert torch.equal(masks[1][:, 2 * row + column, 2 * y + x], other)


def test_joint_maps_have_the_value_of_the_pixels_at_the_latents_centres():
    poses = torch.zeros(1, 18, 3)
    poses[0, 4] = torch.tensor([9.0, 21.0, 1])
    maps = latent_joint_maps(poses, 4, (8, 4), PoseMap.gaussian, sigma=6.0)
    for row in range(8):
        for column in range(4):
            x, y = 4 * column + 1.5, 4 * row + 1.5  # the centre of 4 pixels, counted from the first one's
            expected = math.exp(-((x - 9) ** 2 + (y - 21) ** 2) / (2 * 6**2))
            assert maps[0, 4, row, column].item() == pytest.approx(expected, rel=1e-5)
    assert maps[0, [j for j in range(18) if j != 4]].abs().max() == 0
