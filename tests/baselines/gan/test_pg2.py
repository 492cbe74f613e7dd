"""PG2: the published size, two stages in turn, its losses."""

import pytest
import torch

from baselines.gan.pg2 import PG2, CoarseGenerator, PairDiscriminator, RefinementGenerator, pose_mask_loss
from baselines.gan.settings import PG2Settings
from xinggan.data.batch import images_to_float
from xinggan.model.switches import Norm


def pg2(**changes):
    return PG2(PG2Settings(**{"width": 4, "levels": 3, "coarse_share": 0.5} | changes))


def test_size_is_the_published_one():
    """437.09 million numbers in its file for 256x256 (as PATN's paper has it): the weights and Adam's two moments.

    There, 8x8 positions are fully connected instead of 8x4, the discriminator sees single images, and stage II skips at
    every level, the lowest included.
    """
    networks = CoarseGenerator(levels=6), RefinementGenerator(levels=4), PairDiscriminator(halvings=5)
    ours = sum(p.numel() for network in networks for p in network.parameters())
    positions = 32 * (6 * 128 * 64 + 64 * 128 + 128 + 8 * 64)
    skips = 128 * 128 * 9 + 4 * 128 * 128 * 9
    assert 3 * (ours + positions + skips - 3 * 64 * 5 * 5) == pytest.approx(437.09e6, abs=0.005e6)


def test_pose_mask_loss_counts_the_body_twice():
    image, target, mask = torch.randn(2, 3, 8, 4), torch.randn(2, 3, 8, 4), torch.rand(2, 1, 8, 4) > 0.5
    expected = torch.where(mask, 2 * (image - target).abs(), (image - target).abs()).mean()
    torch.testing.assert_close(pose_mask_loss(image, target, mask), expected)


def test_stage_two_adds_a_difference_map_that_starts_at_zero(people):
    method, batch, seeds = pg2(pose_sigma=3.0).eval(), people.test.batch(range(3)), torch.zeros(3, dtype=torch.int64)
    with torch.no_grad():
        _, inputs = method.inputs(batch.source_image, batch.target_pose)
        coarse = method.coarse(inputs)
        torch.testing.assert_close(method.generate_pairs(batch, seeds), coarse.clamp(-1, 1))
        method.refinement.difference.bias.fill_(0.25)
        torch.testing.assert_close(method.generate_pairs(batch, seeds), (coarse + 0.25).clamp(-1, 1))


def test_losses_of_stage_two_are_the_papers(people):
    """With InstanceNorm the discriminator gives the same scores in training and after."""
    method, batch = pg2(norm=Norm.instance, coarse_share=0).train(), people.train.batch(range(4))
    torch.nn.init.normal_(method.refinement.difference.weight, std=0.1)
    source, target = images_to_float(batch.source_image), images_to_float(batch.target_image)
    with torch.no_grad():
        _, inputs = method.inputs(batch.source_image, batch.target_pose)
        coarse = method.coarse(inputs)
        refined = coarse + method.refinement(torch.cat([coarse, source], dim=1))
        fooled = torch.sigmoid(method.discriminator(torch.cat([refined, source], dim=1)))
        right = torch.sigmoid(method.discriminator(torch.cat([target, source], dim=1)))
    terms = method.training_step(batch, 0)
    assert terms["adversarial"].item() == pytest.approx(-fooled.log().mean().item(), rel=1e-4)
    wrong = -right.log().mean() - (1 - fooled).log().mean()
    assert terms["discriminator"].item() == pytest.approx(wrong.item(), rel=1e-4)
    difference = (refined - target).abs()
    masked = difference.mean() + (difference * batch.target_mask).mean()
    assert terms["l1"].item() == pytest.approx(10 * masked.item(), rel=1e-4)


def test_a_batch_norm_hides_no_difference_between_real_and_generated(people):
    """Each alone would be brought to the same mean: a colour cast of a whole batch could not be seen."""
    method, batch = pg2(norm=Norm.batch).train(), people.train.batch(range(4))
    source, target = images_to_float(batch.source_image), images_to_float(batch.target_image)
    with torch.no_grad():
        real, fake = method.scores(target, target + 0.5, source)
        apart = [method.discriminator(torch.cat([image, source], dim=1)) for image in (target, target + 0.5)]
    assert (real.mean() - fake.mean()).abs() > 2 * (apart[0].mean() - apart[1].mean()).abs()
