"""Samplers: normal data come out as they are, diffusers' schedulers used directly agree, guidance is the papers'."""

from fractions import Fraction
from math import floor

import pytest
import torch
from gaussian_data import GaussianData
from method_promises import calls_of

from baselines.diffusion import import_diffusers
from baselines.diffusion.process import NoiseProcess, Seen
from baselines.diffusion.samplers import (
    Branch,
    cascaded_branches,
    disentangled_branches,
    guided,
    leading_timesteps,
    sample,
    source_branches,
    trailing_timesteps,
)
from baselines.diffusion.settings import Prediction, Sampler

DATA = GaussianData(torch.linspace(-0.8, 0.8, 5)[:, None].expand(5, 4000), torch.full((5, 4000), 0.5))


def draw(network, process, shape, seeds, sampler, steps, **limits):
    places = {"sampler": sampler, "timesteps": trailing_timesteps(steps), "device": "cpu"}
    return sample(process, network, shape, torch.tensor(seeds), **places, **limits)


def test_timesteps_are_evenly_spaced_for_every_number_of_steps():
    for steps in range(1, 1001):
        timesteps = trailing_timesteps(steps)
        assert timesteps == [floor(Fraction(1000 * k, steps) + Fraction(1, 2)) - 1 for k in range(steps, 0, -1)]
        assert len(set(timesteps)) == steps
        assert (timesteps[0], timesteps[-1] >= 0) == (999, True)
    assert leading_timesteps(50) == list(range(980, -1, -20)) and leading_timesteps(3) == [666, 333, 0]


@pytest.mark.parametrize(("sampler", "steps", "off"), [
    ("ddpm", 1000, 0.015), ("ddim", 600, 0.015), ("dpmsolver++", 61, 0.01), ("unipc", 103, 0.01),
])  # fmt: skip
@pytest.mark.parametrize("prediction", list(Prediction))
def test_the_best_denoiser_gives_samples_with_mean_and_deviation_of_the_data(sampler, steps, off, prediction):
    """61, 103 and 600 are numbers for which diffusers' own timesteps do not end at the data."""
    process = NoiseProcess(prediction)
    samples = draw(DATA.best_network(process), process, (5, 4000), [3, 4], sampler, steps)
    torch.testing.assert_close(samples.mean((0, 2)), DATA.mean[:, 0], atol=0.02, rtol=0)
    assert samples.std(2).mean().item() == pytest.approx(0.5, rel=off)


@pytest.mark.parametrize("steps", [1, 7, 600])
def test_ddim_is_the_recursion_of_its_paper_in_any_number_of_steps(steps):
    process, x = NoiseProcess(), torch.randn(5, 4000, generator=torch.Generator().manual_seed(8))
    samples = draw(DATA.best_network(process), process, (5, 4000), [8], "ddim", steps)
    torch.testing.assert_close(samples[0], DATA.ddim(process, x, trailing_timesteps(steps)), atol=2e-4, rtol=0)


def scheduler_itself(sampler):
    diffusers = import_diffusers()
    kind = {
        "ddpm": diffusers.DDPMScheduler,
        "ddim": diffusers.DDIMScheduler,
        "dpmsolver++": diffusers.DPMSolverMultistepScheduler,
        "unipc": diffusers.UniPCMultistepScheduler,
    }[sampler]
    unclipped = {"clip_sample": False} if sampler in ("ddpm", "ddim") else {}
    return kind(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, timestep_spacing="trailing", **unclipped)


@pytest.mark.parametrize("sampler", list(Sampler))
@pytest.mark.parametrize("steps", [1, 20])
def test_samples_are_those_of_the_scheduler_used_directly(sampler, steps):
    process, scheduler = NoiseProcess(), scheduler_itself(sampler)
    scheduler.set_timesteps(steps)
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    x = torch.stack([torch.randn(5, 4000, generator=generator) for generator in generators])
    for timestep in scheduler.timesteps:
        noise = DATA.best_network(process)(x, timestep.expand(2))
        own = {"generator": generators} if sampler == "ddpm" else {}
        x = scheduler.step(noise, timestep, x, **own).prev_sample
    samples = draw(DATA.best_network(process), process, (5, 4000), [5, 6], sampler, steps)
    torch.testing.assert_close(samples, x, atol=3e-4, rtol=0)


@pytest.mark.parametrize("sampler", list(Sampler))
def test_an_item_is_bit_for_bit_the_same_alone_and_in_any_batch_of_one_evaluation_a_step(sampler):
    process, module = NoiseProcess(), torch.nn.Identity()
    network = lambda x, t: (3 * module(x)).tanh() * (t.view(-1, 1, 1) / 1000)  # noqa: E731
    with calls_of(module) as batches:
        together = draw(network, process, (3, 8), [11, 12, 13], sampler, 6)
    assert batches == [3] * 6
    for seeds in ([12], [13, 11], [12, 12, 40, 11]):
        for place, item in enumerate(draw(network, process, (3, 8), seeds, sampler, 6)):
            if seeds[place] in (11, 12, 13):
                assert torch.equal(item, together[seeds[place] - 11])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("sampler", list(Sampler))
def test_lower_precision_reaches_the_network_alone(sampler):
    process = NoiseProcess()
    exact = draw(DATA.best_network(process), process, (5, 4000), [0], sampler, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(draw(DATA.best_network(process), process, (5, 4000), [0], sampler, 6), exact)


@pytest.mark.parametrize("sampler", list(Sampler))
def test_data_stay_within_a_known_limit(sampler):
    process = NoiseProcess()
    wild = lambda x, t: DATA.best_network(process)(x, t) * 0.5  # noqa: E731
    assert draw(wild, process, (5, 4000), [0], sampler, 5).abs().max() > 1
    assert draw(wild, process, (5, 4000), [0], sampler, 5, limit=1.0).abs().max() <= 1


@pytest.mark.parametrize("steps", [1000, 30])
def test_ddpm_draws_with_the_learnt_variance(steps):
    """With v = 1 the variance of a step back is beta, with v = -1 the posterior's: diffusers' two fixed kinds."""
    process, best = NoiseProcess(learnt_variance=True), DATA.best_network(NoiseProcess())
    for v, kind in ((1.0, "fixed_large"), (-1.0, "fixed_small")):
        network = lambda x, t, v=v: torch.cat([best(x, t), torch.full_like(x, v)], dim=1)  # noqa: E731
        scheduler = import_diffusers().DDPMScheduler(1000, 1e-4, 0.02, clip_sample=False, variance_type=kind)
        timesteps, x = (
            leading_timesteps(steps),
            torch.randn(1, 5, 4000, generator=(g := torch.Generator().manual_seed(5))),
        )
        scheduler.set_timesteps(timesteps=timesteps)
        for t in timesteps:
            x = scheduler.step(best(x, torch.tensor([t])), t, x, generator=[g]).prev_sample
        found = sample(
            process, network, (5, 4000), torch.tensor([5]), sampler="ddpm", timesteps=timesteps, device="cpu"
        )
        torch.testing.assert_close(found, x, atol=2e-3, rtol=0)


SOURCE, POSE = torch.randn(2, 5), torch.randn(2, 5)


def predicted(x, t, conditions, seen):
    """A network that is not linear in its conditions, so that a wrong branch shows."""
    source, pose = (c * flags[:, None] for c, flags in zip(conditions, (seen.source, seen.pose), strict=True))
    return (x + source).sin() + (2 * x - pose).cos() * t[:, None] + source * pose


def alone(source, pose, x, t):
    return predicted(x, t, [SOURCE, POSE], Seen(torch.tensor([source] * 2), torch.tensor([pose] * 2)))


def disentangled(source_scale, pose_scale, *inputs):
    """PIDM's formula."""
    nothing = alone(False, False, *inputs)
    source, pose = alone(True, False, *inputs) - nothing, alone(False, True, *inputs) - nothing
    return nothing + source_scale * source + pose_scale * pose


def by_source(scale, pose_scale, *inputs):
    """That of PIDM's published code, which has one scale."""
    without = alone(False, True, *inputs)
    return without + scale * (alone(True, True, *inputs) - without)


def cascaded(source_scale, pose_scale, *inputs):
    nothing, pose, both = (alone(*seen, *inputs) for seen in ((False, False), (False, True), (True, True)))
    return nothing + pose_scale * (pose - nothing) + source_scale * (both - pose)


@pytest.mark.parametrize("scales", [(2.0, 2.0), (0.5, 3.0), (0.0, 1.5), (3.0, 1.0), (1.0, 2.0), (1.0, 1.0)])
@pytest.mark.parametrize(
    ("branches", "formula"),
    [
        (disentangled_branches, disentangled),
        (cascaded_branches, cascaded),
        (lambda source_scale, pose_scale: source_branches(source_scale), by_source),
    ],
)
def test_guidance_is_its_formula_in_one_batch_and_scales_of_1_are_none(branches, formula, scales):
    x, t, module = torch.randn(2, 5), torch.tensor([3, 700]), torch.nn.Identity()
    with calls_of(module) as batches:
        network = guided(lambda x, *others: predicted(module(x), *others), [SOURCE, POSE], branches(*scales))
        got = network(x, t)
    expected = alone(True, True, x, t) if scales == (1, 1) else formula(*scales, x, t)
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-5)
    assert len(batches) == 1
    assert batches[0] <= (2 if scales == (1, 1) else 6)


def test_a_branch_may_weigh_differently_at_each_timestep():
    x, t = torch.randn(2, 5), torch.tensor([3, 700])
    branches = (Branch(lambda t: 1 - t / 100, False, True), Branch(lambda t: t / 100, True, True))
    expected = by_source(torch.tensor([[0.03], [7.0]]), 0, x, t)
    torch.testing.assert_close(guided(predicted, [SOURCE, POSE], branches)(x, t), expected, atol=1e-4, rtol=1e-5)
