"""The round trip through the autoencoder: the one that the latent methods train, to the bit, and nothing else."""

from itertools import pairwise

import pytest
import torch
from method_promises import assert_resumes_exactly

from ablations.config import compose
from baselines.diffusion.autoencoder import make_autoencoder
from baselines.diffusion.pocold import PoCoLD
from baselines.diffusion.vae_roundtrip import VaeRoundtrip
from xinggan.training.generation import generate_pairs

pytest.importorskip("diffusers")

VAE = {"vae_width": 4, "vae_factor": 4, "vae_learning_rate": 1e-3}


def roundtrip(**changes):
    return VaeRoundtrip(**VAE | changes)


def stepped(method, people, steps):
    method.planned_steps = 10
    method.begin(people.train)
    for step in range(steps):
        torch.manual_seed(step)
        method.training_step(people.train.batch(range(step, step + 2)), step)
    return {name: value.clone() for name, value in method.autoencoder.state_dict().items()}


def test_the_autoencoder_is_the_one_of_the_latent_methods(people):
    denoiser = {"width": 4, "multipliers": (1, 2), "level_blocks": 1, "filters": 4}
    one, other = stepped(roundtrip(seed=3), people, 5), stepped(PoCoLD(**denoiser, **VAE, seed=3), people, 5)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_it_is_trained_for_its_share_of_the_steps_alone(people):
    after = [stepped(roundtrip(vae_share=0.3), people, steps) for steps in (2, 3, 5)]
    changed = [any(not torch.equal(a[name], b[name]) for name in a) for a, b in pairwise(after)]
    assert changed == [True, False]


def test_every_step_has_the_same_losses(people):
    method = roundtrip()
    method.planned_steps = 4
    names = [method.training_step(people.train.batch([0]), step).keys() for step in range(4)]
    assert all(found == names[0] for found in names)


def test_training_brings_the_image_closer_to_the_target(people):
    method = roundtrip(vae_width=8, vae_learning_rate=3e-3)
    method.planned_steps = 200
    batch = people.train.batch(range(8))
    losses = [method.training_step(batch, step)["vae_l1"].item() for step in range(60)]
    assert losses[-1] < losses[0] / 2
    images = generate_pairs(method, people.train, range(8), progress=False)
    target = batch.target_image.permute(0, 2, 3, 1).float()
    grey = (target - target.mean()).abs().mean()
    assert (torch.from_numpy(images).float() - target).abs().mean() < grey


def test_training_resumes_exactly(people, tmp_path):
    assert_resumes_exactly(lambda seed: roundtrip(vae_share=0.9, seed=seed), people, tmp_path)


def test_an_autoencoder_from_a_file_is_not_trained_and_recorded_by_its_hash(people, tmp_path):
    make_autoencoder("trained", width=4, factor=2, channels=2, seed=9)[0].save_pretrained(tmp_path / "vae")
    method = roundtrip(vae=str(tmp_path / "vae"))
    before = {name: value.clone() for name, value in method.autoencoder.state_dict().items()}
    after = stepped(method, people, 3)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert len(method.networks["vae"]) == 64


def test_settings_out_of_range_are_refused_together():
    with pytest.raises(ValueError, match=r"vae=nowhere.*vae_share=1.*vae_width=3.*vae_factor=5.*latent_channels=0"):
        roundtrip(vae="nowhere", vae_share=1, vae_width=3, vae_factor=5, latent_channels=0)


def test_the_configuration_builds_the_autoencoder_of_the_latent_methods_at_every_size():
    from hydra.utils import instantiate

    for preset in ("smoke", "small", "paper"):
        own, *latent = (
            compose([f"method={m}", f"preset={preset}"]).method for m in ("vae_roundtrip", "pocold", "cfld")
        )
        for key in ("vae", "vae_share", "vae_width", "vae_factor", "latent_channels", "vae_learning_rate", "seed"):
            assert {method[key] for method in latent} == {own[key]}
    small = instantiate(compose(["method=vae_roundtrip", "method.latent_channels=6"]).method)
    assert small.autoencoder.config.latent_channels == 6
