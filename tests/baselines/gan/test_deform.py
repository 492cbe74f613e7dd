"""Deform: the published size, its nearest-neighbour loss, its training in the suite's harness."""

import numpy as np
import pytest
import torch
from ablations.identity import identity
from hydra.utils import instantiate
from method_promises import assert_images_do_not_depend_on_their_batch, assert_resumes_exactly
from torch import nn

from ablations.config import compose
from baselines.gan.deform import ConditionalDiscriminator, Deform, DeformableUNet, nearest_neighbour_loss
from xinggan.data.batch import images_to_float
from xinggan.model.losses import PerceptualLoss
from xinggan.model.switches import LossWeights


def deform(**changes):
    return Deform(**{"width": 4, "levels": 4} | changes)


def test_size_is_the_published_one():
    """82.08 million, as PATN and GFLA count; the published instance norm has one scale and shift for all channels."""
    generator = DeformableUNet(levels=6)
    norms = [p for m in generator.modules() if isinstance(m, nn.InstanceNorm2d) for p in m.parameters()]
    count = sum(p.numel() for p in generator.parameters()) - sum(p.numel() for p in norms) + len(norms)
    assert count == pytest.approx(82.08e6, abs=0.005e6)


@pytest.mark.parametrize("size", [(16, 16), (32, 16), (64, 32), (128, 64), (256, 176), (20, 36)])
@pytest.mark.parametrize("levels", [4, 6])
def test_images_of_all_sizes_come_back_in_their_size(size, levels):
    generator, judge = DeformableUNet(width=4, levels=levels).eval(), ConditionalDiscriminator(width=2)
    poses, maps, source = torch.rand(2, 1, 18, 3) * min(size), torch.rand(2, 1, 18, *size), torch.rand(1, 3, *size)
    with torch.no_grad():
        image = generator(source, tuple(poses), tuple(maps))
        scores = judge(torch.cat([image, source, *maps], dim=1))
    assert image.shape == source.shape
    assert image.abs().max() <= 1
    assert scores.shape == (1, 1, -(-size[0] // 32), -(-size[1] // 32))


def test_a_size_that_cannot_be_made_is_refused():
    with pytest.raises(ValueError, match="images of 30x16: accepted are heights and widths divisible by 4, from 16"):
        maps = torch.rand(2, 1, 18, 30, 16)
        DeformableUNet(width=4)(torch.rand(1, 3, 30, 16), (torch.rand(1, 18, 3),) * 2, tuple(maps))


@pytest.mark.parametrize("neighbourhood", [1, 3, 5])
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


def test_an_image_moved_by_one_pixel_has_no_loss_but_at_the_border_whose_neighbour_is_outside():
    target = torch.rand(1, 3, 8, 8)
    assert nearest_neighbour_loss(target.roll(1, dims=3)[..., 1:], target[..., 1:], 3).item() < 0.1
    assert nearest_neighbour_loss(target.roll(1, dims=3)[..., 2:], target[..., 1:-1], 3).item() == 0


def test_losses_are_weighted_as_set(people):
    method = deform(losses=LossWeights(adversarial=2, l1=3, perceptual=5), dropout=0.0)
    batch, seeds = people.train.batch(range(4)), torch.zeros(4, dtype=torch.int64)
    generated = method.generate(batch.source_image, batch.source_pose, batch.target_pose, seeds)
    target, look = images_to_float(batch.target_image), PerceptualLoss().features
    terms = method.training_step(batch, 0)
    assert terms["l1"].item() == pytest.approx(3 * (generated - target).abs().mean().item(), rel=1e-4)
    nearest = nearest_neighbour_loss(look(generated), look(target), 3).item()
    assert terms["nearest_neighbour"].item() == pytest.approx(5 * nearest, rel=1e-4)
    assert terms["adversarial"].item() == pytest.approx(2 * np.log(2), rel=0.2)  # of scores near 0


def test_training_resumes_exactly(people, tmp_path):
    assert_resumes_exactly(lambda seed: deform(seed=seed), people, tmp_path)


@pytest.fixture(scope="module")
def trained(people):
    """A small Deform after 60 steps on four pairs, and its loss at each."""
    torch.manual_seed(0)
    method = Deform(width=8, levels=4, dropout=0.0, learning_rate=2e-3).train()
    batch = people.train.batch(range(4))
    return method, [method.training_step(batch, step)["nearest_neighbour"].item() for step in range(60)]


def test_training_brings_the_generated_image_closer_to_the_target(trained):
    _, losses = trained
    assert losses[-1] < losses[0] / 2


def test_images_do_not_depend_on_their_batch(people, trained):
    assert_images_do_not_depend_on_their_batch(trained[0], people)


def test_the_configuration_has_the_published_values():
    for dataset, window, levels, batch in (("market1501", 3, 5, 4), ("deepfashion", 5, 6, 2)):
        config = compose(["method=deform", "preset=paper", f"dataset={dataset}", "dataset.root=."])
        assert (config.losses.adversarial, config.losses.l1, config.losses.adversarial_kind) == (1, 0, "bce")
        assert (config.method.neighbourhood, config.method.levels) == (window, levels)
        assert (config.training.steps, config.training.decay_steps, config.training.batch) == (90_000, 0, batch)
    assert instantiate(compose(["method=deform", "preset=smoke"]).method).losses.perceptual == 37


def test_a_run_without_the_adversarial_loss_is_another_run():
    usual, without = (compose(["method=deform", *words]) for words in ([], ["losses.adversarial=0"]))
    assert identity(usual, "digest")["method"]["losses"]["adversarial"] == 1
    assert "adversarial" not in identity(without, "digest")["method"]["losses"]
    assert instantiate(without.method).discriminator is None


def test_numbers_out_of_range_are_refused_all_at_once():
    with pytest.raises(ValueError, match=r"width=3: .*; method.levels=2: accepted are 4 to 8; method.neighbourhood=4"):
        Deform(width=3, levels=2, neighbourhood=4)
    with pytest.raises(ValueError, match="nothing to train for"):
        Deform(losses=LossWeights(adversarial=0, l1=0, perceptual=0))
