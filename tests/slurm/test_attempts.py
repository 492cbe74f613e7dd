"""Attempts: three failures at the same step are the end, and nothing else is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm.attempts import (
    COUNTED,
    begin_attempt,
    code_version,
    end_attempt,
    given_up,
    is_open,
    read_attempts,
    saved_step,
)

HOWS = ["failed", "killed", "lost", "timed out", "preempted", "cancelled"]


def attempt(how, step, series="a"):
    return {"how": how, "step": step, "series": series}


@given(st.lists(st.builds(attempt, st.sampled_from(HOWS), st.integers(0, 3)), max_size=12))
def test_a_run_is_given_up_at_its_third_failure_at_a_step_and_not_before(attempts):
    """The slow obvious version: count failures by step while walking through the attempts."""
    failures, expected = dict.fromkeys(range(4), 0), False
    for each in attempts:
        expected = False
        if each["how"] in COUNTED:
            failures[each["step"]] += 1
            expected = failures[each["step"]] >= 3
    assert (given_up(attempts) is not None) == expected


def test_a_preemption_is_nobodys_fault_however_often():
    assert given_up(100 * [attempt("preempted", 0)]) is None


def test_progress_and_another_series_give_three_tries_again():
    assert given_up([attempt("failed", step) for step in range(50)]) is None
    assert given_up([*3 * [attempt("failed", 5)], attempt("failed", 5, series="b")]) is None
    assert "3 attempts ended at step 5" in given_up([*3 * [attempt("failed", 5)]])


def test_the_reason_says_what_to_do():
    assert "raise timeout_min" in given_up(3 * [attempt("timed out", 0)])
    assert "raise mem_gb" in given_up(3 * [attempt("killed", 0)])
    assert "refused" in given_up([attempt("refused", 0)])


def test_attempts_are_kept_with_the_step_they_ended_at(tmp_path):
    begin_attempt(tmp_path, job="1_0")
    assert is_open(read_attempts(tmp_path))
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
