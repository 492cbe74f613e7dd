"""Packed data sets: what was written comes back, and batches are exact."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from xinggan.data import packed
from xinggan.data.masks import body_masks
from xinggan.data.packed import packed_directory
from xinggan.data.packing import SplitContent, write_packed

COUNT, HEIGHT, WIDTH = 7, 24, 20  # a width that is no multiple of eight
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
POSES = np.concatenate([RNG.uniform(0, 20, (COUNT, 18, 2)), np.ones((COUNT, 18, 1))], axis=-1).astype(np.float32)
POSES[0, 3] = (-1, -1, 0)
PAIRS = np.array([[0, 1], [1, 0], [5, 6], [2, 4]])
NAMES = [f"folder/{number}_view.v1.png" for number in range(COUNT)]


def chunks(kept: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(sum(map(len, kept)), COUNT, 3):
        yield IMAGES[start : start + 3], POSES[start : start + 3]


def write(cache: Path) -> packed.PackedDataset:
    content = SplitContent(NAMES, np.arange(COUNT) // 2, PAIRS, chunks)
    directory = packed_directory(cache, "noise", "0123456789abcdef")
    card = {"settings": {"name": "noise"}}
    return write_packed(directory, "0123456789abcdef", card, {"train": content, "test": content})


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
