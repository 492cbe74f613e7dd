"""Images that any program generated for a data set's test pairs: found by their names, checked, read as one array.

Names join source and target: `a___b.png`, `a_2_b.png`, `a_to_b.png`, with or without the images' own suffixes in them,
optionally ending in `_vis`. A file five times as wide as an image is a strip of source, its pose, target, its pose and
the generated image, as PATN, XingGAN and their relatives write. A folder of a run record is read by its manifest.
"""

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from xinggan.command import LayoutProblems, Problem
from xinggan.data.image_files import (
    IMAGE_SUFFIXES,
    RESIZED_BY,
    OpenedImage,
    UnusableImage,
    hidden_note,
    list_images,
    open_image,
    resized,
)
from xinggan.data.settings import Fit
from xinggan.data.tables import image_name, name_trouble
from xinggan.files import sha256_of
from xinggan.progress import Progress

if TYPE_CHECKING:
    from xinggan.data.packed import PackedSplit

SEPARATORS = ("___", "_2_", "_to_")
MANIFEST = "manifest.json"
PANELS = 5  # source, source pose, target, target pose, generated
ANOTHER_PICTURE = 12.0  # mean difference (of 255) beyond which a strip's panel does not show the data set's image
IMAGES_AT_ONCE = 64


@dataclass(frozen=True)
class Results:
    """One image a test pair, in the order of the pairs, and notes on what was done to them."""

    images: np.ndarray  # [p, H, W, 3] uint8, mapped to a temporary file
    notes: list[str]


def read_results(folder: Path | str, split: "PackedSplit", fit: Fit = Fit.none, progress: bool = True) -> Results:
    """Read the folder's image of every pair of `split`.

    Raises LayoutProblems with every image that is missing, twice there, unknown, unreadable or of another size; nothing
    is resized or cropped unless `fit` asks for it. Raises ValueError for a folder with no image of any pair, and
    OSError where the temporary folder has too little room for all images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; expected one with an image for each test pair")
    problems: list[Problem] = []
    files = _files_of_pairs(folder, split, problems)
    images = _room_for(len(split), split.height, split.width)
    did: Counter[str] = Counter()
    with ThreadPoolExecutor(4) as pool, Progress("reading results", len(files), "images", enabled=progress) as shown:
        rows = sorted(files)
        for start in range(0, len(rows), IMAGES_AT_ONCE):
            some = rows[start : start + IMAGES_AT_ONCE]
            paths = (folder / files[row] for row in some)
            for row, reading in zip(some, pool.map(_read, paths, some, repeat(split), repeat(fit)), strict=True):
                if isinstance(reading, str):
                    problems.append(Problem(files[row], None, reading))
                else:
                    images[row], notes = reading
                    did.update(notes)
            shown.update(len(some))
    if problems:
        raise LayoutProblems(folder, problems, "nothing was scored")
    notes = [f"{count:,} images: {what}" for what, count in did.items()]
    return Results(images, [*notes, *hidden_note(folder)])


def _room_for(count: int, height: int, width: int) -> np.ndarray:
    """An array [count, height, width, 3] of bytes in an unnamed temporary file whose blocks are all there.

    A sparse file would end the process with a bus error as soon as its folder is full. Raises OSError for that.
    """
    size = count * height * width * 3
    with tempfile.TemporaryFile() as file:  # the system keeps it as long as the array that is mapped to it
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except AttributeError:  # of another system
            file.truncate(size)
        except OSError as error:
            what = (
                f"{error.strerror}; the images to score take {size / 1e6:,.0f} MB there: name another folder in TMPDIR"
            )
            raise OSError(error.errno, what, tempfile.gettempdir()) from error
        return np.memmap(file, np.uint8, "r+", shape=(count, height, width, 3)).view(np.ndarray)


def _files_of_pairs(folder: Path, split: "PackedSplit", problems: list[Problem]) -> dict[int, str]:
    """Row of each test pair -> name of its file. Pairs without a file, and files of no pair, are problems."""
    files: dict[int, str] = {}
    rows = _rows_by_key(split)
    if (folder / MANIFEST).exists():
        named = list(_names_in_manifest(folder, problems))
    else:
        named = [(path.name, image_name(path.name)) for path in list_images(folder) if path.is_file()]
    for file, name in named:
        row = next((rows[key] for key in _keys(name) if key in rows), None)
        if row is None:
            problems.append(Problem(file, None, "is named after no test pair"))
        elif row in files:
            problems.append(Problem(file, None, f"{split.pair_id(row)} is there already: {files[row]}"))
        else:
            files[row] = file
    if not files:
        example = split.pair_id(0)
        schemes = ", ".join(example.replace("___", separator, 1) + ".png" for separator in SEPARATORS)
        raise ValueError(
            f"{folder}: none of its {len(named)} images is named after one of the {len(split)} test pairs; "
            f"accepted for the first pair: {schemes}, or {example}_vis.png"
        )
    missing = (split.pair_id(row) for row in range(len(split)) if row not in files)
    problems.extend(Problem(pair, None, "no image of this test pair") for pair in missing)
    return files


def _rows_by_key(split: "PackedSplit") -> dict[str, int]:
    """Every name that a pair's image may have, as in `_keys` -> the pair. A name that fits two pairs is left out."""
    rows, shared = dict[str, int](), set[str]()
    for row in range(len(split)):
        source, target = (PurePosixPath(split.names[image]).stem for image in split.pairs[row])
        for separator in SEPARATORS:
            key = f"{source}{separator}{target}"
            if rows.setdefault(key, row) != row:
                shared.add(key)
    return {key: row for key, row in rows.items() if key not in shared}


def _keys(name: str) -> list[str]:
    """A file's name without suffixes of images, at its end or before a separator, with and without its `_vis`."""
    suffix = f"({'|'.join(map(re.escape, IMAGE_SUFFIXES))})"
    whole = re.sub(f"{suffix}$", "", name, flags=re.IGNORECASE)
    inner = f"{suffix}(?={'|'.join(SEPARATORS)}|$)"
    return [re.sub(inner, "", stem, flags=re.IGNORECASE) for stem in (whole, whole.removesuffix("_vis"))]


def _names_in_manifest(folder: Path, problems: list[Problem]) -> Iterator[tuple[str, str]]:
    """(file, pair id) of every entry of a run record's list of generated images whose file has the listed hash."""
    try:
        entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        named = [(str(entry["file"]), str(entry["pair_id"]), entry.get("sha256")) for entry in entries]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{folder / MANIFEST} is not a list of generated images ({error!r}); delete it") from error
    for file, pair, sha256 in named:
        if trouble := name_trouble(file):
            problems.append(Problem(MANIFEST, None, trouble))
        elif sha256 is not None and (folder / file).is_file() and sha256_of(folder / file) != sha256:
            problems.append(Problem(file, None, f"is not the file that {MANIFEST} lists: its SHA-256 differs"))
        else:
            yield file, pair


def _read(path: Path, row: int, split: "PackedSplit", fit: Fit) -> tuple[np.ndarray, list[str]] | str:
    """The image of one file [H, W, 3] with notes on what was done to it, or the reason why it is refused."""
    try:
        with open_image(path) as file:
            return _usable(file, path.stem, row, split, fit)
    except UnusableImage as trouble:
        return str(trouble)


def _usable(file: OpenedImage, stem: str, row: int, split: "PackedSplit", fit: Fit) -> tuple[np.ndarray, list[str]]:
    """The image of an opened file: the generated panel of a strip, brought to the data set's size if that is asked.

    Raises UnusableImage.
    """
    size, (wide, high) = (split.width, split.height), file.size
    is_strip = file.size == (PANELS * split.width, split.height)
    if fit == Fit.none and file.size != size and not is_strip:  # refused before a picture of any size is decoded
        what = f"{wide} x {high} pixels (width x height); the data set has {size[0]} x {size[1]}"
        raise UnusableImage(f"{what}; --fit crop would take the middle, --fit resize would resize")
    did = list(file.notes)
    if fit != Fit.none and stem.endswith("_vis") and wide % PANELS == 0:  # nearer in shape to 5 images than to 1
        is_strip |= wide / high > PANELS / 2 * size[0] / size[1]
    picture = file.rgb()  # [H, W, 3]
    if not is_strip:
        return _fitted(picture, size, fit, did), did
    did.append(f"the last of the {PANELS} panels of a strip was taken")
    width = picture.shape[1] // PANELS
    panels = [picture[:, place * width : (place + 1) * width] for place in range(PANELS)]
    generated = _fitted(panels[-1], size, fit, did)
    for place, role, image in zip((0, 2), ("source", "target"), split.images[split.pairs[row]], strict=True):
        difference = np.abs(_fitted(panels[place], size, fit, []).astype(np.int16) - image).mean()
        if difference > ANOTHER_PICTURE:
            what = f"panel {place + 1} of the strip does not show the pair's {role} image"
            raise UnusableImage(f"{what}: the mean difference is {difference:.0f} of 255")
    return generated, did


def _fitted(panel: np.ndarray, size: tuple[int, int], fit: Fit, did: list[str]) -> np.ndarray:
    """uint8 [h, w, 3] brought to `size` (width, height); what that takes is appended to `did`. Raises UnusableImage."""
    height, width = panel.shape[:2]
    if (width, height) == size:
        return panel
    was = f"from {width} x {height} pixels (width x height)"
    if fit == Fit.resize:
        did.append(f"resized {was} to {size[0]} x {size[1]} ({RESIZED_BY})")
        return resized(panel, size[1], size[0])
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    if min(left, top) < 0:
        raise UnusableImage(f"{width} x {height} pixels (width x height) are too few to crop {size[0]} x {size[1]}")
    did.append(f"cropped {was} to columns {left}..{left + size[0]}, rows {top}..{top + size[1]}")
    return panel[top : top + size[1], left : left + size[0]]
