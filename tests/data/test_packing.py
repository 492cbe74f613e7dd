"""Packing: whole or not there, continued where it was killed, and one process at a time."""

import fcntl
import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from xinggan.data import packing
from xinggan.data.packed import PackedDataset, open_packed, packed_directory
from xinggan.data.packing import SplitContent, write_packed
from xinggan.data.partial import JOURNAL

COUNT, HEIGHT, WIDTH, AT_ONCE = 11, 24, 20, 2
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
POSES = np.concatenate([RNG.uniform(0, 20, (COUNT, 18, 2)), np.ones((COUNT, 18, 1))], axis=-1).astype(np.float32)
PAIRS = np.array([[0, 1], [1, 0], [5, 6], [2, 4]])
NAMES = [f"{number}.png" for number in range(COUNT)]


class Source:
    """The chunks of a split; remembers which rows were asked for, and is interrupted before row `stop`."""

    def __init__(self, stop: int | None = None, error: type[BaseException] = KeyboardInterrupt):
        self.stop, self.error, self.made = stop, error, list[int]()

    def __call__(self, kept: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        done = 0
        for images in kept:
            np.testing.assert_array_equal(images, IMAGES[done : done + len(images)])
            done += len(images)
        for start in range(done, COUNT, AT_ONCE):
            if start == self.stop:
                raise self.error
            self.made.append(start)
            yield IMAGES[start : start + AT_ONCE], POSES[start : start + AT_ONCE]


def write(cache: Path, train: Callable | None = None, test: Callable | None = None, source: str = "") -> PackedDataset:
    directory = packed_directory(cache, "noise", "0123456789abcdef")
    splits = {
        name: SplitContent(NAMES, np.arange(COUNT) // 2, PAIRS, chunks or Source())
        for name, chunks in {"train": train, "test": test}.items()
    }
    return write_packed(directory, "0123456789abcdef", {"settings": {"name": "noise"}}, splits, source=source)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("split", "stop"), [("train", 0), ("train", 2), ("train", 10), ("test", 0), ("test", 6)])
def test_an_interrupted_packing_continues_and_gives_the_same_bytes(tmp_path, split, stop):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "again", **{split: Source(stop)})
    rest = {"train": Source(), "test": Source()}
    continued = write(tmp_path / "again", **rest)
    expected = list(range(stop, COUNT, AT_ONCE))
    assert rest[split].made == expected
    assert rest["train"].made == (expected if split == "train" else [])
    assert files_of(continued.directory) == files_of(write(tmp_path / "undisturbed").directory)
    assert [path.name for path in (tmp_path / "again").iterdir()] == [continued.directory.name]


def test_files_that_were_written_meanwhile_are_packed_from_the_beginning(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, test=Source(8), source="yesterday")
    source = Source()
    write(tmp_path, source, source="today")
    assert source.made[0] == 0


@pytest.mark.parametrize("array", ["images", "poses", "masks", JOURNAL])
@pytest.mark.parametrize("damage", ["flipped", "shorter", "longer", "gone"])
def test_a_chunk_whose_bytes_have_changed_is_written_again(tmp_path, array, damage):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "again", test=Source(8))
    path = tmp_path / "again/.noise-0123456789ab.part/test" / (array if array == JOURNAL else f"{array}.npy")
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) * 2 // 3] ^= 1  # in the third chunk of four
    path.write_bytes(content[:-9] if damage == "shorter" else content + b"rest" if damage == "longer" else content)
    if damage == "gone":
        path.unlink()
    rest = Source()
    continued = write(tmp_path / "again", test=rest)
    assert rest.made[0] == {"flipped": 4, "shorter": 6, "longer": 8, "gone": 0}[damage]
    assert files_of(continued.directory) == files_of(write(tmp_path / "undisturbed").directory)


@pytest.mark.parametrize("place", ["old", "new/deeper"])
def test_an_error_leaves_nothing(tmp_path, place):
    (tmp_path / "old").mkdir()
    with pytest.raises(ValueError):
        write(tmp_path / place, test=Source(4, ValueError))
    assert [path.name for path in tmp_path.rglob("*")] == ["old"]


def test_too_few_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="11 names and 2 images"):
        write(tmp_path, train=lambda kept: iter([(IMAGES[:2], POSES[:2])]))
    assert list(tmp_path.iterdir()) == []


def test_the_card_has_the_checksum_of_every_array(tmp_path):
    directory = write(tmp_path).directory
    listed = json.loads((directory / "card.json").read_text())["sha256"]
    assert len(listed) == 12
    for name, checksum in listed.items():
        assert hashlib.sha256((directory / name).read_bytes()).hexdigest() == checksum


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


def test_of_two_at_once_one_packs_and_the_other_finds_it_done(tmp_path, capsys):
    begun, go_on, second = threading.Event(), threading.Event(), Source()

    def slow(kept: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        begun.set()
        assert go_on.wait(30)
        yield from Source()(kept)

    packs = threading.Thread(target=write, args=(tmp_path, slow))
    waits = threading.Thread(target=write, args=(tmp_path, second))
    packs.start()
    assert begun.wait(30)
    waits.start()
    while "another process is packing noise-0123456789ab" not in capsys.readouterr().err:
        waits.join(0.01)
        assert waits.is_alive()
    go_on.set()
    for thread in (packs, waits):
        thread.join(30)
    assert second.made == [] and len(open_packed(tmp_path / "noise-0123456789ab").train) == 4
    assert len(list(tmp_path.iterdir())) == 1


def test_who_waits_for_one_that_fails_packs_itself(tmp_path, capsys):
    begun, go_on, second = threading.Event(), threading.Event(), Source()
    failed = []

    def failing(kept: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        begun.set()
        assert go_on.wait(30)
        raise ValueError
        yield

    def fails() -> None:
        with pytest.raises(ValueError):
            write(tmp_path, failing)
        failed.append(True)

    threads = [threading.Thread(target=fails), threading.Thread(target=write, args=(tmp_path, second))]
    threads[0].start()
    assert begun.wait(30)
    threads[1].start()
    while "waiting for it" not in capsys.readouterr().err:
        threads[1].join(0.01)
        assert threads[1].is_alive()
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert failed and second.made[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["noise-0123456789ab"]


def test_what_a_killed_process_left_of_another_content_is_removed_a_day_later(tmp_path, monkeypatch):
    left = tmp_path / ".noise-another.part"
    (left / "train").mkdir(parents=True)
    left.with_suffix(".lock").touch()
    write(tmp_path)
    assert left.exists()
    monkeypatch.setattr(packing, "ABANDONED_AFTER_S", -1)
    (tmp_path / "noise-0123456789ab/card.json").unlink()
    write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["noise-0123456789ab"]


def test_a_slow_owners_folder_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "ABANDONED_AFTER_S", -1)
    left = tmp_path / ".noise-another.part"
    (left / "train").mkdir(parents=True)
    lock = left.with_suffix(".lock")
    with lock.open("a") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        write(tmp_path)
        assert (left / "train").is_dir() and lock.exists()
    (tmp_path / "noise-0123456789ab/card.json").unlink()
    write(tmp_path)
    assert not left.exists() and not lock.exists()
