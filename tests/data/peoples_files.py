"""What the tests of files that people have do with the dotted pictures: pack them, count hits, be refused."""

from pathlib import Path

import numpy as np
import pytest
from dotted_pictures import dots_hit
from PIL import Image

from xinggan.data.prepare import prepare
from xinggan.data.settings import DatasetSettings

ALL = (216, 216)  # dots of twelve pictures


def packed(root: Path, kind: str = "folder", **settings):
    """The data set of a folder, prepared without a word."""
    return prepare(DatasetSettings(kind, root=str(root), **settings), root.parent / "cache", progress=False)


def hits(root: Path, kind: str = "folder", **settings) -> list[tuple[int, int]]:
    dataset = packed(root, kind, **settings)
    return [dots_hit(dataset.train), dots_hit(dataset.test)]


def refusal(root: Path, kind: str = "folder", **settings) -> str:
    with pytest.raises(ValueError) as refused:
        packed(root, kind, **settings)
    assert not any((root.parent / "cache").glob("*"))
    return str(refused.value)


def save(image: Image.Image, path: Path, **options) -> Path:
    image.save(path, **options)
    return path


class Middle:
    """An estimator that finds all joints in the middle."""

    name, weights_sha256 = "movenet", "0" * 64

    def estimate(self, images):
        pose = np.array([images.shape[2] // 2, images.shape[1] // 2, 1], dtype=np.float32)
        return np.tile(pose, (len(images), 18, 1)), np.ones((len(images), 18), dtype=np.float32)
