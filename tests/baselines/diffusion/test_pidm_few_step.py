"""PIDM in one to four steps: both distillations of normal data, whose teacher and samples are known, and of images."""

import pytest
import torch
from gaussian_data import GaussianData, rates
from method_promises import calls_of

from baselines.diffusion.pidm_adversarial import PIDMAdversarial
from baselines.diffusion.pidm_few_step import PIDMFewStep, distillation_loss, few_step_sample
from baselines.diffusion.process import NoiseProcess
from baselines.diffusion.samplers import sample, trailing_timesteps
from baselines.diffusion.settings import PIDMAdversarialSettings, PIDMFewStepSettings, PIDMSettings

DATA = GaussianData(torch.linspace(-0.8, 0.8, 5)[:, None].expand(5, 800), torch.full((5, 800), 0.5))
GRID = 24


def points():
    return trailing_timesteps(GRID)


def perfect_student(process):
    """Says where the teacher's DDIM steps over the grid lead."""
    grid = points()

    def network(noised, timesteps):
        paths = [grid[grid.index(start) :] for start in timesteps.tolist()]
        reached = [DATA.ddim(process, item, path) for item, path in zip(noised, paths, strict=True)]
        signal_rate, noise_rate = rates(process, timesteps, noised)
        return (signal_rate * noised - torch.stack(reached)) / noise_rate  # the v that says so

    return network


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_the_loss_is_least_for_the_student_that_says_where_the_teacher_leads(steps):
    process = NoiseProcess("v")
    teacher, student, clean = DATA.best_network(process), perfect_student(process), DATA.draw(6)
    seen = []

    def loss(network):
        torch.manual_seed(0)

        def watched(x, t):
            seen.append((t.unique().tolist(), torch.is_grad_enabled()))
            return network(x, t)

        return sum(distillation_loss(process, teacher, watched, clean, steps=steps, grid=GRID).item() for _ in range(9))

    assert loss(student) < 1e-3
    for worse in (teacher, lambda x, t: student(x, t) + 0.05, lambda x, t: 0.9 * student(x, t)):
        assert loss(worse) > 0.05
    assert sorted({start for (start,), _ in seen}, reverse=True) == trailing_timesteps(steps)
    assert all(with_gradient for _, with_gradient in seen)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_the_perfect_student_gives_the_data_in_any_number_of_steps(steps):
    process, network = NoiseProcess("v"), perfect_student(NoiseProcess("v"))
    module = torch.nn.Identity()
    seeds = torch.tensor([3, 4, 5])
    with calls_of(module) as batches:
        samples = few_step_sample(
            process, lambda x, t: network(module(x), t), (5, 800), seeds, steps=steps, device="cpu"
        )
    assert batches == [3] * steps
    torch.testing.assert_close(samples.mean((0, 2)), DATA.mean[:, 0], atol=0.04, rtol=0)
    by_ddim = sample(
        process, DATA.best_network(process), (5, 800), seeds, sampler="ddim", timesteps=points(), device="cpu"
    )
    assert samples.std(2).mean().item() == pytest.approx(by_ddim.std(2).mean().item(), rel=0.05)
    if steps == 1:
        torch.testing.assert_close(samples, by_ddim, atol=1e-3, rtol=0)


def few_step(**changes):
    size = {"width": 8, "multipliers": (1, 2), "level_blocks": 1, "attention_levels": 1, "dropout": 0.0, "grid": 12}
    return PIDMFewStep(
        PIDMFewStepSettings(**size | {"learning_rate": 3e-3, "teacher_ema": 0.9, "warmup_steps": 0} | changes)
    )


def test_the_teacher_is_the_average_of_its_training_and_stays_as_it_is(people):
    method = few_step(teacher_share=0.5)
    torch.manual_seed(0)
    method.planned_steps, batch = 6, people.train.batch(range(4))
    average = [p.detach().clone() for p in method.student.parameters()]
    for step in range(3):
        assert "denoising" in method.training_step(batch, step)
        decay = min(0.9, (1 + step) / (10 + step))
        average = [
            decay * a + (1 - decay) * p.detach() for a, p in zip(average, method.student.parameters(), strict=True)
        ]
    for step in range(3, 6):
        terms = method.training_step(batch, step)
        assert terms["distillation"] > 0
        for kept, teacher in zip(average, method.teacher.parameters(), strict=True):
            torch.testing.assert_close(teacher, kept)
    moved = [(s - t).abs().max() for s, t in zip(method.student.parameters(), average, strict=True)]
    assert max(moved) > 1e-3, "the student goes on"


def test_distillation_brings_one_step_closer_to_the_teachers_many(people):
    """On images of training pairs: the teacher by DDIM over the grid, the student at once, from the same noise."""
    method = few_step(steps=1, teacher_share=0.5, guidance_source=1.0)
    batch, seeds = people.train.batch(range(4)), torch.arange(4)

    def distance():
        teacher = method.eval().teacher
        teacher.settings = PIDMSettings(
            steps=12, sampler="ddim", spacing="trailing", multipliers=(1, 2), attention_levels=1
        )
        return (method.generate_pairs(batch, seeds) - teacher.generate_pairs(batch, seeds)).abs().mean().item()

    torch.manual_seed(0)
    method.planned_steps, before = 100, None
    for step in range(100):
        method.train().training_step(batch, step)
        if step == 50:
            before = distance()
    assert distance() < 0.85 * before


def test_distance_from_a_perfect_teacher_is_the_variance_that_noise_leaves(monkeypatch):
    """For images drawn from the data: E_t[c(t) Var(x_0 | x_t)], with c(t) = sqrt(abar_t) and normal data."""
    size = {"width": 8, "multipliers": (1, 2), "level_blocks": 1, "attention_levels": 1, "discriminator_width": 4}
    method, data = PIDMAdversarial(PIDMAdversarialSettings(**size)), GaussianData(torch.tensor(0.2), torch.tensor(0.3))
    monkeypatch.setattr(method, "teaching", lambda source, pose: data.best_network(method.teacher.process))
    kept = torch.cumprod(1 - method.teacher.process.betas, 0)
    expected = (kept.sqrt() * 0.09 * (1 - kept) / (kept * 0.09 + 1 - kept)).mean().item()
    torch.manual_seed(0)
    images = data.draw(6000 * 12).view(6000, 3, 2, 2).requires_grad_()
    distance = method.distance(images, None, None)
    assert distance.item() == pytest.approx(expected, rel=0.03)
    assert method.distance(images + 0.2, None, None) > 1.2 * distance
    distance.backward()
    assert images.grad.norm() > 0
