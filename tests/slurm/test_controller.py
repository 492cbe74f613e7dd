"""Talking to SLURM: answers are read as they are, and each way of not answering has its own clear message."""

import os
import stat
import time

import pytest

from slurm import controller
from slurm.controller import ClusterError, NoAccounting, ask, endings, largest_array, queue, seconds

REFUSALS = [
    ("squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)", "cannot be reached"),
    ("sbatch", "sbatch: error: Batch job submission failed: Invalid partition name specified", "no such partition"),
    ("sbatch", "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates "
     "accounting/QOS policy (job submit limit, user's size and/or time limits)", "takes no more jobs now"),
    ("sbatch", "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", "takes no more"),
    ("sbatch", "sbatch: error: Batch job submission failed: Requested node configuration is not available",
     "no node offers"),
    ("sbatch", "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
     "not open to you"),
    ("sacct", "Slurm accounting storage is disabled", "keeps no accounting"),
    ("sacct", "sacct: error: slurm_persist_conn_open_without_init: failed to open persistent connection to "
     "localhost:6819: Connection refused", "cannot be reached"),
]  # fmt: skip


@pytest.fixture
def pretend(tmp_path, monkeypatch):
    """Puts a program of this name first on the path: it runs the given lines of shell."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def install(name, lines):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return install


@pytest.mark.parametrize(("program", "said", "told"), REFUSALS)
def test_what_slurm_refuses_is_quoted_and_explained(pretend, program, said, told):
    pretend(program, f"cat >&2 <<'END'\n{said}\nEND\nexit 1")
    kind = NoAccounting if program == "sacct" else ClusterError
    with pytest.raises(kind, match=told) as caught:
        ask(program)
    assert said.splitlines()[-1].split(": ")[-1] in str(caught.value)


def test_no_answer_ends_after_the_limit_with_what_was_said_until_then(pretend):
    pretend("sbatch", "echo 'sbatch: error: Slurm temporarily unable to accept job, sleeping' >&2; exec sleep 60")
    began = time.monotonic()
    with pytest.raises(ClusterError, match=r"no answer within 1 s.*takes no more jobs now"):
        ask("sbatch", limit_s=1)
    assert time.monotonic() - began < 30
    pretend("squeue", "exec sleep 60")
    with pytest.raises(ClusterError, match="controller does not answer"):
        ask("squeue", limit_s=1)


def test_a_machine_without_slurm_is_told_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="no machine of a SLURM cluster"):
        queue()


def test_the_queue_is_read_task_by_task(pretend):
    lines = "xg-a-0|17|3|RUNNING|n2|None|1:05|1:00:00\nother|18|N/A|PENDING||Priority|0:00|2-00:00:00"
    lines += "\na|b|17|4|RUNNING|n|x|y|z"
    pretend("squeue", f"cat <<'END'\n{lines}\nEND")
    first, second = queue()
    assert (first.name, first.index, first.identifier, first.node, first.used) == ("xg-a-0", 3, "17_3", "n2", "1:05")
    assert (second.index, second.identifier, second.reason) == (None, "18", "Priority")


def test_accounting_tells_the_last_end_and_before_a_requeue_the_one_before(pretend):
    lines = "17_3|PREEMPTED|n1\n17_3|RUNNING|n2\n17_4|CANCELLED by 0|n3"
    pretend("sacct", f"cat <<'END'\n{lines}\nEND")
    assert endings(["17_3", "17_4"]) == {"17_3": ("RUNNING", "n2"), "17_4": ("CANCELLED", "n3")}
    assert endings(["17_3"], repeated=True)["17_3"] == ("PREEMPTED", "n1")


def test_the_largest_array_is_asked_for(pretend):
    pretend("scontrol", "printf 'MaxArraySize            = 501\\nMaxJobCount             = 9\\n'")
    assert largest_array() == 501


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0:07", 7), ("1:02:03", 3723), ("2-00:00:01", 172801), ("UNLIMITED", float("inf")), ("", float("inf"))],
)
def test_durations(text, expected):
    assert seconds(text) == expected


def test_every_question_has_a_limit():
    assert 0 < controller.LIMIT_S <= 60
