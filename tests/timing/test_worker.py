"""What a worker does in its turns; who tells it to is tried in test_turns."""

import pytest
import torch

from xinggan.timing.calls import STAGES
from xinggan.timing.task import Task
from xinggan.timing.worker import Measurement, reason

PIDM = {
    "_target_": "baselines.diffusion.pidm.PIDM", "width": 4, "multipliers": [1, 2], "level_blocks": 1,
    "attention_levels": 1, "steps": 2, "sampler": "ddim", "guidance_source": 2.0, "guidance_pose": 2.0,
}  # fmt: skip


@pytest.fixture
def measurement(people):
    def build(**circumstances):
        kind = circumstances.pop("kind", "inference")
        made = Measurement(Task(kind, "pidm", PIDM, str(people.directory), "cpu", batch=2, **circumstances))
        made.build()
        return made

    return build


def test_a_round_gives_raw_samples_of_the_call_at_the_sweep_s_sampler_and_steps(measurement):
    made = measurement(sampler="unipc", sampling_steps=3)
    first = made.first()
    assert (made.method.sampler, made.method.steps) == ("unipc", 3)
    assert first["evaluations"] == 3 * 3  # three branches of guidance
    assert all(name.startswith("_scaled_dot_product") for name in first["attention_kernels"])
    assert first["memory_of"] == "process" and first["peak_memory_mb"] > 0 and first["first_call_ms"] > 0
    answer = made.round(seconds=60.0, calls=2)
    assert [len(sample) for sample in answer["samples"]] == [1, 1]
    assert answer["joules"] is None


def test_a_training_sample_is_a_step_in_each_stage_of_the_training(measurement):
    made = measurement(kind="training", training_steps=40, decay_steps=20)
    steps = []
    training_step = made.method.training_step
    made.method.training_step = lambda batch, step: steps.append((len(batch), step)) or training_step(batch, step)
    (sample,) = made.round(seconds=0.0, calls=5)["samples"]
    assert len(sample) == STAGES and all(wall_ms > 0 for wall_ms, _ in sample)
    assert [step for _, step in steps[-STAGES:]] == [5, 15, 25, 35]


def test_counts_are_counted_without_timing(measurement):
    counted = measurement(kind="counts").first()
    assert counted["parameters"] > 0 and counted["macs_per_image"] > 0


@pytest.mark.parametrize(("mode", "expected"), [("compiled", None), ("cudagraph", "reduce-overhead")])
def test_source_encoder_and_denoiser_are_compiled_alike(measurement, monkeypatch, mode, expected):
    made = measurement(mode=mode)
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, mode: compiled.append((module, mode)))
    made._compile()
    assert compiled == [(made.method.source_encoder, expected), (made.method.denoiser, expected)]
    assert made.evaluations == 2 * 3


def test_bf16_is_the_method_s_precision(measurement):
    assert measurement(precision="bf16").method.precision == "bf16"


def test_reasons_are_one_line():
    assert reason(ValueError("method.steps=0: accepted are 1 to 1000\nmore")) == (
        "ValueError: method.steps=0: accepted are 1 to 1000"
    )
    assert reason(torch.OutOfMemoryError("Tried to allocate 3 GiB")) == "out of memory: Tried to allocate 3 GiB"
