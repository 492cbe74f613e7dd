"""PIDM in one to four steps: a teacher for a share of the training, then a student that leaves it as it is."""

import pytest
import torch
from ablations.method import build_method
from method_promises import assert_images_do_not_depend_on_their_batch, assert_resumes_exactly

from ablations.config import compose
from baselines.diffusion.pidm_few_step import PIDMFewStep
from baselines.diffusion.samplers import counted_evaluations

SIZE = {"width": 8, "multipliers": (1, 2), "level_blocks": 1, "attention_levels": 1, "dropout": 0.0, "grid": 12}


def few_step(**changes):
    return PIDMFewStep(**SIZE | {"learning_rate": 3e-3, "teacher_ema": 0.9} | changes)


def trained(method, people, steps):
    """The losses of each step."""
    torch.manual_seed(0)
    method.planned_steps, batch = steps, people.train.batch(range(4))
    return [method.train().training_step(batch, step) for step in range(steps)]


def test_training_resumes_exactly_within_the_distillation_and_before_it(people, tmp_path):
    for share in (0.4, 0.8):
        assert_resumes_exactly(
            lambda seed, share=share: few_step(seed=seed, teacher_share=share), people, tmp_path / str(share)
        )


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_images_do_not_depend_on_their_batch(people, steps):
    method = few_step(steps=steps)
    trained(method, people, 4)
    assert_images_do_not_depend_on_their_batch(method, people)


def test_the_teacher_is_the_average_of_its_training_and_stays_as_it_is(people):
    method = few_step(teacher_share=0.5)
    torch.manual_seed(0)
    method.planned_steps, batch = 6, people.train.batch(range(4))
    average = [p.detach().clone() for p in method.student.parameters()]
    for step in range(3):
        names = method.training_step(batch, step).keys()
        decay = min(0.9, (1 + step) / (10 + step))
        average = [
            decay * a + (1 - decay) * p.detach() for a, p in zip(average, method.student.parameters(), strict=True)
        ]
    for step in range(3, 6):
        terms = method.training_step(batch, step)
        assert terms.keys() == names, "the trainer averages over both stages"
        assert (terms["denoising"] == 0, terms["distillation"] > 0) == (True, True)
        for kept, teacher in zip(average, method.teacher.parameters(), strict=True):
            torch.testing.assert_close(teacher, kept)
    moved = [(s - t).abs().max() for s, t in zip(method.student.parameters(), average, strict=True)]
    assert max(moved) > 1e-3, "the student goes on"


def test_distillation_brings_one_step_closer_to_the_teachers_many(people):
    """On images of training pairs: the teacher by DDIM over the grid, the student at once, from the same noise."""
    method = few_step(steps=1, teacher_share=0.5, guidance_source=1.0, guidance_pose=1.0)
    batch, seeds = people.train.batch(range(4)), torch.arange(4)
    inputs = (batch.source_image, batch.source_pose, batch.target_pose, seeds)

    def distance():
        method.eval()
        teacher = method.teacher
        teacher.sampler, teacher.steps = "ddim", 12
        return (method.generate(*inputs) - teacher.generate(*inputs)).abs().mean().item()

    torch.manual_seed(0)
    method.planned_steps, before = 100, None
    for step in range(100):
        method.train().training_step(batch, step)
        if step == 50:
            before = distance()
    assert distance() < 0.85 * before


@pytest.mark.parametrize("steps", [1, 3])
def test_one_evaluation_a_step_and_one_encoding_a_sample(people, steps):
    method, batch = few_step(steps=steps).eval(), people.test.batch([0, 1])
    with counted_evaluations(method.denoiser) as denoised, counted_evaluations(method.source_encoder) as once:
        method.generate(batch.source_image, batch.source_pose, batch.target_pose, torch.tensor([1, 2]))
    assert (denoised, len(once)) == ([2] * steps, 1)


def test_the_presets_build():
    config = compose(["method=pidm_few_step", "preset=paper", "dataset=market1501", "dataset.root=."])
    assert (config.method.width, config.training.ema, config.method.learning_rate) == (128, 0.9999, 2e-5)
    assert isinstance(build_method(compose(["method=pidm_few_step", "preset=smoke"]), "cpu"), PIDMFewStep)


def test_settings_out_of_range_are_all_named():
    with pytest.raises(ValueError, match=r"steps=0: accepted are 1 to 4 .*grid=7.*teacher_share=1.*width=3"):
        few_step(steps=0, grid=7, teacher_share=1.0, width=3)
    with pytest.raises(ValueError, match="guidance needs predictions without a condition"):
        few_step(condition_dropout=0.0)
