"""Queries over run records answer what the files say, and damaged files are named instead of raised."""

import io
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from ablation_runs import list_study

from reports.figures import looks
from reports.records import NothingFound, Record, Records, load_records


def test_query_groups_values_as_by_hand(fabricate):
    values = {("single", 0): 0.41, ("single", 1): 0.43, ("multi", 0): 0.44, ("multi", 1): 0.47}
    for (scale, seed), ssim in values.items():
        fabricate.run(name=f"xinggan scale={scale}", seed=seed, metrics=(ssim, 0.1, 0.7), scale=scale)
    fabricate.run("patn", "patn", metrics=(0.2, 0.2, 0.2))
    asked = load_records(fabricate.folder).where(method="xinggan", scale=["single", "multi"]).metric("ssim")

    every = asked.by("scale", "seed")
    assert {key: row["value"] for key, row in every.iterrows()} == values
    by_scale = asked.by("scale")
    for scale in ("single", "multi"):
        of_scale = [value for (name, _), value in values.items() if name == scale]
        assert by_scale.loc[scale, "value"] == pytest.approx(statistics.mean(of_scale))
        assert by_scale.loc[scale, "sd"] == pytest.approx(statistics.stdev(of_scale))
        assert by_scale.loc[scale, "n"] == 2
    with pytest.warns(UserWarning, match="scale"):
        assert asked.by()["value"].item() == pytest.approx(statistics.mean(values.values()))


def test_conditions_reach_into_the_configuration_and_refuse_what_is_not_there(fabricate):
    fabricate.run(steps=100)
    fabricate.run(steps=200, evaluation={"batch": 16})
    records = load_records(fabricate.folder)
    assert [record.config["training"]["steps"] for record in records.where(steps=200)] == [200]
    assert len(records.where(**{"training.steps": "100"})) == 1
    assert len(records.where(state=["finished", "failed"], learning_rate=2e-4)) == 2
    with pytest.raises(ValueError, match=r"ambiguous.*training\.batch"):
        records.where(batch=8)
    with pytest.raises(ValueError, match=r"in no record.*attention"):
        records.where(atention="plain")


def test_selection_takes_names_patterns_and_conditions_and_brings_the_references_of_its_test_set(fabricate):
    single = fabricate.run("xinggan-scale-single")
    multi = fabricate.run("xinggan", "xinggan", scale="multi")
    fabricate.run("patn", "patn", digest="e2" * 32)
    fabricate.references()
    fabricate.references(digest="e2" * 32)

    def selected(*words: str) -> set[str]:
        records = load_records(fabricate.folder, list(words))
        assert {record.dataset_digest for record in records.references} <= {r.dataset_digest for r in records.methods}
        assert len(records.references) == 3
        return {record.run for record in records.methods}

    assert selected(single.name) == {single.name}
    assert selected("xinggan*") == {single.name, multi.name}
    assert selected("scale=multi") == {multi.name}
    assert selected("xinggan*", "scale=single,none") == {single.name}
    assert selected("scale=single,multi", "scale=multi") == {multi.name}
    assert selected(single.name[-12:-4]) == {single.name}
    assert {record.run for record in load_records(single).methods} == {single.name}
    with pytest.raises(NothingFound, match="xinggan-scale-single"):
        load_records(fabricate.folder, ["pidm*"])


def test_a_list_is_one_value_of_a_condition(fabricate):
    run = fabricate.run("a", "a", pyramid=[1, 3])
    fabricate.run("b", "b", pyramid=[1])
    for word in ("pyramid=[1,3]", "pyramid=[1,3],[6]"):
        assert [record.run for record in load_records(fabricate.folder, [word])] == [run.name]


def test_folder_without_runs_is_refused_with_what_is_expected(tmp_path):
    (tmp_path / "something").mkdir()
    with pytest.raises(NothingFound, match=r"config\.yaml"):
        load_records(tmp_path)
    with pytest.raises(NothingFound, match="no such folder"):
        load_records(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["config.yaml", "status.json", "metrics.json", "timing.json", "environment.json"])
@pytest.mark.parametrize("content", [b"", b"{[", b"\xff\xfe\x00", b"3", b"[[1]]", b"null"])
def test_damaged_file_is_named_and_the_rest_is_read(fabricate, name, content):
    directory = fabricate.run()
    (directory / name).write_bytes(content)
    record = Record(directory)
    assert any(name in problem for problem in record.problems)
    assert record.state in ("finished", "unknown") and record.name and record.dataset and record.history
    assert Records([record]).titles() and record.facts


@pytest.mark.parametrize("length", range(0, 80, 3))
def test_a_configuration_cut_anywhere_is_read(fabricate, length):
    directory = fabricate.run()
    data = {"name": "synthetic", "height": 64, "width": 32}
    whole = yaml.safe_dump({"dataset": data, "evaluation": {"split": "test"}})
    (directory / "config.yaml").write_text(whole[:length])
    assert Record(directory).dataset


def test_missing_files_are_named(fabricate):
    assert Record(fabricate.run()).problems == []
    directory = fabricate.run(state="running")
    (directory / "history.jsonl").unlink()
    problems = " ".join(Record(directory).problems)
    assert all(name in problems for name in ("history.jsonl", "timing.json", "metrics.json"))


def test_history_cut_short_by_a_crash_keeps_the_whole_lines_and_a_step_done_again_replaces_the_first(fabricate):
    directory = fabricate.run(steps=20)
    with (directory / "history.jsonl").open("a") as file:
        file.write(json.dumps({"step": 20, "losses": {"l1": 0.125}}) + "\n" + '{"step": 30, "losses": {"l1"')
    assert "line 4" in " ".join(Record(directory).problems)
    history = load_records(fabricate.folder).history.query("name == 'l1'")
    assert history["step"].tolist() == [10, 20] and history["value"].iloc[-1] == 0.125


def test_damaged_per_image_file_gives_an_empty_table(fabricate):
    directory = fabricate.run()
    assert len(Record(directory).per_image("ssim")) == 48
    (directory / "per_image.parquet").write_bytes(b"PAR1")
    record = Record(directory)
    assert record.per_image("ssim").empty and "per_image.parquet" in " ".join(record.problems)
    row = load_records(fabricate.folder).metric("ssim").by("scale").iloc[0]
    assert row["value"] == 0.41 and np.isnan(row["low"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.4", True])
def test_value_that_is_no_finite_number_is_unavailable(fabricate, value):
    directory = fabricate.run()
    (directory / "metrics.json").write_text(json.dumps([{"metric": "ssim", "value": value, "protocol": {}, "n": 1}]))
    (row,) = Record(directory).measurements
    assert row.value is None and "not a finite number" in str(row.unavailable_because)


def test_runs_have_distinct_titles_that_say_what_differs(fabricate):
    for seed in (0, 1):
        fabricate.run(seed=seed)
    fabricate.run(seed=1)
    fabricate.run("pidm", "pidm")
    timed = fabricate.run("timing-pidm", "pidm", steps=7) / "status.json"
    timed.write_text(json.dumps(json.loads(timed.read_text()) | {"measures": "timing"}))
    titles = set(load_records(fabricate.folder).titles().values())
    assert len(titles) == 5 and {"xinggan scale=single seed=0", "pidm", "pidm (timed alone)"} <= titles


def test_a_setting_that_an_earlier_record_lacks_has_its_default(fabricate):
    for seed, evaluation in enumerate(({"batch": 16}, {"batch": 16, "split": "test", "protocols": "clean"})):
        config = fabricate.run(seed=seed) / "config.yaml"
        config.write_text(config.read_text() + yaml.safe_dump({"evaluation": evaluation}))
    records = load_records(fabricate.folder)
    assert records.differing() == ["seed"] and len({record.variant for record in records}) == 1
    assert records.metric("ssim").by("variant", over="seeds")["n"].item() == 2


def test_part_of_a_report_keeps_titles_and_looks(fabricate):
    for seed in (0, 1):
        fabricate.run(seed=seed)
    fabricate.run("patn", "patn", digest="e2" * 32)
    whole = load_records(fabricate.folder)
    parts = [whole.where(seed=1), whole.methods, whole[:1], *whole.by_dataset().values()]
    for part in parts:
        assert part.titles().items() <= whole.titles().items()
        assert all(looks(part)[kind].items() <= of_all.items() for kind, of_all in looks(whole).items())


def test_tidy_tables_hold_every_row_of_the_files(fabricate):
    runs = [fabricate.run(), fabricate.run("patn", "patn", state="failed")]
    records = load_records(fabricate.folder)
    good = next(record for record in records if record.run == runs[0].name)
    assert list(records.runs.index) == [record.run for record in records]
    assert records.runs.loc[good.run, ["name", "state", "scale", "training.steps"]].tolist() == [
        *("xinggan scale=single", "finished", "single", 400)
    ]
    assert len(records.values) == len(json.loads((runs[0] / "metrics.json").read_text()))
    assert records.values.set_index("metric").loc["ssim", ["value", "better", "n"]].tolist() == [0.41, "higher", 48]
    read = pd.read_csv(io.StringIO(records.values.to_csv(index=False)))
    assert json.loads(read[read.metric == "ssim"].protocol.iloc[0])["name"] == "clean"
    assert read[read.metric == "fid"].unavailable_because.str.contains("inception").all()
    timed = json.loads((runs[0] / "timing.json").read_text())["scenarios"]
    assert records.timings["timed"].tolist() == [row["unavailable_because"] is None for row in timed]
    assert len(records.per_image("ssim", "l1")) == 48
    entries = [json.loads(line) for run in runs for line in (run / "history.jsonl").read_text().splitlines()]
    assert len(records.history) == sum(len(row.get("losses") or row["evaluation"]) for row in entries)


def test_runs_are_called_and_ordered_as_the_rows_of_their_study(fabricate):
    first, second = fabricate.run("b", "xinggan scale=multi"), fabricate.run("a", "xinggan")
    timed = fabricate.run("c", "patn")
    list_study(fabricate.folder, "components", [("both branches", first.name), ("+ fusion", second.name)])
    list_study(fabricate.folder, "efficiency", [("PATN", timed.name)])
    (fabricate.folder / "studies" / "damaged.json").write_text("{")
    assert list(load_records(fabricate.folder).titles().values()) == ["both branches", "+ fusion", "PATN"]


def test_reports_never_import_torch():
    modules = sorted(f"reports.{path.stem}" for path in (Path(__file__).parents[2] / "reports").glob("[!_]*.py"))
    script = f"import sys; import {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
