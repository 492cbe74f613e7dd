"""A packed data set: one folder of flat arrays that training indexes for ever, with no decoding and no workers.

    <cache>/<name>-<digest12>/card.json, contact_sheet.png and, in each of train/ and test/:
        images.npy      uint8 [n, H, W, 3]           poses.npy   float32 [n, 18, 3]
        masks.npy       uint8 [n, H, ceil(W / 8)]    identities.npy  int64 [n]
        pairs.npy       int32 [p, 2] (source row, target row)    names.json  list of n image names

The folder is written under a temporary name and renamed when it is complete, so it is whole or not there.
"""

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from xinggan.data.poses import JOINTS

if TYPE_CHECKING:
    from xinggan.data.batch import PosePair

PACK_FORMAT = 1  # part of every digest: counted up when the files below change their meaning
SPLITS = ("train", "test")
ABANDONED_AFTER_S = 24 * 3600  # a temporary folder that nobody has written to for so long is left from a killed process


@dataclass(frozen=True)
class PackedSplit:
    """The images of one split and the pairs made of them; `len()` counts pairs. Arrays are memory-mapped, read-only."""

    name: str  # "train" or "test"
    images: np.ndarray  # [n, H, W, 3] uint8
    poses: np.ndarray  # [n, 18, 3] float32: x, y in pixels, visible
    masks: np.ndarray  # [n, H, ceil(W / 8)] uint8: body masks, np.packbits along each row
    identities: np.ndarray  # [n] int64
    pairs: np.ndarray  # [p, 2] int32: source row, target row
    names: list[str]  # n image names

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def height(self) -> int:
        return self.images.shape[1]

    @property
    def width(self) -> int:
        return self.images.shape[2]

    def batch(self, indices: Sequence[int] | np.ndarray) -> "PosePair":
        """The pairs at `indices` (rows of `pairs`) as CPU tensors: bytes and keypoints, no floating-point work."""
        import torch

        from xinggan.data.batch import PosePair

        rows = np.asarray(indices, dtype=np.int64)  # [B]
        source, target = self.pairs[rows].T
        mask = np.unpackbits(self.masks[target], axis=-1, count=self.width).view(bool)  # [B, H, W]
        return PosePair(
            source_image=torch.from_numpy(self.images[source]).permute(0, 3, 1, 2),
            source_pose=torch.from_numpy(self.poses[source]),
            target_image=torch.from_numpy(self.images[target]).permute(0, 3, 1, 2),
            target_pose=torch.from_numpy(self.poses[target]),
            target_mask=torch.from_numpy(mask)[:, None],
            identity=torch.from_numpy(self.identities[target]),
            pair=torch.from_numpy(rows.copy()),
        )

    def pair_id(self, index: int) -> str:
        """`source___target`, the names of the pair's images without folder and suffix."""
        source, target = self.pairs[index]
        return f"{self._stems[source]}___{self._stems[target]}"

    @cached_property
    def _stems(self) -> list[str]:
        return [PurePosixPath(name).stem for name in self.names]


@dataclass(frozen=True)
class PackedDataset:
    """A packed folder, opened. `card` is what card.json says: settings, counts, joint visibility."""

    directory: Path
    digest: str
    card: dict[str, Any]
    train: PackedSplit
    test: PackedSplit


@dataclass(frozen=True)
class SplitContent:
    """What `write_packed` turns into one split: the tables, and the images with their poses in chunks."""

    names: list[str]  # n
    identities: np.ndarray  # [n]
    pairs: np.ndarray  # [p, 2] source row, target row
    chunks: Iterable[tuple[np.ndarray, np.ndarray]]  # images uint8 [k, H, W, 3], poses float32 [k, 18, 3]; n in all


def open_packed(directory: Path | str) -> PackedDataset:
    """Open a folder that `write_packed` made. Raises ValueError naming what is missing when it is not complete."""
    directory = Path(directory)
    try:
        card = json.loads((directory / "card.json").read_text(encoding="utf-8"))
        if card["format"] != PACK_FORMAT:
            raise ValueError(f"card.json says format {card['format']}, this version reads format {PACK_FORMAT}")
        train, test = (_open_split(directory / name, card["splits"][name]) for name in SPLITS)
        return PackedDataset(directory, card["digest"], card, train, test)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{directory} is not a complete packed data set: {error}. Delete it and prepare the data set again "
            "with `python -m xinggan.data.prepare`."
        ) from error


def _open_split(folder: Path, counts: dict[str, Any]) -> PackedSplit:
    names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
    images, poses, masks, identities, pairs = (
        np.load(folder / f"{array}.npy", mmap_mode="r").view(np.ndarray)
        for array in ("images", "poses", "masks", "identities", "pairs")
    )
    if {len(names), len(images), len(poses), len(masks), len(identities)} != {counts["images"]}:
        raise ValueError(f"{folder.name}/ does not hold {counts['images']} images with poses, masks and identities")
    if len(pairs) != counts["pairs"]:
        raise ValueError(f"{folder.name}/pairs.npy does not hold {counts['pairs']} pairs")
    return PackedSplit(folder.name, images, poses, masks, identities, pairs, names)


def packed_directory(cache: Path | str, name: str, digest: str) -> Path:
    """Where the data set of this name and content digest lies in a cache."""
    return Path(cache) / f"{name}-{digest[:12]}"


def write_packed(
    directory: Path, digest: str, card: dict[str, Any], splits: dict[str, SplitContent], mask_radius: int = 4
) -> PackedDataset:
    """Write a packed folder, chunk after chunk, and open it. `card` is completed with the counts of each split.

    Whatever is raised on the way, by the chunks too, leaves no folder behind. When another process has finished the
    same data set meanwhile, its folder is kept.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(directory)
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        counts = {name: _write_split(temporary / name, splits[name], mask_radius) for name in SPLITS}
        card = {"format": PACK_FORMAT, "digest": digest, **card, "splits": counts}
        (temporary / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        _draw_contact_sheet(open_packed(temporary))
        _move_into_place(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return open_packed(directory)


def _write_split(folder: Path, content: SplitContent, mask_radius: int) -> dict[str, Any]:
    """Write one split's files and return its counts for the card."""
    from xinggan.data.masks import body_masks

    folder.mkdir(parents=True)
    count = len(content.names)
    written, visible, outside, shape = 0, np.zeros(len(JOINTS)), 0, (0, 0)
    with ExitStack() as stack:
        files = [stack.enter_context((folder / f"{array}.npy").open("wb")) for array in ("images", "poses", "masks")]
        for images, poses in content.chunks:
            shape = images.shape[1:3]
            packed_masks = np.packbits(body_masks(poses, *shape, mask_radius), axis=-1)
            arrays: list[np.ndarray] = [images, poses.astype(np.float32), packed_masks]
            for file, array in zip(files, arrays, strict=True):
                if not written:
                    _write_header(file, array, count)
                file.write(np.ascontiguousarray(array).data)
            written += len(images)
            seen = poses[:, :, 2] > 0
            visible += seen.sum(axis=0)
            in_frame = ((poses[..., :2] >= -0.5) & (poses[..., :2] < np.array(shape[::-1]) - 0.5)).all(axis=-1)
            outside += int((seen & ~in_frame).sum())
        if written != count or not count:
            raise ValueError(f"the {folder.name} split has {count} names and {written} images")
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
        "height": shape[0],
        "width": shape[1],
        "joints_outside": outside,  # annotated beyond the image's edge: many mean annotations of another size
        "joint_visibility": dict(zip(JOINTS, (visible / count).round(4).tolist(), strict=True)),
    }


def _write_header(file: Any, chunk: np.ndarray, count: int) -> None:
    """Begin a .npy file of `count` rows like those of `chunk`. Writing it front to back, unlike a memory map, uses no
    memory and says so when the disk is full."""
    header = {"descr": np.lib.format.dtype_to_descr(chunk.dtype), "fortran_order": False}
    np.lib.format.write_array_header_1_0(file, {**header, "shape": (count, *chunk.shape[1:])})


def _draw_contact_sheet(dataset: PackedDataset) -> None:
    from xinggan.data.contact_sheet import draw_contact_sheet

    draw_contact_sheet([dataset.train, dataset.test]).save(dataset.directory / "contact_sheet.png")


def _move_into_place(temporary: Path, directory: Path) -> None:
    try:
        temporary.rename(directory)
    except OSError:
        if not directory.exists():
            raise
        try:  # something of that name is there: a finished data set is as good as ours, a broken one goes
            open_packed(directory)
        except ValueError:
            broken = temporary.with_suffix(".broken.part")
            directory.rename(broken)
            temporary.rename(directory)
            shutil.rmtree(broken, ignore_errors=True)


def _remove_abandoned(directory: Path) -> None:
    for folder in directory.parent.glob(f".{directory.name}.*.part"):
        times = [path.stat().st_mtime for path in (folder, *folder.rglob("*")) if path.exists()]
        if time.time() - max(times, default=time.time()) > ABANDONED_AFTER_S:
            shutil.rmtree(folder, ignore_errors=True)
