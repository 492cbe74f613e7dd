"""Distillation on normal data, where teacher, student and samples are known."""

import pytest
import torch
from gaussian_data import GaussianData, rates

from baselines.diffusion.pidm_few_step import ddim_steps, distillation_loss, distillation_problems, few_step_sample
from baselines.diffusion.process import NoiseProcess
from baselines.diffusion.samplers import counted_evaluations, sample, sampling_timesteps

DATA = GaussianData(torch.linspace(-0.8, 0.8, 5)[:, None].expand(5, 800), torch.full((5, 800), 0.5))
GRID = 24


def perfect_student(process):
    """Says where the teacher's DDIM steps over the grid lead, the slow version: each item in double precision."""
    points, kept = sampling_timesteps(GRID), torch.cumprod(1 - process.betas, 0)

    def network(noised, timesteps):
        reached = []
        for item, start in zip(noised.double(), timesteps.tolist(), strict=True):
            path = points[points.index(start) :]
            for now, following in zip(path, [*path[1:], None], strict=True):
                signal_rate, noise_rate = kept[now].sqrt(), (1 - kept[now]).sqrt()
                clean = DATA.best_clean(item, signal_rate, noise_rate)
                noise = (item - signal_rate * clean) / noise_rate
                item = (
                    clean
                    if following is None
                    else kept[following].sqrt() * clean + (1 - kept[following]).sqrt() * noise
                )
            reached.append(item.float())
        signal_rate, noise_rate = rates(process, timesteps, noised)
        return (signal_rate * noised - torch.stack(reached)) / noise_rate  # the v that says so

    return network


def test_the_teachers_steps_are_ddims():
    process = NoiseProcess("v")
    x = torch.randn(1, 5, 800, generator=torch.Generator().manual_seed(0))
    teacher = DATA.best_network(process)
    expected = sample(process, teacher, (5, 800), torch.tensor([0]), sampler="ddim", steps=7, device="cpu", limit=0.9)
    got = ddim_steps(process, teacher, x, sampling_timesteps(7), limit=0.9)
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=0)


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
    assert sorted({start for (start,), _ in seen}, reverse=True) == sampling_timesteps(steps)
    assert all(with_gradient for _, with_gradient in seen)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_the_perfect_student_gives_the_data_in_any_number_of_steps(steps):
    process, network = NoiseProcess("v"), perfect_student(NoiseProcess("v"))
    module = torch.nn.Identity()
    seeds = torch.tensor([3, 4, 5])
    with counted_evaluations(module) as batches:
        samples = few_step_sample(
            process, lambda x, t: network(module(x), t), (5, 800), seeds, steps=steps, device="cpu"
        )
    assert batches == [3] * steps
    torch.testing.assert_close(samples.mean((0, 2)), DATA.mean[:, 0], atol=0.04, rtol=0)
    by_ddim = sample(process, DATA.best_network(process), (5, 800), seeds, sampler="ddim", steps=GRID, device="cpu")
    assert samples.std(2).mean().item() == pytest.approx(by_ddim.std(2).mean().item(), rel=0.05)
    if steps == 1:
        torch.testing.assert_close(samples, by_ddim, atol=1e-3, rtol=0)


def test_an_item_is_bit_for_bit_the_same_alone_and_in_a_batch():
    process, network = NoiseProcess("v"), lambda x, t: (3 * x).tanh() * (t.view(-1, 1) / 1000)

    def drawn(*seeds):
        return few_step_sample(process, network, (6,), torch.tensor(seeds), steps=3, device="cpu", limit=1.0)

    together = drawn(7, 8, 9)
    assert torch.equal(together[[2, 1]], drawn(9, 8))
    assert torch.equal(together[:1], drawn(7))
    assert together.abs().max() <= 1


def test_steps_and_grid_out_of_range_are_both_named():
    assert distillation_problems(1, 12) == distillation_problems(4, 48) == []
    problems = distillation_problems(5, 10)
    assert problems[0] == "method.steps=5: accepted are 1 to 4 sampling steps"
    assert problems[1].startswith("method.grid=10: accepted are multiples of 12")
    for steps in (1, 2, 3, 4):
        assert set(sampling_timesteps(steps)) <= set(sampling_timesteps(12))
