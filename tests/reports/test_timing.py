"""Timing tables name what differs and every scenario that could not be timed."""

import json

import pytest
from timed_runs import three, write

from reports import timing
from reports.formats import duration, number
from reports.records import load_records
from reports.speed import ratio_table


def test_records_say_together_how_noisy_the_machine_was(fabricate):
    records = three(fabricate)
    assert timing.noise(records).startswith("Not judged: ")
    for record, difference in zip(records, (0.02, 0.034, 0.01), strict=True):
        record.scenarios[0]["halves_differ_by"] = difference
    assert timing.noise(records).startswith("Quiet: in all 3 ") and timing.noise(records).endswith("by 3.4%.")
    next(iter(records)).scenarios[0]["halves_differ_by"] = 0.23
    assert "in 1 of 3 scenarios" in timing.noise(records) and timing.noise(records).endswith("by up to 23%.")


def test_a_record_of_timing_alone_misses_neither_scores_nor_images(fabricate):
    directory = fabricate.run(metrics=None)
    (directory / "history.jsonl").unlink()
    status = json.loads((directory / "status.json").read_text()) | {"measures": "timing"}
    (directory / "status.json").write_text(json.dumps(status))
    config = (directory / "config.yaml").read_text().split("training:")[0] + "training: null\n"
    (directory / "config.yaml").write_text(config)
    (record,) = load_records(fabricate.folder)
    assert record.problems == []


def test_each_timed_scenario_is_a_row_and_the_others_say_why_not(fabricate):
    fabricate.run()
    timings = load_records(fabricate.folder).timings
    table = timing.scenario_table(timings)
    assert "machine" not in table and table["what"].tolist() == ["inference", "inference", "training"]
    assert table["batch"].tolist() == ["1", "8", "8"] and table["samples"].tolist() == ["30"] * 3
    (failed,) = timing.failures(timings)
    assert "precision bf16" in failed and failed.endswith("no bf16 here")
    assert timing.shared(timings).startswith("machine cpu, precision fp32")


def test_scenario_with_little_recorded_is_shown_with_what_it_has(fabricate):
    write(fabricate.run(), [{"kind": "inference", "median_ms": 10.0, "batch": 1}, {"kind": "training"}])
    records = load_records(fabricate.folder)
    timings = records.timings
    (row,) = timing.scenario_table(timings).to_dict("records")
    assert row["median [ms] ↓"] == "10.0" and row["samples"] == row["images/s ↑"] == "–"
    assert timing.failures(timings) == ["xinggan scale=single, training: unavailable: the record gives no reason"]
    assert timing.samples(timings).empty and ratio_table(records).empty


def test_cost_is_a_row_for_each_method(fabricate):
    fabricate.run()
    fabricate.references()
    (row,) = timing.cost_table(load_records(fabricate.folder)).to_numpy().tolist()
    assert row == ["xinggan scale=single", "1,234,567", "9.88", "1 min 20 s", "400 of 400", "80.0", "100.0%", "512"]


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


def test_noise_of_a_training_is_its_slowest_tenth_over_its_median(fabricate):
    run = fabricate.run()
    speeds = [100.0] * 17 + [50.0] * 3  # a tenth of them, and one more for the interpolation, are slow
    lines = [{"step": step, "images_per_second": speed, "losses": {}} for step, speed in enumerate(speeds)]
    (run / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (record,) = load_records(fabricate.folder)
    assert timing.slowest_tenth(record) == 0.5
    lines = [line | {"losses": {"flow": 1.0}} for line in lines] + [
        line | {"images_per_second": 9.0, "losses": {"image": 1.0}} for line in lines
    ]
    (run / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert timing.slowest_tenth(load_records(fabricate.folder)[0]) == 1  # a slower stage is no busier machine
    (run / "history.jsonl").unlink()
    assert timing.slowest_tenth(load_records(fabricate.folder)[0]) is None
