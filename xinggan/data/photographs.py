"""Photographs as `write_packed` takes them: decoded once, checked meanwhile, cropped or resized with their joints.

Problems of the tables and of the pictures are reported together, after the last image was read. Annotations that are
made for images of another size or cut look right in every file by itself; `implausible` finds them in all together.
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

from xinggan.command import LayoutProblems, Problem
from xinggan.data.image_files import RESIZED_BY, UnusableImage, open_image, resized
from xinggan.data.layout import Layout, read_layout, shared_by_splits
from xinggan.data.packed import SPLITS
from xinggan.data.packing import Chunk, SplitContent
from xinggan.data.poses import are_fractions
from xinggan.data.settings import DatasetSettings, annotation_size
from xinggan.progress import Progress

IMAGES_AT_ONCE = 128
LOOKED_AT = 64  # images of each split, to learn their own size, and whether square ones are padded
# DeepFashion's square images are published with empty columns beside these, and cropped to them. Others have squeezed
# the photographs instead. Annotations of one set are in cropped columns already.
FASHION_SQUARE, FASHION_COLUMNS, FASHION_CROPPED_SET = (256, 256), (40, 216), "fasion-resize"
FASHION_CROPPED = (176, 256)  # width, height
SURELY_EMPTY = 32  # columns at either side of a padded image: two blocks of JPEG, of the padding's 40
EMPTY_SPREAD = 24  # grey levels from the darkest to the brightest pixel of a row of empty columns
PADDED_SHARE = 0.95  # of the images looked at


@dataclass(frozen=True)
class Framing:
    """The rule by which a file becomes a packed image of `height` x `width` pixels, with its joints."""

    file_size: tuple[int, int]  # width, height in pixels of the upright image
    height: int
    width: int
    resize: bool  # accept files of any size
    crop: bool  # FASHION_SQUARE files to FASHION_COLUMNS
    joints_in: tuple[int, int] | None  # width, height in pixels that joints are counted in; None: the file's own
    square_joints_from: int | None  # column of FASHION_SQUARE files where FASHION_CROPPED joints begin; None: no such


@dataclass(frozen=True)
class Picture:
    """One packed file, and what was done to it."""

    image: np.ndarray  # [H, W, 3] uint8
    pose: np.ndarray  # [18, 3] float32
    notes: list[str]


def photograph_splits(
    settings: DatasetSettings, progress: bool = True
) -> tuple[dict[str, SplitContent], dict[str, Any]]:
    """The content of both splits, and facts for the card, whose notes are complete when the splits are read.

    LayoutProblems are raised here or by a split's chunks.
    """
    problems: list[Problem] = []
    layouts = {split: read_layout(settings, split, problems) for split in SPLITS}
    shared = shared_by_splits(layouts["train"], layouts["test"], settings, problems)
    reader = _Reader(settings, layouts, problems, progress)
    reader.check_some_joints()
    if problems:  # of the tables: they are refused, with the problems of the pictures, before anything is written
        list(reader.chunks("train"))
    people = dict.fromkeys(identity for layout in layouts.values() for identity in layout.identities)
    numbers = {identity: number for number, identity in enumerate(people)}
    content = {}
    for split, layout in layouts.items():
        identities = np.array([numbers[identity] for identity in layout.identities])
        content[split] = SplitContent(layout.names, identities, layout.pairs, reader.chunks(split))
    return content, {"notes": reader.notes, "shared": shared}


def choose_framing(settings: DatasetSettings, layouts: Sequence[Layout], problems: list[Problem]) -> Framing:
    """The framing of the settings' size, or of the size that most files have (after DeepFashion's crop).

    What has to be asked for is appended to `problems`.
    """
    files = [layout.file(row) for layout in layouts for row in _some_rows(layout)]
    sizes: Counter[tuple[int, int]] = Counter()
    for path in files:
        with suppress(UnusableImage), open_image(path) as image:
            sizes[image.size] += 1
    file_size = sizes.most_common(1)[0][0] if sizes else (settings.width or 64, settings.height or 128)
    square_wanted = settings.width is not None and settings.width == (settings.height or FASHION_SQUARE[1])
    to_columns = settings.name == "deepfashion" and not square_wanted
    own_width = FASHION_CROPPED[0] if to_columns and file_size == FASHION_SQUARE else file_size[0]
    height, width = settings.height or file_size[1], settings.width or own_width
    if (height, width) != (file_size[1], own_width):
        file_size = (width, height)  # files of another size are refused, unless they may be resized
    if height % 4 or width % 4:
        what = f"images of {width} x {height} pixels (width x height): accepted are multiples of 4"
        problems.append(Problem("train/", None, f"{what}; set height and width, and resize"))

    joints_in = annotation_size(settings)
    fashion = settings.name == "deepfashion"
    cropped_joints = fashion and layouts[0].files.prefix == FASHION_CROPPED_SET and not joints_in
    if fashion and not settings.layout and (to_columns or cropped_joints):
        joints_fit = cropped_joints or joints_in or file_size != FASHION_SQUARE or _in_columns(layouts)
        if not (joints_fit and are_padded(files)):
            what = "square images are not empty beside the columns 40..216, which DeepFashion's are cropped to: say"
            what += " --layout squeezed if whole photographs were squeezed to squares, else --layout padded"
            problems.append(Problem("train/", None, f"{what} (dataset.layout=... for runs)"))
    squeezed = settings.layout == "squeezed"
    square_joints_from = (0 if squeezed else FASHION_COLUMNS[0]) if cropped_joints else None
    crop = to_columns and not squeezed
    return Framing(file_size, height, width, settings.resize, crop, joints_in, square_joints_from)


def _some_rows(layout: Layout) -> list[int]:
    """LOOKED_AT images of a split, or all where it has fewer."""
    count = len(layout.names)
    return np.unique(np.linspace(0, count - 1, LOOKED_AT).astype(int)).tolist() if count else []


def _in_columns(layouts: Sequence[Layout]) -> bool:
    """Whether the joints lie in FASHION_COLUMNS, all but a few."""
    x = np.concatenate([layout.poses[layout.poses[..., 2] > 0][:, 0] for layout in layouts])
    return not len(x) or bool(((x >= FASHION_COLUMNS[0]) & (x < FASHION_COLUMNS[1])).mean() > 0.98)


def are_padded(files: Sequence[Path]) -> bool:
    """Whether the FASHION_SQUARE images among `files`, if there are any, have empty columns at their sides."""
    padded = []
    for path in files:
        with suppress(UnusableImage), open_image(path) as opened:
            if opened.size == FASHION_SQUARE:
                image = opened.rgb()
                sides = (image[:, :SURELY_EMPTY], image[:, -SURELY_EMPTY:])
                padded.append(all(np.ptp(side, axis=1).max() <= EMPTY_SPREAD for side in sides))
    return not padded or bool(np.mean(padded) >= PADDED_SHARE)


def read_picture(path: Path, pose: np.ndarray, framing: Framing) -> Picture | str:
    """The decoded file and its pose [18, 3] in the size of the framing, or the reason why it cannot be used."""
    try:
        with open_image(path) as file:
            if file.size != framing.file_size and not framing.resize:
                (wide, high), (width, height) = file.size, framing.file_size
                expected = f"expected {width} x {height}, or --resize for all (dataset.resize=true for runs)"
                return f"{wide} x {high} pixels (width x height); {expected}"
            image, notes = file.rgb(), list(file.notes)
    except UnusableImage as error:
        return str(error)
    left = 0
    if framing.crop and file.size == FASHION_SQUARE:
        left, right = FASHION_COLUMNS
        image = image[:, left:right]
        notes.append(f"cropped to columns {left}..{right}")
    high, wide = image.shape[:2]
    scale = (framing.width / wide, framing.height / high)
    if scale != (1.0, 1.0):
        image = resized(image, framing.height, framing.width)
        notes.append(f"resized from {wide} x {high} to {framing.width} x {framing.height} pixels ({RESIZED_BY})")
        if abs(scale[0] / scale[1] - 1) > 0.02:
            notes.append("their proportions changed")
    return Picture(np.ascontiguousarray(image), _placed(pose, file.size, left, scale, framing), notes)


def _placed(
    pose: np.ndarray, file_size: tuple[int, int], left: int, scale: tuple[float, float], framing: Framing
) -> np.ndarray:
    """pose [18, 3] in the table's pixels -> in those of the packed image. Pixel centres are whole numbers in both.

    The packed image was taken from column `left` of the file on, and enlarged by `scale`. Joints that a crop has cut
    off are missing, unless they are counted in cropped columns. Joints in 1 x 1 are fractions from edge to edge.
    """
    first, joints_in = 0, framing.joints_in or file_size
    if framing.square_joints_from is not None and file_size == FASHION_SQUARE:
        first, joints_in = framing.square_joints_from, FASHION_CROPPED
    file_scale = ((file_size[0] - 2 * first) / joints_in[0], file_size[1] / joints_in[1])
    whole_scale = (file_scale[0] * scale[0], file_scale[1] * scale[1])
    if first == left and whole_scale == (1.0, 1.0):
        return pose
    present, moved = pose[:, 2] > 0, pose[:, :2]
    middle = 0.0 if joints_in == (1, 1) else 0.5
    if first != left or (left and file_scale != (1.0, 1.0)):  # to the columns that were taken
        moved = (moved + middle) * file_scale - 0.5 + (first - left, 0)
        if not first:
            present = present & (moved[:, 0] >= 0) & (moved[:, 0] < file_size[0] - 2 * left)
        whole_scale, middle = scale, 0.5
    placed = np.full_like(pose, -1)
    placed[:, 2] = present
    placed[present, :2] = ((moved + middle) * whole_scale - 0.5)[present]
    return placed


class _Reader:
    """Decodes both splits in order. A test picture that is a training picture too is a problem."""

    def __init__(self, settings: DatasetSettings, layouts: dict[str, Layout], problems: list[Problem], progress: bool):
        self.settings, self.layouts, self.problems, self.progress = settings, layouts, problems, progress
        self.notes = [note for layout in layouts.values() for note in layout.notes]
        self.framing = choose_framing(settings, list(layouts.values()), problems)
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
        did, packed = Counter[str](), layout.poses.copy()
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool, display:
            for first in range(0, count, IMAGES_AT_ONCE):
                rows = range(first, min(first + IMAGES_AT_ONCE, count))
                paths = map(layout.file, rows)
                images = np.zeros((len(rows), framing.height, framing.width, 3), dtype=np.uint8)
                poses = layout.poses[rows.start : rows.stop]
                pictures = pool.map(read_picture, paths, poses, repeat(framing))
                for place, (row, picture) in enumerate(zip(rows, pictures, strict=True)):
                    trouble = picture if isinstance(picture, str) else self._shared(split, row, picture.image)
                    where = layout.files.annotations(split), layout.rows[row]
                    if trouble and where not in self.reported:
                        self.problems.append(Problem(*where, f"{split}/{layout.names[row]}: {trouble}"))
                    if isinstance(picture, Picture):
                        images[place], packed[row] = picture.image, picture.pose
                        did.update(picture.notes)
                yield images, packed[rows.start : rows.stop]
                display.update(len(rows))
        self.notes += [f"{split}/: {number:,} images: {what}" for what, number in did.items()]
        if count:
            self.check_joints(layout, layout.poses, packed)

    def check_some_joints(self) -> None:
        """Check the joints of some images of each split, before all are read."""
        for layout in self.layouts.values():
            rows = _some_rows(layout)
            pictures = [read_picture(layout.file(row), layout.poses[row], self.framing) for row in rows]
            poses = [picture.pose for picture in pictures if isinstance(picture, Picture)]
            if poses and not self.settings.force:
                self.check_joints(layout, layout.poses[rows], np.stack(poses))

    def check_joints(self, layout: Layout, annotated: np.ndarray, packed: np.ndarray) -> None:
        """Report joints that cannot be those of the images, see `implausible`; by force they are only noted."""
        where = layout.files.annotations(layout.split)
        trouble = implausible(annotated, packed, self.framing, self.settings)
        if trouble and self.settings.force:
            self.notes.append(f"{layout.split}/: {trouble}; taken so by force")
        elif trouble and (where, None) not in self.reported:
            self.reported.add((where, None))
            what = "--annotation-size HEIGHTxWIDTH says what they are counted in (1x1: fractions)"
            what += ", --force takes them as they are (dataset.annotation_size=..., dataset.force=true for runs)"
            self.problems.append(Problem(where, None, f"{trouble}; {what}"))

    def _shared(self, split: str, row: int, image: np.ndarray) -> str:
        """The reason why a test image cannot be used that is a training image too, or ""."""
        content = hashlib.blake2b(image.data, digest_size=16).digest()
        if split == "train":
            self.training_images.setdefault(content, f"{split}/{self.layouts[split].names[row]}")
        elif content in self.training_images:
            return f"the same picture as {self.training_images[content]}; train and test must not share any"
        return ""


def implausible(annotated: np.ndarray, packed: np.ndarray, framing: Framing, settings: DatasetSettings) -> str:
    """The reason why the joints of a split cannot be those of its images, or "".

    Args: annotated: [n, 18, 3] in the tables' pixels. packed: [n, 18, 3] in those of the packed images.
    """
    present = packed[..., 2] > 0
    if not present.any():
        return ""
    if not settings.annotation_size and are_fractions(annotated):
        return "joints lie between 0 and 1, as fractions of the image"
    several = present.sum(axis=1) > 1
    low = np.where(present[..., None], packed[..., :2], np.inf).min(axis=1)
    high = np.where(present[..., None], packed[..., :2], -np.inf).max(axis=1)  # [n, 2]
    if several.any() and (at_one := (high - low)[several].max(axis=1) < 1).mean() > 0.5:
        return f"in {at_one.sum()} of {several.sum()} images all joints lie at one point"
    size = np.array([framing.width, framing.height])
    x_y = packed[present][:, :2]
    outside = ((x_y < -0.5) | (x_y >= size - 0.5)).any(axis=1).mean()
    if outside > 0.5:
        return f"{outside:.0%} of the joints lie outside the images: they seem to belong to larger ones"
    farthest = np.quantile(x_y, 0.99, axis=0)
    if (farthest < size / 2).all():
        where = f"fill only a corner, up to column {farthest[0]:.0f} and row {farthest[1]:.0f} of "
        return f"joints {where}{framing.width} x {framing.height}: they seem to belong to smaller images"
    return ""
