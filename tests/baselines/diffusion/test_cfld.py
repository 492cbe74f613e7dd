"""CFLD: its attention against the plain formula, its timesteps' distribution, conditions, the suite's harness."""

import pytest
import torch
from method_promises import assert_images_do_not_depend_on_their_batch, assert_resumes_exactly

from ablations.config import compose
from baselines.diffusion.cfld import (
    CFLD,
    FineFeatures,
    PerceptionRefinedDecoder,
    PromptedAttention,
    attention,
    cubic_timesteps,
)
from baselines.diffusion.latent_diffusion import Seen
from baselines.diffusion.samplers import counted_evaluations

pytest.importorskip("diffusers")

SMALL = {"width": 4, "multipliers": (1, 2), "level_blocks": 1}
SMALL |= {"prompt_queries": 3, "prompt_channels": 8, "prompt_blocks": 1, "fine_blocks": 1}
SMALL |= {"vae_width": 4, "vae_factor": 4, "sampler": "ddim", "steps": 3, "learning_rate": 1e-3}


def cfld(**changes):
    return CFLD(**SMALL | changes)


@pytest.fixture(scope="module")
def trained(people):
    """After 4 steps of the autoencoder and 8 of the denoiser, and the losses of every step."""
    method = cfld(vae_share=1 / 3, vae_learning_rate=1e-3).train()
    method.planned_steps = 12
    method.begin(people.train)
    losses = []
    for step in range(12):
        torch.manual_seed(step)
        losses.append(method.training_step(people.train.batch(range(4)), step))
    return method, losses


def test_hybrid_attention_is_softmax_attention_with_the_bias_on_its_queries():
    torch.manual_seed(0)
    layer = attention(16, context=8).double()
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


def test_without_a_bias_it_is_diffusers_own_attention():
    from diffusers.models.attention_processor import AttnProcessor

    layer = attention(16, context=8)
    x, prompt = torch.randn(2, 5, 16), torch.randn(2, 3, 8)
    ours = layer(x, encoder_hidden_states=prompt)
    layer.set_processor(AttnProcessor())
    torch.testing.assert_close(ours, layer(x, encoder_hidden_states=prompt))


def test_fine_features_begin_as_no_bias_of_the_queries():
    layer, x, prompt = PromptedAttention(16, 8), torch.randn(2, 16, 3, 2), torch.randn(2, 4, 8)
    fine = FineFeatures(16, 2)(torch.randn(2, 6, 16))
    assert torch.equal(layer(x, prompt, fine), layer(x, prompt, None))
    assert not torch.equal(layer(x, prompt, fine + 1), layer(x, prompt, None))
    assert FineFeatures(16, 2)(torch.randn(2, 6, 16)).abs().max() == 0


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


@pytest.mark.parametrize("missing", ["source", "pose"])
def test_a_missing_condition_leaves_no_trace(people, trained, missing):
    method, _ = trained
    batch, other = people.train.batch([0, 1]), people.train.batch([4, 6])
    noised, timesteps = torch.randn(2, 4, 8, 4), torch.tensor([10, 900])
    flags = {"source": torch.tensor([True, True]), "pose": torch.tensor([True, True])}
    flags[missing] = torch.tensor([False, True])
    predictions = []
    with torch.no_grad():
        for changed in (batch, other):
            image = changed.source_image if missing == "source" else batch.source_image
            pose = changed.target_pose if missing == "pose" else batch.target_pose
            conditions = method.denoiser.conditions(image / 127.5 - 1, pose, (32, 16))
            predictions.append(method.denoiser(noised, timesteps, conditions, Seen(**flags)))
    assert torch.equal(predictions[0][0], predictions[1][0])
    assert not torch.equal(predictions[0][1], predictions[1][1])


def test_source_is_encoded_once_a_sample_and_branches_are_one_batch_a_step(people, trained):
    method, _ = trained
    batch, calls = people.test.batch(range(2)), []
    hook = method.denoiser.source_encoder.register_forward_hook(lambda m, inputs, output: calls.append(len(inputs[0])))
    with counted_evaluations(method.denoiser.unet) as steps:
        method.generate(batch.source_image, batch.source_pose, batch.target_pose, torch.arange(2))
    hook.remove()
    assert (steps, calls) == ([4, 4, 4], [2])


def test_every_step_has_the_same_finite_losses_and_a_new_denoiser_predicts_0(trained):
    names = [step.keys() for step in trained[1]]
    assert all(found == names[0] for found in names)
    assert all(torch.isfinite(value) for step in trained[1] for value in step.values())
    for term in ("denoising", "reconstruction"):
        assert trained[1][4][term].item() == pytest.approx(1, abs=0.25)


def test_without_the_sources_reconstruction_a_step_evaluates_half_as_much(people):
    batches = []
    for weight in (1.0, 0.0):
        method = cfld(reconstruction=weight, vae_share=0.1).train()
        method.planned_steps = 2
        method.begin(people.train)
        with counted_evaluations(method.denoiser.unet) as counted:
            terms = method.training_step(people.train.batch(range(4)), 1)
        batches.append(counted)
        assert (terms["reconstruction"] == 0) == (weight == 0)
    assert batches == [[8], [4]]


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_training_resumes_exactly_in_either_stage(people, tmp_path, share):
    assert_resumes_exactly(lambda seed: cfld(vae_share=share, seed=seed), people, tmp_path)


def test_images_do_not_depend_on_their_batch(people, trained):
    assert_images_do_not_depend_on_their_batch(trained[0], people)


def test_denoising_learns_a_small_set_of_images(people):
    method = cfld(width=16, vae_share=0.2, vae_width=8, vae_learning_rate=3e-3, learning_rate=3e-3).train()
    method.planned_steps = 80
    method.begin(people.train)
    losses = []
    for step in range(80):
        torch.manual_seed(step)
        losses.append(method.training_step(people.train.batch(range(8)), step)["denoising"].item())
    assert sum(losses[-20:]) / 20 < 0.7 * losses[16]


@pytest.mark.parametrize("size", [(64, 32), (128, 64), (256, 176), (20, 36)])
def test_images_of_all_sizes_are_generated(size):
    method = cfld(steps=1, vae_factor=8, guidance_source=1.0, guidance_pose=1.0)
    poses = torch.cat([torch.rand(1, 18, 2) * 16, torch.ones(1, 18, 1)], dim=2)
    images = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    image = method.generate(images, poses, poses, torch.tensor([1]))
    assert image.shape == (1, 3, *size)


def test_settings_out_of_range_are_refused_together():
    with pytest.raises(
        ValueError,
        match=r"method\.prompt_queries=0.*method\.prompt_channels=6.*method\.reconstruction=-1.*sampler=euler",
    ):
        cfld(prompt_queries=0, prompt_channels=6, reconstruction=-1, sampler="euler")


def test_the_configuration_builds_the_small_and_the_published_network():
    from hydra.utils import instantiate

    paper = compose(["method=cfld", "preset=paper", "dataset=deepfashion", "dataset.root=."]).method
    assert (paper.width, paper.prompt_queries, paper.prompt_channels, paper.prompt_blocks) == (320, 16, 768, 8)
    small = instantiate(compose(["method=cfld", "preset=smoke", "method.guidance_pose=1.5"]).method, _convert_="all")
    assert sorted(branch.weight for branch in small.branches) == pytest.approx([-0.5, -0.5, 2.0])
