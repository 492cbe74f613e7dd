"""The resubmission rules: every state under everything that can be asked for, against rules said another way."""

import itertools

import pytest

from slurm.rules import RULES, Action, Mode, State


def expected(state, mode):
    """The same in words: who is at work is left alone; what is done stays done; what failed needs a reason."""
    if state in (State.queued, State.running, State.elsewhere):
        return Action.skip
    if state == State.new:
        return Action.start
    if mode == Mode.replace:
        return Action.replace
    if state == State.finished:
        return Action.skip
    begun = state in (State.interrupted, State.unscored)
    if mode == Mode.rescue:  # nobody asked for it: neither what a person ended nor what has failed
        return Action.resume if begun else Action.skip
    if begun or state == State.cancelled:
        return Action.resume
    has_a_reason = mode == Mode.retry or state == State.repaired
    return Action.retry if has_a_reason else Action.skip


@pytest.mark.parametrize(("state", "mode"), list(itertools.product(State, Mode)))
def test_every_state_and_mode_has_its_action(state, mode):
    assert RULES[state][mode] == expected(state, mode)


def test_the_table_is_complete():
    assert set(RULES) == set(State)
    assert all(set(row) == set(Mode) for row in RULES.values())
