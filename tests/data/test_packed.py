"""Packed data sets: what was written comes back, batches are exact, and a folder is whole or not there."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from xinggan.data import packed
from xinggan.data.masks import body_masks
from xinggan.data.packed import SplitContent, open_packed, packed_directory, write_packed

COUNT, HEIGHT, WIDTH = 7, 24, 20  # a width that is no multiple of eight
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
POSES = np.concatenate([RNG.uniform(0, 20, (COUNT, 18, 2)), np.ones((COUNT, 18, 1))], axis=-1).astype(np.float32)
POSES[0, 3] = (-1, -1, 0)
PAIRS = np.array([[0, 1], [1, 0], [5, 6], [2, 4]])
NAMES = [f"folder/{number}_view.v1.png" for number in range(COUNT)]


def chunks(size: int = 3, stop: int = COUNT) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, stop, size):
        yield IMAGES[start : start + size], POSES[start : start + size]


def content(chunks_of_it=None) -> SplitContent:
    return SplitContent(NAMES, np.arange(COUNT) // 2, PAIRS, chunks() if chunks_of_it is None else chunks_of_it)


def write(cache: Path, **test_split) -> packed.PackedDataset:
    directory = packed_directory(cache, "noise", "0123456789abcdef")
    splits = {"train": content(), "test": content(**test_split)}
    return write_packed(directory, "0123456789abcdef", {"settings": {"name": "noise"}}, splits)


def test_what_was_written_comes_back(tmp_path):
    dataset = write(tmp_path)
    assert dataset.directory.name == "noise-0123456789ab" and dataset.digest == "0123456789abcdef"
    for split in (dataset.train, dataset.test):
        np.testing.assert_array_equal(split.images, IMAGES)
        np.testing.assert_array_equal(split.poses, POSES)
        np.testing.assert_array_equal(split.pairs, PAIRS)
        np.testing.assert_array_equal(split.identities, np.arange(COUNT) // 2)
        assert (split.names, len(split), split.height, split.width) == (NAMES, 4, HEIGHT, WIDTH)
    counts = dataset.card["splits"]["test"]
    assert (counts["images"], counts["identities"], counts["pairs"]) == (7, 4, 4)
    assert counts["joint_visibility"]["right elbow"] == pytest.approx(6 / 7, abs=1e-4)
    assert (dataset.directory / "contact_sheet.png").stat().st_size > 0


def test_the_arrays_are_plain_files_that_numpy_reads(tmp_path):
    folder = write(tmp_path).directory / "train"
    dtypes = {"images": "uint8", "poses": "float32", "masks": "uint8", "identities": "int64", "pairs": "int32"}
    for name, dtype in dtypes.items():
        assert np.load(folder / f"{name}.npy").dtype == dtype
    assert np.load(folder / "masks.npy").shape == (COUNT, HEIGHT, 3)
    assert json.loads((folder / "names.json").read_text()) == NAMES


@pytest.mark.parametrize("indices", [[2, 0, 2], np.array([3]), range(4)], ids=["list", "array", "range"])
def test_a_batch_holds_the_pairs_that_were_asked_for(tmp_path, indices):
    batch = write(tmp_path).train.batch(indices)
    source, target = PAIRS[list(indices)].T
    masks = body_masks(POSES, HEIGHT, WIDTH)
    expected = {
        "source_image": IMAGES[source].transpose(0, 3, 1, 2),
        "target_image": IMAGES[target].transpose(0, 3, 1, 2),
        "source_pose": POSES[source],
        "target_pose": POSES[target],
        "target_mask": masks[target][:, None],
        "identity": target // 2,
        "pair": np.array(list(indices)),
    }
    for name, array in expected.items():
        tensor = getattr(batch, name)
        assert tensor.dtype == torch.from_numpy(array).dtype, name
        np.testing.assert_array_equal(tensor.numpy(), array, err_msg=name)
    assert batch.source_image.is_contiguous(memory_format=torch.channels_last)


def test_writing_into_a_batch_leaves_the_data_set_alone(tmp_path):
    split = write(tmp_path).train
    batch = split.batch([0, 1])
    batch.source_image.zero_()
    batch.target_pose.zero_()
    np.testing.assert_array_equal(split.images, IMAGES)
    with pytest.raises(ValueError, match="read-only"):
        split.images[0] = 0


def test_a_pair_is_called_by_its_names_without_folder_and_suffix(tmp_path):
    assert write(tmp_path).test.pair_id(2) == "5_view.v1___6_view.v1"


def interrupted() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield IMAGES[:3], POSES[:3]
    raise KeyboardInterrupt


def test_an_interrupted_packing_leaves_nothing_and_the_next_one_succeeds(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, chunks_of_it=interrupted())
    assert list(tmp_path.iterdir()) == []
    assert len(write(tmp_path).test) == 4


def test_too_few_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="7 names and 3 images"):
        write(tmp_path, chunks_of_it=chunks(stop=3))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["card.json", "train/images.npy", "test/names.json", "shorter", "other format"])
def test_an_incomplete_folder_is_not_opened_and_is_replaced_by_a_whole_one(tmp_path, damage):
    directory = write(tmp_path).directory
    if damage == "shorter":
        images = directory / "test/images.npy"
        images.write_bytes(images.read_bytes()[:-100])
    elif damage == "other format":
        card = json.loads((directory / "card.json").read_text())
        (directory / "card.json").write_text(json.dumps({**card, "format": 0}))
    else:
        (directory / damage).unlink()
    with pytest.raises(ValueError, match="not a complete packed data set"):
        open_packed(directory)
    assert len(write(tmp_path).train) == 4
    assert [path.name for path in tmp_path.iterdir()] == [directory.name]


def test_the_same_data_set_finished_by_another_process_meanwhile_is_kept(tmp_path):
    def overtaken() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        write(tmp_path)
        yield from chunks()

    assert len(write(tmp_path, chunks_of_it=overtaken()).train) == 4
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_process_left_is_removed_a_day_later(tmp_path, monkeypatch):
    left = tmp_path / ".noise-0123456789ab.1.abcd.part"
    (left / "train").mkdir(parents=True)
    write(tmp_path)
    assert left.exists()
    monkeypatch.setattr(packed, "ABANDONED_AFTER_S", -1)
    write(tmp_path)
    assert not left.exists()
