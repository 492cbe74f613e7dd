"""The report says how runs differ, where they were made and what is missing from them."""

from reports.pages import provenance as pages
from reports.provenance import RECORD_HEADS, differences, environments, missing, record_rows
from reports.records import load_records


def test_only_what_differs_is_a_column(fabricate):
    fabricate.run(scale="single", steps=100)
    fabricate.run(scale="multi", steps=100)
    heads, rows = differences(load_records(fabricate.folder).methods)
    assert heads == ["run", "scale"]
    assert sorted(row[1] for row in rows) == ["multi", "single"]


def test_single_run_shows_its_switches(fabricate):
    fabricate.run()
    heads, rows = differences(load_records(fabricate.folder).methods)
    assert {"scale", "attention", "seed"} <= set(heads) and len(rows) == 1


def test_failed_run_is_told_with_step_and_error(fabricate):
    fabricate.run(state="failed")
    fabricate.run("patn", "patn")
    (sentences,) = missing(load_records(fabricate.folder)).values()
    assert sentences[0] == "failed at step 120 of 400: FloatingPointError: <b>loss</b> is nan"
    assert "metrics.json: not there" in sentences


def test_every_record_is_listed_and_equal_environments_are_told_once(fabricate):
    fabricate.run()
    fabricate.references()
    records = load_records(fabricate.folder)
    rows = record_rows(records)
    assert [row[RECORD_HEADS.index("record")] for row in rows] == [record.run for record in records]
    assert all(len(row) == len(RECORD_HEADS) for row in rows)
    ((told, runs),) = environments(records).items()
    assert "packages.torch: 2.13.0" in told and len(runs) == 4


def test_settings_that_only_one_method_has_are_no_differences_between_methods(fabricate):
    fabricate.run("a", "a", method={"_target_": "a.A", "candidates": 10}, learning_rate=0.1)
    fabricate.run("b", "b", method={"_target_": "b.B", "sampler": "ddim"}, learning_rate=0.2)
    heads, rows = differences(load_records(fabricate.folder).methods)
    assert heads == ["run", "learning_rate"] and [row[1] for row in rows] == ["0.1", "0.2"]


def test_switch_that_a_method_does_not_take_is_no_setting_of_its_run(fabricate):
    fabricate.run("a", "a", method={"_target_": "a.A", "architecture": {"scale": "multi"}}, scale="multi")
    fabricate.run("b", "b", method={"_target_": "b.B"}, scale="single", precision="bf16")
    fabricate.run("c", "c", method={"_target_": "a.A", "architecture": {"scale": "single"}}, scale="single")
    heads, rows = differences(load_records(fabricate.folder).methods)
    assert heads == ["run", "scale"]
    assert {row[0]: row[1] for row in rows} == {"a": "multi", "b": "–", "c": "single"}


def test_an_environment_of_many_runs_is_counted_and_their_names_are_inside(fabricate, tmp_path):
    for name in "abcdef":
        fabricate.run(name, name)
    shown = pages.origins(load_records(fabricate.folder), tmp_path)._repr_html_()
    assert "<summary>Environment of 6 runs</summary><p>a, b, c, d, e, f</p>" in shown
