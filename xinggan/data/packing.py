"""Packing: the folder that `packed` reads, written so that it is whole or not there and no finished work is lost.

Chunks go to `.<name>-<digest12>.part`, where a journal keeps the hash of each. When the process is killed, the next one
that packs the same content keeps the chunks whose bytes still have their hash, and goes on after them.
"""

import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from xinggan.data.packed import PACK_FORMAT, SPLITS, PackedDataset, open_packed
from xinggan.data.partial import JOURNAL, PartialArrays
from xinggan.data.poses import JOINTS
from xinggan.files import sha256_of

ABANDONED_AFTER_S = 24 * 3600  # another content's partial folder that nobody has written to for so long goes
SOURCE = "source"

Chunk = tuple[np.ndarray, np.ndarray]  # images uint8 [k, H, W, 3], poses float32 [k, 18, 3]


@dataclass(frozen=True)
class SplitContent:
    """What `write_packed` turns into one split: the tables, and the images with their poses in chunks.

    `chunks` is called with the images [k, H, W, 3] of the chunks that are packed already, reads them to the end, and
    gives those that follow; n images in all.
    """

    names: list[str]  # n
    identities: np.ndarray  # [n]
    pairs: np.ndarray  # [p, 2] source row, target row
    chunks: Callable[[Iterable[np.ndarray]], Iterator[Chunk]]


def write_packed(
    directory: Path,
    digest: str,
    card: dict[str, Any],
    splits: dict[str, SplitContent],
    mask_radius: int = 4,
    source: str = "",
) -> PackedDataset:
    """Write a packed folder, chunk after chunk, and open it. `card` is completed with counts and checksums.

    An error on the way, of the chunks too, leaves nothing behind; a killed or interrupted process leaves what the next
    one continues if it has the same `source`, the state of the files. One process at a time packs; the others wait and
    find the folder finished.
    """
    absent = [folder for folder in directory.parents if not folder.exists()]
    partial = directory.with_name(f".{directory.name}.part")
    try:
        with _owned(partial):
            with suppress(ValueError):
                return open_packed(directory)  # finished while this process waited
            try:
                _begin(partial, source)
                _write(partial, digest, card, splits, mask_radius)
                shutil.rmtree(directory, ignore_errors=True)  # what could not be opened
                partial.rename(directory)
            except Exception:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    except Exception:
        for folder in absent:
            with suppress(OSError):  # somebody else has put something there
                folder.rmdir()
        raise
    _remove_abandoned(directory.parent)
    return open_packed(directory)


@contextmanager
def _owned(partial: Path) -> Iterator[None]:
    """Make the partial folder and hold its lock, which the system gives back when this process dies."""
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cache {partial.parent} cannot be made: {error.strerror}; name another folder") from error
    path = partial.with_suffix(".lock")
    with _locked(path):
        try:
            partial.mkdir(exist_ok=True)
            yield
        finally:
            with suppress(OSError):
                partial.rmdir()  # where nothing was written
            path.unlink()


def _locked(path: Path, wait: bool = True) -> IO[str]:
    """Wait for the lock of this file, which its owner removes at the end: then the next one is another file.

    Raises BlockingIOError instead of waiting where that is not wanted.
    """
    while True:
        file = path.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                file.close()
                raise
            print(f"another process is packing {path.stem[1:]}; waiting for it", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        file.close()


def _begin(partial: Path, source: str) -> None:
    """Empty the folder unless it was begun with the same source: files may change while they are packed, and back."""
    begun_with = partial / SOURCE
    if not begun_with.exists() or begun_with.read_text(encoding="utf-8") != source:
        shutil.rmtree(partial)
        partial.mkdir()
        begun_with.write_text(source, encoding="utf-8")


def _write(partial: Path, digest: str, card: dict[str, Any], splits: dict[str, SplitContent], mask_radius: int) -> None:
    counts = {name: _write_split(partial / name, splits[name], mask_radius) for name in SPLITS}
    files = sorted(path for name in SPLITS for path in (partial / name).iterdir() if path.name != JOURNAL)
    checksums = {path.relative_to(partial).as_posix(): sha256_of(path) for path in files}
    card = {"format": PACK_FORMAT, "digest": digest, **card, "splits": counts, "sha256": checksums}
    (partial / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _draw_contact_sheet(open_packed(partial))
    for left in (SOURCE, *(f"{name}/{JOURNAL}" for name in SPLITS)):
        (partial / left).unlink()


def _write_split(folder: Path, content: SplitContent, mask_radius: int) -> dict[str, Any]:
    """Write one split's files and return its counts for the card."""
    from xinggan.data.masks import body_masks

    count = len(content.names)
    with PartialArrays(folder, count) as arrays:
        for images, poses in content.chunks(arrays.kept()):
            masks = np.packbits(body_masks(poses, images.shape[1], images.shape[2], mask_radius), axis=-1)
            arrays.append(images, poses.astype(np.float32), masks)
        if arrays.rows != count or not count:
            raise ValueError(f"the {folder.name} split has {count} names and {arrays.rows} images")
    np.save(folder / "identities.npy", content.identities.astype(np.int64))
    np.save(folder / "pairs.npy", content.pairs.astype(np.int32))
    (folder / "names.json").write_text(json.dumps(content.names, ensure_ascii=False), encoding="utf-8")
    height, width = np.load(folder / "images.npy", mmap_mode="r").shape[1:3]
    poses = np.load(folder / "poses.npy")
    visible = poses[..., 2] > 0  # [n, 18]
    in_frame = ((poses[..., :2] >= -0.5) & (poses[..., :2] < np.array([width, height]) - 0.5)).all(axis=-1)
    return {
        "images": count,
        "identities": len(np.unique(content.identities)),
        "pairs": len(content.pairs),
        "height": height,
        "width": width,
        # annotated beyond the image's edge: many mean annotations of another size
        "joints_outside": int((visible & ~in_frame).sum()),
        "joint_visibility": dict(zip(JOINTS, visible.mean(axis=0).round(4).tolist(), strict=True)),
    }


def _draw_contact_sheet(dataset: PackedDataset) -> None:
    from xinggan.data.contact_sheet import draw_contact_sheet

    draw_contact_sheet([dataset.train, dataset.test]).save(dataset.directory / "contact_sheet.png")


def _remove_abandoned(cache: Path) -> None:
    """Remove what killed processes left of contents that nobody has packed since."""
    for partial in cache.glob(".*.part"):
        with suppress(OSError):  # its owner may be at work in it, slowly, and has its lock then
            newest = max(path.stat().st_mtime for path in (partial, *partial.rglob("*")))
            if time.time() - newest > ABANDONED_AFTER_S:
                lock = partial.with_suffix(".lock")
                with _locked(lock, wait=False):
                    shutil.rmtree(partial, ignore_errors=True)
                    lock.unlink()
