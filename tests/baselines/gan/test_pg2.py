"""PG2: published size and schedule, two stages in turn, its losses, its training in the suite's harness."""

import pytest
import torch
from method_promises import assert_images_do_not_depend_on_their_batch, assert_resumes_exactly

from ablations.config import ConfigurationError, compose
from baselines.gan.pg2 import PG2, CoarseGenerator, PairDiscriminator, RefinementGenerator, pose_mask_loss
from xinggan.data.batch import images_to_float
from xinggan.model.switches import Norm


def pg2(steps=6, **changes):
    method = PG2(**{"width": 4, "levels": 3, "coarse_share": 0.5} | changes)
    method.planned_steps = steps
    return method


def generated(method, batch):
    seeds = torch.zeros(len(batch), dtype=torch.int64)
    return method.generate(batch.source_image, batch.source_pose, batch.target_pose, seeds)


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
    torch.manual_seed(0)
    image, target, mask = torch.randn(2, 3, 8, 4), torch.randn(2, 3, 8, 4), torch.rand(2, 1, 8, 4) > 0.5
    total = 0.0
    for b in range(2):
        for c in range(3):
            for y in range(8):
                for x in range(4):
                    weight = 2 if mask[b, 0, y, x] else 1
                    total += weight * abs(image[b, c, y, x].item() - target[b, c, y, x].item())
    assert pose_mask_loss(image, target, mask).item() == pytest.approx(total / (2 * 3 * 8 * 4), rel=1e-5)


def test_each_stage_trains_its_own_networks(people):
    method, batch = pg2(steps=10, coarse_share=0.4).train(), people.train.batch(range(4))
    for step, trained in ((0, {"coarse"}), (3, {"coarse"}), (4, {"refinement", "discriminator"})):
        before = {name: t.clone() for name, t in method.named_parameters()}
        terms = method.training_step(batch, step)
        changed = {name.split(".")[0] for name, t in method.named_parameters() if not torch.equal(t, before[name])}
        assert changed == trained
        moved = {name for name, term in terms.items() if name.startswith("gradient") and term > 0}
        assert moved == {f"gradient_{name}" for name in trained}


def test_stage_two_adds_a_difference_map_that_starts_at_zero(people):
    method, batch = pg2().eval(), people.test.batch(range(3))
    method.pose_sigma = 3.0
    with torch.no_grad():
        _, inputs = method._inputs(batch.source_image, batch.target_pose)
        coarse = method.coarse(inputs)
        torch.testing.assert_close(generated(method, batch), coarse.clamp(-1, 1))
        method.refinement.difference.bias.fill_(0.25)
        torch.testing.assert_close(generated(method, batch), (coarse + 0.25).clamp(-1, 1))


def test_losses_of_stage_two_are_the_papers(people):
    """With InstanceNorm the discriminator gives the same scores in training and after."""
    method, batch = pg2(norm=Norm.instance, coarse_share=0).train(), people.train.batch(range(4))
    torch.nn.init.normal_(method.refinement.difference.weight, std=0.1)
    source, target = images_to_float(batch.source_image), images_to_float(batch.target_image)
    with torch.no_grad():
        _, inputs = method._inputs(batch.source_image, batch.target_pose)
        coarse = method.coarse(inputs)
        refined = coarse + method.refinement(torch.cat([coarse, source], dim=1))
        fooled = torch.sigmoid(method.discriminator(torch.cat([refined, source], dim=1)))
        right = torch.sigmoid(method.discriminator(torch.cat([target, source], dim=1)))
    terms = method.training_step(batch, 0)
    assert terms["adversarial"].item() == pytest.approx(-fooled.log().mean().item(), rel=1e-4)
    judged = -right.log().mean() - (1 - fooled).log().mean()
    assert terms["discriminator"].item() == pytest.approx(judged.item(), rel=1e-4)
    difference = (refined - target).abs()
    masked = difference.mean() + (difference * batch.target_mask).mean()
    assert terms["l1"].item() == pytest.approx(10 * masked.item(), rel=1e-4)


def test_a_batch_norm_hides_no_difference_between_real_and_generated(people):
    """Each alone would be brought to the same mean: a colour cast of a whole batch could not be seen."""
    method, batch = pg2(norm=Norm.batch).train(), people.train.batch(range(4))
    source, target = images_to_float(batch.source_image), images_to_float(batch.target_image)
    with torch.no_grad():
        real, fake = method._scores(target, target + 0.5, source)
        apart = [method.discriminator(torch.cat([image, source], dim=1)) for image in (target, target + 0.5)]
    assert (real.mean() - fake.mean()).abs() > 2 * (apart[0].mean() - apart[1].mean()).abs()


def test_the_bottleneck_reaches_from_any_pixel_to_any_other():
    network = pg2(width=16).coarse.double()
    torch.manual_seed(0)
    inputs = torch.rand(1, 21, 128, 64, dtype=torch.double, requires_grad=True)
    network(inputs)[0, :, 0, 0].sum().backward()
    assert inputs.grad[0, :, -4:, -4:].abs().max() > 0


@pytest.mark.parametrize("size", [(32, 16), (64, 32), (128, 64), (256, 176), (20, 36)])
@pytest.mark.parametrize("levels", [3, 6])
def test_images_of_all_sizes_come_back_in_their_size(size, levels):
    with torch.no_grad():
        assert CoarseGenerator(2, levels)(torch.rand(2, 21, *size)).shape == (2, 3, *size)
        assert RefinementGenerator(2, levels - 2)(torch.rand(2, 6, *size)).shape == (2, 3, *size)
        assert PairDiscriminator(2, levels - 1, Norm.batch)(torch.rand(2, 6, *size)).shape == (2, 1)


@pytest.mark.parametrize("norm", list(Norm))
def test_training_resumes_exactly_across_the_stages(people, tmp_path, norm):
    assert_resumes_exactly(lambda seed: pg2(norm=norm, seed=seed), people, tmp_path)


def test_weights_depend_on_the_seed_alone():
    states = []
    for disturbance, seed in ((1, 0), (2, 0), (3, 7)):
        torch.manual_seed(disturbance)
        states.append(pg2(seed=seed).state_dict())
    same, other = (all(torch.equal(states[0][n], s[n]) for n in s) for s in states[1:])
    assert same
    assert not other


@pytest.fixture(scope="module")
def trained(people):
    """A PG2 after 20 steps of stage I and 40 of stage II on four pairs, and the losses of both."""
    method = pg2(steps=60, coarse_share=1 / 3, width=16, learning_rate=5e-4).train()
    for group in method.optimisers["discriminator"].param_groups:
        group["lr"] = 1e-5  # four pairs are soon told apart, and then nothing but fooling counts
    batch = people.train.batch(range(4))
    terms = [method.training_step(batch, step) for step in range(60)]
    return method, [t["l1_coarse"].item() for t in terms[:20]], [t["l1"].item() for t in terms[20:]]


def test_each_stage_brings_the_generated_image_closer_to_the_target(trained):
    _, coarse, refined = trained
    assert coarse[-1] < coarse[0] / 2
    assert refined[0] == pytest.approx(10 * coarse[-1], rel=0.2)  # goes on from the coarse image
    assert refined[-1] < refined[0]


def test_images_do_not_depend_on_their_batch(people, trained):
    assert_images_do_not_depend_on_their_batch(trained[0], people)


def test_the_configuration_has_the_published_schedule_and_builds_the_method():
    from hydra.utils import instantiate

    for dataset, coarse, refined, batch, levels in (("market1501", 22, 14, 16, 5), ("deepfashion", 30, 20, 8, 6)):
        config = compose(["method=pg2", "preset=paper", f"dataset={dataset}", "dataset.root=."])
        training, method = config.training, config.method
        assert (training.steps, training.decay_steps, training.batch) == (1000 * (coarse + refined), 0, batch)
        assert round(method.coarse_share * training.steps) == 1000 * coarse
        assert (method.width, method.levels, method.learning_rate, method.l1) == (128, levels, 2e-5, 10)
    smoke = instantiate(compose(["method=pg2", "preset=smoke", "method.coarse_share=0.25"]).method)
    assert (smoke.coarse.levels, smoke.refinement.levels, smoke.coarse_share) == (4, 2, 0.25)


def test_numbers_out_of_range_are_refused_together():
    with pytest.raises(ValueError, match=r"width=3.*levels=2: accepted are 3 to 7.*coarse_share=2.*l1=much"):
        pg2(width=3, levels=2, coarse_share=2, l1="much")


def test_settings_that_it_has_not_are_refused():
    with pytest.raises(ConfigurationError, match=r"dropout: not a setting of method=pg2, which takes"):
        compose(["method=pg2", "dropout=0.5"])
