"""Packing: the folder that `packed` reads, written under a temporary name and renamed, so it is whole or not there.

One process at a time packs into a cache; the others wait for its lock. A killed packing starts again.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import Timeout

from xinggan.data.packed import PACK_FORMAT, SPLITS, PackedDataset, PackedSplit, open_packed
from xinggan.data.poses import JOINTS, body_masks, draw_skeleton
from xinggan.files import locked, sha256_of
from xinggan.pictures import save_png, tile

LOCK = ".packing.lock"  # file inside the cache
PEOPLE = 12  # columns of the contact sheet
GAP = 4  # pixels between its pictures
TALL = 256  # pixels: smaller images are enlarged to about this height
OUTSIDE_MASK = 0.35  # brightness of what the body mask leaves out

Chunk = tuple[np.ndarray, np.ndarray]  # images uint8 [k, H, W, 3], poses float32 [k, 18, 3]


@dataclass(frozen=True)
class SplitContent:
    """The content of one split for `write_packed`: tables, and n images with their poses in chunks."""

    names: list[str]  # n
    identities: np.ndarray  # [n]
    pairs: np.ndarray  # [p, 2] source row, target row
    chunks: Iterable[Chunk]


def write_packed(
    directory: Path,
    digest: str,
    card: dict[str, Any],
    splits: dict[str, SplitContent],
    mask_radius: int = 4,
    check: Callable[[], None] = lambda: None,
) -> PackedDataset:
    """Write a packed folder and open it. `card` is completed with counts and checksums.

    `check` is called before the folder gets its name and raises an error if the content must not be kept. An error
    leaves nothing behind. A folder that another process packed meanwhile is opened instead.
    """
    with _locked(directory.parent):
        with suppress(ValueError):
            return open_packed(directory)  # finished while this process waited
        for left in directory.parent.glob(".*.part"):  # by a killed process: whoever lives holds the lock
            shutil.rmtree(left)
        partial = directory.with_name(f".{directory.name}.part")
        partial.mkdir()
        try:
            counts = {name: _write_split(partial / name, splits[name], mask_radius) for name in SPLITS}
            files = sorted(path for name in SPLITS for path in (partial / name).iterdir())
            checksums = {path.relative_to(partial).as_posix(): sha256_of(path) for path in files}
            card = {"format": PACK_FORMAT, "digest": digest, **card, "splits": counts, "sha256": checksums}
            (partial / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            written = open_packed(partial)
            save_png(partial / "contact_sheet.png", draw_contact_sheet([written.train, written.test]))
            check()
            shutil.rmtree(directory, ignore_errors=True)  # what could not be opened
            partial.rename(directory)
        except BaseException as error:
            shutil.rmtree(partial, ignore_errors=True)
            if isinstance(error, OSError) and error.filename is None:  # such as that of a full disk
                error.filename = str(partial)
            raise
        return open_packed(directory)


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """Make the cache and hold its lock. In the end, folders that were made here and are empty are removed."""
    absent = [folder for folder in (cache, *cache.parents) if not folder.exists()]
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cache {cache} cannot be made: {error.strerror}; name another folder") from error
    with ExitStack() as stack:
        stack.callback(_remove_empty, absent)
        try:
            stack.enter_context(locked(cache / LOCK, wait_s=0))
        except Timeout:
            print(f"another process is packing into {cache}; waiting for it", file=sys.stderr)
            stack.enter_context(locked(cache / LOCK))
        stack.callback((cache / LOCK).unlink)
        yield


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # not empty
            folder.rmdir()


def _write_split(folder: Path, content: SplitContent, mask_radius: int) -> dict[str, Any]:
    """Write one split's files and return its counts for the card."""
    folder.mkdir()
    count = len(content.names)
    visible, outside = np.zeros(len(JOINTS), dtype=np.int64), 0
    rows, height, width = 0, 0, 0
    with ExitStack() as stack:
        # Written front to back: unlike a memory map this takes no memory, and says so when the disk is full.
        files = [stack.enter_context((folder / f"{name}.npy").open("wb")) for name in ("images", "poses", "masks")]
        for images, poses in content.chunks:
            poses = poses.astype(np.float32)
            height, width = images.shape[1:3]
            masks = np.packbits(body_masks(poses, height, width, mask_radius), axis=-1)
            for file, block in zip(files, (images, poses, masks), strict=True):
                if not rows:
                    header = {"descr": np.lib.format.dtype_to_descr(block.dtype), "fortran_order": False}
                    np.lib.format.write_array_header_1_0(file, {**header, "shape": (count, *block.shape[1:])})
                file.write(np.ascontiguousarray(block).data)
            present = poses[..., 2] > 0  # [k, 18]
            in_frame = ((poses[..., :2] >= -0.5) & (poses[..., :2] < (width - 0.5, height - 0.5))).all(axis=-1)
            visible += present.sum(axis=0)
            outside += int((present & ~in_frame).sum())
            rows += len(images)
        if rows != count or not count:
            raise ValueError(f"the {folder.name} split has {count} names and {rows} images")
        for file in files:
            file.flush()
            os.fsync(file.fileno())
    np.save(folder / "identities.npy", content.identities.astype(np.int64))
    np.save(folder / "pairs.npy", content.pairs.astype(np.int32))
    (folder / "names.json").write_text(json.dumps(content.names, ensure_ascii=False), encoding="utf-8")
    return {
        "images": count,
        "identities": len(np.unique(content.identities)),
        "pairs": len(content.pairs),
        "height": height,
        "width": width,
        "joints_outside": outside,  # annotated beyond the image's edge: many mean annotations of another size
        "joint_visibility": dict(zip(JOINTS, (visible / count).round(4).tolist(), strict=True)),
    }


def draw_contact_sheet(splits: Sequence[PackedSplit]) -> np.ndarray:
    """uint8 [H', W', 3]: for each split images of different people, the same with skeletons, the same in their masks.

    A wrong joint order, exchanged x and y, and annotations of another image size are seen here before training.
    """
    scale = max(1, round(TALL / splits[0].height))
    rows = []
    for split in splits:
        _, chosen = np.unique(split.identities, return_index=True)
        if len(chosen) < PEOPLE:
            chosen = np.arange(len(split.names))
        chosen = np.sort(chosen)[np.linspace(0, len(chosen) - 1, min(PEOPLE, len(chosen))).astype(int)]
        images = split.images[chosen]  # [k, H, W, 3]
        masks = np.unpackbits(split.masks[chosen], axis=-1, count=split.width).astype(bool)[..., None]
        masked = np.where(masks, images, images * OUTSIDE_MASK).astype(np.uint8)
        plain, masked = (some.repeat(scale, axis=1).repeat(scale, axis=2) for some in (images, masked))
        posed = [
            draw_skeleton(pose, split.height, split.width, scale, background=image)
            for pose, image in zip(split.poses[chosen], plain, strict=True)
        ]
        rows += [list(plain), posed, list(masked)]
    return tile(rows, GAP, border=GAP)
