"""pix2pix: published sizes and receptive fields, noise by seed, its losses."""

import pytest
import torch

from baselines.gan.pix2pix import INPUTS, PatchDiscriminator, Pix2Pix, UNet, seeded_dropout
from baselines.gan.settings import PATCHES, Pix2PixSettings
from xinggan.data.batch import images_to_float
from xinggan.model.blocks import pad_to_multiple
from xinggan.model.switches import Norm


def pix2pix(**changes):
    return Pix2Pix(Pix2PixSettings(**{"width": 4, "levels": 4, "patch": 34} | changes))


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_sizes_are_the_published_ones():
    """54.414 million and 2.769 million for RGB to RGB; here 36 heatmaps more enter each network's first layer."""
    maps = (INPUTS - 3) * 64 * 4 * 4
    assert parameters(UNet(Pix2PixSettings())) - maps == pytest.approx(54.414e6, abs=500)
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


def test_padding_repeats_the_last_row_and_column():
    padded = torch.tensor([[0.0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]])
    assert torch.equal(pad_to_multiple(torch.arange(6.0).view(1, 1, 2, 3), 4)[0, 0], padded)


def test_seeded_dropout_keeps_the_mean_and_drops_as_often_as_said():
    features = torch.ones(3, 64, 32, 16)
    kept = seeded_dropout(features, 0.25, [torch.Generator().manual_seed(seed) for seed in (5, 6, 5)])
    assert kept.unique().tolist() == [0, pytest.approx(4 / 3)]
    torch.testing.assert_close(kept.mean(dim=(1, 2, 3)), torch.ones(3), atol=0.02, rtol=0)
    assert torch.equal(kept[0], kept[2])
    assert (kept[0] != kept[1]).float().mean() == pytest.approx(2 * 0.25 * 0.75, abs=0.02)


def test_losses_are_the_papers(people):
    """Without dropout and with InstanceNorm the generator makes the same image in training and after."""
    method = pix2pix(dropout=0.0, norm=Norm.instance)
    batch = people.train.batch(range(4))
    generated = method.generate_pairs(batch, torch.zeros(4, dtype=torch.int64))
    target = images_to_float(batch.target_image)
    inputs = method.inputs(batch.source_image, batch.source_pose, batch.target_pose)
    with torch.no_grad():
        p_real, p_fake = (torch.sigmoid(method.discriminator(torch.cat([inputs, x], 1))) for x in (target, generated))
    terms = method.train().training_step(batch, 0)
    assert terms["l1"].item() == pytest.approx(100 * (generated - target).abs().mean().item(), rel=1e-4)
    wrong = -(p_real.log().mean() + (1 - p_fake).log().mean()) / 2
    assert terms["discriminator"].item() == pytest.approx(wrong.item(), rel=1e-4)
    assert 0 < terms["adversarial"].item() < -p_fake.log().mean().item() * 2


def test_images_too_small_for_the_patches_are_refused(people):
    with pytest.raises(ValueError, match=r"patch=70 takes images of at least 24x24 pixels, these have 32x16"):
        pix2pix(patch=70).training_step(people.train.batch(range(2)), 0)
