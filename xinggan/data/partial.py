"""The three large arrays of a split while they are written: chunk after chunk, front to back, beside a journal.

A line of the journal says how many rows a finished chunk has and the hash of its bytes in all three files. A chunk is
kept only when its bytes have that hash, so whatever a killed process or a full disk left half-done is written again.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

ARRAYS = ("images", "poses", "masks")
JOURNAL = "journal.jsonl"


class PartialArrays:
    """`images.npy`, `poses.npy` and `masks.npy` of `count` rows in `folder`. Use as a context manager.

    `rows` of them are there already, from an earlier process or from `append`. Files are written front to back, which,
    unlike a memory map, takes no memory and says so when the disk is full.
    """

    def __init__(self, folder: Path, count: int):
        self.folder, self.count, self.rows = folder, count, 0
        self._chunks: list[int] = []  # rows of each finished chunk

    def __enter__(self) -> "PartialArrays":
        self.folder.mkdir(exist_ok=True)
        self._journal = (self.folder / JOURNAL).open("a+b")
        self._files = [(self.folder / f"{array}.npy").open("a+b") for array in ARRAYS]
        self._keep_what_is_whole()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        for file in self._files:
            if not error:
                file.flush()
                os.fsync(file.fileno())
            file.close()
        self._journal.close()

    def kept(self) -> Iterator[np.ndarray]:
        """The images of each chunk that was there already, uint8 [k, H, W, 3]."""
        if self._chunks:
            with (self.folder / "images.npy").open("rb") as file:
                shape = _read_header(file)[0]
                for rows in self._chunks:
                    yield np.fromfile(file, np.uint8, rows * int(np.prod(shape[1:]))).reshape(rows, *shape[1:])

    def append(self, *arrays: np.ndarray) -> None:
        """Write one more chunk: k rows of images, poses and masks."""
        blocks = [np.ascontiguousarray(array) for array in arrays]
        for file, block in zip(self._files, blocks, strict=True):
            if not self.rows:
                header = {"descr": np.lib.format.dtype_to_descr(block.dtype), "fortran_order": False}
                np.lib.format.write_array_header_1_0(file, {**header, "shape": (self.count, *block.shape[1:])})
            file.write(block.data)
            file.flush()
        line = {"rows": len(blocks[0]), "sha256": _hash([block.data for block in blocks])}
        self._journal.write(json.dumps(line).encode() + b"\n")
        self._journal.flush()
        self.rows += len(blocks[0])

    def _keep_what_is_whole(self) -> None:
        """Count the leading chunks whose bytes are those of the journal, and cut off what comes after them."""
        self._journal.seek(0)
        for file in self._files:
            file.seek(0)
        ends = [0] * (1 + len(self._files))  # of what is kept: the journal's, then the arrays'
        try:
            row_bytes = []
            for file in self._files:
                shape, dtype = _read_header(file)
                row_bytes.append(int(np.prod(shape[1:])) * dtype.itemsize)
            for line in self._journal:
                entry = json.loads(line)
                blocks = [file.read(entry["rows"] * size) for file, size in zip(self._files, row_bytes, strict=True)]
                if not line.endswith(b"\n") or _hash(blocks) != entry["sha256"]:
                    break
                self._chunks.append(entry["rows"])
                ends = [ends[0] + len(line), *(file.tell() for file in self._files)]
        except (ValueError, KeyError, TypeError):  # no header yet, half a line
            pass
        self.rows = sum(self._chunks)
        for file, end in zip([self._journal, *self._files], ends, strict=True):
            file.truncate(end)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the .npy file, which is then at its first row. Raises ValueError where there is no header."""
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return shape, dtype


def _hash(blocks: list[Any]) -> str:
    whole = hashlib.sha256()
    for block in blocks:
        whole.update(block)
    return whole.hexdigest()
