"""A packed data set: one folder of flat arrays that training indexes, with no decoding and no workers.

    <cache>/<name>-<digest12>/card.json, contact_sheet.png and, in each of train/ and test/:
        images.npy      uint8 [n, H, W, 3]           poses.npy   float32 [n, 18, 3]
        masks.npy       uint8 [n, H, ceil(W / 8)]    identities.npy  int64 [n]
        pairs.npy       int32 [p, 2] (source row, target row)    names.json  list of n image names

`packing` renames a temporary folder when it is complete.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from xinggan.data.batch import PosePair

# Part of every digest: counted up when the files below change their meaning, or what is accepted into them.
PACK_FORMAT = 2
SPLITS = ("train", "test")


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
    """An opened packed folder. `card` is the content of card.json: settings, counts, joint visibility, checksums."""

    directory: Path
    digest: str
    card: dict[str, Any]
    train: PackedSplit
    test: PackedSplit


def open_packed(directory: Path | str) -> PackedDataset:
    """Open a folder that `packing` wrote. Raises ValueError, naming what is missing, for an incomplete one."""
    directory = Path(directory)
    try:
        card = json.loads((directory / "card.json").read_text(encoding="utf-8"))
        if card["format"] != PACK_FORMAT:
            raise ValueError(f"card.json says format {card['format']}, this version reads format {PACK_FORMAT}")
        train, test = (_open_split(directory / split, card["splits"][split]) for split in SPLITS)
        return PackedDataset(directory, card["digest"], card, train, test)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{directory} is not a complete packed data set: {error}. Delete it and prepare the data set again "
            "with `python -m xinggan.data.prepare`."
        ) from error


def _open_split(folder: Path, counts: dict[str, Any]) -> PackedSplit:
    """The split in `folder`. Raises ValueError where its images and pairs are not as many as in `counts`."""
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
    """The folder of the data set with this name and content digest in a cache."""
    return Path(cache) / f"{name}-{digest[:12]}"
