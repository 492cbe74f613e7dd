"""What is measured in a scenario's turns; in which order processes have theirs is tried in test_turns."""

import pytest
import torch

from xinggan.model.from_settings import build
from xinggan.timing.measurement import STAGES, Measurement, measure_here
from xinggan.timing.scenario import Task

PIDM = {
    "_target_": "baselines.diffusion.pidm.PIDM", "_settings_": "baselines.diffusion.settings.PIDMSettings",
    "width": 4, "multipliers": [1, 2], "level_blocks": 1,
    "attention_levels": 1, "steps": 2, "sampler": "ddim", "guidance_source": 2.0,
}  # fmt: skip


def task(people, kind="inference", **circumstances):
    return Task(kind, "pidm", PIDM, str(people.directory), "cpu", batch=2, **circumstances)


@pytest.fixture
def measurement(people):
    def built(*arguments, **circumstances):
        made = Measurement(task(people, *arguments, **circumstances))
        made.build()
        return made

    return built


def test_a_scenario_has_raw_samples_of_the_call_at_the_sweep_s_sampler_and_steps(measurement):
    made = measurement(precision="bf16", sampler="unipc", sampling_steps=3)
    made.first()
    assert (made.method.settings.sampler, made.method.settings.steps, made.method.precision) == ("unipc", 3, "bf16")
    scenario = made.scenario
    assert scenario.evaluations == 3 * 2  # two branches of guidance
    assert scenario.attention_kernels and all("scaled_dot_product" in name for name in scenario.attention_kernels)
    assert scenario.memory_of == "process" and scenario.peak_memory_mb > 0 and scenario.first_call_ms > 0
    for calls in (2, 1):
        made.round(seconds=60.0, calls=calls)
    assert scenario.rounds == [2, 1] and len(scenario.samples_ms) == 3 and min(scenario.samples_ms) > 0
    assert scenario.joules_per_image is None and "NVIDIA" in scenario.energy_unavailable_because


def test_energy_is_divided_among_all_images_of_the_rounds(measurement, monkeypatch):
    made = measurement()
    readings = iter([100.0, 112.0, 120.0, 132.0])  # before and after two rounds
    monkeypatch.setattr(made._energy, "joules", lambda: next(readings))
    for calls in (2, 1):
        made.round(seconds=60.0, calls=calls)
    assert made.scenario.joules_per_image == 24.0 / (3 * 2)


def test_a_training_sample_is_a_step_in_each_stage_of_the_training(measurement):
    made = measurement("training", training_steps=40, decay_steps=20)
    steps = []
    training_step = made.method.training_step
    made.method.training_step = lambda batch, step: steps.append((len(batch), step)) or training_step(batch, step)
    made.round(seconds=0.0, calls=5)
    (stages,) = made.scenario.stage_ms
    assert len(stages) == STAGES and made.scenario.samples_ms == [pytest.approx(sum(stages) / STAGES)]
    assert steps[-STAGES:] == [(2, 5), (2, 15), (2, 25), (2, 35)]


def test_training_is_measured_on_few_pairs_for_latent_methods_encode_the_images_of_all(people, measurement):
    made = measurement("training", training_steps=40, decay_steps=20)
    assert len(people.train) > 2 * STAGES == len(made.method.train_split)


@pytest.mark.parametrize(
    ("kind", "network"), [("inference", "embedded"), ("counts", "embedded"), ("training", "untrained")]
)
def test_a_method_is_measured_without_a_file_of_weights_that_losses_need(people, kind, network):
    """A GAN of the published settings is timed where VGG19 can be neither found nor downloaded, and trains with it."""
    settings = {
        "_target_": "xinggan.model.generator.XingGAN", "_settings_": "xinggan.model.switches.XingGANSettings",
        "width": 8, "blocks": 1, "losses": {"perceptual_network": "vgg19"},
    }  # fmt: skip
    made = Measurement(Task(kind, "xinggan", settings, str(people.directory), "cpu", training_steps=8, decay_steps=4))
    made.build()
    assert list(made.method.networks) == [network]
    made.first()


def test_a_long_call_needs_no_other_before_a_round(measurement, monkeypatch):
    made = measurement()
    made.scenario.first_call_ms = 6000.0
    calls = []
    made.calls = [lambda: calls.append("made")]
    made.round(seconds=0.0, calls=1)
    assert len(calls) == 1
    made.round(seconds=0.0, calls=1)  # the first sample was short
    assert len(calls) == 3


def test_counts_are_counted_without_timing(measurement):
    made = measurement("counts")
    made.first()
    assert made.scenario.counts["parameters"] > 0 and made.scenario.counts["macs_per_image"] > 0
    assert made.scenario.samples_ms == [] and made.scenario.first_call_ms is None


@pytest.mark.parametrize(("mode", "expected"), [("compiled", None), ("cudagraph", "reduce-overhead")])
def test_source_encoder_and_denoiser_are_compiled_alike(measurement, monkeypatch, mode, expected):
    made = measurement(mode=mode)
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, mode: compiled.append((module, mode)))
    made.first()
    assert compiled == [(made.method.source_encoder, expected), (made.method.denoiser, expected)]
    assert made.scenario.evaluations == 2 * 2


def test_a_method_is_measured_as_it_stands_in_the_process_that_holds_it(people):
    method = build(PIDM | {"steps": 1}, "method")
    scenario = measure_here(task(people), method, people, seconds=0.0, calls=20, least=5)
    assert len(scenario.samples_ms) == 5 and scenario.first_call_ms > 0 and scenario.evaluations == 2
    assert scenario.peak_memory_mb is None  # of a process that did other things before
