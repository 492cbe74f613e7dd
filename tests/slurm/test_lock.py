"""The lock: one holder at a time, a dead one leaves nothing behind, and one taken for dead does no more."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm.lock import Locked, LockLost, SubmissionLock

ROOT = Path(__file__).resolve().parents[2]
WORKER = """
import sys, time
from pathlib import Path
from slurm.lock import SubmissionLock
folder, counter = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(3):
    with SubmissionLock(folder) as lock:
        before = int(counter.read_text())
        time.sleep(0.02)
        lock.check()
        counter.write_text(str(before + 1))
"""
HOLDER = """
import sys, time
from pathlib import Path
from slurm.lock import SubmissionLock
SubmissionLock(Path(sys.argv[1])).__enter__()
print("held", flush=True)
time.sleep(600)
"""


def start(script, *words):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def test_processes_take_turns(tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")
    workers = [start(WORKER, tmp_path / "lock", counter) for _ in range(4)]
    assert [worker.wait(timeout=300) for worker in workers] == [0] * 4
    assert counter.read_text() == "12"


def test_a_living_holder_is_waited_for_and_named_and_a_dead_one_is_not(tmp_path):
    holder = start(HOLDER, tmp_path)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(Locked, match=rf"process {holder.pid} on"), SubmissionLock(tmp_path, patience_s=0.5):
        pass
    holder.kill()
    holder.wait()
    with SubmissionLock(tmp_path, patience_s=0.5, lease_s=600) as lock:
        lock.check()


def held_elsewhere(folder, **changes):
    """As if a process on another machine held the lock."""
    folder.mkdir(exist_ok=True)
    path = folder / "000007.json"
    path.write_text(
        json.dumps({"host": "another", "boot": "b", "namespace": "n", "process": 1, "birth": "1"} | changes)
    )
    return path


def test_a_silent_holder_elsewhere_is_dead_after_its_lease(tmp_path):
    held_elsewhere(tmp_path)
    with pytest.raises(Locked, match="process 1 on another"), SubmissionLock(tmp_path, patience_s=0.5, lease_s=60):
        pass
    with SubmissionLock(tmp_path, patience_s=60, lease_s=0.3) as lock:
        lock.check()


def test_a_number_without_content_is_a_process_that_died_creating_it(tmp_path):
    (tmp_path / "000001.json").write_text("")
    with SubmissionLock(tmp_path, patience_s=60, lease_s=0.3) as lock:
        lock.check()


def test_who_was_taken_for_dead_does_nothing_more(tmp_path):
    with SubmissionLock(tmp_path) as lock:
        lock.check()
        (tmp_path / "000002.json").write_text(json.dumps({"host": "another", "process": 5}))
        with pytest.raises(LockLost, match="process 5 on another took over"):
            lock.check()


def test_a_number_that_another_process_has_used_again_is_no_holder(tmp_path):
    """The process number 1 lives, but it is not the one that took the lock."""
    with SubmissionLock(tmp_path) as lock:
        here = json.loads((tmp_path / "000001.json").read_text())
        lock.check()
    (tmp_path / "000002.json").write_text(json.dumps(here | {"process": 1, "birth": "-1"}))
    began = time.monotonic()
    with SubmissionLock(tmp_path, patience_s=30, lease_s=600):
        assert time.monotonic() - began < 30
