"""Annotation and pairs tables: every malformed row is named with what was expected, and -1 means missing."""

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xinggan.data.tables import name_trouble, parse_pose, read_annotations, read_pairs

GOOD = json.dumps(list(range(18)))
coordinate = st.one_of(st.just(-1), st.integers(0, 200), st.floats(0, 200, allow_nan=False))


@settings(max_examples=100, deadline=None)
@given(st.lists(coordinate, min_size=18, max_size=18), st.lists(coordinate, min_size=18, max_size=18))
def test_a_joint_with_minus_one_for_either_coordinate_is_missing(rows, columns):
    pose = parse_pose([json.dumps(rows), json.dumps(columns)])
    assert pose.shape == (18, 3) and pose.dtype == np.float32
    for joint, (x, y) in enumerate(zip(columns, rows, strict=True)):
        expected = (-1, -1, 0) if x == -1 or y == -1 else (np.float32(x), np.float32(y), 1)
        assert tuple(pose[joint]) == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([GOOD], "2 fields separated by ':'; expected 3"),
        ([GOOD, GOOD, GOOD], "4 fields"),
        (["[1, 2", GOOD], "the list of y cannot be read: '\\[1, 2'"),
        ([GOOD, ""], "the list of x cannot be read"),
        ([GOOD, '{"a": 1}'], "the x field is not a list"),
        ([json.dumps(list(range(17))), GOOD], "17 values of y; expected 18"),
        ([GOOD, json.dumps([*range(17), "5"])], "'\"5\"' among the values of x"),
        ([GOOD, json.dumps([*range(17), None])], "'null' among"),
        ([GOOD, json.dumps([*range(17), True])], "'true' among"),
        ([GOOD, json.dumps([*range(17), [1]])], "among the values of x is no coordinate"),
        ([GOOD, "[NaN, " + GOOD[4:]], "'NaN' among"),
        ([GOOD, "[Infinity, " + GOOD[4:]], "'Infinity' among"),
        ([GOOD, "[1e400, " + GOOD[4:]], "'Infinity' among"),
        ([GOOD, "[" + "9" * 400 + ", " + GOOD[4:]], "…' among"),
        ([GOOD, "[" * 100_000], "the list of x cannot be read"),
    ],
)
def test_a_malformed_pose_is_refused_with_what_was_expected(fields, message):
    with pytest.raises(ValueError, match=message):
        parse_pose(fields)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=4))
def test_no_text_in_the_fields_ends_in_another_error(fields):
    with suppress(ValueError):
        assert parse_pose(fields).shape == (18, 3)


@pytest.mark.parametrize("name", ["", "../a.png", "a/../../b.png", "/etc/a.png", "..\\a.png", "a\0.png"])
def test_names_that_leave_the_folder_are_refused_and_others_accepted(name):
    assert name_trouble(name)
    assert not any(map(name_trouble, ["a.png", "folder/a.png", "-1_c1.jpg", "a..b.png", "ä ö.png"]))


def test_byte_order_mark_windows_lines_spaces_and_empty_lines_are_read(tmp_path):
    table = tmp_path / "annotations.csv"
    table.write_bytes(
        f"\ufeffname: keypoints_y: keypoints_x\r\n a.png : {GOOD} : {GOOD}\r\n\r\nb.png:{GOOD}:{GOOD}\r\n".encode()
    )
    problems = []
    annotations = read_annotations(table, "annotations.csv", problems)
    assert problems == [] and annotations.names == ["a.png", "b.png"] and annotations.rows == [2, 4]

    table.write_bytes(b'\xef\xbb\xbffrom,to\r\na.png, b.png\r\n"c, d.png",e.png\r\n\r\nb.png,a.png')
    read = read_pairs(table, "pairs.csv", problems)
    assert read == [(2, "a.png", "b.png"), (3, "c, d.png", "e.png"), (5, "b.png", "a.png")]
    assert problems == []


@pytest.mark.parametrize("read", [read_annotations, read_pairs])
@pytest.mark.parametrize(
    ("content", "row", "message"),
    [
        (None, None, "cannot be read: No such file"),
        (b"", None, "the file is empty"),
        (b"\n \n", None, "the file is empty"),
        (b"\xff\xfe\x00", 1, "not text in UTF-8 (byte 0 of the line)"),
        (b"\nf\xfcr.png\n" + b"\xff\n" * 1000, 2, "not text in UTF-8 (byte 1 of the line)"),
        (b"some,thing:else\n", 1, "the header is 'some,thing:else'; expected"),
    ],
)
def test_a_table_that_is_none_is_one_problem(tmp_path, read, content, row, message):
    table = tmp_path / "table.csv"
    if content is not None:
        table.write_bytes(content)
    problems = []
    read(table, "table.csv", problems)
    assert [(problem.file, problem.row) for problem in problems] == [("table.csv", row)]
    assert message in problems[0].what


def test_a_row_that_the_csv_reader_refuses_is_a_problem_of_that_row(tmp_path):
    table, problems = tmp_path / "pairs.csv", []
    table.write_text("from,to\n" + "a" * 200_000 + ",b.png\n")
    assert read_pairs(table, "pairs.csv", problems) == []
    assert problems[0].row == 2 and "cannot be read" in problems[0].what
