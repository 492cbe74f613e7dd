"""PIDM in the suite's harness: it learns, resumes, gives an image a seed; work is done once where it can be."""

import pytest
import torch
from ablations.method import build_method
from method_promises import assert_images_do_not_depend_on_their_batch, assert_resumes_exactly

from ablations.config import compose
from baselines.diffusion.pidm import PIDM
from baselines.diffusion.samplers import SAMPLERS, counted_evaluations
from xinggan.distributed import Processes

SIZE = {"width": 8, "multipliers": (1, 2, 2), "level_blocks": 1, "attention_levels": 2, "dropout": 0.0}


def pidm(**changes):
    return PIDM(**SIZE | {"steps": 3, "learning_rate": 3e-3} | changes)


def trained(method, people, steps):
    """Its losses over so many steps on the same four pairs."""
    torch.manual_seed(0)
    batch = people.train.batch(range(4))
    method.planned_steps = steps
    return [method.train().training_step(batch, step)["denoising"].item() for step in range(steps)]


@pytest.fixture(scope="module")
def learnt(people):
    method = pidm()
    return method, trained(method, people, 60)


def test_training_lowers_the_denoising_loss(learnt):
    _, losses = learnt
    assert losses[0] == pytest.approx(1, abs=0.1)  # a fresh network predicts 0, and the noise has variance 1
    assert sum(losses[-20:]) / 20 < 0.5


def test_training_resumes_exactly(people, tmp_path):
    assert_resumes_exactly(lambda seed: pidm(seed=seed, dropout=0.1), people, tmp_path)


def test_two_processes_lose_what_one_would(people):
    method = pidm(dropout=0.5, condition_dropout=0.5)

    def loss(rows, index, count):
        torch.manual_seed(0)
        with Processes(index, count).active(), torch.no_grad():
            return method.train().denoising_loss(people.train.batch(rows)).item()

    torch.nn.init.normal_(method.denoiser.head.weight, std=0.1)  # a fresh network predicts 0 whatever it sees
    halves = [loss([0, 1, 2], 0, 2), loss([3, 4, 5], 1, 2)]
    assert sum(halves) / 2 == pytest.approx(loss(range(6), 0, 1), rel=1e-5)
    assert halves[0] != pytest.approx(halves[1], rel=1e-4)


# A noise prediction's rounding counts 156-fold, 1 / signal_rate, at the first step of the other samplers.
@pytest.mark.parametrize(("prediction", "sampler"), [("epsilon", "ddpm"), *(("v", sampler) for sampler in SAMPLERS)])
def test_images_do_not_depend_on_their_batch(people, prediction, sampler):
    method = pidm(prediction=prediction, sampler=sampler)
    trained(method, people, 3)
    assert_images_do_not_depend_on_their_batch(method, people)


def test_a_seed_decides_on_the_image(people, learnt):
    method, batch = learnt[0].eval(), people.test.batch([0, 0, 0])
    images = method.generate(batch.source_image, batch.source_pose, batch.target_pose, torch.tensor([1, 2, 1]))
    torch.testing.assert_close(images[0], images[2], atol=1e-4, rtol=0)
    assert (images[0] - images[1]).abs().max() > 1e-2


@pytest.mark.parametrize(("scales", "branches"), [((2.0, 2.0), 3), ((1.0, 1.0), 1)])
def test_source_is_encoded_once_and_the_denoiser_evaluated_once_a_step(people, scales, branches):
    method, batch = pidm(steps=5, guidance_source=scales[0], guidance_pose=scales[1]).eval(), people.test.batch([0, 1])
    with counted_evaluations(method.denoiser) as denoised, counted_evaluations(method.source_encoder) as encoded:
        method.generate(batch.source_image, batch.source_pose, batch.target_pose, torch.tensor([1, 2]))
    assert denoised == [2 * branches] * 5
    assert len(encoded) == 1


def test_source_and_pose_go_missing_independently_in_training(people):
    method, seen = pidm(condition_dropout=0.5), []

    def look(module, inputs):
        _, _, maps, features = inputs
        gone = [(level == 0).all(2).all(1) for level in features]
        assert all(torch.equal(level, gone[0]) for level in gone)
        seen.extend(zip((maps == 0).flatten(1).all(1).tolist(), gone[0].tolist(), strict=True))

    method.denoiser.register_forward_pre_hook(look)
    with torch.no_grad():
        for _ in range(30):
            method.denoising_loss(people.train.batch(range(8)))
    shares = [seen.count(kind) / len(seen) for kind in ((True, True), (True, False), (False, True), (False, False))]
    assert shares == pytest.approx([0.25] * 4, abs=0.1)


def test_the_configuration_has_the_published_values():
    config = compose(["method=pidm", "preset=paper", "dataset=deepfashion", "dataset.root=."])
    assert (config.method.width, config.method.multipliers) == (128, [1, 1, 2, 2, 4, 4])
    assert (config.training.ema, config.method.learning_rate, config.method.condition_dropout) == (0.9999, 2e-5, 0.1)
    assert (config.method.guidance_source, config.method.guidance_pose) == (2.0, 2.0)
    smoke = build_method(compose(["method=pidm", "preset=smoke", "method.sampler=dpmsolver++"]), "cpu")
    assert isinstance(smoke, PIDM)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"steps": 0, "sampler": "euler"}, r"method.sampler=euler: accepted are ddpm.*method.steps=0: accepted are 1"),
        ({"condition_dropout": 0.0}, "guidance needs predictions without a condition"),
        ({"prediction": "x"}, "method.prediction=x: accepted are epsilon, v"),
        ({"width": 3, "multipliers": ()}, r"width=3: .*method.multipliers=\[\]"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        pidm(**wrong)


def test_refusals_reach_the_command_line_as_they_are():
    with pytest.raises(ValueError, match=r"^method.steps=0: accepted are 1 to 1000 sampling steps$"):
        build_method(compose(["method=pidm", "preset=smoke", "method.steps=0"]), "cpu")
