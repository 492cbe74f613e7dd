"""Attention weights of the crossing blocks at a few joints of the target, kept in a run's record.

In both branches the source comes in through the appearance code (XingGAN, ECCV 2020, eq. 1 to 6): in SA it gives the
queries and values, in AS the keys. A run keeps the maps of a few example pairs as one NPZ of plain arrays, a few tens
of kB, which the report draws. Reading and writing need no torch.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import numpy as np

from xinggan.data.poses import JOINTS
from xinggan.files import atomic_path

if TYPE_CHECKING:
    from torch import Tensor

    from xinggan.data.batch import PosePair
    from xinggan.model.generator import XingGenerator

FILE_NAME = "attention.npz"  # in the run's folder generated/examples
LARGEST_BYTES = 2**28  # of the arrays together; DeepFashion's at a single scale are below 2 MB
KINDS = {"weights": "f", "branches": "U", "blocks": "i", "grids": "i", "pair": "i", "joint": "i"}  # of numpy's types
KINDS |= {"target": "f", "source": "f"}
BRANCHES = {"SA": "shape-guided appearance", "AS": "appearance-guided shape"}

# Of each group the first joint that both images show, or else the first that the target shows.
GROUPS = ((0, 1, 14, 15), (2, 5), (8, 11), (10, 13, 9, 12))  # head, shoulder, hip, ankle or else knee
STRIDE = 4  # pixels of an image a position of its codes


@dataclass(frozen=True)
class AttentionMaps:
    """Q queries, each a joint of one target, with the weights that add up to one over the S keys of all scales."""

    weights: np.ndarray  # [branches, blocks, Q, S] float16: softmax over the keys
    branches: np.ndarray  # names, keys of BRANCHES
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


def attention_maps(method: Any, batch: "PosePair") -> AttentionMaps | None:
    """Weights of the first and the last block from up to four joints of each target; `batch` on the `Method`'s device.

    None for methods without this attention (attention=none among them), and if no target shows a joint. The generator
    is left in the mode it was in.
    """
    import torch

    from xinggan.data.batch import images_to_float
    from xinggan.model.attention import region_grids
    from xinggan.model.generator import XingGenerator
    from xinggan.model.switches import Attention

    generator: Any = getattr(method, "generator", None)
    if not isinstance(generator, XingGenerator) or generator.settings.attention == Attention.none:
        return None
    height, width = batch.source_image.shape[-2:]
    sources, targets = batch.source_pose.cpu().numpy(), batch.target_pose.cpu().numpy()  # [B, 18, 3] each
    joints = [query_joints(target, source, height, width) for target, source in zip(targets, sources, strict=True)]
    if not any(joints):
        return None
    training = generator.training
    generator.eval()
    with torch.no_grad(), method.autocast():
        image = images_to_float(batch.source_image)
        source_maps, target_maps = (method.pose_maps(poses, image) for poses in (batch.source_pose, batch.target_pose))
        weights = block_weights(generator, image, source_maps, target_maps)
    generator.train(training)

    pair = np.repeat(np.arange(len(joints), dtype=np.int16), [len(of_pair) for of_pair in joints])
    joint = np.concatenate(joints).astype(np.int16)
    at = code_positions(targets[pair, joint], width)
    branches, blocks = list(next(iter(weights.values()))), list(weights)
    rows = [[weights[block][branch][pair, at] for block in blocks] for branch in branches]  # [Q, S] each
    grids = region_grids(height // STRIDE, width // STRIDE, generator.settings.scale, generator.settings.pyramid)
    return AttentionMaps(
        weights=torch.stack([torch.stack(of_branch) for of_branch in rows]).half().cpu().numpy(),
        branches=np.array(branches),
        blocks=np.array(blocks, dtype=np.int16),
        grids=np.array(grids, dtype=np.int16),
        pair=pair,
        joint=joint,
        target=targets[pair, joint, :2],
        source=np.where(sources[pair, joint, 2:] > 0, sources[pair, joint, :2], np.float32(-1)),
    )


def block_weights(
    generator: "XingGenerator", source: "Tensor", source_maps: "Tensor", target_maps: "Tensor"
) -> dict[int, dict[str, "Tensor"]]:
    """A [B, N, S], float32, of the first and the last block (counted from 1), by block and branch.

    source: [B, 3, H, W] in [-1, 1]; pose maps: [B, 18, H, W].
    """
    appearance, shape = generator.encode(source, source_maps, target_maps)
    found: dict[int, dict[str, Tensor]] = {}
    blocks: list[Any] = list(generator.blocks)
    for number, block in enumerate(blocks, start=1):
        if number in (1, len(blocks)):
            found[number] = {branch: a.float() for branch, a in block.attention_weights(appearance, shape).items()}
        appearance, shape = block(appearance, shape)
    return found


def query_joints(target: np.ndarray, source: np.ndarray, height: int, width: int) -> list[int]:
    """Joints of the target pose [18, 3], one a group of GROUPS as far as the image of height x width shows one."""
    x, y = np.floor(target[:, :2] + 0.5).T
    shown = (target[:, 2] > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    chosen = []
    for group in GROUPS:
        there = [joint for joint in group if shown[joint]]
        chosen += sorted(there, key=lambda joint: source[joint, 2] <= 0)[:1]
    return chosen


def code_positions(pixels: np.ndarray, width: int) -> np.ndarray:
    """x and y of pixels [Q, 2 or 3] in images of `width` -> the position of a flattened code that covers each, [Q]."""
    x, y = (np.floor(pixels[:, :2] + 0.5).astype(np.int64) // STRIDE).T
    return y * (width // STRIDE) + x


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
    unknown = set(maps.branches.tolist()) - set(BRANCHES)
    finite = all(np.isfinite(array).all() for array in (maps.weights, maps.target, maps.source))
    if unknown or not finite or maps.weights.min() < 0:
        raise ValueError(f"branches are {maps.branches.tolist()}, or a number is not finite or below zero")
