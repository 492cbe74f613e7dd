"""The report says how runs differ, where they were made and what is missing from them; the data card counts what is in
the packed data set, and says where it cannot.
"""

import numpy as np
import pytest

from reports.provenance import (
    configuration_table,
    data_card,
    data_notes,
    data_tables,
    environments,
    missing,
    record_table,
)
from reports.records import load_records
from xinggan.data.packed import open_packed
from xinggan.data.prepare import prepare
from xinggan.data.settings import DatasetSettings


def test_only_what_differs_is_a_column(fabricate):
    fabricate.run(scale="single", steps=100)
    fabricate.run(scale="multi", steps=100)
    table = configuration_table(load_records(fabricate.folder).methods)
    assert list(table) == ["run", "scale"] and sorted(table["scale"]) == ["multi", "single"]


def test_single_run_shows_its_switches(fabricate):
    fabricate.run()
    table = configuration_table(load_records(fabricate.folder).methods)
    assert {"scale", "attention", "seed"} <= set(table) and len(table) == 1


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
    assert record_table(records)["record"].tolist() == [record.run for record in records]
    ((told, runs),) = environments(records).items()
    assert "packages.torch: 2.13.0" in told and len(runs) == 4


def test_settings_that_only_one_method_has_are_no_differences_between_methods(fabricate):
    fabricate.run("a", "a", method={"_target_": "a.A", "candidates": 10}, learning_rate=0.1)
    fabricate.run("b", "b", method={"_target_": "b.B", "sampler": "ddim"}, learning_rate=0.2)
    table = configuration_table(load_records(fabricate.folder).methods)
    assert list(table) == ["run", "learning_rate"] and table["learning_rate"].tolist() == ["0.1", "0.2"]


def test_setting_that_differs_between_runs_of_one_method_is_a_column_beside_other_methods(fabricate):
    for name, scale in (("a", "multi"), ("b", "single")):
        fabricate.run(name, name, method={"_target_": "a.A", "scale": scale}, scale=None)
    fabricate.run("c", "c", method={"_target_": "b.B", "sampler": "ddim"}, scale=None)
    table = configuration_table(load_records(fabricate.folder).methods)
    assert list(table) == ["run", "scale"] and table["scale"].tolist() == ["multi", "single", "–"]


def test_switch_that_a_method_does_not_take_is_no_setting_of_its_run(fabricate):
    fabricate.run("a", "a", method={"_target_": "a.A", "architecture": {"scale": "multi"}}, scale="multi")
    fabricate.run("b", "b", method={"_target_": "b.B"}, scale="single", precision="bf16")
    fabricate.run("c", "c", method={"_target_": "a.A", "architecture": {"scale": "single"}}, scale="single")
    table = configuration_table(load_records(fabricate.folder).methods)
    assert list(table) == ["run", "scale"] and dict(table.to_numpy()) == {"a": "multi", "b": "–", "c": "single"}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    settings = DatasetSettings(height=32, width=16, people_train=4, people_test=3, views=4, test_pairs=9, mask_radius=1)
    return prepare(settings, tmp_path_factory.mktemp("cache"), progress=False)


def scored_on(fabricate, packed, name="patn"):
    cache = str(packed.directory.parent)
    return fabricate.run(name, name, digest=packed.digest, cache=cache, dataset={"name": "synthetic", "seed": 5})


def test_counts_and_visible_joints_are_those_of_the_arrays(fabricate, packed):
    scored_on(fabricate, packed)
    card = data_card(load_records(fabricate.folder))
    counts, joints = data_tables(card)
    data = open_packed(packed.directory)
    for split, row in zip((data.train, data.test), counts.to_dict("records"), strict=True):
        assert row["images"] == str(len(split.images)) and row["pairs"] == str(len(split.pairs))
        assert row["height x width"] == "32 x 16"
        assert int(row["people"]) >= len({split.pair_id(pair).split("_")[0] for pair in range(len(split.pairs))})
    visible = np.asarray(data.test.poses)[:, :, 2] > 0  # [images, joints]
    assert joints["test"].tolist() == [f"{share:.1%}" for share in visible.mean(axis=0)] and len(joints) == 18
    assert data_notes(card | {"notes": ["a note"]}) == [
        "Training and test set share 0 images and 0 people.",
        "a note",
    ]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"digest": "another", "splits": {}}', '{"splits": 3}'])
def test_damaged_card_is_as_good_as_none(fabricate, packed, tmp_path, content):
    copy = tmp_path / "cache" / packed.directory.name
    copy.mkdir(parents=True)
    (copy / "card.json").write_text(content)
    fabricate.run(digest=packed.digest, cache=str(tmp_path / "cache"))
    assert data_card(load_records(fabricate.folder)) is None
