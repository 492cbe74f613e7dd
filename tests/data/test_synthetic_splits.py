"""The synthetic data set: people split by identity, all pairs for training, test pairs whose every prefix is fair."""

import itertools

import numpy as np
import pytest

from xinggan.data.layout import derived_pairs
from xinggan.data.prepare import prepare
from xinggan.data.settings import DatasetSettings
from xinggan.data.synthetic import scored_pairs

SMALL = DatasetSettings(people_train=3, people_test=2, views=3, height=32, width=16)


@pytest.mark.parametrize(("people", "views"), [(1, 2), (7, 4), (60, 8)])
def test_test_pairs_are_all_pairs_in_an_order_that_covers_all_people_evenly(people, views):
    every = derived_pairs(np.repeat(np.arange(people), views))
    expected = [(a, b) for a, b in itertools.permutations(range(people * views), 2) if a // views == b // views]
    pairs = scored_pairs(every, people)
    assert sorted(map(tuple, pairs.tolist())) == sorted(map(tuple, every.tolist())) == sorted(expected)
    shown = pairs[:, 0] // views
    for start in range(0, len(pairs), people):
        assert sorted(shown[start : start + people]) == list(range(people))
    np.testing.assert_array_equal(pairs, scored_pairs(every, people))


def test_the_packed_people_are_the_rendered_ones_and_no_identity_is_in_both_splits(tmp_path):
    from xinggan.data.synthetic import render

    dataset = prepare(SMALL, tmp_path, progress=False)
    assert dataset.train.identities.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert dataset.test.identities.tolist() == [3, 3, 3, 4, 4, 4]
    views = np.tile(np.arange(3), 2)
    rendering = render(0, dataset.test.identities, views, 32, 16)
    np.testing.assert_array_equal(dataset.test.images, rendering.images)
    np.testing.assert_array_equal(dataset.test.poses, rendering.poses)
    assert len(dataset.train) == 18 and len(dataset.test) == 12
    assert dataset.test.names[4] == "000004_001.png"


def test_fewer_test_pairs_are_the_first_of_the_list(tmp_path):
    every = prepare(SMALL, tmp_path, progress=False).test
    some = prepare(DatasetSettings(**{**vars(SMALL), "test_pairs": 5}), tmp_path, progress=False).test
    np.testing.assert_array_equal(some.pairs, every.pairs[:5])


def test_settings_that_make_no_data_set_are_refused(tmp_path):
    wrong = {"people_train": 0, "views": 1, "height": 30, "width": 4, "test_pairs": 0, "name": "market"}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match="accepted: synthetic" if name == "name" else name):
            prepare(DatasetSettings(**{name: value}), tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []
