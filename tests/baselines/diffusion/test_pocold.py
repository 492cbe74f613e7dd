"""PoCoLD: its attention and penalty against loops, missing conditions, its two stages in the suite's harness."""

import pytest
import torch
from method_promises import assert_images_do_not_depend_on_their_batch, assert_resumes_exactly

from ablations.config import ConfigurationError, compose
from baselines.body_parts import part_labels
from baselines.diffusion.autoencoder import make_autoencoder
from baselines.diffusion.latent_diffusion import Seen
from baselines.diffusion.pocold import PoCoLD, PoseConstrainedAttention, Texture
from baselines.diffusion.samplers import counted_evaluations

pytest.importorskip("diffusers")

SMALL = {"width": 4, "multipliers": (1, 2), "level_blocks": 1, "filters": 3}
SMALL |= {"vae_width": 4, "vae_factor": 4, "sampler": "ddim", "steps": 3, "learning_rate": 1e-3}


def pocold(**changes):
    return PoCoLD(**SMALL | changes)


@pytest.fixture(scope="module")
def trained(people):
    """After a stage of 4 steps for the autoencoder and 8 for the denoiser, and the losses of every step."""
    method = pocold(vae_share=1 / 3, vae_learning_rate=1e-3).train()
    method.planned_steps = 12
    method.begin(people.train)
    losses = []
    for step in range(12):
        torch.manual_seed(step)
        losses.append(method.training_step(people.train.batch(range(4)), step))
    return method, losses


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
    denoiser, batch = pocold().denoiser, people.train.batch([0, 3])
    masks = denoiser.elsewhere(batch.source_pose, batch.target_pose, (8, 4), levels=2)
    source, target = part_labels(batch.source_pose, 4, (8, 4)), part_labels(batch.target_pose, 4, (8, 4))
    assert [mask.shape for mask in masks] == [(2, 32, 32), (2, 8, 8)]
    for row in range(4):
        for column in range(2):
            for y in range(4):
                for x in range(2):
                    other = target[:, 2 * row, 2 * column] != source[:, 2 * y, 2 * x]
                    assert torch.equal(masks[1][:, 2 * row + column, 2 * y + x], other)


@pytest.mark.parametrize("missing", ["source", "pose"])
def test_a_missing_condition_leaves_no_trace(people, trained, missing):
    method, _ = trained
    batch, other = people.train.batch([0, 1]), people.train.batch([4, 6])
    noised, timesteps = torch.randn(2, 4, 8, 4), torch.tensor([10, 900])
    seen = {"source": torch.tensor([False, True]), "pose": torch.tensor([True, True])}
    if missing == "pose":
        seen = {"source": seen["pose"], "pose": seen["source"]}
    predictions = []
    with torch.no_grad():
        for changed in (batch, other):
            latents = torch.randn(2, 4, 8, 4) if missing == "source" else torch.ones(2, 4, 8, 4)
            pose = changed.target_pose if missing == "pose" else batch.target_pose
            conditions = method.denoiser.conditions(latents, pose, (32, 16))
            predictions.append(method.denoiser(noised, timesteps, conditions, Seen(**seen)))
    assert torch.equal(predictions[0][0], predictions[1][0])
    assert not torch.equal(predictions[0][1], predictions[1][1])


def test_source_is_encoded_once_a_sample_and_branches_are_one_batch_a_step(people, trained):
    method, _ = trained
    batch, seeds = people.test.batch(range(2)), torch.arange(2)
    encoder = method.denoiser.source_encoder
    with counted_evaluations(method.denoiser.unet) as steps, _calls(encoder) as encoded:
        method.generate(batch.source_image, batch.source_pose, batch.target_pose, seeds)
    assert steps == [4, 4, 4]
    assert encoded == [2]


def _calls(module):
    """The batch size of every call."""
    from contextlib import contextmanager

    @contextmanager
    def counted():
        calls = []
        hook = module.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
        yield calls
        hook.remove()

    return counted()


def test_the_autoencoder_is_trained_first_and_never_run_by_a_later_step(people):
    method = pocold(vae_share=0.5).train()
    method.planned_steps = 6
    method.begin(people.train)
    with _calls(method.autoencoder.encoder) as encoded:
        for step in range(6):
            before = {name: value.clone() for name, value in method.state_dict().items()}
            method.training_step(people.train.batch([step, step + 1]), step)
            changed = {
                name.split(".")[0] for name, value in method.state_dict().items() if (value != before[name]).any()
            }
            first = step < 3
            assert ("autoencoder" in changed, "denoiser" in changed) == (first, not first)
    images = len(people.train.images)
    assert encoded == [2, 2, 2, *[32] * (images // 32), *([images % 32] if images % 32 else [])]


def test_a_step_learns_from_the_pairs_latents_at_mean_0_and_deviation_1(people, trained):
    method, losses = trained
    source, target = method._packed.of_pairs(torch.arange(len(people.train)))
    images = method.normalised(method._packed.latents)
    torch.testing.assert_close(images.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(images.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-4, rtol=0)
    assert source.shape == target.shape == (len(people.train), 4, 8, 4)
    assert losses[4]["denoising"].item() == pytest.approx(1, abs=0.25)  # a new denoiser predicts 0 for noise N(0, 1)
    assert losses[4]["constraint"] > 0


def test_every_step_has_the_same_losses(trained):
    names = [step.keys() for step in trained[1]]
    assert all(found == names[0] for found in names)
    assert all(torch.isfinite(value) for step in trained[1] for value in step.values())


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_training_resumes_exactly_in_either_stage(people, tmp_path, share):
    assert_resumes_exactly(lambda seed: pocold(vae_share=share, seed=seed), people, tmp_path)


def test_with_an_autoencoder_from_a_file_it_resumes_exactly_and_trains_the_denoiser_alone(people, tmp_path):
    make_autoencoder("trained", width=4, factor=8, channels=3, seed=5)[0].save_pretrained(tmp_path / "vae")

    def make(seed):
        return pocold(vae=str(tmp_path / "vae"), seed=seed)

    assert_resumes_exactly(make, people, tmp_path)
    method = make(0)
    method.planned_steps = 2
    method.begin(people.train)
    method.training_step(people.train.batch([0, 1]), 0)
    assert method.optimisers.keys() == {"denoiser"}
    assert len(method.networks["vae"]) == 64
    assert method.factor == 8
    image = method.generate(*_inputs(people), torch.arange(2))
    assert image.shape == (2, 3, 32, 16)


def _inputs(people):
    batch = people.test.batch([0, 1])
    return batch.source_image, batch.source_pose, batch.target_pose


@pytest.mark.parametrize("sampler", ["ddpm", "dpmsolver++"])
def test_images_do_not_depend_on_their_batch(people, trained, sampler):
    method, _ = trained
    method.sampler, before = sampler, method.sampler
    assert_images_do_not_depend_on_their_batch(method, people)
    method.sampler = before


def test_denoising_learns_a_small_set_of_images(people):
    method = pocold(width=16, vae_share=0.2, vae_width=8, vae_learning_rate=3e-3, learning_rate=3e-3).train()
    method.planned_steps = 150
    method.begin(people.train)
    losses = []
    for step in range(150):
        torch.manual_seed(step)
        losses.append(method.training_step(people.train.batch(range(8)), step)["denoising"].item())
    assert sum(losses[-20:]) / 20 < 0.6 * losses[30]


@pytest.mark.parametrize("size", [(64, 32), (128, 64), (256, 176), (20, 36)])
def test_images_of_all_sizes_are_generated(size):
    method = pocold(steps=1, vae_factor=8, guidance_source=1.0, guidance_pose=1.0)
    poses = torch.cat([torch.rand(1, 18, 2) * 16, torch.ones(1, 18, 1)], dim=2)
    images = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    image = method.generate(images, poses, poses, torch.tensor([1]))
    assert image.shape == (1, 3, *size)
    assert image.abs().max() <= 1


def test_weights_depend_on_the_seed_alone():
    states = []
    for disturbance, seed in ((1, 0), (2, 0), (3, 7)):
        torch.manual_seed(disturbance)
        states.append(pocold(seed=seed).state_dict())
    same, other = (all(torch.equal(states[0][n], s[n]) for n in s) for s in states[1:])
    assert same
    assert not other


def test_settings_out_of_range_are_refused_together():
    with pytest.raises(ValueError, match=r"width=3.*method\.filters=0.*method\.constraint=-1.*method\.vae=no.*steps=0"):
        pocold(width=3, filters=0, constraint=-1, vae="no", steps=0)


def test_guidance_without_a_trained_unconditional_branch_is_refused():
    with pytest.raises(ValueError, match=r"guidance_source=2.*not trained with method\.condition_dropout=0"):
        pocold(condition_dropout=0.0)
    pocold(condition_dropout=0.0, guidance_source=1.0, guidance_pose=1.0)


def test_the_configuration_builds_the_small_and_the_published_network():
    from hydra.utils import instantiate

    paper = compose(["method=pocold", "preset=paper", "dataset=deepfashion", "dataset.root=."])
    assert (paper.method.width, list(paper.method.multipliers), paper.method.filters) == (128, [1, 2, 4, 4], 64)
    assert (paper.method.vae_factor, paper.learning_rate, paper.training.ema) == (8, 5e-5, 0.9999)
    small = instantiate(compose(["method=pocold", "preset=smoke", "method.steps=7"]).method, _convert_="all")
    assert (small.steps, small.factor) == (7, 4)
    with pytest.raises(ConfigurationError, match=r"accepted with method=pocold are .*method\.filters.*method\.vae"):
        compose(["method=pocold", "method.depth=5"])
