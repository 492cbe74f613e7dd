"""Consistency distillation on normal data, where teacher, student and samples are known."""

import pytest
import torch
from gaussian_data import GaussianData, rates

from baselines.diffusion.consistency import consistency_loss, consistency_problems, ddim_step, few_step_sample
from baselines.diffusion.process import NoiseProcess
from baselines.diffusion.samplers import counted_evaluations, sample, sampling_timesteps

DATA = GaussianData(torch.linspace(-0.8, 0.8, 5)[:, None].expand(5, 800), torch.full((5, 800), 0.5))
GRID = 24


def consistent_student(process, grid=GRID):
    """Says where the teacher's DDIM steps over the grid lead: the slow version, one step after the other."""
    teacher, points = DATA.best_network(process), [*sampling_timesteps(grid), -1]

    def network(noised, timesteps):
        reached = []
        for item, start in zip(noised, timesteps.tolist(), strict=True):
            x, here = item[None], points.index(start) if start in points else GRID  # at the data it is not listened to
            for now, following in zip(points[here:-1], points[here + 1 :], strict=True):
                now, following = torch.tensor([now]), torch.tensor([following])
                x = ddim_step(process, teacher(x, now), x, now, following)
            reached.append(x)
        clean, (signal_rate, noise_rate) = torch.cat(reached), rates(process, timesteps, noised)
        return (signal_rate * noised - clean) / noise_rate  # the v that says so

    return network


def test_a_step_of_the_teacher_is_ddims():
    process = NoiseProcess("v")
    first, second, last = sampling_timesteps(3)
    x = torch.randn(1, 5, 800, generator=torch.Generator().manual_seed(0))
    teacher = DATA.best_network(process)
    for now, following in ((first, second), (second, last), (last, -1)):
        now, following = torch.tensor([now]), torch.tensor([following])
        x = ddim_step(process, teacher(x, now), x, now, following)
    expected = sample(process, teacher, (5, 800), torch.tensor([0]), sampler="ddim", steps=3, device="cpu")
    torch.testing.assert_close(x, expected, atol=1e-4, rtol=0)


def test_the_loss_is_least_for_the_student_that_agrees_with_itself_along_the_teachers_path():
    process = NoiseProcess("v")
    teacher, student, clean = DATA.best_network(process), consistent_student(process), DATA.draw(64)

    def loss(network):
        torch.manual_seed(0)
        return consistency_loss(process, teacher, network, clean, GRID).item()

    assert loss(student) < 1e-5
    for worse in (teacher, lambda x, t: student(x, t) + 0.05, lambda x, t: 0.9 * student(x, t)):
        assert loss(worse) > 1e-3


def test_the_gradient_reaches_the_student_at_the_noisier_end_alone():
    process, seen = NoiseProcess("v"), []
    scale = torch.ones((), requires_grad=True)

    def student(noised, timesteps):
        seen.append((timesteps, torch.is_grad_enabled()))
        return scale * noised

    torch.manual_seed(0)
    consistency_loss(process, DATA.best_network(process), student, DATA.draw(16), GRID).backward()
    (earlier, with_gradient), (later, without) = sorted(seen, key=lambda call: call[1])
    assert (with_gradient, without) == (False, True)
    assert (earlier < later).logical_or(later == sampling_timesteps(GRID)[-1]).all()
    assert scale.grad is not None


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_the_consistent_student_gives_the_data_in_any_number_of_steps(steps):
    process, network = NoiseProcess("v"), consistent_student(NoiseProcess("v"))
    module = torch.nn.Identity()
    seeds = torch.tensor([3, 4, 5])
    with counted_evaluations(module) as batches:
        samples = few_step_sample(
            process, lambda x, t: network(module(x), t), (5, 800), seeds, steps=steps, device="cpu"
        )
    assert batches == [3] * steps
    torch.testing.assert_close(samples.mean((0, 2)), DATA.mean[:, 0], atol=0.04, rtol=0)
    one_step = consistent_student(process)(torch.randn(1, 5, 800), torch.tensor([999]))
    assert one_step.isfinite().all()
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
    assert consistency_problems(1, 12) == consistency_problems(4, 48) == []
    problems = consistency_problems(5, 10)
    assert problems[0] == "method.steps=5: accepted are 1 to 4 sampling steps"
    assert problems[1].startswith("method.grid=10: accepted are multiples of 12")
    for steps in (1, 2, 3, 4):
        assert set(sampling_timesteps(steps)) <= set(sampling_timesteps(12))
