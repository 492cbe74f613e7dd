"""Scenarios take turns: never two at once, all raw samples kept, and what fails is a row with its reason."""

import json
import sys

import pytest

from xinggan.timing.scenario import REPEATS_WITHIN, halves_differ_by, noise_verdict
from xinggan.timing.task import Task, impossible
from xinggan.timing.turns import Pace, measure_together

# A worker without torch: what it does is said by the method's name. It notes when each of its turns begins and ends.
WORKER = """
import json, os, signal, sys, time
task = json.loads(sys.stdin.readline())
name, log, rounds = task["method"], os.environ["TURNS"], 0

def note(what, when):
    with open(log, "a") as file:
        file.write(json.dumps([name, what, when]) + "\\n")

for line in sys.stdin:
    what = json.loads(line)["do"]
    note(what, "begins")
    time.sleep(0.01)
    answer = {"energy_unavailable_because": "none here"}
    if what == "build":
        answer = {"device_name": "a device", "threads": 3}
    if what == "first":
        answer = {"first_call_ms": 9.0, "evaluations": 1, "peak_memory_mb": 5.0, "memory_of": "device"}
        if name == "refuses":
            answer = {"unavailable_because": "out of memory: 3 GB"}
        if name == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "crashes":
            sys.exit("Traceback ...\\nfatal: it crashed")
        if name == "silent":
            time.sleep(60)
    if what == "round":
        rounds += 1
        drift = 2.0 * (rounds > 2) if name == "drifts" else 0.0
        answer = {"samples": [[[10.0 * rounds + drift, 1.0]], [[10.0 * rounds + 1, None]]], "joules": 6.0}
        if name != "counts up":
            answer["samples"] = [[[10.0 + 10 * drift, 1.0]]] * 2
    note(what, "ends")
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def turns(tmp_path, monkeypatch):
    """Workers are the script above; gives the file that they note their turns in."""
    (tmp_path / "worker.py").write_text(WORKER)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} -S {tmp_path / 'worker.py'}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("TURNS", str(tmp_path / "turns.jsonl"))
    return tmp_path / "turns.jsonl"


def task(name, **others):
    return Task("inference", name, {}, "data", "cpu", **others)


def test_processes_take_turns_and_never_work_at_the_same_time(turns):
    names = ["first", "second", "third"]
    measure_together([task(name) for name in names], Pace(rounds=3))
    noted = [json.loads(line) for line in turns.read_text().splitlines()]
    names.append("yardstick")
    worked = [row for row in noted if row[1] in ("first", "round")]
    assert all(begin[:2] == end[:2] and end[2] == "ends" for begin, end in zip(worked[::2], worked[1::2], strict=True))
    rounds = [name for name, what, when in worked if (what, when) == ("round", "begins")]
    assert [sorted(rounds[start : start + 4]) for start in (0, 4, 8)] == [sorted(names)] * 3
    assert len({tuple(rounds[start : start + 4]) for start in (0, 4, 8)}) == 3  # no method always goes first


def test_every_sample_is_kept_with_its_round(turns):
    (measured,) = measure_together([task("counts up", batch=2)], Pace(rounds=1))
    scenario = measured.scenario
    assert (scenario.samples_ms, scenario.rounds) == ([10.0, 11.0], [2])
    assert (scenario.device, scenario.threads, scenario.first_call_ms) == ("a device", 3, 9.0)
    assert scenario.device_ms == [1.0]
    assert scenario.joules_per_image == 6.0 / 4
    assert scenario.energy_unavailable_because == "none here"
    assert scenario.yardstick_ms == 10.0


def test_what_fails_is_a_row_with_its_reason_and_holds_nobody_up(turns):
    names = ["refuses", "killed", "crashes", "works"]
    found = measure_together([task(name) for name in names], Pace(rounds=2))
    reasons = {one.task.method: one.scenario.unavailable_because for one in found}
    assert reasons["refuses"] == "out of memory: 3 GB"
    assert "signal 9" in reasons["killed"]
    assert reasons["crashes"] == "fatal: it crashed"
    assert reasons["works"] is None
    assert [len(one.scenario.samples_ms) for one in found] == [0, 0, 0, 4]


def test_a_process_that_does_not_answer_is_given_up(turns):
    (silent,) = measure_together([task("silent")], Pace(answer_s=1))
    assert silent.scenario.unavailable_because == "no answer within 1 s"


def test_while_the_halves_disagree_there_are_more_rounds(turns):
    quiet, drifting = measure_together([task("works"), task("drifts")], Pace(rounds=4))
    assert len(drifting.scenario.rounds) == len(quiet.scenario.rounds) == 8


def test_what_is_being_done_is_told(turns):
    told = []
    measure_together([task("one"), task("other")], Pace(rounds=1), tell=told.append)
    assert [line.split(",")[0] for line in told[:2]] == ["one", "other"]
    assert all(line.endswith("first calls") for line in told[:2])
    assert told[3].endswith("and 2 more: round 1")  # the yardstick is one of them


def test_a_group_of_which_nothing_is_left_is_measured_at_once(turns):
    assert measure_together([], Pace(rounds=2)) == []


def test_being_stopped_between_turns_ends_all_processes(turns):
    def check():
        if '"round"' in turns.read_text():
            raise KeyboardInterrupt

    turns.touch()
    with pytest.raises(KeyboardInterrupt):
        measure_together([task("first"), task("second")], Pace(rounds=3), check)
    assert turns.read_text().count('"round", "ends"') == 1


def test_a_cuda_graph_without_such_a_device_is_refused_before_a_process_is_started(turns):
    (measured,) = measure_together([task("works", mode="cudagraph")], Pace())
    assert "NVIDIA" in measured.scenario.unavailable_because
    assert not turns.exists()
    assert impossible(Task("inference", "x", {}, "data", "cuda:0", mode="cudagraph")) is None
    assert impossible(Task("training", "x", {}, "data", "cuda:0", mode="cudagraph")) is not None


def test_halves_are_the_earlier_and_the_later_rounds():
    assert halves_differ_by([10, 10, 10, 12, 12, 12], [1, 2, 3]) == pytest.approx(0.2)
    assert halves_differ_by([10, 12, 10, 12], [2, 2]) == 0
    assert halves_differ_by([10, 20], [2]) is None


def test_the_verdict_counts_what_differs_by_more_than_the_limit():
    scenarios = [{"halves_differ_by": value} for value in (None, 0.01, REPEATS_WITHIN, 0.4)]
    verdict = noise_verdict(scenarios)
    assert verdict["too_noisy"] and (verdict["judged"], verdict["unsteady"], verdict["worst"]) == (3, 1, 0.4)
    assert "1 of 3" in verdict["says"] and "40%" in verdict["says"]
    assert not noise_verdict(scenarios[:3])["too_noisy"]
    assert noise_verdict([])["says"].startswith("not judged")


def test_a_machine_that_became_slower_between_scenarios_is_too_noisy_however_steady_each_was():
    scenarios = [{"halves_differ_by": 0.01, "yardstick_ms": value} for value in (5.0, 5.4, None)]
    assert not noise_verdict(scenarios)["too_noisy"]
    verdict = noise_verdict([*scenarios, {"halves_differ_by": 0.02, "yardstick_ms": 6.0}])
    assert verdict["too_noisy"] and verdict["machine_differs_by"] == pytest.approx(0.2)
    assert "up to 20% slower" in verdict["says"]
