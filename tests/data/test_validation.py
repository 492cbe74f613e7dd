"""The validation split: who is held out, what becomes of their pairs, and that nothing of the test split is scored."""

from itertools import permutations

import numpy as np
import pytest

from xinggan.data.prepare import digest, prepare
from xinggan.data.settings import DatasetSettings, Split
from xinggan.data.validation import hold_out

SMALL = {"height": 32, "width": 16, "mask_radius": 1, "views": 3}
SYNTHETIC = DatasetSettings(people_train=30, people_test=5, test_pairs=12, **SMALL)
PEOPLE = [f"{number:02d}" for number in range(1, 9)]  # who trains in the folders below; the views of each: a, b, c
VIEWS = "abc"
TEST = ("91_a.png", "91_b.png", "92_a.png", "92_b.png")


def in_folder(make_layout, **pairs):
    names = tuple(f"{person}_{view}.png" for person in PEOPLE for view in VIEWS)
    return DatasetSettings("folder", root=str(make_layout(names, TEST, prefix="people", **pairs)), mask_radius=1)


def both(settings, cache):
    return (prepare(settings, cache, progress=False, split=split) for split in (Split.test, Split.validation))


def people_of(split):
    return {name.partition("_")[0] for name in split.names}


@pytest.mark.parametrize("kind", ["synthetic", "folder", "folder with a list of pairs"])
def test_nobody_is_in_two_of_training_validation_and_test(kind, make_layout, tmp_path):
    listed = {"train": "from,to\n" + "".join(f"{p}_a.png,{p}_{v}.png\n" for p in PEOPLE for v in "bc")}
    settings = SYNTHETIC if kind == "synthetic" else in_folder(make_layout, pairs=listed if "list" in kind else None)
    usual, validation = both(settings, tmp_path / "cache")
    names = [set(split.names) for split in (validation.train, validation.test, usual.test)]
    people = [people_of(split) for split in (validation.train, validation.test, usual.test)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not people[one] & people[other]
    assert names[0] | names[1] == set(usual.train.names)
    assert len(people[1]) == (3 if kind == "synthetic" else 2)  # a tenth of 30; at least two of eight
    pairs = {validation.test.pair_id(row) for row in range(len(validation.test))}
    source, target = validation.test.identities[validation.test.pairs].T
    assert (source == target).all() and len(pairs) == len(validation.test) == min(12, len(pairs), len(usual.test))
    if kind != "synthetic":
        of_person = {p: set(permutations(VIEWS, 2)) if "list" not in kind else {("a", "b"), ("a", "c")} for p in PEOPLE}
        every = {f"{p}_{a}___{p}_{b}" for p, views in of_person.items() for a, b in views}
        trained = {validation.train.pair_id(row) for row in range(len(validation.train))}
        assert pairs < every and trained == {pair for pair in every if pair[:2] in people[0]}


def test_images_poses_and_masks_are_those_of_the_training_images(tmp_path):
    usual, validation = both(SYNTHETIC, tmp_path)
    row_of = {name: row for row, name in enumerate(usual.train.names)}
    for split in (validation.train, validation.test):
        rows = [row_of[name] for name in split.names]
        for array in ("images", "poses", "masks", "identities"):
            assert np.array_equal(getattr(split, array), getattr(usual.train, array)[rows])


def test_the_people_in_turn_are_the_first_validation_pairs_and_the_same_every_time(tmp_path):
    usual, validation = both(SYNTHETIC, tmp_path)
    turns = validation.test.identities[validation.test.pairs[:, 1]].reshape(-1, 3)
    assert all(len(set(turn)) == 3 for turn in turns.tolist())
    again = hold_out(usual)
    assert np.array_equal(again.people, np.unique(validation.test.identities))
    assert again.people.tolist() == [0, 14, 29]  # evenly spaced over people 0 to 29
    assert [usual.train.names[row] for row in np.flatnonzero(again.rows)] == validation.test.names


def test_a_validation_split_is_a_data_set_of_its_own_and_changes_nothing_of_the_usual_one(tmp_path):
    before = prepare(SYNTHETIC, tmp_path, progress=False)
    content = {path: path.read_bytes() for path in before.directory.rglob("*") if path.is_file()}
    validation = prepare(SYNTHETIC, tmp_path, progress=False, split=Split.validation)
    assert validation.digest == digest(SYNTHETIC, split=Split.validation) != before.digest == digest(SYNTHETIC)
    assert validation.directory != before.directory and validation.card["validation_of"] == before.digest
    assert any("validation" in note for note in validation.card["notes"])
    assert {path: path.read_bytes() for path in content} == content
    (validation.directory / "card.json").write_text("{}")  # damaged: packed again
    assert prepare(SYNTHETIC, tmp_path, progress=False, split=Split.validation).digest == validation.digest


def test_too_few_people_are_refused(tmp_path):
    few = DatasetSettings(people_train=2, people_test=2, **SMALL)
    with pytest.raises(ValueError, match=r"evaluation.split=validation holds 2 .* there are 2 with training pairs"):
        prepare(few, tmp_path, progress=False, split=Split.validation)


def test_people_of_the_test_split_are_not_held_out(make_layout, tmp_path):
    names = tuple(f"{person}_{view}.png" for person in PEOPLE for view in VIEWS)
    root = make_layout(names, ("01_x.png", "01_y.png", "08_x.png", "08_y.png"), prefix="people")
    _, validation = both(DatasetSettings("folder", root=str(root), mask_radius=1), tmp_path / "cache")
    assert people_of(validation.test) == {"02", "07"}
