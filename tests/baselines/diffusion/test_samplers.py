"""Samplers: normal data come out as they are, diffusers' schedulers used directly agree, batches do not matter."""

from fractions import Fraction
from math import floor

import pytest
import torch
from gaussian_data import GaussianData

from baselines.diffusion import import_diffusers
from baselines.diffusion.process import NoiseProcess, Prediction
from baselines.diffusion.samplers import SAMPLERS, counted_evaluations, sample, sampler_problems, sampling_timesteps

DATA = GaussianData(torch.linspace(-0.8, 0.8, 5)[:, None].expand(5, 4000), torch.full((5, 4000), 0.5))


def draw(network, process, shape, seeds, sampler, steps, **limits):
    places = {"sampler": sampler, "steps": steps, "device": "cpu"}
    return sample(process, network, shape, torch.tensor(seeds), **places, **limits)


def test_timesteps_are_evenly_spaced_for_every_number_of_steps():
    for steps in range(1, 1001):
        timesteps = sampling_timesteps(steps)
        assert timesteps == [floor(Fraction(1000 * k, steps) + Fraction(1, 2)) - 1 for k in range(steps, 0, -1)]
        assert len(set(timesteps)) == steps
        assert (timesteps[0], timesteps[-1] >= 0) == (999, True)


@pytest.mark.parametrize(("sampler", "steps", "off"), [
    ("ddpm", 1000, 0.015), ("ddim", 600, 0.015), ("dpmsolver++", 50, 0.01), ("dpmsolver++", 61, 0.01),
    ("unipc", 50, 0.01), ("unipc", 103, 0.01), ("unipc", 1000, 0.01),
])  # fmt: skip
@pytest.mark.parametrize("prediction", list(Prediction))
def test_the_best_denoiser_gives_samples_with_mean_and_deviation_of_the_data(sampler, steps, off, prediction):
    """61, 103 and 600 are numbers for which diffusers' own timesteps do not end at the data."""
    process = NoiseProcess(prediction)
    samples = draw(DATA.best_network(process), process, (5, 4000), [3, 4], sampler, steps)
    torch.testing.assert_close(samples.mean((0, 2)), DATA.mean[:, 0], atol=0.02, rtol=0)
    assert samples.std(2).mean().item() == pytest.approx(0.5, rel=off)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 600])
def test_ddim_is_the_recursion_of_its_paper_in_any_number_of_steps(steps):
    """x' = sqrt(abar') x_0 + sqrt(1 - abar') noise, both as predicted, in double precision."""
    process = NoiseProcess()
    kept = torch.cumprod(1 - process.betas, 0)
    x = torch.randn(5, 4000, generator=torch.Generator().manual_seed(8)).double()
    timesteps = sampling_timesteps(steps)
    for now, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        clean = DATA.best_clean(x, kept[now].sqrt(), (1 - kept[now]).sqrt())
        noise = (x - kept[now].sqrt() * clean) / (1 - kept[now]).sqrt()
        x = clean if following is None else kept[following].sqrt() * clean + (1 - kept[following]).sqrt() * noise
    samples = draw(DATA.best_network(process), process, (5, 4000), [8], "ddim", steps)
    torch.testing.assert_close(samples[0], x.float(), atol=2e-4, rtol=0)


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


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 4, 20])
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


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_item_is_bit_for_bit_the_same_alone_and_in_any_batch(sampler):
    process, network = NoiseProcess(), lambda x, t: (3 * x).tanh() * (t.view(-1, 1, 1) / 1000)
    together = draw(network, process, (3, 8), [11, 12, 13], sampler, 6)
    for seeds in ([12], [13, 11], [12, 12, 40, 11]):
        for place, item in enumerate(draw(network, process, (3, 8), seeds, sampler, 6)):
            if seeds[place] in (11, 12, 13):
                assert torch.equal(item, together[seeds[place] - 11])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_lower_precision_reaches_the_network_alone(sampler):
    process = NoiseProcess()
    exact = draw(DATA.best_network(process), process, (5, 4000), [0], sampler, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(draw(DATA.best_network(process), process, (5, 4000), [0], sampler, 6), exact)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_network_is_evaluated_once_a_step(sampler):
    network = torch.nn.Identity()
    with counted_evaluations(network) as batches:
        draw(lambda x, t: network(x), NoiseProcess(), (4,), [0, 1], sampler, 7)
    assert batches == [2] * 7
    network(torch.zeros(1))
    assert len(batches) == 7, "counting ends with the context"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_data_stay_within_a_known_limit(sampler):
    process = NoiseProcess()
    wild = lambda x, t: DATA.best_network(process)(x, t) * 0.5  # noqa: E731
    assert draw(wild, process, (5, 4000), [0], sampler, 5).abs().max() > 1
    assert draw(wild, process, (5, 4000), [0], sampler, 5, limit=1.0).abs().max() <= 1


def test_unknown_sampler_and_no_steps_are_refused_together_before_any_work():
    assert sampler_problems("ddim", 1) == sampler_problems("unipc", 1000) == []
    with pytest.raises(ValueError, match=r"sampler=euler: accepted are ddpm, ddim, .*steps=0: accepted are 1 to 1000"):
        draw(None, NoiseProcess(), (4,), [0], "euler", 0)
    assert "steps=1001" in sampler_problems("ddpm", 1001)[0]
