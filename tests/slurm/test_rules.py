"""What becomes of a run: the resubmission rules, when attempts are enough, and how the end of an attempt is named."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.attempts import COUNTED, begin_attempt, code_version, end_attempt, given_up, read_attempts, saved_step
from ablations.record import RunRecord
from slurm.job import how_ended, settle
from slurm.queue import NoAccounting
from slurm.settings import Cluster
from slurm.states import MODES, RULES
from slurm.submission import Submission

HOWS = ["failed", "killed", "lost", "timed out", "preempted", "cancelled"]


def expected(state, mode):
    """The rules in words: who is at work is left alone; what is done stays done; what failed needs a reason."""
    if state in ("queued", "held", "running", "elsewhere"):
        return "skip"
    if state == "new":
        return "start"
    if mode == "replace":
        return "replace"
    if state == "finished":
        return "skip"
    begun = state in ("interrupted", "unscored")
    if mode == "rescue":  # nobody asked for it: neither what a person ended nor what has failed
        return "resume" if begun else "skip"
    if begun or state == "cancelled":
        return "resume"
    return "retry" if mode == "retry" or state == "failed, code changed" else "skip"


@pytest.mark.parametrize(("state", "mode"), list(itertools.product(RULES, MODES)))
def test_every_state_and_mode_has_its_action(state, mode):
    assert RULES[state][MODES.index(mode)] == expected(state, mode)


def attempt(how, step):
    return {"how": how, "step": step}


@given(st.lists(st.builds(attempt, st.sampled_from(HOWS), st.integers(0, 3)), max_size=12))
def test_a_run_is_given_up_at_its_third_failure_at_a_step_and_not_before(attempts):
    """The slow obvious version: count failures by step while walking through the attempts."""
    failures, given = dict.fromkeys(range(4), 0), False
    for each in attempts:
        given = False
        if each["how"] in COUNTED:
            failures[each["step"]] += 1
            given = failures[each["step"]] >= 3
    assert (given_up(attempts) is not None) == given


def test_the_reason_says_what_to_do():
    assert "raise timeout_min" in given_up(3 * [attempt("timed out", 0)])
    assert "raise mem_gb" in given_up(3 * [attempt("killed", 0)])
    assert given_up([attempt("refused", 0) | {"said": "no such folder"}]) == "no such folder"


def test_attempts_are_kept_with_the_step_they_ended_at(tmp_path):
    begin_attempt(tmp_path, job="1_0")
    assert read_attempts(tmp_path)[-1]["how"] is None
    (tmp_path / "checkpoint").mkdir()
    for name in (
        "step-00000020-0123456789abcdef.pt",
        "step-00000030-0123456789abcdef.pt",
        ".step-00000040-x.pt.1.part",
    ):
        (tmp_path / "checkpoint" / name).touch()
    end_attempt(tmp_path, "killed", exit=137)
    begin_attempt(tmp_path, job="1_0")
    first, second = [json.loads(line) for line in (tmp_path / "attempts.jsonl").read_text().splitlines()]
    assert (first["from_step"], first["step"], first["how"], first["exit"]) == (0, 30, "killed", 137)
    assert (second["from_step"], second["how"]) == (30, None)


def test_the_step_is_that_of_the_trainers_checkpoints(tmp_path):
    torch = pytest.importorskip("torch")
    from xinggan.training.checkpoint import save_checkpoint

    assert saved_step(tmp_path) == 0
    save_checkpoint(tmp_path / "checkpoint", 7, {"x": torch.zeros(1)})
    assert saved_step(tmp_path) == 7


def test_the_code_version_changes_with_the_methods_of_ones_own(tmp_path):
    (tmp_path / "toy.py").write_text("a = 1")
    before = code_version(str(tmp_path))
    assert code_version(str(tmp_path)) == before
    assert code_version(None) != before
    (tmp_path / "toy.py").write_text("a = 2")
    assert code_version(str(tmp_path)) != before


@pytest.mark.parametrize(
    ("state", "code", "how"),
    [
        ("finished", 0, "finished"),
        ("failed", 1, "failed"),
        (None, 1, "failed"),  # an exception before the record was begun
        (None, 2, "refused"),
        ("running", -9, "killed"),
        ("running", 1, "failed"),
        (None, -11, "killed"),
        ("preempted", 75, "preempted"),
        ("running", -15, "preempted"),
        (None, -12, "preempted"),  # the signal came before Python could answer it
    ],
)
def test_how_an_attempt_ended(state, code, how):
    assert how_ended(state, code) == how


ROW = {"run": "run", "job": "17_3"}


@pytest.fixture
def submission(tmp_path):
    return Submission(tmp_path / "slurm" / "first", Cluster("slurm"), None, None, "/", [], [ROW], "first")


@pytest.mark.parametrize(
    ("state", "how"),
    [("PREEMPTED", "preempted"), ("NODE_FAIL", "lost"), ("TIMEOUT", "timed out"), ("OUT_OF_MEMORY", "lost")],
)
def test_an_attempt_without_an_end_gets_the_one_that_accounting_knows(monkeypatch, submission, state, how):
    monkeypatch.setattr("slurm.job.endings", lambda jobs: {"17_3": (state, "n1")})
    folder = submission.runs_folder / "run"
    RunRecord(folder).note(state="running")
    begin_attempt(folder, job="17_3", series="first")
    assert settle(submission, ROW) is None
    assert settle(submission, ROW) is None
    assert [attempt["how"] for attempt in read_attempts(folder)] == [how]
    assert read_attempts(folder)[0]["unwarned"] == (state == "PREEMPTED")


def test_without_accounting_who_comes_back_into_the_same_job_was_preempted(monkeypatch, submission):
    def unknown(jobs):
        raise NoAccounting("no accounting")

    monkeypatch.setattr("slurm.job.endings", unknown)
    folder = submission.runs_folder / "run"
    for restart, how in (("1", "preempted"), ("", "lost")):
        monkeypatch.setenv("SLURM_RESTART_COUNT", restart) if restart else monkeypatch.delenv("SLURM_RESTART_COUNT")
        begin_attempt(folder, job="17_3", series="first")
        settle(submission, ROW)
        assert read_attempts(folder)[-1]["how"] == how


def test_three_failures_leave_the_run_as_failed_with_what_its_record_said_and_a_new_sweep_has_three_again(submission):
    folder = submission.runs_folder / "run"
    RunRecord(folder).note(state="running", error="RuntimeError: no memory")
    for _ in range(3):
        assert settle(submission, ROW) is None
        begin_attempt(folder, job="17_3", series="first")
        end_attempt(folder, "killed")
    assert "3 attempts ended at step 0" in settle(submission, ROW)
    status = RunRecord(folder).status
    assert status["state"] == "failed"
    assert status["error"].splitlines()[-1] == "RuntimeError: no memory"
    submission.series = "second"
    assert settle(submission, ROW) is None


def test_a_job_that_died_before_it_could_begin_is_a_try(submission):
    for number in range(3):
        assert read_attempts(submission.runs_folder / "run") == [] or number
        reason = settle(submission, ROW, f"{number}_3")
    assert "lost, lost, lost" in reason
