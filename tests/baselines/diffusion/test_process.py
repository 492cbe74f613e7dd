"""The diffusion process against diffusers' schedulers, the closed form for normal data, and golden data."""

import numpy as np
import pytest
import torch
from gaussian_data import GaussianData
from golden import assert_golden, numbers

from baselines.diffusion import import_diffusers
from baselines.diffusion.process import (
    NoiseProcess,
    draw_integers,
    draw_noise,
    draw_seen,
    linear_betas,
    scaled_linear_betas,
)
from baselines.diffusion.settings import TIMESTEPS, Prediction, Weighting
from xinggan.distributed import Processes

SCHEDULES = [
    (linear_betas(), {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
    (scaled_linear_betas(), {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
]


@pytest.mark.parametrize(("betas", "named"), SCHEDULES, ids=["linear", "scaled_linear"])
def test_noise_is_mixed_in_as_by_diffusers(betas, named):
    scheduler = import_diffusers().DDPMScheduler(num_train_timesteps=TIMESTEPS, **named)
    clean, noise, timesteps = torch.randn(5, 3, 4, 2), torch.randn(5, 3, 4, 2), torch.tensor([0, 1, 300, 998, 999])
    for prediction in Prediction:
        process = NoiseProcess(prediction, betas)
        noised = process.noised(clean, noise, timesteps)
        torch.testing.assert_close(noised, scheduler.add_noise(clean, noise, timesteps), atol=2e-5, rtol=0)
    velocity = scheduler.get_velocity(clean, noise, timesteps)
    torch.testing.assert_close(process.target(clean, noise, timesteps), velocity, atol=2e-5, rtol=0)


@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("shape", [(), (3, 8, 4)])
def test_data_and_noise_come_back_from_a_right_prediction(prediction, shape):
    process = NoiseProcess(prediction)
    clean, noise, timesteps = torch.randn(4, *shape), torch.randn(4, *shape), torch.tensor([0, 250, 500, 750])
    noised, right = process.noised(clean, noise, timesteps), process.target(clean, noise, timesteps)
    torch.testing.assert_close(process.clean(right, noised, timesteps), clean, atol=1e-4, rtol=0)
    torch.testing.assert_close(process.noise(clean, noised, timesteps), noise, atol=1e-4, rtol=0)


@pytest.mark.parametrize("prediction", list(Prediction))
def test_loss_of_the_best_network_is_the_variance_that_is_left(prediction):
    """Var(noise | x_t) or Var(v | x_t), averaged over timesteps; and any other network loses more."""
    data = GaussianData(torch.linspace(-1, 1, 5), torch.linspace(0.2, 1.5, 5))
    process = NoiseProcess(prediction)
    kept = torch.cumprod(1 - linear_betas(), 0)[:, None]  # [T, 1]
    total = kept * data.deviation.double() ** 2 + 1 - kept  # variance of x_t
    left = {"epsilon": kept * data.deviation**2 / total, "v": data.deviation**2 / total}[prediction].mean().item()
    best, clean = data.best_network(process), data.draw(200_000)

    def loss(network):
        torch.manual_seed(0)
        return sum(process.terms(network, clean).values()).item()

    assert loss(best) == pytest.approx(left, rel=0.01)
    for worse in (lambda x, t: 0.8 * best(x, t), lambda x, t: best(x, t) + 0.2, lambda x, t: best(x, t.flip(0))):
        assert loss(worse) > 1.01 * loss(best)


@pytest.mark.parametrize("betas", [linear_betas(), scaled_linear_betas()], ids=["linear", "scaled_linear"])
def test_min_snr_counts_an_error_of_the_clean_data_alike_whatever_is_predicted_and_at_most_gamma(betas):
    kept = torch.cumprod(1 - betas, 0)
    ratio = kept / (1 - kept)
    closed = {
        "epsilon": torch.minimum(torch.ones(1), 5 / ratio),
        "v": torch.minimum(ratio, torch.tensor(5)) / (ratio + 1),
    }
    clean, noise = torch.randn(TIMESTEPS, 3, dtype=torch.float64), torch.randn(TIMESTEPS, 3, dtype=torch.float64)
    wrong, timesteps = clean + 0.1, torch.arange(TIMESTEPS)
    for prediction in Prediction:
        process = NoiseProcess(prediction, betas, weighting=Weighting.min_snr).double()
        process.signal_rate, process.noise_rate = kept.sqrt(), (1 - kept).sqrt()
        torch.testing.assert_close(process.loss_weight, closed[prediction].double(), rtol=1e-6, atol=0)
        target = process.target(clean, noise, timesteps)
        noised = process.noised(clean, noise, timesteps)
        for t in (0, 200, 500, 999):  # the prediction that stands for the wrong clean data
            at = torch.tensor([t])
            found = process.target(wrong[at], process.noise(wrong[at], noised[at], at), at)
            expected = min(ratio[t].item(), 5.0) * 0.1**2
            assert process.error(found, target[at], at).item() == pytest.approx(expected, rel=1e-5)


def test_weighting_is_part_of_the_loss_and_uniform_weights_are_ones():
    def loss(weighting):
        torch.manual_seed(0)
        terms = NoiseProcess("v", weighting=weighting).terms(lambda x, t: 0 * x, torch.ones(4000, 2))
        return sum(terms.values()).item()

    weights = NoiseProcess("v", weighting="min_snr").loss_weight
    assert (NoiseProcess("v").loss_weight == 1).all()
    assert loss("uniform") == pytest.approx(1, rel=0.05)  # of a prediction of 0 for data of 1: E v^2 = abar + 1 - abar
    assert loss("min_snr") == pytest.approx(weights.mean().item(), rel=0.05)


def test_several_processes_draw_what_one_would():
    def drawn(index, count):
        torch.manual_seed(3)
        with Processes(index, count).active():
            batch = torch.empty(6000 // count, 2)
            seen = draw_seen(batch, 0.1)
            return draw_integers(TIMESTEPS, batch), draw_noise(batch), seen.source, seen.pose

    alone = drawn(0, 1)
    for whole, *parts in zip(alone, drawn(0, 2), drawn(1, 2), strict=True):
        assert torch.equal(torch.cat(parts), whole)
    assert len(alone[0].unique()) > 900
    kept = [flags.float().mean().item() for flags in (alone[2], alone[3], alone[2] & alone[3])]
    assert kept == pytest.approx([0.9, 0.9, 0.81], abs=0.02), "source and pose go missing independently"
    assert draw_seen(torch.empty(1000, 2), 0.0).source.all()


def test_losses_and_steps_back_are_the_golden_ones_of_a_learnt_variance(shared):
    arrays = np.load(shared / "golden" / "pidm_process.npz")
    timesteps, clean = torch.tensor([0, 100, 500, 900]), numbers("process/clean", (4, 3, 8, 8), torch.rand) * 2 - 1
    noise = numbers("process/noise", (4, 3, 8, 8))
    output = 0.3 * numbers("process/prediction", (4, 6, 8, 8))
    output[:, :3] += noise
    process = NoiseProcess(learnt_variance=True)
    noised, (prediction, v) = process.noised(clean, noise, timesteps), process.split(output)
    found = process.clean(prediction, noised, timesteps).clamp(-1, 1)
    bound = process.variational_bound(clean, noised, timesteps, prediction, v)
    squared = (prediction - noise).square().flatten(1).mean(1)
    for value, name in (
        (noised, "noised"),
        (squared, "loss_mse"),
        (bound, "loss_vb"),
        (squared + bound, "loss_loss"),
        (found, "ddpm_pred_xstart"),
        (process.posterior_mean(found, noised, timesteps), "ddpm_mean"),
        (process.log_variance(v, timesteps), "ddpm_log_variance"),
    ):
        assert_golden(value, arrays[name])


def test_only_v_learns_from_the_variational_bound():
    process, clean = NoiseProcess(learnt_variance=True), torch.rand(6, 2, 4) * 2 - 1
    output = torch.randn(6, 4, 4, requires_grad=True)
    process.terms(lambda x, t: output, clean)["variational"].backward()
    assert not output.grad[:, :2].any() and output.grad[:, 2:].any()
