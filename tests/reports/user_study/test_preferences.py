"""Answers become the rates that were put into them, with intervals that hold, and what is no answer does not count."""

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from study_runs import A, B, answer_file, answered, key_of, right, write

from reports.user_study.preferences import LARGEST_BYTES, main, preference_table, rate_interval, read, read_key


def test_confusions_are_counted_by_who_made_the_picture(tmp_path):
    key, seen, wrong_of = key_of("real-or-generated"), Counter(), {"real": 3, A: 7, B: 2}

    def choose(trial: dict[str, Any], number: int) -> str:
        maker = next(iter(trial["pictures"].values()))
        seen[maker] += not trial["practice"]
        wrong = trial["practice"] or seen[maker] <= wrong_of.get(maker, 0)  # practice must not count
        return {"real": "generated", "generated": "real"}[right(trial, number)] if wrong else right(trial, number)

    table = preference_table(write(tmp_path, answer_file(key, answered(key, choose))), key)
    found = {(row.measure, row.run): (row.rate, row.answers) for row in table.itertuples()}
    assert found == {
        ("R2G", "real pictures"): (3 / 20, 20),
        ("G2R", "xinggan"): (7 / 10, 10),
        ("G2R", "pidm <b>"): (2 / 11, 11),
        ("catch trials passed", ""): (1.0, 6),
    }
    assert table.attrs["notes"] == []


def test_a_preference_does_not_depend_on_the_side_that_a_method_stood_on(tmp_path):
    key = key_of("side-by-side")

    def choose(trial: dict[str, Any], number: int) -> str:
        left = sorted(trial["pictures"])[number % 2]  # where `answered` says that it stood
        wanted = {"pair": A if number % 4 else B, "truth": "real", "identical": B}[trial["role"]]
        return "left" if trial["pictures"][left] == wanted else "right"

    table = preference_table(write(tmp_path, answer_file(key, answered(key, choose))), key)
    row = table[table.measure == "preferred"].iloc[0]
    assert (row.run, row.against, row.answers) == ("xinggan", "pidm <b>", 40)
    assert row.rate == sum(number % 4 > 0 for number in range(2, 42)) / 40
    controls = table.set_index("measure").rate
    assert controls["catch trials passed"] == 1 and controls["left of two identical"] == 1


def test_who_fails_the_catch_trials_is_left_out_and_named(tmp_path):
    key = key_of("real-or-generated")
    contents = [answer_file(key, answered(key, choose), n) for n, choose in enumerate((right, lambda *_: "real"))]
    table = preference_table(write(tmp_path, *contents), key)
    assert table.attrs["notes"] == ["answers-1.json is left out of the rates: 0 of 6 catch trials passed"]
    table = table.set_index("measure")
    assert list(table.loc["G2R"].rate) == [0, 0] and table.loc["R2G"].participants == 1
    assert table.loc["catch trials passed"].rate == 0.5


@pytest.mark.parametrize("flaw", [{"showings": 2}, {"away": True}, {"shown_ms": 1751}])
def test_pictures_that_were_not_seen_for_their_second_do_not_count(tmp_path, flaw):
    key = key_of("real-or-generated")
    answers = answered(key, right)
    answers[2] |= flaw
    table = preference_table(write(tmp_path, answer_file(key, answers, finished=False)), key)
    assert table.answers.sum() == len(answers) - 2 - 1  # practice, and this one
    assert table.attrs["notes"] == [
        "1 answers are not counted: the picture was shown twice, too long, or unseen",
        "1 participants stopped before the end; what they answered counts",
    ]


def test_of_one_session_twice_the_longer_file_counts_and_one_with_other_answers_is_refused(tmp_path):
    key = key_of("real-or-generated")
    whole, other = answered(key, right), answered(key, lambda *_: "real")
    files = write(tmp_path, *(answer_file(key, answers) for answers in (whole, whole[:5], other)))
    for order in (files[:2], files[1::-1]):
        sessions, notes = read(order, key)
        assert [len(session.answers) for session in sessions] == [len(whole)]
        assert notes == ["answers-1.json is left out: answers-0.json is the same session"]
    sessions, notes = read([files[0], files[2]], key)
    assert [session.file for session in sessions] == files[:1] and "other answers" in notes[0]


def _with(**changes: Any) -> Any:
    return lambda key: answer_file(key, answered(key, right)) | changes


def _with_answer(**changes: Any) -> Any:
    return lambda key: answer_file(key, [*answered(key, right)[:3], answered(key, right)[3] | changes])


REFUSED = {
    "no JSON": lambda key: "{",
    "deep": lambda key: "[" * 200_000,
    "large": lambda key: " " * (LARGEST_BYTES + 1),
    "list": lambda key: [],
    "not a number": lambda key: json.dumps(_with()(key)).replace("1002.5", "NaN"),
    "other schema": _with(schema=2),
    "other study": _with(study="fedcba9876543210"),
    "other kind": _with(kind="side-by-side"),
    "session": _with(session="../../etc"),
    "no consent": _with(consented=False),
    "answers": _with(answers={"t001": "real"}),
    "too many": lambda key: answer_file(key, answered(key, right) * 2),
    "twice": lambda key: answer_file(key, answered(key, right)[:1] * 2),
    "unknown trial": _with_answer(trial="t999"),
    "trial's type": _with_answer(trial=["t001"]),
    "unknown answer": _with_answer(answer="left"),
    "answer's type": _with_answer(answer={"real": 1}),
    "negative time": _with_answer(shown_ms=-1),
    "endless time": lambda key: json.dumps(_with()(key)).replace("1002.5", "1e999"),
    "time's type": _with_answer(answer_ms="1"),
    "showings": _with_answer(showings=0),
    "away": _with_answer(away=None),
}


@pytest.mark.parametrize("flaw", REFUSED)
def test_what_is_no_answer_to_the_study_is_refused_by_name_and_the_others_count(tmp_path, flaw):
    key = key_of("real-or-generated")
    sessions, notes = read(write(tmp_path, REFUSED[flaw](key), answer_file(key, answered(key, right), 2)), key)
    assert [session.file.name for session in sessions] == ["answers-1.json"]
    assert len(notes) == 1 and notes[0].startswith("answers-0.json is left out: ") and len(notes[0]) < 250


@pytest.mark.parametrize("left", [None, "999", ["000"]])
def test_side_by_side_says_which_picture_of_the_trial_stood_left(tmp_path, left):
    key = key_of("side-by-side")
    sessions, notes = read(write(tmp_path, answer_file(key, answered(key, lambda *_: "left", left=left))), key)
    assert not sessions and "answers[0].left" in notes[0]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["study", "kind", "session", "consented", "finished", "schema", "answers"]), json_values)
def test_any_value_anywhere_is_an_answer_or_a_note(tmp_path_factory, name, value):
    key = key_of("real-or-generated")
    content = answer_file(key, answered(key, right))
    nested = {**content, "answers": [content["answers"][0] | {"trial": value}]}
    for wrong in ({**content, name: value}, nested):
        sessions, notes = read(write(tmp_path_factory.mktemp("answers"), wrong), key)
        assert len(sessions) + len(notes) == 1


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (1, 20), (13, 50), (50, 50)])
def test_one_participant_gets_wilsons_interval(hits, n):
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    rate, low, high, how = rate_interval([(hits, n)])
    assert rate == hits / n and how == "Wilson"
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("spread", [0.0, 0.15])
def test_intervals_cover_the_rate_of_all_people_and_not_only_of_those_asked(spread):
    """30 participants with 50 answers each, as in the papers; `spread` is how much people's own rates differ."""
    rng, truth, covered = np.random.default_rng(0), 0.3, []
    for _ in range(2000):
        concentration = truth * (1 - truth) / spread**2 - 1 if spread else 0
        own = rng.beta(truth * concentration, (1 - truth) * concentration, 30) if spread else np.full(30, truth)
        _, low, high, _ = rate_interval([(int(hits), 50) for hits in rng.binomial(50, own)])
        covered.append(low <= truth <= high)
    assert 0.93 <= np.mean(covered) <= (0.97 if spread else 0.99)  # with equal people it is the more careful


def test_people_who_all_agree_still_leave_doubt():
    rate, low, high, _ = rate_interval([(50, 50)] * 5)
    assert rate == 1 and high == 1 and 0.3 < low < 0.6
    assert all(math.isnan(value) for value in rate_interval([])[:3])


def test_the_command_prints_rates_and_what_does_not_count(tmp_path, capsys):
    key = key_of("real-or-generated")
    (tmp_path / "key.json").write_text(json.dumps(key))
    good, bad = write(tmp_path, answer_file(key, answered(key, right)), "{")
    assert main([str(good), str(bad), "--key", str(tmp_path / "key.json")]) == 0
    printed = capsys.readouterr()
    assert "G2R" in printed.out and "pidm <b>" in printed.out and "answers-1.json is left out" in printed.err
    assert main([str(bad), "--key", str(tmp_path / "key.json")]) == 2
    assert main([str(good), "--key", str(good)]) == 2
    assert "not the key of a study" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": 2}', '{"schema": 1, "kind": []}'])
def test_a_file_that_is_no_key_is_refused(tmp_path, content):
    (tmp_path / "key.json").write_text(content)
    with pytest.raises(ValueError, match="not the key of a study"):
        read_key(tmp_path / "key.json")
