"""Deform: the published size, its nearest-neighbour loss and losses' weights."""

import numpy as np
import pytest
import torch
from torch import nn

from baselines.gan.deform import Deform, DeformableUNet, nearest_neighbour_loss
from baselines.gan.settings import DeformSettings
from xinggan.data.batch import images_to_float
from xinggan.model.losses import PerceptualLoss
from xinggan.model.switches import LossWeights


def test_size_is_the_published_one():
    """82.08 million, as PATN and GFLA count; the published instance norm has one scale and shift for all channels."""
    generator = DeformableUNet(levels=6)
    norms = [p for m in generator.modules() if isinstance(m, nn.InstanceNorm2d) for p in m.parameters()]
    count = sum(p.numel() for p in generator.parameters()) - sum(p.numel() for p in norms) + len(norms)
    assert count == pytest.approx(82.08e6, abs=0.005e6)


@pytest.mark.parametrize("neighbourhood", [1, 3])
def test_nearest_neighbour_loss_is_the_papers_formula(neighbourhood):
    generated, target = np.random.default_rng(0).normal(size=(2, 2, 4, 6, 5))
    reach, least = neighbourhood // 2, np.full((2, 6, 5), np.inf)
    for image, row, column in np.ndindex(least.shape):
        for y in range(max(row - reach, 0), min(row + reach, 5) + 1):
            for x in range(max(column - reach, 0), min(column + reach, 4) + 1):
                difference = np.abs(generated[image, :, row, column] - target[image, :, y, x]).mean()
                least[image, row, column] = min(least[image, row, column], difference)
    loss = nearest_neighbour_loss(torch.tensor(generated), torch.tensor(target), neighbourhood)
    assert loss.item() == pytest.approx(least.mean(), rel=1e-6)


def test_losses_are_weighted_as_set(people):
    weights = LossWeights(adversarial=2, l1=3, perceptual=5)
    method = Deform(DeformSettings(width=4, levels=4, losses=weights, dropout=0.0))
    batch = people.train.batch(range(4))
    generated = method.generate_pairs(batch, torch.zeros(4, dtype=torch.int64))
    target, look = images_to_float(batch.target_image), PerceptualLoss().features
    terms = method.training_step(batch, 0)
    assert terms["l1"].item() == pytest.approx(3 * (generated - target).abs().mean().item(), rel=1e-4)
    nearest = nearest_neighbour_loss(look(generated), look(target), 3).item()
    assert terms["nearest_neighbour"].item() == pytest.approx(5 * nearest, rel=1e-4)
    assert terms["adversarial"].item() == pytest.approx(2 * np.log(2), rel=0.2)  # of scores near 0


def test_without_the_adversarial_loss_there_is_no_discriminator(people):
    method = Deform(DeformSettings(width=4, levels=4, losses=LossWeights(adversarial=0, l1=1, perceptual=1)))
    assert method.discriminator is None
    assert {"l1", "nearest_neighbour", "gradient_generator"} == method.training_step(people.train.batch([0]), 0).keys()
