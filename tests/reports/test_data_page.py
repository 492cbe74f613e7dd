"""The data card counts what is in the packed data set, and says where it cannot."""

import csv
import json

import numpy as np
import pytest

from reports.pages.data import COUNT_HEADS, cards
from reports.records import load_records
from xinggan.data.packed import open_packed
from xinggan.data.prepare import prepare
from xinggan.data.settings import DatasetSettings


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    settings = DatasetSettings(height=32, width=16, people_train=4, people_test=3, views=4, test_pairs=9, mask_radius=1)
    return prepare(settings, tmp_path_factory.mktemp("cache"), progress=False)


def scored_on(fabricate, packed, name="patn"):
    cache = str(packed.directory.parent)
    return fabricate.run(name, name, digest=packed.digest, cache=cache, dataset={"name": "synthetic", "seed": 5})


def read(path):
    return list(csv.reader(path.read_text().splitlines()))


def test_counts_and_visible_joints_are_those_of_the_arrays(fabricate, packed, tmp_path):
    scored_on(fabricate, packed)
    shown = cards(load_records(fabricate.folder), tmp_path)._repr_html_()
    data = open_packed(packed.directory)
    heads, *rows = read(tmp_path / "tables" / "data-1.csv")
    assert heads == list(COUNT_HEADS)
    for split, row in zip((data.train, data.test), rows, strict=True):
        people = {split.pair_id(pair).split("_")[0] for pair in range(len(split.pairs))}
        assert row[1] == str(len(split.images)) and row[3] == str(len(split.pairs)) and row[4] == "32 x 16"
        assert int(row[2]) >= len(people)
    (_, first, second), *joints = read(tmp_path / "tables" / "joints-1.csv")
    assert [first, second] == ["train", "test"] and len(joints) == 18
    visible = np.asarray(data.test.poses)[:, :, 2] > 0  # [images, joints]
    assert [row[2] for row in joints] == [f"{share:.1%}" for share in visible.mean(axis=0)]
    assert "share 0 images and 0 people" in shown and "1 run was scored" in shown
    assert "<td>5</td>" in shown  # the settings


@pytest.mark.parametrize("content", ["", "{", "[]", '{"digest": "another", "splits": {}}', '{"splits": 3}'])
def test_damaged_card_is_as_good_as_none(fabricate, packed, tmp_path, content):
    copy = tmp_path / "cache" / packed.directory.name
    copy.mkdir(parents=True)
    (copy / "card.json").write_text(content)
    fabricate.run(digest=packed.digest, cache=str(tmp_path / "cache"))
    shown = cards(load_records(fabricate.folder), tmp_path)._repr_html_()
    assert "is not on this machine" in shown and not (tmp_path / "tables").exists()


def test_each_test_set_has_a_card_of_its_own_and_notes_are_text(fabricate, packed, tmp_path):
    copy = tmp_path / "cache" / packed.directory.name
    copy.mkdir(parents=True)
    card = json.loads((packed.directory / "card.json").read_text()) | {"notes": ["<b>12</b> images left out"]}
    (copy / "card.json").write_text(json.dumps(card))
    fabricate.run("patn", "patn", digest=packed.digest, cache=str(tmp_path / "cache"))
    fabricate.run("pidm", "pidm", digest="e2" * 32)
    shown = cards(load_records(fabricate.folder), tmp_path)._repr_html_()
    assert shown.count("<h3>") == 2 and "&lt;b&gt;12&lt;/b&gt; images left out" in shown and "<b>" not in shown
