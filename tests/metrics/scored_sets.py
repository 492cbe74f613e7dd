"""Test splits in memory, the golden photographs, and a feature network that stands in for Inception."""

import json

import numpy as np
import torch
from PIL import Image

from xinggan.data.packed import PackedSplit
from xinggan.data.poses import body_masks


def split_of(images, poses, pairs, people=None, names=None) -> PackedSplit:
    """A test split. images [n, H, W, 3], poses [n, 18, 3], pairs [p, 2], people [n]."""
    masks = np.packbits(body_masks(poses, *images.shape[1:3]), axis=-1)
    people = np.zeros(len(images), np.int64) if people is None else people
    names = names or [f"{i}.png" for i in range(len(images))]
    return PackedSplit("test", images, poses, masks, people, np.array(pairs, np.int32), names)


def golden_split(shared, pairs: list[dict]) -> PackedSplit:
    """The photographs of the golden pairs with their annotated poses."""
    folder = next((shared / "data").glob("*/test"))
    annotated = {}
    for line in next(folder.parent.glob("*-annotation-test.csv")).read_text().splitlines()[1:]:
        name, y, x = line.split(":")
        x, y = np.array(json.loads(x)), np.array(json.loads(y))
        annotated[name] = np.stack([x, y, (x >= 0) & (y >= 0)], 1).astype(np.float32)
    names = sorted({pair[role] for pair in pairs for role in ("source", "target")})
    images = np.stack([np.array(Image.open(folder / name).convert("RGB")) for name in names])
    rows = [[names.index(pair["source"]), names.index(pair["target"])] for pair in pairs]
    return split_of(images, np.stack([annotated[name] for name in names]), rows, names=names)


def colours(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean colours of an image's quarters, as features and as logits."""
    features = torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1)
    return features, features / 20
