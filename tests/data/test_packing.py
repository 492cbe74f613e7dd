"""Packed data sets: whole or not there, one process at a time; what was written comes back, and batches are exact."""

import hashlib
import json
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from xinggan.data.packed import PackedDataset, PackedSplit, open_packed, packed_directory
from xinggan.data.packing import GAP, PEOPLE, Chunk, SplitContent, draw_contact_sheet, write_packed
from xinggan.data.poses import body_masks

COUNT, HEIGHT, WIDTH, AT_ONCE = 11, 24, 20, 3  # a width that is no multiple of eight
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
POSES = np.concatenate([RNG.uniform(0, 20, (COUNT, 18, 2)), np.ones((COUNT, 18, 1))], axis=-1).astype(np.float32)
POSES[0, 3] = (-1, -1, 0)
PAIRS = np.array([[0, 1], [1, 0], [5, 6], [2, 4]])
NAMES = [f"folder/{number}_view.v1.png" for number in range(COUNT)]


def chunks(stop: type[BaseException] | None = None) -> Iterator[Chunk]:
    """All images; or an exception after the first chunks."""
    for start in range(0, COUNT, AT_ONCE):
        if stop and start > COUNT / 2:
            raise stop
        yield IMAGES[start : start + AT_ONCE], POSES[start : start + AT_ONCE]


def write(cache: Path, train: Iterable[Chunk] | None = None, test: Iterable[Chunk] | None = None) -> PackedDataset:
    directory = packed_directory(cache, "noise", "0123456789abcdef")
    splits = {
        name: SplitContent(NAMES, np.arange(COUNT) // 2, PAIRS, some or chunks())
        for name, some in {"train": train, "test": test}.items()
    }
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
    assert (counts["images"], counts["identities"], counts["pairs"]) == (11, 6, 4)
    assert counts["joints_outside"] == (POSES[..., 0] >= WIDTH - 0.5).sum() > 0
    assert counts["joint_visibility"]["right elbow"] == pytest.approx(10 / 11, abs=1e-4)
    assert (dataset.directory / "contact_sheet.png").stat().st_size > 0


def test_the_arrays_are_plain_files_that_numpy_reads_with_their_checksums_on_the_card(tmp_path):
    directory = write(tmp_path).directory
    listed, folder = json.loads((directory / "card.json").read_text())["sha256"], directory / "train"
    assert listed == {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in listed}
    assert len(listed) == 12
    dtypes = {"images": "uint8", "poses": "float32", "masks": "uint8", "identities": "int64", "pairs": "int32"}
    for name, dtype in dtypes.items():
        assert np.load(folder / f"{name}.npy").dtype == dtype
    assert np.load(folder / "masks.npy").shape == (COUNT, HEIGHT, 3)
    assert json.loads((folder / "names.json").read_text()) == NAMES


@pytest.mark.parametrize("indices", [[2, 0, 2], np.array([3]), range(4)], ids=["list", "array", "range"])
def test_a_batch_holds_the_pairs_that_were_asked_for(tmp_path, indices):
    split = write(tmp_path).train
    batch = split.batch(indices)
    source, target = PAIRS[list(indices)].T
    expected = {
        "source_image": IMAGES[source].transpose(0, 3, 1, 2),
        "target_image": IMAGES[target].transpose(0, 3, 1, 2),
        "source_pose": POSES[source],
        "target_pose": POSES[target],
        "target_mask": body_masks(POSES, HEIGHT, WIDTH)[target][:, None],
        "identity": target // 2,
        "pair": np.array(list(indices)),
    }
    for name, array in expected.items():
        tensor = getattr(batch, name)
        assert tensor.dtype == torch.from_numpy(array).dtype, name
        np.testing.assert_array_equal(tensor.numpy(), array, err_msg=name)
    assert batch.source_image.is_contiguous(memory_format=torch.channels_last)
    assert split.pair_id(2) == "5_view.v1___6_view.v1"
    batch.source_image.zero_()  # is a copy
    np.testing.assert_array_equal(split.images, IMAGES)


@pytest.mark.parametrize("place", ["old", "new/deeper"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_nothing(tmp_path, place, error):
    (tmp_path / "old").mkdir()
    with pytest.raises(error):
        write(tmp_path / place, test=chunks(stop=error))
    assert [path.name for path in tmp_path.rglob("*")] == ["old"]


def test_too_few_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="11 names and 2 images"):
        write(tmp_path, train=[(IMAGES[:2], POSES[:2])])
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


@pytest.mark.parametrize("first_fails", [False, True])
def test_of_two_at_once_one_packs_and_the_other_packs_only_if_that_fails(tmp_path, capsys, first_fails):
    begun, go_on, asked = threading.Event(), threading.Event(), []

    def slow() -> Iterator[Chunk]:
        begun.set()
        assert go_on.wait(30)
        yield from chunks(stop=ValueError if first_fails else None)

    def second() -> Iterator[Chunk]:
        asked.append(True)
        yield from chunks()

    def packing() -> None:
        if first_fails:
            with pytest.raises(ValueError):
                write(tmp_path, slow())
        else:
            write(tmp_path, slow())

    threads = [threading.Thread(target=packing), threading.Thread(target=write, args=(tmp_path, second()))]
    threads[0].start()
    assert begun.wait(30)
    threads[1].start()
    while f"another process is packing into {tmp_path}; waiting for it" not in capsys.readouterr().err:
        threads[1].join(0.01)
        assert threads[1].is_alive()
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert asked == [True] * first_fails
    assert len(open_packed(tmp_path / "noise-0123456789ab").train) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["noise-0123456789ab"]


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    for left in (".noise-0123456789ab.part", ".noise-another.part"):
        (tmp_path / left / "train").mkdir(parents=True)
    (tmp_path / ".packing.lock").touch()
    write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["noise-0123456789ab"]


def people(name: str, count: int, brightness: int) -> PackedSplit:
    images = np.full((2 * count, 256, WIDTH, 3), brightness, dtype=np.uint8)
    images += np.arange(2 * count, dtype=np.uint8)[:, None, None, None]
    poses = np.tile(np.array([10, 100, 1], dtype=np.float32), (2 * count, 18, 1))
    masks = np.packbits(body_masks(poses, 256, WIDTH), axis=-1)
    return PackedSplit(name, images, poses, masks, np.arange(2 * count) // 2, np.zeros((1, 2)), ["x"] * 2 * count)


def test_the_contact_sheet_shows_different_people_plain_with_skeleton_and_masked():
    train, test = people("train", 40, brightness=100), people("test", 3, brightness=60)
    sheet = draw_contact_sheet([train, test])
    assert sheet.shape == (6 * (256 + GAP) + GAP, PEOPLE * (WIDTH + GAP) + GAP, 3)

    def cell(row: int, column: int) -> np.ndarray:
        top, left = GAP + row * (256 + GAP), GAP + column * (WIDTH + GAP)
        return sheet[top : top + 256, left : left + WIDTH].astype(int)

    shown = [int(cell(0, column)[0, 0, 0]) - 100 for column in range(PEOPLE)]
    assert len({row // 2 for row in shown}) == PEOPLE
    assert [int(cell(3, column)[0, 0, 0]) - 60 for column in range(7)] == [0, 1, 2, 3, 4, 5, 195]
    plain, posed, masked = (cell(row, 0) for row in range(3))
    assert (plain == 100).all()
    changed = (posed != plain).any(axis=-1)
    assert changed[100, 10] and changed.sum() < 60
    inside = np.unpackbits(train.masks[0], axis=-1, count=WIDTH).astype(bool)
    assert (masked[inside] == 100).all() and (masked[~inside] == 35).all()
