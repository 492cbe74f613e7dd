"""Scenarios take turns: never two at once, all raw samples kept, and what fails is a row with its reason."""

import json
import sys

import pytest

from xinggan.timing.scenario import Task
from xinggan.timing.turns import Pace, measure_together

# A process without torch: what it does is said by the method's name. It notes when each of its turns begins and ends.
WORKER = """
import json, os, signal, sys, time
task = json.loads(sys.stdin.readline())
name, log = task["method"], os.environ["TURNS"]
same = ("kind", "method", "precision", "batch", "height", "width")
scenario = {key: task[key] for key in same} | {"device": "a device", "samples_ms": [], "rounds": []}

def note(what, when):
    with open(log, "a") as file:
        file.write(json.dumps([name, what, when]) + "\\n")

for line in sys.stdin:
    what = json.loads(line)["turn"]
    note(what, "begins")
    time.sleep(0.01)
    if what == "first":
        scenario["first_call_ms"] = 9.0
        if name == "refuses":
            scenario["unavailable_because"] = "out of memory: 3 GB"
        if name == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "crashes":
            sys.exit("Traceback ...\\nfatal: it crashed")
        if name == "silent":
            time.sleep(60)
    if what == "round":
        scenario["rounds"].append(2)
        slower = 20.0 if name == "drifts" and len(scenario["rounds"]) > 2 else 0.0
        scenario["samples_ms"] += [10.0 + slower] * 2
    note(what, "ends")
    print(json.dumps(scenario), flush=True)
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
    names.append("control workload")
    worked = [row for row in noted if row[1] in ("first", "round")]
    assert all(begin[:2] == end[:2] and end[2] == "ends" for begin, end in zip(worked[::2], worked[1::2], strict=True))
    rounds = [name for name, what, when in worked if (what, when) == ("round", "begins")]
    assert [sorted(rounds[start : start + 4]) for start in (0, 4, 8)] == [sorted(names)] * 3
    assert len({tuple(rounds[start : start + 4]) for start in (0, 4, 8)}) == 3  # no method always goes first


def test_the_scenario_is_what_its_process_measured_beside_the_control_workload(turns):
    told = []
    (scenario,) = measure_together([task("works", batch=2)], Pace(rounds=1), tell=told.append)
    assert told[0] == "works, inference, fp32 eager, batch 2: first calls"
    assert told[2].endswith("and 1 more: round 1")  # the control workload
    assert (scenario.samples_ms, scenario.rounds, scenario.batch) == ([10.0, 10.0], [2], 2)
    assert (scenario.device, scenario.first_call_ms, scenario.control_ms) == ("a device", 9.0, 10.0)


def test_what_fails_is_a_row_with_its_reason_and_holds_nobody_up(turns):
    names = ["refuses", "killed", "crashes", "works"]
    found = measure_together([task(name) for name in names], Pace(rounds=2))
    reasons = {one.method: one.unavailable_because for one in found}
    assert reasons["refuses"] == "out of memory: 3 GB"
    assert "signal 9" in reasons["killed"]
    assert reasons["crashes"] == "fatal: it crashed"
    assert reasons["works"] is None
    assert [len(one.samples_ms) for one in found] == [0, 0, 0, 4]


def test_a_process_that_does_not_answer_is_given_up(turns):
    (silent,) = measure_together([task("silent")], Pace(answer_s=1))
    assert silent.unavailable_because == "no answer within 1 s"


def test_while_the_halves_disagree_there_are_more_rounds(turns):
    quiet, drifting = measure_together([task("works"), task("drifts")], Pace(rounds=4))
    assert len(drifting.rounds) == len(quiet.rounds) == 8


def test_being_stopped_between_turns_ends_all_processes(turns):
    def check():
        if '"round"' in turns.read_text():
            raise KeyboardInterrupt

    turns.touch()
    with pytest.raises(KeyboardInterrupt):
        measure_together([task("first"), task("second")], Pace(rounds=3), check)
    assert turns.read_text().count('"round", "ends"') == 1


def test_a_cuda_graph_without_such_a_device_is_refused_before_a_process_is_started(turns):
    (scenario,) = measure_together([task("works", mode="cudagraph")], Pace())
    assert "NVIDIA" in scenario.unavailable_because
    assert measure_together([], Pace()) == []
    assert not turns.exists()
