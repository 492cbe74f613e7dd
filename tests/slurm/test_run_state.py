"""What becomes of a run: the resubmission rules, when attempts are enough, and how the end of an attempt is named."""

import itertools
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm.cluster import Cluster
from slurm.job import RunJob, how_ended
from slurm.run import COUNTED, MODES, RULES, Run, code_version, given_up
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


@pytest.fixture
def run(tmp_path):
    row = {"run": "run", "job": "17_3"}
    return Run(Submission(tmp_path / "slurm" / "first", Cluster("slurm"), None, None, "/", [], [row], "first"), row)


def test_attempts_are_kept_with_the_step_of_the_trainers_newest_checkpoint(run):
    torch = pytest.importorskip("torch")
    from xinggan.training.checkpoint import save_checkpoint

    run.begin_attempt("1_0")
    assert run.open
    for step in (20, 30):
        save_checkpoint(run.folder / "checkpoint", step, {"x": torch.zeros(1)})
    (run.folder / "checkpoint" / ".step-00000040-x.pt.1.part").touch()
    run.end_attempt("killed", exit=137)
    assert not run.open
    run.begin_attempt("1_0")
    first, second = run.attempts
    assert (first["from_step"], first["step"], first["how"], first["exit"]) == (0, 30, "killed", 137)
    assert (second["from_step"], second["how"]) == (30, None)


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


def test_who_comes_back_into_the_same_job_was_preempted_and_without_a_warning_if_nothing_was_saved(monkeypatch, run):
    job = RunJob(str(run.submission.folder))
    job.run, job.place = run, SimpleNamespace(cluster="slurm")
    for restart, saved, how in (("1", True, "preempted"), ("2", False, "preempted"), ("", False, "lost")):
        monkeypatch.setenv("SLURM_RESTART_COUNT", restart) if restart else monkeypatch.delenv("SLURM_RESTART_COUNT")
        run.record.note(state="preempted" if saved else "running")
        run.begin_attempt("17_3")
        assert job.settled() is None
        assert job.settled() is None
        assert (run.attempts[-1]["how"], run.attempts[-1]["unwarned"]) == (how, how == "preempted" and not saved)


def test_three_failures_leave_the_run_as_failed_with_what_its_record_said_and_a_new_sweep_has_three_again(run):
    run.record.note(state="running", error="RuntimeError: no memory")
    for _ in range(3):
        assert run.settle() is None
        run.begin_attempt("17_3")
        run.end_attempt("killed")
    assert "3 attempts ended at step 0" in run.settle()
    assert run.record.status["state"] == "failed"
    assert run.record.status["error"].splitlines()[-1] == "RuntimeError: no memory"
    run.submission.series = "second"
    assert run.settle() is None


def test_a_job_that_died_before_it_could_begin_is_a_try(run):
    reasons = [run.settle(job=f"{number}_3") for number in range(3)]
    assert reasons[:2] == [None, None]
    assert "lost, lost, lost" in reasons[2]
