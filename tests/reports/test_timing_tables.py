"""Timing tables name what differs between scenarios, and every scenario that could not be timed with its reason."""

import pytest

from reports.records import load_records
from reports.timing import common_circumstances, cost_rows, duration, number, timing_table


def test_each_timed_scenario_is_a_row_and_the_others_say_why_not(fabricate):
    fabricate.run()
    records = load_records(fabricate.folder)
    heads, rows, failed = timing_table(records)
    assert "device" not in heads and all(len(row) == len(heads) for row in rows)
    assert [row[1:3] for row in rows] == [["inference", "1"], ["inference", "8"], ["training", "8"]]
    assert rows[0][heads.index("samples")] == "30"
    assert len(failed) == 1 and "precision bf16" in failed[0] and failed[0].endswith("no bf16 here")
    assert common_circumstances(records).startswith("device cpu, precision fp32")


def test_cost_is_a_row_for_each_method(fabricate):
    fabricate.run()
    fabricate.references()
    (row,) = cost_rows(load_records(fabricate.folder))
    assert row == ["xinggan scale=single", "1,234,567", "9.88", "1 min 20 s", "400 of 400", "80.0", "512"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "–"), (4.25, "4.2 s"), (59.9, "1 min 00 s"), (250, "4 min 10 s"), (7322, "2 h 02 min")]
)
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.0123"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346"), (None, "–")]
)
def test_numbers_have_three_significant_digits(value, text):
    assert number(value) == text
