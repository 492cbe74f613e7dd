"""Photographs as `write_packed` takes them: decoded once, checked meanwhile, cropped or resized on request.

Problems of the tables and of the pictures are reported together, after the last image was read.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from xinggan.data.image_files import UnusableImage, open_image, resized, rgb
from xinggan.data.layout import Layout, read_layout, shared_by_splits
from xinggan.data.packed import SPLITS
from xinggan.data.packing import Chunk, SplitContent
from xinggan.data.problems import LayoutProblems, Problem
from xinggan.data.settings import DatasetSettings
from xinggan.progress import Progress

IMAGES_AT_ONCE = 128
SIZES_LOOKED_AT = 64  # images of each split, to learn which size is the files' own
# DeepFashion's square images are cropped to these columns; annotations of this set are in cropped columns already.
FASHION_SQUARE, FASHION_COLUMNS, FASHION_CROPPED_SET = (256, 256), (40, 216), "fasion-resize"


@dataclass(frozen=True)
class Framing:
    """The rule by which a file becomes a packed image of `height` x `width` pixels."""

    file_size: tuple[int, int]  # width, height in pixels of the upright image
    height: int
    width: int
    crop: bool  # FASHION_SQUARE files to FASHION_COLUMNS
    resize: bool  # accept files of any size


@dataclass(frozen=True)
class Picture:
    """One decoded file, and what was done to its pixels."""

    image: np.ndarray  # [H, W, 3] uint8
    cropped: bool
    scale: tuple[float, float]  # x, y; after cropping


def photograph_splits(
    settings: DatasetSettings, progress: bool = True
) -> tuple[dict[str, SplitContent], dict[str, Any]]:
    """The content of both splits, and facts for the card. LayoutProblems are raised here or by a split's chunks."""
    problems: list[Problem] = []
    layouts = {split: read_layout(settings, split, problems) for split in SPLITS}
    shared = shared_by_splits(layouts["train"], layouts["test"], settings, problems)
    framing = choose_framing(settings, list(layouts.values()))
    if framing.height % 4 or framing.width % 4:
        what = f"images of {framing.width} x {framing.height} pixels (width x height): accepted are multiples of 4"
        problems.append(Problem("train/", None, f"{what}; set height and width, and resize"))
    reader = _Reader(framing, layouts, problems, progress)
    if problems:  # of the tables: they are refused, with the problems of the pictures, before anything is written
        list(reader.chunks("train"))
    people = dict.fromkeys(identity for layout in layouts.values() for identity in layout.identities)
    numbers = {identity: number for number, identity in enumerate(people)}
    content = {}
    for split, layout in layouts.items():
        identities = np.array([numbers[identity] for identity in layout.identities])
        content[split] = SplitContent(layout.names, identities, layout.pairs, reader.chunks(split))
    return content, {"notes": [note for layout in layouts.values() for note in layout.notes], "shared": shared}


def choose_framing(settings: DatasetSettings, layouts: Sequence[Layout]) -> Framing:
    """The framing of the settings' size, or of the size that most files have (after DeepFashion's crop)."""
    sizes: Counter[tuple[int, int]] = Counter()
    for layout in layouts:
        for row in np.unique(np.linspace(0, max(len(layout.names) - 1, 0), SIZES_LOOKED_AT).astype(int)):
            if layout.names:
                with suppress(UnusableImage), open_image(layout.folder / layout.names[row]) as image:
                    sizes[image.size] += 1
    file_size = sizes.most_common(1)[0][0] if sizes else (settings.width or 64, settings.height or 128)
    square_wanted = settings.width is not None and settings.width == (settings.height or FASHION_SQUARE[1])
    crop = settings.name == "deepfashion" and not square_wanted
    own_width = FASHION_COLUMNS[1] - FASHION_COLUMNS[0] if crop and file_size == FASHION_SQUARE else file_size[0]
    height, width = settings.height or file_size[1], settings.width or own_width
    if (height, width) != (file_size[1], own_width):
        file_size = (width, height)  # files of another size are refused, unless they may be resized
    return Framing(file_size, height, width, crop, settings.resize)


class _Reader:
    """Decodes both splits in order. A test picture that is a training picture too is a problem."""

    def __init__(self, framing: Framing, layouts: dict[str, Layout], problems: list[Problem], progress: bool):
        self.framing, self.layouts, self.problems, self.progress = framing, layouts, problems, progress
        self.reported = {(problem.file, problem.row) for problem in problems}
        self.training_images: dict[bytes, str] = {}  # content -> name

    def chunks(self, split: str) -> Iterator[Chunk]:
        """Images uint8 [k, H, W, 3] and poses [k, 18, 3], as long as there is no problem.

        With a problem the rest of both splits is only checked, and LayoutProblems of everything is raised.
        """
        for chunk in self._decoded(split):
            if not self.problems:
                yield chunk
        if self.problems:
            for unread in SPLITS[SPLITS.index(split) + 1 :]:
                for _ in self._decoded(unread):
                    pass
            raise LayoutProblems(self.layouts[split].files.root, self.problems)

    def _decoded(self, split: str) -> Iterator[Chunk]:
        """The pictures of a split in chunks; a bad one is black and reported."""
        layout, framing = self.layouts[split], self.framing
        count = len(layout.names) if layout.folder.is_dir() else 0
        display = Progress(f"reading the {split} images", count, "images", enabled=self.progress)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool, display:
            for first in range(0, count, IMAGES_AT_ONCE):
                rows = range(first, min(first + IMAGES_AT_ONCE, count))
                paths = [layout.folder / layout.names[row] for row in rows]
                images = np.zeros((len(rows), framing.height, framing.width, 3), dtype=np.uint8)
                poses = layout.poses[rows.start : rows.stop].copy()
                pictures = pool.map(read_picture, paths, repeat(framing))
                for place, (row, picture) in enumerate(zip(rows, pictures, strict=True)):
                    trouble = picture if isinstance(picture, str) else self._shared(split, row, picture.image)
                    where = layout.files.annotations(split), layout.rows[row]
                    if trouble and where not in self.reported:
                        self.problems.append(Problem(*where, f"{split}/{layout.names[row]}: {trouble}"))
                    if isinstance(picture, Picture):
                        images[place] = picture.image
                        poses[place] = _move(poses[place], picture, layout.files.prefix == FASHION_CROPPED_SET)
                yield images, poses
                display.update(len(rows))

    def _shared(self, split: str, row: int, image: np.ndarray) -> str:
        """The reason why a test image cannot be used that is a training image too, or ""."""
        content = hashlib.blake2b(image.data, digest_size=16).digest()
        if split == "train":
            self.training_images.setdefault(content, f"{split}/{self.layouts[split].names[row]}")
        elif content in self.training_images:
            return f"the same picture as {self.training_images[content]}; train and test must not share any"
        return ""


def read_picture(path: Path, framing: Framing) -> Picture | str:
    """The decoded file in the size of the framing, or the reason why it cannot be used."""
    try:
        with open_image(path) as file:
            if file.size != framing.file_size and not framing.resize:
                (wide, high), (width, height) = file.size, framing.file_size
                expected = f"expected {width} x {height}, or --resize for all (dataset.resize=true for runs)"
                return f"{wide} x {high} pixels (width x height); {expected}"
            image = rgb(file)
    except UnusableImage as error:
        return str(error)
    cropped = framing.crop and image.shape[1::-1] == FASHION_SQUARE
    if cropped:
        image = image[:, slice(*FASHION_COLUMNS)]
    scale = (framing.width / image.shape[1], framing.height / image.shape[0])
    if scale != (1.0, 1.0):
        image = resized(image, framing.height, framing.width)
    return Picture(np.ascontiguousarray(image), cropped, scale)


def _move(pose: np.ndarray, picture: Picture, cropped_already: bool) -> np.ndarray:
    """pose [18, 3] in the file's pixels -> in the packed image's. Pixel centres are whole numbers in both."""
    present = pose[:, 2] > 0
    if picture.cropped and not cropped_already:
        left, right = FASHION_COLUMNS
        present &= (pose[:, 0] >= left) & (pose[:, 0] < right)
        pose[present, 0] -= left
        pose[~present] = (-1, -1, 0)
    if picture.scale != (1.0, 1.0):
        pose[present, :2] = (pose[present, :2] + 0.5) * picture.scale - 0.5
    return pose
