"""pix2pix: published sizes and receptive fields, noise by seed, its losses, its training in the suite's harness."""

import pytest
import torch
from method_promises import assert_images_do_not_depend_on_their_batch, assert_resumes_exactly

from ablations.config import ConfigurationError, compose
from baselines.gan.pix2pix import INPUTS, PATCHES, PatchDiscriminator, Pix2Pix, UNet, seeded_dropout
from xinggan.data.batch import images_to_float
from xinggan.model.blocks import pad_to_multiple
from xinggan.model.switches import Norm


def pix2pix(**changes):
    return Pix2Pix(**{"width": 4, "levels": 4, "patch": 34} | changes)


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_sizes_are_the_published_ones():
    """54.414 million and 2.769 million for RGB to RGB; here 36 heatmaps more enter each network's first layer."""
    maps = (INPUTS - 3) * 64 * 4 * 4
    assert parameters(UNet()) - maps == pytest.approx(54.414e6, abs=500)
    assert parameters(PatchDiscriminator()) - maps == pytest.approx(2.769e6, abs=500)


@pytest.mark.parametrize("patch", list(PATCHES))
def test_a_score_sees_a_patch_of_as_many_pixels(patch):
    network = PatchDiscriminator(width=2, patch=patch).eval().double()
    images = torch.randn(1, INPUTS + 3, 2 * patch + 64, patch + 64, dtype=torch.double, requires_grad=True)
    scores = network(images)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    seen = images.grad[0].abs().sum(dim=0) > 0
    rows, columns = seen.any(dim=1).nonzero(), seen.any(dim=0).nonzero()
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (patch, patch)


@pytest.mark.parametrize("size", [(32, 16), (64, 32), (128, 64), (256, 176), (20, 36)])
@pytest.mark.parametrize("levels", [2, 5, 8])
def test_images_of_all_sizes_come_back_in_their_size(size, levels):
    with torch.no_grad():
        image = UNet(width=2, levels=levels)(torch.randn(2, INPUTS, *size))
    assert image.shape == (2, 3, *size)
    assert image.abs().max() <= 1


def test_padding_repeats_the_last_row_and_column():
    image = torch.arange(6.0).view(1, 1, 2, 3)
    padded = torch.tensor([[0.0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]])
    assert torch.equal(pad_to_multiple(image, 4)[0, 0], padded)


def test_seeded_dropout_keeps_the_mean_and_drops_as_often_as_said():
    features = torch.ones(3, 64, 32, 16)
    kept = seeded_dropout(features, 0.25, [torch.Generator().manual_seed(seed) for seed in (5, 6, 5)])
    assert kept.unique().tolist() == [0, pytest.approx(4 / 3)]
    torch.testing.assert_close(kept.mean(dim=(1, 2, 3)), torch.ones(3), atol=0.02, rtol=0)
    assert torch.equal(kept[0], kept[2])
    assert (kept[0] != kept[1]).float().mean() == pytest.approx(2 * 0.25 * 0.75, abs=0.02)


def test_the_seed_is_the_noise(people):
    batch, seeds = people.test.batch(range(4)), torch.arange(4)
    for dropout, changes in ((0.5, True), (0.0, False)):
        method = pix2pix(dropout=dropout).eval()
        first, again, other = (
            method.generate(batch.source_image, batch.source_pose, batch.target_pose, s)
            for s in (seeds, seeds, seeds + 9)
        )
        assert torch.equal(first, again)
        assert torch.equal(first, other) is not changes


def test_losses_are_the_papers(people):
    """Without dropout and with InstanceNorm the generator makes the same image in training and after."""
    method = pix2pix(dropout=0.0, norm=Norm.instance)
    batch, seeds = people.train.batch(range(4)), torch.zeros(4, dtype=torch.int64)
    generated = method.generate(batch.source_image, batch.source_pose, batch.target_pose, seeds)
    target = images_to_float(batch.target_image)
    inputs = method._inputs(batch.source_image, batch.source_pose, batch.target_pose)
    with torch.no_grad():
        p_real, p_fake = (
            torch.sigmoid(method.discriminator(torch.cat([inputs, x], dim=1))) for x in (target, generated)
        )
    terms = method.train().training_step(batch, 0)
    assert terms["l1"].item() == pytest.approx(100 * (generated - target).abs().mean().item(), rel=1e-4)
    judged = -(p_real.log().mean() + (1 - p_fake).log().mean()) / 2
    assert terms["discriminator"].item() == pytest.approx(judged.item(), rel=1e-4)
    assert 0 < terms["adversarial"].item() < -p_fake.log().mean().item() * 2


@pytest.mark.parametrize("norm", list(Norm))
def test_training_resumes_exactly(people, tmp_path, norm):
    assert_resumes_exactly(lambda seed: pix2pix(norm=norm, seed=seed), people, tmp_path)


def test_weights_depend_on_the_seed_alone():
    states = []
    for disturbance, seed in ((1, 0), (2, 0), (3, 7)):
        torch.manual_seed(disturbance)
        states.append(pix2pix(seed=seed).state_dict())
    same, other = (all(torch.equal(states[0][n], s[n]) for n in s) for s in states[1:])
    assert same
    assert not other


@pytest.fixture(scope="module")
def trained(people):
    """A small pix2pix after 40 steps on four pairs, and its L1 loss at each."""
    torch.manual_seed(0)
    method = pix2pix(width=8, dropout=0.2, learning_rate=3e-3).train()
    batch = people.train.batch(range(4))
    return method, [method.training_step(batch, step)["l1"].item() for step in range(40)]


def test_training_brings_the_generated_image_closer_to_the_target(trained):
    _, losses = trained
    assert losses[-1] < losses[0] / 2


def test_images_do_not_depend_on_their_batch(people, trained):
    assert_images_do_not_depend_on_their_batch(trained[0], people)


def test_the_configuration_builds_the_paper_and_the_small_network():
    from hydra.utils import instantiate

    fashion = compose(["method=pix2pix", "preset=paper", "dataset=deepfashion", "dataset.root=."]).method
    assert (fashion.width, fashion.levels, fashion.patch, fashion.l1) == (64, 8, 70, 100)
    small = instantiate(compose(["method=pix2pix", "method.l1=50"]).method)
    assert (small.generator.levels, small.discriminator.patch, small.l1) == (5, 34, 50)


def test_settings_that_it_has_not_are_refused():
    with pytest.raises(ConfigurationError, match="losses: not a setting of method=pix2pix"):
        compose(["method=pix2pix", "losses.l1=5"])
    with pytest.raises(ConfigurationError, match=r"accepted with method=pix2pix are .*method\.levels.*method\.patch"):
        compose(["method=pix2pix", "method.depth=5"])


def test_numbers_out_of_range_are_refused_together():
    with pytest.raises(ValueError, match=r"width=3.*levels=9.*patch=50: accepted are 16, 34.*l1=-1"):
        pix2pix(width=3, levels=9, patch=50, l1=-1)


def test_images_too_small_for_the_patches_are_refused(people):
    with pytest.raises(ValueError, match=r"patch=70 takes images of at least 24x24 pixels, these have 32x16"):
        pix2pix(patch=70).training_step(people.train.batch(range(2)), 0)
