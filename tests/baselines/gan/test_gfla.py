"""GFLA: the published size, its stages and losses, its training in the suite's harness."""

import pytest
import torch
from hydra.utils import instantiate
from method_promises import assert_images_do_not_depend_on_their_batch, assert_resumes_exactly

from ablations.config import compose
from baselines.gan.gfla import GFLA, style_loss
from baselines.gan.gfla_networks import GflaGenerator, image_discriminator
from xinggan.data.batch import images_to_float
from xinggan.model.losses import PerceptualLoss, adversarial_loss
from xinggan.model.switches import LossWeights


def gfla(**changes):
    return GFLA(**{"width": 4} | changes)


def test_size_is_the_published_one():
    assert sum(p.numel() for p in GflaGenerator().parameters()) == pytest.approx(14.04e6, abs=0.01e6)


@pytest.mark.parametrize("size", [(16, 16), (32, 16), (64, 32), (128, 64), (256, 176), (20, 36)])
def test_images_of_all_sizes_come_back_in_their_size(size):
    generator, judge = GflaGenerator(width=4).eval(), image_discriminator(width=2, levels=4)
    source, maps = torch.rand(1, 3, *size), torch.rand(2, 1, 18, *size)
    with torch.no_grad():
        image, flows = generator(source, *maps)
        scores = judge(image)
    assert image.shape == source.shape
    assert image.abs().max() <= 1
    padded = [64 * -(-size[0] // 64), 32 * -(-size[1] // 32)]
    for halvings, (flow, mask) in zip((2, 3), flows, strict=True):
        assert [flow.shape[1], mask.shape[1]] == [2, 1]
        assert [*flow.shape[2:]] == [*mask.shape[2:]] == [length // 2**halvings for length in padded]
    assert scores.shape == (1, 1, size[0] // 16, size[1] // 16)


def test_where_the_mask_is_0_the_source_image_does_not_reach_the_image():
    generator = GflaGenerator(width=4).eval()
    source, maps = torch.rand(2, 1, 3, 64, 32), torch.rand(2, 1, 18, 64, 32)
    changes = []
    for logit in (-1e4, 1e4):
        for mask in generator.flow.mask:
            torch.nn.init.constant_(mask.bias, logit)
        with torch.no_grad():
            changes.append((generator(source[0], *maps)[0] - generator(source[1], *maps)[0]).abs().max().item())
    assert changes[0] == 0
    assert changes[1] > 1e-4


def test_a_size_that_cannot_be_made_is_refused():
    with pytest.raises(ValueError, match="images of 30x16: accepted are heights and widths divisible by 4, from 16"):
        GflaGenerator(width=4)(torch.rand(1, 3, 30, 16), *torch.rand(2, 1, 18, 30, 16))


def test_the_flow_estimator_is_trained_first_and_alone(people):
    method = gfla(flow_share=0.5)
    method.planned_steps = 4
    batch = people.train.batch(range(4))

    def changed(step):
        before = {name: value.clone() for name, value in method.state_dict().items()}
        terms = method.training_step(batch, step)
        after = method.state_dict()
        return terms, {name for name in after if not torch.equal(before[name], after[name])}

    first, moved_first = changed(1)
    assert set(first) == {"correctness", "regularisation", "gradient_generator"}
    assert moved_first
    assert all(name.startswith("generator.flow.") for name in moved_first)
    second, moved_second = changed(2)
    assert {"l1", "perceptual", "style", "adversarial", "discriminator"} < set(second)
    parts = {".".join(name.split(".")[:2]) for name in moved_second}
    assert {"generator.flow", "generator.source", "generator.attention", "discriminator.0"} < parts


def test_losses_are_weighted_as_set(people):
    method = gfla(losses=LossWeights(adversarial=2, l1=3, perceptual=5, adversarial_kind="lsgan"), style=7)
    batch, seeds = people.train.batch(range(4)), torch.zeros(4, dtype=torch.int64)
    generated = method.generate(batch.source_image, batch.source_pose, batch.target_pose, seeds)
    target, look = images_to_float(batch.target_image), PerceptualLoss().features
    terms = method.training_step(batch, 0)
    assert terms["l1"].item() == pytest.approx(3 * (generated - target).abs().mean().item(), rel=1e-4)
    seen, wanted = look(generated), look(target)
    assert terms["perceptual"].item() == pytest.approx(5 * (seen - wanted).abs().mean().item(), rel=1e-4)
    assert terms["style"].item() == pytest.approx(7 * style_loss(seen, wanted).item(), rel=1e-4)
    scores = method.discriminator.eval()(generated)  # after its step, which is the first
    assert terms["adversarial"].item() == pytest.approx(2 * adversarial_loss(scores, True, "lsgan").item(), rel=0.05)


def test_the_discriminators_weights_have_a_spectral_norm_of_1(people):
    """Its power iteration has converged after some steps on the same weights."""
    judge = image_discriminator(width=4)
    for _ in range(50):
        judge(torch.rand(1, 3, 32, 16))
    for layer in judge.modules():
        if isinstance(layer, torch.nn.Conv2d):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("changes", [{}, {"patches": [3], "flow_share": 0.0}])
def test_training_resumes_exactly(people, tmp_path, changes):
    """With the default share of 6 steps, the second and all later ones train everything."""
    assert_resumes_exactly(lambda seed: gfla(seed=seed, **changes), people, tmp_path)


@pytest.fixture(scope="module")
def trained(people):
    """A small GFLA after 60 steps on four pairs, the first 20 of them on the flow alone, and its losses."""
    torch.manual_seed(0)
    method = GFLA(width=8, learning_rate=2e-3, flow_share=1 / 3).train()
    method.planned_steps = 60
    batch = people.train.batch(range(4))
    return method, [method.training_step(batch, step) for step in range(60)]


def test_training_brings_the_flow_to_its_place_and_the_generated_image_closer_to_the_target(trained):
    _, terms = trained
    assert terms[19]["correctness"] < 0.8 * terms[0]["correctness"]
    assert terms[59]["l1"] < 0.8 * terms[20]["l1"]


def test_images_do_not_depend_on_their_batch(people, trained):
    assert_images_do_not_depend_on_their_batch(trained[0], people)


def test_the_configuration_has_the_published_values():
    for dataset, patches, levels in (("market1501", [3], 3), ("deepfashion", [5, 3], 4)):
        config = compose(["method=gfla", "preset=paper", f"dataset={dataset}", "dataset.root=."])
        losses = config.losses
        assert (losses.adversarial, losses.l1, losses.perceptual, losses.adversarial_kind) == (2, 5, 0.5, "lsgan")
        assert (config.method.patches, config.method.discriminator_levels) == (patches, levels)
        assert (config.learning_rate, config.training.batch, config.method.correctness) == (1e-4, 8, 5)
        assert config.method.beta1 == 0
    method = instantiate(compose(["method=gfla", "preset=smoke", "method.patches=[3]"]).method, _convert_="all")
    assert len(method.generator.attention) == 1


def test_numbers_out_of_range_are_refused_all_at_once():
    with pytest.raises(
        ValueError, match=r"width=3: .*method.patches=\[4\]: .*method.flow_share=1: .*method.style=-1: "
    ):
        GFLA(width=3, patches=[4], flow_share=1, style=-1)
    with pytest.raises(ValueError, match=r"discriminator_levels=9: accepted are 1 to 4; method.discriminator_rate=0"):
        GFLA(discriminator_levels=9, discriminator_rate=0)
    with pytest.raises(ValueError, match=r"method\.beta1=1: .*; losses\.perceptual=0"):
        GFLA(beta1=1, losses=LossWeights(perceptual=0))
