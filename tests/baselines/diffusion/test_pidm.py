"""PIDM: its attention written out, sizes that do not halve evenly, work done once, conditions that go missing."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from baselines.diffusion.pidm import PIDM
from baselines.diffusion.process import Seen
from baselines.diffusion.settings import PIDMSettings
from baselines.diffusion.texture_unet import Place, SourceEncoder, TextureBlock, TextureUNet, source_attention
from xinggan.distributed import Processes

SMALL = PIDMSettings(width=8, multipliers=(1, 2, 2), level_blocks=1, attention_levels=2, dropout=0.0)


def awake(module, seed=0):
    """With weights everywhere: a fresh network's last layer is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return module.eval()


def test_a_position_attends_to_all_positions_of_the_source():
    block = awake(TextureBlock(SMALL, 8, 8, source_attention(8, Place.down)))
    x, time, source = torch.randn(2, 8, 3, 2), torch.randn(2, 32), torch.randn(2, 5, 8)
    inner, attention = block.block(x, time), block.attention
    norm, weights = attention.group_norm, {name: getattr(attention, name).weight.T for name in ("to_q", "to_k", "to_v")}
    places = F.group_norm(inner, 2, norm.weight, norm.bias, norm.eps).flatten(2).mT  # [B, N, C]
    scores = (places @ weights["to_q"]) @ (source @ weights["to_k"]).mT / 8**0.5  # [B, N, S]
    attended = attention.to_out[0](torch.softmax(scores, dim=-1) @ (source @ weights["to_v"]))
    expected = inner + attended.mT.unflatten(2, (3, 2))
    torch.testing.assert_close(block(x, time, source), expected, atol=1e-5, rtol=1e-4)


PUBLISHED_LEVELS = PIDMSettings(width=4, level_blocks=1, dropout=0.0)


@pytest.mark.parametrize(
    ("settings", "height", "width"), [(SMALL, 32, 16), (SMALL, 20, 36), (PUBLISHED_LEVELS, 256, 176)]
)
def test_images_keep_their_size_and_every_weight_takes_part(settings, height, width):
    encoder, denoiser = awake(SourceEncoder(settings)), awake(TextureUNet(settings))
    features = encoder(torch.randn(2, 3, height, width))
    assert len(features) == settings.attention_levels
    predicted = denoiser(
        torch.randn(2, 3, height, width), torch.tensor([0, 999]), torch.rand(2, 18, height, width), features
    )
    assert predicted.shape == (2, 3, height, width)
    predicted.square().mean().backward()
    assert all(p.grad is not None for module in (encoder, denoiser) for p in module.parameters())


def test_every_input_changes_the_prediction_and_a_missing_source_is_the_same_for_all():
    torch.manual_seed(0)
    encoder, denoiser = awake(SourceEncoder(SMALL)), awake(TextureUNet(SMALL))
    noised, maps, timesteps = torch.randn(2, 3, 16, 16), torch.rand(2, 18, 16, 16), torch.tensor([10, 10])
    features = encoder(torch.randn(2, 3, 16, 16))
    with torch.no_grad():
        usual = denoiser(noised, timesteps, maps, features)
        others = (
            denoiser(noised, timesteps, maps, encoder(torch.randn(2, 3, 16, 16))),
            denoiser(noised, timesteps, 0 * maps, features),
            denoiser(noised, timesteps + 500, maps, features),
            denoiser(-noised, timesteps, maps, features),
        )
        missing = [torch.zeros_like(level) for level in features]
        alike = denoiser(noised[:1].repeat(2, 1, 1, 1), timesteps, maps[:1].repeat(2, 1, 1, 1), missing)
    assert all((usual - other).abs().max() > 5e-5 for other in others)  # of 0.2; rounding is below 1e-6
    torch.testing.assert_close(alike[0], alike[1])


def pidm(**changes):
    return PIDM(replace(SMALL, **{"steps": 3} | changes))


def test_two_processes_lose_what_one_would(people):
    method = pidm(dropout=0.5, condition_dropout=0.5)

    def loss(rows, index, count):
        torch.manual_seed(0)
        with Processes(index, count).active(), torch.no_grad():
            return method.train().denoising_loss(people.train.batch(rows)).item()

    torch.nn.init.normal_(method.denoiser.head.weight, std=0.1)  # a fresh network predicts 0 whatever it sees
    halves = [loss([0, 1, 2], 0, 2), loss([3, 4, 5], 1, 2)]
    assert sum(halves) / 2 == pytest.approx(loss(range(6), 0, 1), rel=1e-5)
    assert halves[0] != pytest.approx(halves[1], rel=1e-4)


def test_a_missing_condition_is_zero(people):
    method, batch = pidm(), people.train.batch([0, 1])
    awake(method)
    noised, timesteps, yes, no = (
        torch.randn(2, 3, 32, 16),
        torch.tensor([10, 900]),
        torch.ones(2) > 0,
        torch.ones(2) < 0,
    )
    with torch.no_grad():
        maps, *features = conditions = method.conditions(batch.source_image, batch.target_pose)
        without_pose = method.denoiser(noised, timesteps, 0 * maps, features)
        without_source = method.denoiser(noised, timesteps, maps, [0 * level for level in features])
        for seen, expected in ((Seen(yes, no), without_pose), (Seen(no, yes), without_source)):
            torch.testing.assert_close(method.predicted(noised, timesteps, conditions, seen), expected)
