"""What the latent methods share: packed latents, two stages, an autoencoder from a file, the round trip through it."""

import pytest
import torch
from method_promises import calls_of, steps_of
from torch.utils.flop_counter import FlopCounterMode

from baselines.diffusion.autoencoder import encode, make_autoencoder
from baselines.diffusion.cfld import CFLD
from baselines.diffusion.pocold import PoCoLD
from baselines.diffusion.process import Seen
from baselines.diffusion.settings import CFLDSettings, PoCoLDSettings, VaeRoundtripSettings, VAESettings
from baselines.diffusion.vae_roundtrip import VaeRoundtrip
from xinggan.data.batch import images_to_float

VAE = {"vae_width": 4, "vae_factor": 4, "vae_learning_rate": 1e-3}
SMALL = VAE | {"width": 4, "multipliers": (1, 2), "level_blocks": 1, "steps": 3, "learning_rate": 1e-3}


def pocold(**changes):
    return PoCoLD(PoCoLDSettings(**SMALL | {"filters": 3} | changes))


def cfld(**changes):
    prompt = {"prompt_queries": 3, "prompt_channels": 8, "prompt_blocks": 1, "fine_blocks": 1}
    return CFLD(CFLDSettings(**SMALL | prompt | changes))


both = pytest.mark.parametrize("make", [pocold, cfld])


def test_training_latents_are_the_encoders_with_mean_0_and_deviation_1(people, tmp_path):
    make_autoencoder(VAESettings(vae_width=4, vae_factor=4, latent_channels=3))[0].save_pretrained(tmp_path / "vae")
    method, batch = pocold(vae=str(tmp_path / "vae")), people.train.batch([5, 0, 3])
    with FlopCounterMode(display=False) as counter:
        method.begin(people.train)
    assert counter.get_total_flops() == 0, "packing is no part of a step's FLOPs"

    def latents(images):
        with torch.no_grad():
            return method.normalised(encode(method.autoencoder, images_to_float(images)))

    for found, images in zip(
        method.training_latents(batch.pair), (batch.source_image, batch.target_image), strict=True
    ):
        for place in range(3):
            torch.testing.assert_close(found[place], latents(images[place : place + 1])[0], atol=1e-4, rtol=1e-4)
    values = latents(torch.tensor(people.train.images[:]).permute(0, 3, 1, 2))
    torch.testing.assert_close(values.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(values.std((0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)
    assert method.latent_limit.item() == pytest.approx(values.abs().max().item(), rel=1e-4)


@both
def test_the_autoencoder_is_trained_first_and_never_run_by_a_later_step(people, make):
    """A new denoiser predicts 0, so that its first error is the noise's square."""
    method = make(vae_share=0.5).train()
    method.planned_steps = 6
    method.begin(people.train)
    with calls_of(method.autoencoder.encoder) as encoded:
        for step in range(6):
            terms = method.training_step(people.train.batch([step, step + 1]), step)
            assert step != 3 or terms["denoising"].item() == pytest.approx(1, abs=0.25)
    images = len(people.train.images)
    assert encoded == [2, 2, 2, *[32] * (images // 32), *([images % 32] if images % 32 else [])]


@both
@pytest.mark.parametrize("missing", ["source", "pose"])
def test_a_missing_condition_leaves_no_trace(people, make, missing):
    denoiser = make().denoiser
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # a new denoiser predicts 0
    batch, other = people.train.batch([0, 1]), people.train.batch([4, 6])
    noised, timesteps = torch.randn(2, 4, 8, 4), torch.tensor([10, 900])
    flags = {"source": torch.tensor([True, True]), "pose": torch.tensor([True, True])}
    flags[missing] = torch.tensor([False, True])
    predictions = []
    with torch.no_grad():
        for changed in (batch, other):
            images = images_to_float((changed if missing == "source" else batch).source_image)
            source = images[:, [0, 1, 2, 0], ::4, ::4] if denoiser.sees_latents else images
            pose = changed.target_pose if missing == "pose" else batch.target_pose
            conditions = denoiser.conditions(source, pose)
            predictions.append(denoiser(noised, timesteps, conditions, Seen(**flags)))
    assert torch.equal(predictions[0][0], predictions[1][0])
    assert not torch.equal(predictions[0][1], predictions[1][1])


@both
def test_with_an_autoencoder_from_a_file_the_denoiser_alone_is_trained(people, tmp_path, make):
    make_autoencoder(VAESettings(vae_width=4, latent_channels=3, seed=5))[0].save_pretrained(tmp_path / "vae")
    method = make(vae=str(tmp_path / "vae"))
    assert method.optimisers.keys() == {"denoiser"}
    assert len(method.networks["vae"]) == 64
    assert method.factor == 8
    before = {name: value.clone() for name, value in method.autoencoder.state_dict().items()}
    steps_of(method, people, 2)
    assert all(torch.equal(value, before[name]) for name, value in method.autoencoder.state_dict().items())
    assert method.generate_pairs(people.test.batch([0, 1]), torch.arange(2)).shape == (2, 3, 32, 16)


def test_the_round_trip_trains_the_autoencoder_of_the_latent_methods_to_the_bit(people):
    roundtrip = VaeRoundtrip(VaeRoundtripSettings(**VAE, seed=3))
    steps_of(roundtrip, people, 10)
    latent = pocold(seed=3)
    steps_of(latent, people, 10)
    theirs = latent.autoencoder.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in roundtrip.autoencoder.state_dict().items())
