"""What becomes of a run: the resubmission rules, when attempts are enough, and how the end of an attempt is named."""

import itertools
import os
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_sweeps import TINY

from slurm.cluster import Cluster
from slurm.job import RunJob, how_ended, visible_gpus
from slurm.run import COUNTED, MODES, RULES, Run, code_version, given_up
from slurm.submission import Row, Submission
from slurm.sweep import plan

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
    if mode == "rescue":  # nobody asked for it: neither what a person ended nor what has failed
        return "resume" if state == "interrupted" else "skip"
    if state in ("interrupted", "cancelled"):
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
    row = Row("run", job="17_3")
    return Run(Submission(tmp_path, Cluster("slurm"), None, None, "/", [], [row], "first", "first"), row)


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


@pytest.mark.parametrize(
    ("cluster", "restart", "saved", "how"),
    [
        ("slurm", "1", True, "preempted"),
        ("slurm", "2", False, "preempted"),
        ("slurm", "", False, "lost"),
        ("local", "1", False, "lost"),  # this machine's queue within a job of SLURM that was started again
    ],
)
def test_who_comes_back_into_the_same_job_was_preempted_and_without_a_warning_if_nothing_was_saved(
    monkeypatch, run, cluster, restart, saved, how
):
    job = RunJob(str(run.submission.folder))
    job.run, job.place = run, SimpleNamespace(cluster=cluster)
    monkeypatch.setenv("SLURM_RESTART_COUNT", restart) if restart else monkeypatch.delenv("SLURM_RESTART_COUNT", False)
    run.record.note(state="preempted" if saved else "running")
    run.begin_attempt("17_3")
    assert job.settled() is None
    assert job.settled() is None
    assert (run.attempts[-1]["how"], run.attempts[-1]["unwarned"]) == (how, how == "preempted" and not saved)


def test_three_failures_leave_the_run_as_failed_with_what_its_record_said_and_a_new_sweep_has_three_again(run):
    run.record.note(state="running", error="RuntimeError: no memory")
    for _ in range(3):
        assert run.verdict() is None
        run.begin_attempt("17_3")
        run.end_attempt("killed")
    assert "3 attempts ended at step 0" in run.verdict()
    assert run.record.status["state"] == "failed"
    assert run.record.status["error"].splitlines()[-1] == "RuntimeError: no memory"
    run.submission.series = "second"
    assert run.verdict() is None


def test_a_job_that_died_before_it_could_begin_is_a_try(run):
    for number in range(3):
        assert run.verdict() is None
        run.close_attempt(job=f"{number}_3")
    assert "lost, lost, lost" in run.verdict()


@pytest.fixture
def reference_job(cache, tmp_path):
    """A job that works on a run of ground_truth here, by `ablations.run` in a process of its own."""
    words = ["method=ground_truth", *[word for word in TINY if not word.startswith("training.")]]
    runs, rows = plan(None, [*words, f"runs={tmp_path / 'runs'}", f"cache={cache}"], 1)
    row = next(row for row in rows if row.run.startswith("ground_truth"))
    submission = Submission(runs, Cluster("local"), None, None, str(tmp_path), [row.run], [row], "first", "first")
    submission.write()
    job = RunJob(str(submission.folder))
    job.run, job.place = Run(submission, row), SimpleNamespace(cluster="local", job_id="1", num_tasks=1, global_rank=0)
    job.run.folder.mkdir(parents=True)
    return job


def test_a_run_that_found_its_lock_taken_for_a_moment_begins_again(reference_job):
    with reference_job.run.record:
        reference_job.attempt()
    assert reference_job.settled() is None
    reference_job.attempt()
    assert [attempt["how"] for attempt in reference_job.run.attempts] == ["busy", "finished"]
    assert reference_job.settled() == "finished"


def test_looking_at_a_runs_lock_leaves_what_it_says_of_its_holder(reference_job):
    with reference_job.run.record:
        assert reference_job.run.worked_on
        assert f"{os.getpid()} on" in (reference_job.run.folder / ".lock").read_text()
    assert not reference_job.run.worked_on


def test_words_that_make_another_run_since_the_data_changed_are_refused_with_the_cause(reference_job):
    run = reference_job.run
    run.row.run = run.row.run[:-12] + "0" * 12  # the name when it was submitted
    reference_job.run = Run(run.submission, run.row)
    reference_job.run.folder.mkdir()
    reference_job.attempt()
    verdict = reference_job.settled()
    assert "data or suite have changed" in verdict
    assert str(run.folder) in verdict  # where it went
    assert reference_job.run.record.status["state"] == "failed"


def test_gpus_are_those_that_the_shell_allows_or_that_the_machine_has_counted_from_zero(monkeypatch, tmp_path):
    for shell, gpus in (("", []), ("3", ["3"]), ("1,GPU-5a", ["1", "GPU-5a"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shell)
        assert visible_gpus() == gpus
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    for name in ("nvidia3", "nvidiactl", "nvidia-uvm"):  # what a container sees that has one of four
        (tmp_path / name).touch()
    monkeypatch.setattr("slurm.job.DEVICES", tmp_path)
    assert visible_gpus() == ["0"]
