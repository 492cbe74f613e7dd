"""Timing in one process keeps what it saw, and the benchmark of single steps goes on after failures."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from xinggan.model.generator import XingGenerator
from xinggan.model.switches import Architecture, Attention, Scale
from xinggan.model.xing import XingGAN
from xinggan.timing.calls import time_inference
from xinggan.timing.scenario import Scenario
from xinggan.timing.step import architecture_of
from xinggan.timing.step import main as step_main


def test_percentiles_come_from_the_raw_samples():
    samples = [float(value) for value in range(1, 101)]
    record = Scenario("inference", "xinggan", "cpu", "fp32", 4, 128, 64, samples_ms=samples).record()
    assert record["samples_ms"] == samples
    assert record["median_ms"] == np.percentile(samples, 50)
    assert record["p95_ms"] == np.percentile(samples, 95)
    assert record["images_per_second"] == pytest.approx(4 * 1000 / 50.5)


def test_a_scenario_without_samples_has_nulls_and_a_reason():
    record = Scenario("training", "x", "cpu", "fp32", 4, 128, 64, unavailable_because="out of memory").record()
    assert record["median_ms"] is None
    assert record["unavailable_because"] == "out of memory"


def test_inference_is_timed_on_real_pairs_with_the_first_call_apart(people):
    scenario = time_inference(XingGAN(Architecture(blocks=1, width=4)), "xinggan", people.test, "cpu", batch=2)
    assert scenario.first_call_ms > 0
    assert len(scenario.samples_ms) >= 5
    assert (scenario.height, scenario.width, scenario.batch, scenario.mode) == (32, 16, 2, "eager")
    assert scenario.evaluations == 1


def saved_bytes(scale, attention):
    """Bytes that autograd keeps for the backward pass of a generator at DeepFashion's size."""
    generator = XingGenerator(Architecture(scale, attention, blocks=2, width=4, candidates=1))
    held = {}

    def keep(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    image, maps = torch.rand(1, 3, 256, 176), torch.rand(1, 18, 256, 176)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = generator(image, maps, maps)
    output.sum()
    return sum(held.values())


@pytest.mark.parametrize("scale", Scale)
@pytest.mark.parametrize("attention", [Attention.plain, Attention.enhanced])
def test_the_backward_pass_at_256x176_keeps_no_weights_of_all_to_all(scale, attention):
    """Four attentions of 64 x 44 positions each; EA's inner one, of as many keys, kept them twice before its kernel."""
    all_to_all = 4 * (64 * 44) ** 2  # bytes of one attention's weights
    assert saved_bytes(scale, attention) < 2 * all_to_all


def test_the_step_benchmark_prints_a_row_a_variant_and_names_what_it_cannot_run():
    command = [sys.executable, "-m", "xinggan.timing.step", "--height=32", "--width=16", "--steps=1"]
    done = subprocess.run([*command, "width=4,blocks=1,tie_projections=true"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith("width=4,blocks=1")
    refused = subprocess.run([*command, "colour=red"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert "accepted keys are scale" in refused.stdout


def test_the_step_benchmark_goes_on_after_a_process_that_died_silently(tmp_path, monkeypatch, capsys):
    python = tmp_path / "python"
    python.write_text(
        """#!/bin/sh
case "$*" in
  *blocks=1*) kill -9 $$ ;;
  *blocks=2*) exit 3 ;;
esac
echo '["blocks=3", 10, 20, 30, 40]'
"""
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert step_main(["blocks=1", "blocks=2", "blocks=3"]) == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        "blocks=1  failed: killed by signal 9",
        "blocks=2  failed: exit 3",
        "blocks=3  10  20  30  40",
    ]


def test_a_switch_of_a_variant_is_true_or_false():
    assert architecture_of("tie_projections=false", Architecture).tie_projections is False
    with pytest.raises(ValueError, match="'tie_projections=no': accepted values are true and false"):
        architecture_of("tie_projections=no", Architecture)
