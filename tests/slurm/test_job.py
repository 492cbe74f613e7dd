"""A run's life: how an attempt ended, what the processes are told of one another, and what the last one left behind."""

import pytest

from slurm import job
from slurm.attempts import begin_attempt, end_attempt, read_attempts
from slurm.controller import Job, NoAccounting
from slurm.process import place


def in_queue(monkeypatch, state="RUNNING", used="5:00", limit="1:00:00"):
    monkeypatch.setattr(job, "queue", lambda: [Job("xg", 3, "17_3", state, "n1", "None", used, limit)])


@pytest.mark.parametrize(
    ("state", "code", "expected"),
    [
        ("finished", 0, "finished"),
        ("failed", 1, "failed"),
        (None, 1, "failed"),  # an exception before the record was begun
        (None, 2, "refused"),
        ("running", 137, "killed"),
        ("running", 1, "failed"),
        (None, 139, "killed"),
        ("preempted", 75, "preempted"),
        ("preempted", 143, "preempted"),  # another process of the run was ended after the first one had saved
        ("running", 143, "preempted"),
        (None, 140, "preempted"),  # the signal came before Python could answer it
    ],
)
def test_how_an_attempt_ended(monkeypatch, state, code, expected):
    in_queue(monkeypatch)
    assert job.how_ended(state, code, "17_3", 60) == expected


def test_who_was_told_to_leave_near_the_limit_ran_out_of_time_and_who_is_gone_was_cancelled(monkeypatch):
    in_queue(monkeypatch, used="58:30")
    assert job.how_ended("preempted", 75, "17_3", 60) == "timed out"
    in_queue(monkeypatch, used="57:30")
    assert job.how_ended("preempted", 75, "17_3", 60) == "preempted"
    in_queue(monkeypatch, state="COMPLETING")
    assert job.how_ended("preempted", 75, "17_3", 60) == "cancelled"
    monkeypatch.setattr(job, "queue", list)
    assert job.how_ended("preempted", 75, "17_3", 60) == "cancelled"


@pytest.mark.parametrize(
    ("state", "expected"),
    [("PREEMPTED", "preempted"), ("NODE_FAIL", "lost"), ("TIMEOUT", "timed out"), ("OUT_OF_MEMORY", "lost")],
)
def test_an_attempt_without_an_end_gets_the_one_that_accounting_knows(monkeypatch, tmp_path, state, expected):
    monkeypatch.setattr(job, "endings", lambda jobs, repeated: {"17_3": (state, "n1")})
    begin_attempt(tmp_path, job="17_3", series="a")
    job.close_lost(tmp_path, "17_3")
    job.close_lost(tmp_path, "17_3")
    assert [attempt["how"] for attempt in read_attempts(tmp_path)] == [expected]


def test_without_accounting_who_comes_back_into_the_same_job_was_preempted(monkeypatch, tmp_path):
    def unknown(jobs, repeated):
        raise NoAccounting("no accounting")

    monkeypatch.setattr(job, "endings", unknown)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    begin_attempt(tmp_path, job="17_3", series="a")
    job.close_lost(tmp_path, "17_3")
    begin_attempt(tmp_path, job="17_3", series="a")
    job.close_lost(tmp_path, "18_0")
    assert [attempt["how"] for attempt in read_attempts(tmp_path)] == ["preempted", "lost"]


def test_a_run_that_is_given_up_says_why_and_keeps_what_it_said(tmp_path):
    from ablations.record import RunRecord

    RunRecord(tmp_path).note(state="running", error="RuntimeError: no memory")
    for _ in range(3):
        begin_attempt(tmp_path, job="17_3", series="a")
        end_attempt(tmp_path, "killed")
    with (tmp_path / "slurm.log").open("a") as log:
        assert job.give_up(tmp_path, "3 attempts ended at step 0", log) == 1
    status = RunRecord(tmp_path).status
    assert status["state"] == "failed"
    assert status["error"].splitlines() == ["3 attempts ended at step 0", "RuntimeError: no memory"]


def test_a_run_that_was_refused_before_its_record_began_quotes_its_log(tmp_path):
    from ablations.record import RunRecord

    (tmp_path / "slurm.log").write_text("--- attempt 1\nablations.run: no such folder\n")
    with (tmp_path / "slurm.log").open("a") as log:
        job.give_up(tmp_path, "refused", log)
    assert "ablations.run: no such folder" in RunRecord(tmp_path).status["error"]


def test_a_single_process_is_told_of_no_others():
    assert place({"SLURM_NTASKS": "1", "SLURM_CPUS_PER_TASK": "6"}) == {"OMP_NUM_THREADS": "6"}
    assert place({"OMP_NUM_THREADS": "2"}) == {}


def test_processes_are_told_their_places():
    told = place(
        {
            "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
            "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1", "OMP_NUM_THREADS": "1",
        }
    )  # fmt: skip
    assert told == {
        "WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1",
    }  # fmt: skip
