"""Asking SLURM: answers are read as they are, and each way of not answering has its own clear message."""

import os
import time

import pytest

from slurm import queue
from slurm.queue import ClusterError, NoAccounting, ask, endings, seconds, slurm_queue

REFUSALS = [
    ("squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)", "slurmctld"),
    ("sbatch", "sbatch: error: Batch job submission failed: Invalid partition name specified", "no such partition"),
    ("sbatch", "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates "
     "accounting/QOS policy (job submit limit, user's size and/or time limits)", "takes no more jobs now"),
    ("sbatch", "sbatch: error: QOSMaxWallDurationPerJobLimit\nsbatch: error: Batch job submission failed: Job violates "
     "accounting/QOS policy (job submit limit, user's size and/or time limits)", "asks for more time"),
    ("sbatch", "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", "takes no more"),
    ("sbatch", "sbatch: error: Batch job submission failed: Requested node configuration is not available",
     "no node offers"),
    ("sbatch", "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
     "not open to you"),
    ("sacct", "Slurm accounting storage is disabled", "slurmdbd"),
    ("sacct", "sacct: error: slurm_persist_conn_open_without_init: failed to open persistent connection to "
     "localhost:6819: Connection refused", "slurmdbd"),
]  # fmt: skip


@pytest.fixture
def pretend(tmp_path, monkeypatch):
    """Puts a program of this name first on the path: it runs the given lines of shell."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def install(name, lines):
        (tmp_path / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / name).chmod(0o755)

    return install


@pytest.mark.parametrize(("program", "said", "told"), REFUSALS)
def test_what_slurm_refuses_is_quoted_and_explained(pretend, program, said, told):
    pretend(program, f"cat >&2 <<'END'\n{said}\nEND\nexit 1")
    with pytest.raises(NoAccounting if program == "sacct" else ClusterError, match=told) as caught:
        ask(program)
    assert said.splitlines()[-1].split(": ")[-1] in str(caught.value)


def test_no_answer_ends_after_the_limit_with_what_was_said_until_then(pretend, monkeypatch):
    pretend("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; sleep 600")
    began = time.monotonic()
    with pytest.raises(ClusterError, match=r"no answer within 1 s.*slurmctld"):
        ask("squeue", limit_s=1)
    pretend("sacct", "sleep 600")
    monkeypatch.setattr(queue, "ACCOUNTING_LIMIT_S", 1)
    with pytest.raises(NoAccounting, match=r"no answer within 1 s.*slurmdbd"):
        endings(["17_3"])
    assert time.monotonic() - began < 60


def test_a_missing_command_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match=r"squeue is not installed here. is this a machine of a SLURM cluster"):
        slurm_queue()
    with pytest.raises(NoAccounting, match=r"sacct is not installed here. .*slurmdbd"):
        endings(["17_3"])


def test_the_queue_is_read_task_by_task_and_banners_are_not(pretend):
    lines = "Maintenance on Sunday\nxg-a-0|17|3|RUNNING|n2|None|58:55\n"
    lines += "other|18|N/A|PENDING||JobHeldUser|N/A\nheld|19|N/A|REQUEUE_HOLD||job_requeued_in_held_state|N/A\n"
    lines += "a|b|17|4|RUNNING|n|x|y"
    pretend("squeue", f"cat <<'END'\n{lines}\nEND")
    first, *others = slurm_queue()
    assert (first.name, first.task, first.identifier, first.node) == ("xg-a-0", 3, "17_3", "n2")
    assert (first.word, first.left) == ("running", "58:55")
    assert [(job.task, job.identifier, job.word) for job in others] == [(0, "18", "held"), (0, "19", "held")]


def test_what_the_environment_says_does_not_narrow_the_question(pretend, monkeypatch, tmp_path):
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    pretend("squeue", f'echo "$@" > {tmp_path}/asked; echo "name$SQUEUE_STATES|17|N/A|PENDING|$SLURM_CONF||"')
    (job,) = slurm_queue()
    assert (job.name, job.node) == ("name", "/etc/slurm/slurm.conf")
    asked = (tmp_path / "asked").read_text().split()
    assert f"--user={os.getuid()}" in asked
    assert "--me" not in asked  # older versions do not know it


def test_accounting_tells_the_last_end_also_before_a_requeue_and_of_tasks_that_never_began(pretend):
    lines = "JobID|State|NodeList\n17_3|PREEMPTED|n1\n17_3|RUNNING|n2\n17_4|CANCELLED by 0|n3\n"
    lines += "17_[6-7,9%2]|CANCELLED by 0|None assigned"
    pretend("sacct", f"cat <<'END'\n{lines}\n18|FAILED|n1\nEND")
    found = endings(["17_3", "17_4", "18"])
    assert found["17_3"] == ("PREEMPTED", "n1")
    assert {task for task, (state, _) in found.items() if state == "CANCELLED"} == {"17_4", "17_6", "17_7", "17_9"}
    assert found["18"] == ("FAILED", "n1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0:07", 7), ("1:02:03", 3723), ("2-00:00:01", 172801), ("UNLIMITED", float("inf")), ("", float("inf"))],
)
def test_durations(text, expected):
    assert seconds(text) == expected
