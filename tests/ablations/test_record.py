"""The run record: states, attempts, one process at a time, whole files."""

import json
import subprocess
import sys

import numpy as np
import pandas
import pytest

from ablations.record import RunBusy, RunRecord, environment


def test_states_follow_the_attempts(tmp_path):
    with RunRecord(tmp_path / "run") as record:
        assert record.status == {}
        assert record.begin("seed: 0\n", steps=5) == "new"
        assert record.status["state"] == "running"
        record.end("preempted")
        assert record.begin("seed: 0\n", steps=5) == "resumed"
        record.fail(ValueError("no such joint"))
        assert record.begin("seed: 0\n", steps=5) == "retried"
        assert record.status["error"] is None
        record.end("finished")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["attempts"], status["steps"], status["run_id"]) == ("finished", 3, 5, "run")


def test_a_finished_run_without_its_metrics_is_taken_up_again(tmp_path):
    with RunRecord(tmp_path) as record:
        record.begin("")
        record.end("finished")
        assert not record.finished
        (tmp_path / "metrics.json").write_text("[]")
        assert record.finished


def test_what_a_killed_attempt_left_half_written_is_removed(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    abandoned = tmp_path / "checkpoint" / ".step-00000010-0123456789abcdef.pt.77.part"
    abandoned.write_bytes(b"half")
    with RunRecord(tmp_path) as record:
        record.begin("")
    assert not abandoned.exists()


def test_environments_of_earlier_attempts_elsewhere_are_kept(tmp_path, monkeypatch):
    import ablations.record

    for commit in ("a", "a", "b"):
        monkeypatch.setattr(ablations.record, "environment", lambda commit=commit: {"commit": commit})
        with RunRecord(tmp_path) as record:
            record.begin("")
    assert json.loads((tmp_path / "environment.json").read_text()) == {"commit": "b", "earlier": [{"commit": "a"}]}


def test_a_failure_keeps_its_traceback(tmp_path):
    with RunRecord(tmp_path) as record:
        record.begin("")
        try:
            raise ValueError("no such joint")
        except ValueError as error:
            record.fail(error)
    assert "no such joint" in record.status["error"]
    assert "test_record.py" in record.status["error"]


def test_a_run_is_worked_on_by_one_process_and_a_dead_one_leaves_no_lock(tmp_path):
    hold = (
        "import sys, time; sys.path.insert(0, '.')\nfrom pathlib import Path\nfrom ablations.record import RunRecord\n"
    )
    hold += f"record = RunRecord(Path({str(tmp_path)!r})).__enter__()\nprint('held', flush=True)\ntime.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RunBusy, match="another process"), RunRecord(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with RunRecord(tmp_path) as record:
        assert record.begin("") == "new"


def test_a_status_file_that_is_no_json_counts_as_no_attempt(tmp_path):
    (tmp_path / "status.json").write_text("{")
    assert RunRecord(tmp_path).status == {}


def test_metrics_are_written_with_their_pairs(tmp_path, people):
    pairs = np.arange(3)
    value = {"metric": "ssim", "value": 0.5, "protocol": {"name": "clean"}, "n": 3, "unavailable_because": None}
    RunRecord(tmp_path).write_metrics([value], {"ssim": np.array([0.4, 0.5, 0.6])}, pairs, people.test)
    assert json.loads((tmp_path / "metrics.json").read_text()) == [value]
    table = pandas.read_parquet(tmp_path / "per_image.parquet")
    assert table["value"].tolist() == [0.4, 0.5, 0.6]
    assert table["pair_id"].tolist() == [people.test.pair_id(i) for i in range(3)]
    assert table["identity"].tolist() == people.test.identities[people.test.pairs[:3, 0]].tolist()


def test_environment_names_versions_and_cpu():
    found = environment()
    assert found["packages"]["torch"].startswith("2.")
    assert found["cpu"]
    assert found["threads"] >= 1
