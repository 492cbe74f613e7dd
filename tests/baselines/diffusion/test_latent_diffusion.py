"""What the latent methods share: packed latents, two stages, an autoencoder from a file, their authors' resolution."""

import pytest
import torch
from method_promises import calls_of, steps_of
from torch.utils.flop_counter import FlopCounterMode

from baselines.diffusion.autoencoder import encode, make_autoencoder
from baselines.diffusion.cfld import CFLD
from baselines.diffusion.latent_settings import (
    CFLDSettings,
    PoCoLDSettings,
    VaeRoundtripSettings,
    VAESettings,
    XMDPTSettings,
)
from baselines.diffusion.pocold import PoCoLD
from baselines.diffusion.process import Seen
from baselines.diffusion.vae_roundtrip import VaeRoundtrip
from baselines.diffusion.xmdpt import XMDPT
from baselines.geometry import mirrored_poses
from xinggan.data.batch import images_to_float
from xinggan.training.loop import train
from xinggan.training.settings import TrainingSettings

VAE = {"vae_width": 4, "vae_factor": 4, "vae_learning_rate": 1e-3}
SMALL = VAE | {"width": 4, "multipliers": (1, 2), "level_blocks": 1, "steps": 3, "learning_rate": 1e-3}
NOBODY = torch.zeros(3, dtype=torch.bool)


def pocold(**changes):
    return PoCoLD(PoCoLDSettings(**SMALL | {"filters": 3} | changes))


def cfld(**changes):
    prompt = {"prompt_queries": 3, "prompt_channels": 8, "prompt_blocks": 1, "fine_blocks": 1}
    swin = {"swin_width": 4, "swin_blocks": (1, 1), "swin_window": 2}
    return CFLD(CFLDSettings(**SMALL | prompt | swin | changes))


def xmdpt(**changes):
    network = {"size": 32, "width": 16, "depth": 3, "heads": 2, "encoder_width": 16, "encoder_depth": 1, "steps": 3}
    return XMDPT(XMDPTSettings(**VAE | network | changes))


every = pytest.mark.parametrize("make", [pocold, cfld, xmdpt])


@pytest.fixture
def vae(tmp_path):
    """An autoencoder as diffusers saves it."""
    make_autoencoder(VAESettings(vae_width=4, vae_factor=4, seed=5))[0].save_pretrained(tmp_path / "vae")
    return str(tmp_path / "vae")


def moments_of(method, images):
    with torch.no_grad():
        return encode(method.autoencoder, method.sized(images_to_float(images)))


@pytest.mark.parametrize("flipped", [False, True])
def test_training_latents_are_drawn_from_the_encoders_posterior_times_the_files_factor(people, vae, flipped):
    method, batch = pocold(vae=vae), people.train.batch([5, 0, 3])
    with FlopCounterMode(display=False) as counter:
        method.begin(people.train)
    assert counter.get_total_flops() == 0, "packing is no part of a step's FLOPs"
    flips = (torch.tensor([flipped] * 3), NOBODY)
    draws = torch.stack([method.training_latents(batch.pair, flips)[0] for _ in range(400)])
    images = batch.source_image.flip(-1) if flipped else batch.source_image
    mean, deviation = (0.18215 * moment for moment in moments_of(method, images))
    torch.testing.assert_close(draws.std(0), deviation, atol=0.02, rtol=0.25)
    assert ((draws.mean(0) - mean).abs() < 6 * deviation / 20 + 1e-4).all()


def test_latents_of_a_trained_autoencoder_have_mean_0_and_deviation_1(people):
    method = pocold(vae_share=0.1)
    method.planned_steps = 10
    method.begin(people.train)
    method.training_latents(people.train.batch([0]).pair, (NOBODY[:1], NOBODY[:1]))
    images = torch.tensor(people.train.images[sorted(set(people.train.pairs.flatten()))]).permute(0, 3, 1, 2)
    both = torch.cat([moments_of(method, one)[0] for one in (images, images.flip(-1))])
    values = (both - method.latent_mean) / method.latent_std
    torch.testing.assert_close(values.mean((0, 2, 3)), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(values.std((0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)
    assert method.latent_limit.item() == pytest.approx(values.abs().max().item(), rel=1e-4)


@every
@pytest.mark.parametrize("flip", [0.0, 0.5])
def test_the_autoencoder_is_trained_first_and_never_run_by_a_later_step(people, make, flip):
    method = make(vae_share=0.5, flip=flip).train()
    method.planned_steps = 6
    method.begin(people.train)
    with calls_of(method.autoencoder.encoder) as encoded:
        for step in range(6):
            method.training_step(people.train.batch([step, step + 1]), step)
    images = len(set(people.train.pairs.flatten()))
    once = [*[32] * (images // 32), *([images % 32] if images % 32 else [])]
    packed = [count for count in once for _ in range(1 if make == cfld or not flip else 2)]  # mirrored, too
    assert encoded == [2, 2, 2, *packed]
    assert any(rows.any() for rows in method.draw_flips(people.train.batch(range(8)))) == (len(packed) > len(once))


def test_steps_of_an_autoencoder_of_its_own_come_on_top_of_the_published_ones(people, tmp_path):
    method = pocold(vae_steps=2)
    settings = TrainingSettings(steps=3, decay_steps=0, batch=2, ema=0.0, sample_every=0)
    with calls_of(method.denoiser) as denoised:
        result = train(method, people, settings, tmp_path)
    assert (result.step, len(denoised)) == (5, 3)
    assert pocold(vae_share=0.5).added_steps == 0


@every
@pytest.mark.parametrize("missing", ["source", "pose"])
def test_a_missing_condition_leaves_no_trace(people, make, missing):
    method = make()
    denoiser, grid = method.denoiser, method.settings.working_size(32, 16)
    if make is xmdpt and missing == "pose":
        pytest.skip("X-MDPT has one condition, which holds both")
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # some layers begin at zero
    batch, other = people.train.batch([0, 1]), people.train.batch([4, 6])
    noised, timesteps = torch.randn(2, 4, grid[0] // 4, grid[1] // 4), torch.tensor([10, 900])
    flags = {"source": torch.tensor([True, True]), "pose": torch.tensor([True, True])}
    flags[missing] = torch.tensor([False, True])
    predictions = []
    with torch.no_grad():
        for changed in (batch, other):
            image = images_to_float((changed if missing == "source" else batch).source_image)
            poses, sigma = method.sized_pose((changed if missing == "pose" else batch).target_pose, image)
            conditions = method.conditions(method.sized(image), poses, sigma, torch.arange(2))
            predictions.append(denoiser(noised, timesteps, conditions, Seen(**flags)))
    assert torch.equal(predictions[0][0], predictions[1][0])
    assert not torch.equal(predictions[0][1], predictions[1][1])


@every
def test_with_an_autoencoder_from_a_file_the_denoiser_alone_is_trained(people, vae, make):
    method = make(vae=vae)
    assert method.optimisers.keys() == {"denoiser"}
    assert len(method.networks["vae"]) == 64
    assert "from scratch" in make().settings.caveat
    before = {name: value.clone() for name, value in method.autoencoder.state_dict().items()}
    steps_of(method, people, 2)
    assert all(torch.equal(value, before[name]) for name, value in method.autoencoder.state_dict().items())
    assert method.generate_pairs(people.test.batch([0, 1]), torch.arange(2)).shape == (2, 3, 32, 16)


def test_in_bfloat16_a_resumed_training_has_the_same_latents(people, vae):
    method = pocold(vae=vae)
    method.precision = "bf16"
    method.begin(people.train)
    begun, method._moments = method._moments, None
    with method.autocast():  # in a step of a resumed training, which never begins
        method.training_latents(torch.tensor([0]), (NOBODY[:1], NOBODY[:1]))
    assert torch.equal(method._moments, begun)


def test_at_their_authors_resolution_poses_grow_with_the_images_and_results_come_back_in_the_data_sets_size(people):
    method = pocold(resolution="native", steps=1)
    batch = people.test.batch([0])
    poses, sigma = method.sized_pose(batch.target_pose, batch.source_image)
    torch.testing.assert_close(poses[..., 0], (batch.target_pose[..., 0] + 0.5) * 24 - 0.5)  # 384 / 16
    torch.testing.assert_close(poses[..., 1], (batch.target_pose[..., 1] + 0.5) * 16 - 0.5)
    assert sigma == 16 * method.settings.pose_sigma
    with calls_of(method.autoencoder.decoder) as decoded:
        image = method.generate_pairs(batch, torch.tensor([1]))
    assert (decoded, image.shape) == ([1], (1, 3, 32, 16))
    assert method.sized(images_to_float(batch.source_image)).shape == (1, 3, 512, 384)


def test_mirrored_poses_stand_where_the_mirrored_image_shows_them(people):
    poses = people.train.batch([0, 1]).target_pose
    flipped = mirrored_poses(poses, torch.tensor([True, False]), 16)
    torch.testing.assert_close(flipped[0, :, 0], 15 - poses[0, :, 0])
    assert torch.equal(flipped[0, :, 1:], poses[0, :, 1:]) and torch.equal(flipped[1], poses[1])


def test_the_round_trip_trains_the_autoencoder_of_the_latent_methods_to_the_bit(people):
    roundtrip = VaeRoundtrip(VaeRoundtripSettings(**VAE, seed=3))
    steps_of(roundtrip, people, 10)
    latent = pocold(seed=3)
    steps_of(latent, people, 10)
    theirs = latent.autoencoder.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in roundtrip.autoencoder.state_dict().items())
