"""What every method promises, for every method of the suite: see `tests/method_promises.py`."""

import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from operator import attrgetter

import pytest
import torch
from method_promises import (
    assert_checkpointing_changes_no_number,
    assert_images_do_not_depend_on_their_batch,
    assert_resumes_exactly,
    assert_weights_depend_on_the_seed_alone,
    calls_of,
    steps_of,
)

from baselines.diffusion.cfld import CFLD
from baselines.diffusion.latent_settings import CFLDSettings, PoCoLDSettings, VaeRoundtripSettings, XMDPTSettings
from baselines.diffusion.pidm import PIDM
from baselines.diffusion.pidm_adversarial import PIDMAdversarial
from baselines.diffusion.pidm_few_step import PIDMFewStep
from baselines.diffusion.pocold import PoCoLD
from baselines.diffusion.settings import PIDMAdversarialSettings, PIDMFewStepSettings, PIDMSettings
from baselines.diffusion.vae_roundtrip import VaeRoundtrip
from baselines.diffusion.xmdpt import XMDPT
from baselines.gan.bigraph import BiGraph
from baselines.gan.deform import Deform
from baselines.gan.dptn import DPTN
from baselines.gan.gfla import GFLA
from baselines.gan.nted import NTED
from baselines.gan.patn import PATN
from baselines.gan.pg2 import PG2
from baselines.gan.pix2pix import Pix2Pix
from baselines.gan.settings import (
    BiGraphSettings,
    DeformSettings,
    DPTNSettings,
    GFLASettings,
    NTEDSettings,
    PATNSettings,
    PG2Settings,
    Pix2PixSettings,
)
from xinggan.model.generator import XingGAN
from xinggan.model.switches import LossWeights, Norm, XingGANSettings

BLOCKS = {"width": 4, "blocks": 2, "history": 3, "learning_rate": 2e-3}
UNET = {"width": 8, "multipliers": (1, 2), "level_blocks": 1}
PIDMS = UNET | {"attention_levels": 1, "dropout": 0.1, "warmup_steps": 2}
VAE = {"vae_width": 4, "vae_factor": 4, "vae_learning_rate": 1e-3}
LATENT = UNET | VAE | {"width": 4, "prediction": "v", "steps": 3}
SWIN = {"swin_width": 4, "swin_blocks": (1, 1), "swin_window": 2}
TRANSFORMER = {"size": 32, "width": 16, "depth": 3, "heads": 2, "encoder_width": 16, "encoder_depth": 1}
SMALL = {  # method -> its class, its settings, and values for a network that trains in seconds
    "xinggan": (XingGAN, XingGANSettings, BLOCKS | {"candidates": 2, "pyramid": (1, 3)}),
    "patn": (PATN, PATNSettings, BLOCKS | {"norm": Norm.instance}),
    "bigraph": (BiGraph, BiGraphSettings, BLOCKS | {"norm": Norm.instance}),
    "pix2pix": (Pix2Pix, Pix2PixSettings, {"width": 4, "levels": 4, "patch": 34}),
    "pg2": (PG2, PG2Settings, {"width": 4, "levels": 3, "coarse_share": 0.5}),
    "deform": (Deform, DeformSettings, {"width": 4, "levels": 4}),
    "gfla": (GFLA, GFLASettings, {"width": 4, "learning_rate": 5e-3}),
    "dptn": (DPTN, DPTNSettings, {"width": 4, "learning_rate": 5e-3}),
    "nted": (NTED, NTEDSettings, {"channels": (4, 8, 8), "labels": (8, 4), "adversarial_after": 3}),
    "pidm": (PIDM, PIDMSettings, PIDMS | {"steps": 3}),
    "pidm_few_step": (PIDMFewStep, PIDMFewStepSettings, PIDMS | {"grid": 12, "teacher_ema": 0.9}),
    "pidm_adversarial": (
        PIDMAdversarial,
        PIDMAdversarialSettings,
        PIDMS | {"teacher_ema": 0.9, "discriminator_width": 4},
    ),
    "pocold": (PoCoLD, PoCoLDSettings, LATENT | {"filters": 3}),
    "cfld": (CFLD, CFLDSettings, LATENT | SWIN | {"prompt_channels": 8, "prompt_blocks": 1, "fine_blocks": 1}),
    "xmdpt": (XMDPT, XMDPTSettings, VAE | TRANSFORMER | {"prediction": "v", "steps": 3}),
    "vae_roundtrip": (VaeRoundtrip, VaeRoundtripSettings, VAE),
}
DIFFUSION = ("pidm", "pidm_few_step", "pidm_adversarial", "pocold", "cfld", "xmdpt", "vae_roundtrip")
GANS = [name for name in SMALL if name not in DIFFUSION]
every_method = pytest.mark.parametrize("name", SMALL)


def make(name, seed=0, **changes):
    kind, settings, small = SMALL[name]
    return kind(settings(**small | {"seed": seed} | changes))


VARIANTS = [*((name, {}) for name in SMALL), ("gfla", {"patches": (3,), "flow_share": 0.0, "augmentation": True})]
VARIANTS += [("dptn", {"size": (32, 32)})]
VARIANTS += [("bigraph", {"norm": Norm.batch}), ("pix2pix", {"norm": Norm.instance}), ("pg2", {"norm": Norm.instance})]
VARIANTS += [(name, {"teacher_share": 0.4}) for name in ("pidm_few_step", "pidm_adversarial")]
VARIANTS += [("pocold", {"vae_share": 0.9}), ("cfld", {"vae_share": 0.9}), ("xmdpt", {"vae_steps": 3})]


@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_training_resumes_exactly(people, tmp_path, name, changes):
    """Whatever stage the training was killed in."""
    assert_resumes_exactly(lambda seed: make(name, seed, **changes), people, tmp_path)


@every_method
def test_weights_depend_on_the_seed_alone(name):
    assert_weights_depend_on_the_seed_alone(lambda seed: make(name, seed))


@every_method
def test_activations_computed_again_change_no_number(people, name):
    assert_checkpointing_changes_no_number(lambda seed: make(name, seed), people)


@every_method
def test_training_moves_what_generates_and_images_do_not_depend_on_their_batch(people, name):
    method = make(name)
    before = {part: deepcopy(getattr(method, part).state_dict()) for part in method.averaged}
    losses = steps_of(method, people, 8)
    assert all(torch.isfinite(value) for terms in losses for value in terms.values())
    for part, old in before.items():
        new = getattr(method, part).state_dict()
        moved = [key for key in old if not torch.equal(old[key], new[key])]
        assert len(moved) > 0.5 * len(old), part
    assert_images_do_not_depend_on_their_batch(method, people)


NOISY = ["pix2pix", "pidm", "pidm_few_step", "pidm_adversarial", "pocold", "cfld", "xmdpt"]


@every_method
def test_a_seed_decides_on_the_image_of_a_method_with_noise_and_of_no_other(people, name):
    first, other, again = make(name).eval().generate_pairs(people.test.batch([0, 0, 0]), torch.tensor([1, 2, 1]))
    torch.testing.assert_close(first, again, atol=1e-5, rtol=0)
    assert ((first - other).abs().max() > 1e-4) == (name in NOISY)


EVALUATIONS = [  # method, settings, the network of a step, the source's encoder, batches of the network for two images
    ("pidm", {}, "denoiser", "source_encoder", [4] * 3),
    ("pidm", {"guidance": "paper"}, "denoiser", "source_encoder", [6] * 3),
    ("pidm", {"guidance_source": 1.0}, "denoiser", "source_encoder", [2] * 3),
    ("pidm_few_step", {"steps": 4}, "denoiser", "source_encoder", [2] * 4),
    ("pocold", {"guidance_pose": 4.0}, "denoiser", "denoiser.source_encoder", [6] * 3),
    ("cfld", {}, "denoiser", "denoiser.source_encoder", [4] * 3),  # of equal scales one branch has no weight
    ("xmdpt", {}, "denoiser", "denoiser.dino_image", [4] * 3),
]


@pytest.mark.parametrize(("name", "changes", "network", "encoder", "batches"), EVALUATIONS)
def test_source_is_encoded_once_a_sample_and_branches_are_one_batch_a_step(
    people, name, changes, network, encoder, batches
):
    method = make(name, **changes).eval()
    with calls_of(attrgetter(network)(method)) as steps, calls_of(attrgetter(encoder)(method)) as encoded:
        method.generate_pairs(people.test.batch([0, 1]), torch.arange(2))
    assert steps == batches
    assert len(encoded) == 1 and encoded[0] <= 3  # of a missing source, there is one for all images


SIZES = [(name, {}, size) for name in SMALL for size in [(20, 36), *([(256, 176)] if "pidm" not in name else [])]]
SIZES += [("gfla", {"size": (64, 64)}, (64, 44)), ("dptn", {"size": (64, 64)}, (64, 44))]
SIZES += [("pix2pix", {"levels": 2}, (20, 36)), ("pix2pix", {"levels": 8}, (20, 36)), ("pg2", {"levels": 6}, (20, 36))]


@pytest.mark.parametrize(("name", "changes", "size"), SIZES)
def test_images_of_all_sizes_come_back_in_their_size(people, name, changes, size):
    batch, images = people.test.batch([0]), torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    with torch.no_grad():
        given = replace(batch, source_image=images, target_image=images)
        generated = make(name, **changes).eval().generate_pairs(given, torch.tensor([1]))
    assert generated.shape == images.shape
    assert generated.dtype == torch.float32
    assert generated.abs().max() <= 1


@pytest.mark.parametrize("name", GANS)
def test_a_size_that_cannot_be_made_is_refused(people, name):
    batch = people.test.batch([0])
    images = torch.zeros(1, 3, 30, 16, dtype=torch.uint8)
    with pytest.raises(ValueError, match="images of 30x16: accepted are heights and widths divisible by 4, from 16"):
        make(name).eval().generate_pairs(replace(batch, source_image=images), torch.tensor([1]))


IMAGE_LOSSES = {"l1", "perceptual", "style", "adversarial", "discriminator"}
DENOISERS = (("autoencoder",), {"vae_l1", "vae_divergence"}), (("denoiser",), {"denoising"})
STAGES = [  # method, settings, then for the first stage and for the second the networks trained and losses
    (
        "pg2",
        {"coarse_share": 0.4},
        (("coarse",), {"l1_coarse"}),
        (("refinement", "discriminator"), {"l1", "adversarial"}),
    ),
    ("gfla", {"flow_share": 0.4}, (("generator.flow",), set()), (("generator", "discriminator"), IMAGE_LOSSES)),
    (
        "pidm_few_step",
        {"teacher_share": 0.4},
        (("student", "teacher"), {"denoising"}),
        (("student",), {"distillation"}),
    ),
    (
        "pidm_adversarial",
        {"teacher_share": 0.4},
        (("student", "teacher"), {"denoising"}),
        (("student", "discriminators"), {"distillation", "adversarial_appearance", "discriminator_shape"}),
    ),
    ("pocold", {"vae_share": 0.4}, *DENOISERS),
    ("cfld", {"vae_share": 0.4}, *DENOISERS),
    ("xmdpt", {"vae_share": 0.4}, *DENOISERS),
    ("vae_roundtrip", {"vae_share": 0.4}, DENOISERS[0], ((), set())),
]


@pytest.mark.parametrize(("name", "changes", "first", "second"), STAGES, ids=[row[0] for row in STAGES])
def test_each_stage_trains_its_own_networks(people, name, changes, first, second):
    method, batch = make(name, **changes).train(), people.train.batch(range(4))
    method.planned_steps = 10
    method.begin(people.train)
    for step, (networks, losses), (_, others) in ((3, first, second), (4, second, first)):
        before = {key: weights.detach().clone() for key, weights in method.named_parameters()}
        terms = method.training_step(batch, step)
        changed = [key for key, weights in method.named_parameters() if not torch.equal(weights, before[key])]
        assert all(key.startswith(networks) for key in changed)
        assert all(any(key.startswith(network) for key in changed) for network in networks)
        assert losses <= terms.keys()
        assert not others & terms.keys()


LEARNING_LATENT = {"width": 16, "prediction": "epsilon", "vae_share": 0.2, "vae_width": 8}
LEARNING_LATENT |= {"vae_learning_rate": 3e-3, "learning_rate": 3e-3}
LITTLE_ADVERSARIAL = LossWeights(adversarial=0.1, l1=5, perceptual=0.5, adversarial_kind="lsgan")
LEARNS = [  # method, settings, steps, loss, and what it falls below, as a share of its value at the given step
    ("patn", {"width": 8, "dropout": 0.0, "learning_rate": 2e-3}, 20, "l1", 0.6, 0),
    ("bigraph", {"width": 8, "dropout": 0.0, "learning_rate": 2e-3}, 30, "l1", 0.7, 0),
    ("pix2pix", {"width": 8, "dropout": 0.2, "learning_rate": 3e-3}, 40, "l1", 0.5, 0),
    ("pg2", {"width": 16, "learning_rate": 5e-4, "coarse_share": 1.0}, 30, "l1_coarse", 0.7, 0),
    ("deform", {"width": 8, "dropout": 0.0, "learning_rate": 2e-3}, 40, "nearest_neighbour", 0.7, 0),
    (
        "gfla",
        {"width": 8, "learning_rate": 2e-3, "beta1": 0.5, "flow_share": 1 / 3, "losses": LITTLE_ADVERSARIAL},
        45,
        "l1",
        0.95,
        15,
    ),
    ("dptn", {"width": 8, "learning_rate": 2e-3, "losses": LITTLE_ADVERSARIAL}, 40, "l1", 0.9, 0),
    ("nted", {"channels": (8, 16, 16), "scaling": 1.0, "losses": LITTLE_ADVERSARIAL}, 40, "perceptual", 0.9, 0),
    ("pidm", {"learning_rate": 3e-3, "prediction": "epsilon", "dropout": 0.0}, 60, "denoising", 0.5, 0),
    ("vae_roundtrip", {"vae_width": 8, "vae_learning_rate": 3e-3, "vae_share": 0.99}, 40, "vae_l1", 0.6, 0),
    *((name, LEARNING_LATENT, 60, "denoising", 0.8, 12) for name in ("pocold", "cfld", "xmdpt")),
]


@pytest.mark.parametrize(("name", "changes", "steps", "loss", "share", "start"), LEARNS, ids=[row[0] for row in LEARNS])
def test_training_brings_the_loss_down(people, name, changes, steps, loss, share, start):
    found = [terms.get(loss, torch.nan) for terms in steps_of(make(name, **changes), people, steps)]
    assert sum(found[-10:]) / 10 < share * found[start]


WRONG = [  # settings, values that do not fit, and a part of what is said of one of them
    (PATNSettings, {"blocks": 0, "width": 3, "dropout": 1.0}, "width=3: accepted are even numbers from 4"),
    (BiGraphSettings, {"history": -1, "learning_rate": 0}, "learning_rate=0: accepted is more than 0"),
    (Pix2PixSettings, {"width": 3, "levels": 9, "patch": 50, "l1": -1}, "patch=50: accepted are 16, 34, 70"),
    (PG2Settings, {"width": 3, "levels": 2, "coarse_share": 2, "l1": -1}, "levels=2: accepted are 3 to 7"),
    (DeformSettings, {"width": 3, "levels": 2, "neighbourhood": 4}, "neighbourhood=4: accepted are 1, 3, 5, 7, 9"),
    (GFLASettings, {"width": 3, "patches": [4], "flow_share": 1, "style": -1, "beta1": 1}, "such as [5,3]"),
    (GFLASettings, {"discriminator_levels": 9, "discriminator_rate": 0}, "discriminator_levels=9: accepted are 1 to 4"),
    (DPTNSettings, {"target_share": 0, "size": (30, 16)}, "size=(30, 16): accepted are a height and a width"),
    (NTEDSettings, {"channels": (8, 8), "scaling": 0.5, "attention": -1}, "scaling=0.5: accepted is 1 to 2"),
    (NTEDSettings, {"labels": (), "adversarial_after": -1, "beta2": 1}, "labels=(): accepted are 2 to 5 numbers"),
    (PIDMSettings, {"steps": 0, "sampler": "euler"}, "sampler=euler: accepted are ddpm, ddim, dpmsolver++, unipc"),
    (PIDMSettings, {"width": 6, "multipliers": (1, 0), "level_blocks": 0, "attention_levels": 3, "dropout": 1.0}, ""),
    (PIDMSettings, {"prediction": "x", "guidance_source": -1.0}, "prediction=x: accepted are epsilon, v"),
    (PIDMSettings, {"guidance_source": float("nan"), "condition_dropout": 1.0}, "scales of 1 are no guidance"),
    (PIDMSettings, {"condition_dropout": 0.0}, "guidance_source=2.0: guidance needs predictions"),
    (PIDMSettings, {"guidance_pose": 1.0}, "has nothing to act on with guidance=released"),
    (PIDMSettings, {"size": (256, 176), "flip": 2, "zoom": -1, "warmup_steps": -1}, "multiples of 32"),
    (PIDMAdversarialSettings, {"distillation": -1, "discriminator_width": 3, "discriminator_rate": 0}, "are even"),
    (PIDMFewStepSettings, {"steps": 5, "grid": 7, "teacher_share": 1.0, "width": 3}, "steps=5: accepted are 1 to 4 "),
    (PoCoLDSettings, {"width": 3, "filters": 0, "constraint": -1, "vae": "no", "steps": 0}, "stabilityai/sd-vae-ft"),
    (PoCoLDSettings, {"guidance_source": -1.0, "guidance_start": -1, "resolution": "x"}, "accepted are data, native"),
    (PoCoLDSettings, {"condition_dropout": 0.0}, "guidance needs predictions without a condition"),
    (CFLDSettings, {"prompt_queries": 0, "prompt_channels": 6, "reconstruction": -1}, "are multiples of 4"),
    (CFLDSettings, {"unet": "no", "swin": "no", "swin_blocks": (2, 2), "drop_path": 1.0}, "one a level of the U-Net"),
    (XMDPTSettings, {"size": 20, "depth": 2, "heads": 5, "mask_ratio": 1.0, "dino_pose": "no"}, "are divisors of"),
    (VaeRoundtripSettings, {"vae_share": 1, "vae_steps": 0, "vae_factor": 5, "latent_channels": 0}, "are 2, 4, 8"),
]


@pytest.mark.parametrize(("settings", "wrong", "said"), WRONG)
def test_settings_that_do_not_fit_are_refused_in_one_message(settings, wrong, said):
    with pytest.raises(ValueError) as refusal:
        settings(**wrong)
    for part in (*(f"{key}=" for key in wrong), said):
        assert part in str(refusal.value)


def test_losses_that_leave_nothing_to_train_for_are_refused():
    with pytest.raises(ValueError, match="every weight is 0, so there is nothing to train for"):
        DeformSettings(losses=LossWeights(adversarial=0, l1=0, perceptual=0))
    with pytest.raises(ValueError, match=r"losses\.perceptual=0: accepted is more than 0, as the flow is learnt"):
        GFLASettings(losses=LossWeights(perceptual=0))
    with pytest.raises(ValueError, match="neither l1 nor perceptual has a weight"):
        NTEDSettings(losses=LossWeights(l1=0, perceptual=0))


def test_without_guidance_no_condition_need_be_left_out_in_training():
    PIDMSettings(condition_dropout=0.0, guidance_source=1.0)
    PIDMSettings(condition_dropout=0.0, guidance="paper", guidance_source=1.0, guidance_pose=1.0)


def test_settings_are_checked_without_importing_torch():
    modules = "baselines.gan.settings, baselines.diffusion.latent_settings"
    code = f"import sys, {modules}; print({{'torch', 'numpy'}} & {{*sys.modules}})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
