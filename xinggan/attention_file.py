"""Attention maps of a run: where joints of the target looked in the source, kept beside the run's example images.

One NPZ of plain arrays, a few tens of kB: weights of a few positions of the codes to all keys, for each branch (SA,
AS) and for the first and last crossing block. `xinggan.model.attention_maps` computes them, reports draw them.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from xinggan.data.poses import JOINTS
from xinggan.files import atomic_path

FILE_NAME = "attention.npz"  # in the run's folder generated/examples
LARGEST_BYTES = 2**28  # of the arrays together; DeepFashion's at a single scale are below 2 MB
KINDS = {"weights": "f", "branches": "U", "blocks": "i", "grids": "i", "pair": "i", "joint": "i"}  # numpy's kinds
KINDS |= {"target": "f", "source": "f"}
BOTH = {"SA": "shape-guided appearance", "AS": "appearance-guided shape"}


@dataclass(frozen=True)
class AttentionMaps:
    """Q queries, each a joint of one target, with the weights that add up to one over the S keys of all scales."""

    weights: np.ndarray  # [branches, blocks, Q, S] float16: softmax over the keys
    branches: np.ndarray  # names, keys of BOTH
    blocks: np.ndarray  # numbers of crossing blocks, counted from 1; the last is the generator's last
    grids: np.ndarray  # [scales, 2]: rows and columns of keys of each scale, in the order of the S keys
    pair: np.ndarray  # [Q]: row among the run's example pairs
    joint: np.ndarray  # [Q]: index into JOINTS
    target: np.ndarray  # [Q, 2] float32: x and y of the joint in the target image, pixels
    source: np.ndarray  # [Q, 2] float32: in the source image; -1 where the joint is not visible there

    def scale(self, number: int) -> np.ndarray:
        """Weights of one scale as maps: [branches, blocks, Q, rows, columns]."""
        sizes = self.grids.prod(axis=1)
        first, (rows, columns) = int(sizes[:number].sum()), self.grids[number]
        part = self.weights[..., first : first + sizes[number]].astype(np.float32)
        return part.reshape(*part.shape[:-1], rows, columns)


def write_attention(path: Path, maps: AttentionMaps) -> None:
    """Write the arrays atomically and compressed."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **{field.name: getattr(maps, field.name) for field in fields(maps)})


def read_attention(path: Path) -> AttentionMaps:
    """Read what `write_attention` wrote, as data and without pickle. Raises OSError, and ValueError naming the fault.

    FileNotFoundError where there is none, as in records of earlier versions.
    """
    try:
        with ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST_BYTES:
                raise ValueError(f"it would unpack to more than {LARGEST_BYTES} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            maps = AttentionMaps(**{name: arrays[name] for name in KINDS})
        _check(maps)
    except OSError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen types for a damaged file
        raise ValueError(f"{path.name} holds no attention maps: {error}") from error
    return maps


def _check(maps: AttentionMaps) -> None:
    """Refuse arrays that do not fit together."""
    for name, kind in KINDS.items():
        array = getattr(maps, name)
        if not isinstance(array, np.ndarray) or array.dtype.kind != kind:
            raise ValueError(f"{name} is of type {getattr(array, 'dtype', 'unknown')}")
    shapes = [getattr(maps, name).shape for name in ("weights", "grids", "branches", "blocks")]
    if list(map(len, shapes)) != [4, 2, 1, 1] or shapes[1][1] != 2:
        raise ValueError(f"weights, grids, branches and blocks are {', '.join(str(list(shape)) for shape in shapes)}")
    queries, keys = maps.weights.shape[2:]
    if (maps.grids < 1).any() or (maps.grids > keys).any():  # before they are multiplied
        raise ValueError(f"grids of {keys} keys are {maps.grids.tolist()}")
    expected = (len(maps.branches), len(maps.blocks), queries, int(maps.grids.prod(axis=1).sum()))
    if maps.weights.shape != expected or 0 in expected:
        raise ValueError(f"weights are {list(maps.weights.shape)} where {list(expected)} are said")
    shapes = [getattr(maps, name).shape for name in ("pair", "joint", "target", "source")]
    if shapes != [(queries,), (queries,), (queries, 2), (queries, 2)]:
        raise ValueError(f"there are {queries} queries, but not as many pairs, joints and places")
    if maps.joint.min() < 0 or maps.joint.max() >= len(JOINTS) or maps.pair.min() < 0:
        raise ValueError("a joint or a pair is out of range")
    unknown = set(maps.branches.tolist()) - set(BOTH)
    finite = all(np.isfinite(array).all() for array in (maps.weights, maps.target, maps.source))
    if unknown or not finite or maps.weights.min() < 0:
        raise ValueError(f"branches are {maps.branches.tolist()}, or a number is not finite or below zero")
