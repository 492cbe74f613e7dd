"""The published schedules, read back from the composed configuration as images seen, with what else was published.

Where a method's authors never used a data set, the method sees there as many images as they trained it with.
"""

import pytest

from ablations.config import compose, flat, published_for
from ablations.efficiency import published_schedule

MARKET, FASHION = 263_632, 101_966  # training pairs
# (method, data set) -> images seen, share of the steps in which the rate falls, batch; settings.
PUBLISHED = {
    ("xinggan", "market1501"): (87_500 * 32, 2 / 7, 32, {
        "width": 64, "blocks": 9, "norm": "batch", "history": 50, "learning_rate": 2e-4, "losses.adversarial": 5,
        "losses.l1": 50, "losses.perceptual": 50, "losses.adversarial_kind": "bce",
        "losses.perceptual_network": "vgg19",
    }),
    ("xinggan", "deepfashion"): (37_500 * 32, 1 / 3, 32, {
        "norm": "instance", "history": 0, "learning_rate": 2e-4, "losses.l1": 50, "losses.perceptual": 1,
        "losses.adversarial_kind": "lsgan",
    }),
    ("patn", "market1501"): (87_500 * 32, 2 / 7, 32, {
        "losses.adversarial": 5, "losses.l1": 10, "losses.perceptual": 10, "losses.adversarial_kind": "bce",
    }),
    ("patn", "deepfashion"): (700 * 572 * 7, 2 / 7, 7, {
        "losses.adversarial": 5, "losses.l1": 1, "losses.perceptual": 1, "losses.adversarial_kind": "lsgan",
        "norm": "instance", "history": 0,
    }),
    ("bigraph", "market1501"): (87_500 * 32, 2 / 7, 32, {
        "image_fusion": True, "losses.l1": 10, "losses.perceptual": 10,
    }),
    ("bigraph", "deepfashion"): (87_500 * 32, 2 / 7, 32, {
        "image_fusion": False, "losses.l1": 10, "losses.perceptual": 10,
    }),
    ("gfla", "market1501"): (5_000_000 * 8, 0, 8, {
        "patches": [3], "discriminator_levels": 3, "learning_rate": 1e-4, "size": None, "augmentation": True,
    }),
    ("gfla", "deepfashion"): (5_000_000 * 8, 0, 8, {
        "patches": [5, 3], "discriminator_levels": 4, "correctness": 5, "regularisation": 0.0025, "style": 500,
        "beta1": 0, "losses.adversarial": 2, "losses.l1": 5, "losses.perceptual": 0.5, "size": [256, 256],
        "losses.adversarial_kind": "lsgan", "losses.perceptual_network": "vgg19", "discriminator_rate": 0.1,
        "augmentation": False,
    }),
    ("dptn", "market1501"): (200 * MARKET, 1 / 2, 32, {
        "target_share": 0.8, "losses.l1": 2, "losses.adversarial": 5, "losses.perceptual": 0.5, "style": 500,
        "discriminator_levels": 3, "learning_rate": 2e-4, "beta1": 0.5, "discriminator_rate": 0.1, "size": None,
    }),
    ("dptn", "deepfashion"): (200 * FASHION, 1 / 2, 32, {
        "target_share": 0.5, "losses.l1": 5, "losses.adversarial": 2, "losses.perceptual": 0.5, "style": 500,
        "discriminator_levels": 4, "losses.adversarial_kind": "lsgan", "size": [256, 256],
    }),
    ("nted", "market1501"): (200 * 2 * FASHION, 0, 16, {"channels": [256, 512, 512, 512], "labels": [64, 32, 16]}),
    ("nted", "deepfashion"): (200 * 2 * FASHION, 0, 16, {
        "channels": [128, 256, 512, 512, 512], "labels": [64, 64, 32, 16], "learning_rate": 2e-3, "attention": 15,
        "losses.perceptual": 2, "style": 500, "face": 1, "losses.adversarial": 1.5, "losses.adversarial_kind": "bce",
        "adversarial_after": 20_000, "beta1": 0, "beta2": 0.99, "scaling": 1.1,
    }),
    ("deform", "market1501"): (90_000 * 4, 0, 4, {
        "neighbourhood": 3, "levels": 5, "losses.adversarial_kind": "bce",
    }),
    ("deform", "deepfashion"): (90_000 * 2, 0, 2, {
        "neighbourhood": 5, "levels": 6, "losses.adversarial": 1, "losses.l1": 0, "losses.adversarial_kind": "bce",
    }),
    ("pg2", "market1501"): ((22_000 + 14_000) * 16, 0, 16, {
        "coarse_share": pytest.approx(22 / 36, abs=1e-4), "levels": 5, "width": 128, "learning_rate": 2e-5, "l1": 10,
        "norm": "batch",
    }),
    ("pg2", "deepfashion"): ((30_000 + 20_000) * 8, 0, 8, {
        "coarse_share": 0.6, "levels": 6, "width": 128, "norm": "batch",
    }),
    ("pix2pix", "market1501"): (87_500 * 32, 2 / 7, 32, {"levels": 6, "patch": 70, "l1": 100}),
    ("pix2pix", "deepfashion"): (37_500 * 32, 1 / 3, 32, {"levels": 8, "patch": 70, "l1": 100}),
    ("pidm", "market1501"): (300 * 2 * FASHION, 0, 64, {"width": 128, "learning_rate": 2e-5, "size": None}),
    ("pidm", "deepfashion"): (300 * 2 * FASHION, 0, 64, {
        "width": 128, "multipliers": [1, 1, 2, 2, 4, 4], "learning_rate": 2e-5, "condition_dropout": 0.1,
        "guidance": "released", "guidance_source": 2, "dropout": 0.1, "warmup_steps": 5000, "flip": 0.5, "zoom": 0.05,
        "size": [256, 256], "sampler": "ddim", "spacing": "released", "learn_variance": True, "pose_map": "limbs",
    }),
    ("pidm_few_step", "deepfashion"): (300 * 2 * FASHION, 0, 64, {"width": 128, "learning_rate": 2e-5}),
    ("pidm_adversarial", "deepfashion"): (300 * 2 * FASHION, 0, 64, {"width": 128, "learning_rate": 2e-5}),
    ("pocold", "deepfashion"): (600_000 * 32, 0, 32, {
        "width": 128, "multipliers": [1, 2, 4, 4], "filters": 64, "vae_factor": 8, "learning_rate": 5e-5,
        "guidance_source": 3, "guidance_pose": 3, "guidance_start": 5, "condition_dropout": 0.15, "warmup_steps": 10,
    }),
    ("cfld", "deepfashion"): (100 * FASHION, 0, 224, {  # the method itself lowers the rate half way
        "width": 320, "prompt_queries": 16, "prompt_channels": 768, "condition_dropout": 0.2, "learning_rate": 1e-4,
        "swin_width": 128, "swin_blocks": [2, 2, 18, 2], "warmup_steps": 1000, "sampler": "ddpm", "steps": 50,
    }),
    ("xmdpt", "deepfashion"): (300_000 * 32, 0, 32, {
        "width": 384, "depth": 12, "heads": 6, "mask_ratio": 0.3, "guidance": 2, "guidance_power": 0.01, "size": 256,
        "learning_rate": 1e-4, "steps": 50, "sampler": "ddim", "condition_dropout": 0.1,
    }),
}  # fmt: skip
# Decay of the moving average.
AVERAGED = {"pidm": 0.9999, "pidm_few_step": 0.9999, "pidm_adversarial": 0.9999, "xmdpt": 0.9999, "nted": 0.99778}


@pytest.mark.parametrize(("method", "dataset"), PUBLISHED, ids=map("-".join, PUBLISHED))
def test_the_paper_preset_holds_what_was_published_of_a_method_for_a_data_set(method, dataset):
    images, decay, batch, published = PUBLISHED[method, dataset]
    experiment = compose([f"method={method}", "preset=paper", f"dataset={dataset}", "dataset.root=x"])
    training, settings = experiment.training, dict(flat(experiment.method))
    assert training.steps * training.batch == pytest.approx(images, abs=batch)
    assert training.decay_steps / training.steps == pytest.approx(decay, abs=1e-4)
    assert training.batch == batch
    assert {key: settings[key] for key in published} == published
    size = (experiment.dataset.height, experiment.dataset.width)
    assert size == {"market1501": (128, 64), "deepfashion": (256, 176)}[dataset]
    assert experiment.dataset.test_pairs is None
    assert training.ema == AVERAGED.get(method, 0)


def test_a_schedule_is_called_published_only_for_data_that_a_methods_authors_used():
    both = ["market1501", "deepfashion"]
    assert all(published_for(name) == both for name in ("xinggan", "patn", "bigraph", "gfla", "dptn", "deform", "pg2"))
    assert (published_for("nted"), published_for("pix2pix"), published_for("copy_source")) == (["deepfashion"], [], [])


@pytest.mark.parametrize(
    ("words", "images", "published"),
    [
        ("method=xinggan dataset=synthetic", 1_200_000, True),  # as PIDM below: a ratio is of the same data
        ("method=xinggan dataset=market1501", 1_200_000, True),
        ("method=deform dataset=folder", 180_000, True),
        ("method=pidm guidance=paper dataset=synthetic", 600 * FASHION, True),
        ("method=pix2pix dataset=market1501", 1_200_000, False),
    ],
)
def test_hours_of_training_are_those_of_deepfashion_whatever_the_data(words, images, published):
    overrides = words.split()
    found = published_schedule(compose([*overrides, "dataset.root=x"]), overrides)
    told = (found["dataset"], found["steps"] * found["batch"], found["published"])
    assert told == ("deepfashion", pytest.approx(images, abs=found["batch"]), published)


def test_what_is_not_trained_has_no_schedule():
    assert published_schedule(compose(["method=copy_source"]), ["method=copy_source"]) is None


LATENT = [("pocold", 19_200_000), ("cfld", 100 * FASHION), ("xmdpt", 9_600_000)]


@pytest.mark.parametrize(
    ("method", "images"),
    [("dptn", 200 * FASHION), ("nted", 400 * FASHION), ("gfla", 40_000_000), ("pidm", 600 * FASHION), *LATENT],
)
def test_on_data_its_authors_never_used_a_method_sees_as_many_images_as_they_trained_it_with(method, images):
    for dataset in ("synthetic", "folder"):
        training = compose([f"method={method}", "preset=paper", f"dataset={dataset}", "dataset.root=x"]).training
        assert training.steps * training.batch == pytest.approx(images, abs=training.batch)
