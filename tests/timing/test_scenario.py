"""A scenario keeps its raw samples, and whether the machine was quiet enough is judged from them."""

import numpy as np
import pytest

from xinggan.timing.scenario import REPEATS_WITHIN, Scenario, Task, noise_verdict, print_timing


def scenario(samples=(), rounds=(), **others):
    made = Scenario("inference", "xinggan", "cpu", "fp32", 4, 128, 64, **others)
    made.samples_ms, made.rounds = list(samples), list(rounds)
    return made


def test_percentiles_come_from_the_raw_samples():
    samples = [float(value) for value in range(1, 101)]
    record = scenario(samples).record()
    assert record["samples_ms"] == samples
    assert record["median_ms"] == np.percentile(samples, 50)
    assert record["p95_ms"] == np.percentile(samples, 95)
    assert record["images_per_second"] == pytest.approx(4 * 1000 / 50.5)
    record = scenario(unavailable_because="out of memory").record()
    assert (record["median_ms"], record["unavailable_because"]) == (None, "out of memory")


@pytest.mark.parametrize(
    ("samples", "rounds", "expected"),
    [([10, 10, 10, 12, 12, 12], [1, 2, 3], 0.2), ([10, 12, 10, 12], [2, 2], 0.0), ([10, 20], [2], None)],
)
def test_halves_are_the_earlier_and_the_later_rounds(samples, rounds, expected):
    assert scenario(samples, rounds).halves_differ_by == (None if expected is None else pytest.approx(expected))


def test_too_noisy_is_a_scenario_that_differs_by_more_than_the_limit_or_a_machine_that_became_slower():
    scenarios = [{"halves_differ_by": value} for value in (None, 0.01, REPEATS_WITHIN, 0.4)]
    verdict = noise_verdict(scenarios)
    assert verdict["too_noisy"] and (verdict["judged"], verdict["unsteady"], verdict["worst"]) == (3, 1, 0.4)
    assert "1 of 3" in verdict["says"] and "40%" in verdict["says"]
    assert not noise_verdict(scenarios[:3])["too_noisy"]
    assert noise_verdict([])["says"].startswith("not judged")
    scenarios = [{"halves_differ_by": 0.01, "control_ms": value} for value in (5.0, 5.4, None)]
    assert not noise_verdict(scenarios)["too_noisy"]
    verdict = noise_verdict([*scenarios, {"halves_differ_by": 0.02, "control_ms": 6.0}])
    assert verdict["too_noisy"] and verdict["machine_differs_by"] == pytest.approx(0.2)
    assert "up to 20% slower" in verdict["says"]


@pytest.mark.parametrize(
    ("kind", "device", "because"),
    [("inference", "cpu", "NVIDIA"), ("training", "cuda:0", "not one fixed graph"), ("inference", "cuda:0", None)],
)
def test_what_a_cuda_graph_cannot_be_made_of_is_known_beforehand(kind, device, because):
    impossible = Task(kind, "x", {}, "data", device, mode="cudagraph").impossible
    assert impossible is None if because is None else because in impossible


def test_the_table_has_every_scenario_with_its_numbers_or_the_reason_and_what_was_counted(capsys):
    timed = scenario([250.0, 250.0], [2], peak_memory_mb=123.4).record()
    failed = scenario(unavailable_because="out of memory", sampler="ddim", sampling_steps=20).record()
    print_timing({"ours": {"scenarios": [timed, failed], "parameters": 12345, "macs_per_image": 2.5e9}})
    out = capsys.readouterr().out
    heads, row = out.splitlines()[1:3]
    assert "median ms" in heads and "images/s" in heads
    assert {"ours", "inference", "fp32", "eager", "250", "16", "123"} <= set(row.split())
    assert "ours: 12,345 parameters, 2.5 GMACs per image" in out
    assert "unavailable: ours, inference ddim 20 fp32 eager batch 4: out of memory" in out
    assert "noise: not judged" in out


def test_ratios_are_those_of_medians_under_the_same_circumstances(capsys):
    def timing(ms, evaluations, precision="fp32"):
        one = scenario([ms, ms, ms], [3], evaluations=evaluations).record() | {"precision": precision}
        return {"scenarios": [one, scenario([1.0], [1], sampler="ddim", sampling_steps=1).record()]}

    print_timing({"ours": timing(200.0, 1), "pidm": timing(9000.0, 100), "other": timing(10.0, 1, precision="bf16")})
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("times as fast")]
    assert line == "times as fast as pidm (100 evaluations an image), fp32 eager, batch 4: ours 45 (1 evaluation)"
