"""The two tables of the Pose-Transfer layout: annotations (name: rows: columns of 18 joints) and pairs (from,to).

Reading does not stop at a bad row: each problem is appended to the list `problems`, and the other rows are read.
Names are read in one spelling: Unicode in NFC, no `./` before it.
"""

import csv
import json
import os
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from xinggan.command import Problem
from xinggan.data.poses import JOINTS, drop_undetected

MISSING = -1  # the coordinate of a joint that is not in the image
LONGEST_NAME, LONGEST_PATH = 255, 3800  # bytes of a file's name, and of a path with room for the folders above it
ANNOTATION_HEADER = ["name", "keypoints_y", "keypoints_x"]
PAIRS_HEADER = ["from", "to"]


@dataclass(frozen=True)
class Annotations:
    """The well-formed rows of an annotation file, in its order, and `named`: all names in it, those of bad rows too."""

    names: list[str]
    rows: list[int]  # line of the file, the header being 1
    poses: np.ndarray  # [n, 18, 3] float32
    named: set[str]
    notes: list[str]  # what was read in another way than it is written


class ListedPair(NamedTuple):
    """A well-formed row of a pairs file."""

    row: int  # line of the file
    source: str
    target: str


def read_annotations(path: Path, label: str, problems: list[Problem]) -> Annotations:
    """Read `<set>-annotation-<split>.csv`, called `label` in problems.

    Where several joints of an image stand at exactly 0, 0, that means in this table that a joint is missing.
    """
    names, rows, poses, row_of = list[str](), list[int](), list[np.ndarray](), dict[str, int]()
    spelled_anew = []
    for row, line in _rows_below_header(path, label, ANNOTATION_HEADER, ":", problems):
        written, *fields = (field.strip() for field in line.split(":"))
        name = image_name(written)
        trouble = name_trouble(name)
        if not trouble and name in row_of:
            trouble = f"{name} is annotated already in row {row_of[name]}"
        if not trouble:
            row_of[name] = row
            try:
                poses.append(parse_pose(fields))
                names.append(name)
                rows.append(row)
                spelled_anew += [name] * (not unicodedata.is_normalized("NFC", written))
            except ValueError as error:
                trouble = f"{name}: {error}"
        if trouble:
            problems.append(Problem(label, row, trouble))
    joints, notes = np.array(poses, dtype=np.float32).reshape(-1, len(JOINTS), 3), list[str]()
    if spelled_anew:
        what = f"{len(spelled_anew)} names are decomposed Unicode (NFD), {spelled_anew[0]} for one"
        notes.append(f"{label}: {what}; they are read as NFC")
    undetected, images = drop_undetected(joints)
    if undetected:
        notes.append(f"{label}: {undetected} joints of {images} images stand at exactly 0, 0 and are taken as missing")
    return Annotations(names, rows, joints, set(row_of), notes)


def annotated_names(path: Path) -> list[str]:
    """The usable names in an annotation file, whether or not the rest of their rows can be read."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as file:
        names = [image_name(line.partition(":")[0].strip()) for line in file if line.strip()]
    return [name for name in names[1:] if not name_trouble(name)]


def parse_pose(fields: Sequence[str]) -> np.ndarray:
    """["[18 rows]", "[18 columns]"] -> float32 [18, 3]. A joint with -1 for either is missing. Raises ValueError."""
    if len(fields) != 2:
        raise ValueError(f"{len(fields) + 1} fields separated by ':'; expected 3 (name: [18 y]: [18 x])")
    coordinates = []
    for axis, text in zip("yx", fields, strict=True):
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError(f"the list of {axis} cannot be read: {_shortened(text)}") from None
        if not isinstance(values, list):
            raise ValueError(f"the {axis} field is not a list: {_shortened(text)}")
        if len(values) != len(JOINTS):
            raise ValueError(f"{len(values)} values of {axis}; expected {len(JOINTS)} (OpenPose order)")
        if wrong := [value for value in values if not is_coordinate(value)]:
            found = _shortened(json.dumps(wrong[0]))
            raise ValueError(f"{found} among the values of {axis} is no coordinate in pixels")
        coordinates.append(values)
    joints = zip(*reversed(coordinates), strict=True)
    return np.array([(-1, -1, 0) if MISSING in (x, y) else (x, y, 1) for x, y in joints], dtype=np.float32)


def is_coordinate(value: Any) -> bool:
    """Whether a value from a JSON file is a number of pixels."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6


def read_pairs(path: Path, label: str, problems: list[Problem]) -> list[ListedPair]:
    """Read `<set>-pairs-<split>.csv`, called `label` in problems."""
    pairs = []
    for row, line in _rows_below_header(path, label, PAIRS_HEADER, ",", problems):
        try:
            fields = [sys.intern(image_name(field.strip())) for field in next(csv.reader([line]))]
        except csv.Error as error:
            problems.append(Problem(label, row, f"the row cannot be read: {error}"))
            continue
        if len(fields) == 2:
            pairs.append(ListedPair(row, *fields))
        else:
            problems.append(Problem(label, row, f"{len(fields)} fields separated by ','; expected 2 (from,to)"))
    return pairs


def image_name(text: str) -> str:
    """The name of an image in the one spelling that names are compared in."""
    if text.isascii() and "/" not in text:
        return text
    return str(PurePosixPath(unicodedata.normalize("NFC", text)))


def name_trouble(name: str) -> str:
    """The reason why a name cannot be that of an image, or "". A name is a path inside the split's folder."""
    path = PurePosixPath(name)
    if not path.parts or "\0" in name:
        return "the name of the image is empty or has a zero byte"
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        return f"{_shortened(name)} leaves the folder of the images; expected a name inside it, with / between folders"
    if len(os.fsencode(name)) > LONGEST_PATH or any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
        return f"{_shortened(name)} is too long for a file's name, which has at most {LONGEST_NAME} bytes"
    return ""


def _rows_below_header(
    path: Path, label: str, header: list[str], separator: str, problems: list[Problem]
) -> Iterator[tuple[int, str]]:
    """(row, line) of every line below the header that is not empty. A file that is no such table is one problem."""
    try:
        if path.exists() and not path.is_file():
            problems.append(Problem(label, None, "no file but a folder, pipe or device"))
            return
        lines = list(enumerate(path.read_bytes().decode("utf-8-sig").split("\n"), start=1))
    except OSError as error:
        problems.append(Problem(label, None, f"the file cannot be read: {error.strerror}"))
        return
    except UnicodeDecodeError as error:
        before = error.object[: error.start].split(b"\n")
        problems.append(Problem(label, len(before), f"not text in UTF-8 (byte {len(before[-1])} of the line)"))
        return
    written = [(row, line) for row, line in lines if line.strip()]
    if not written:
        problems.append(Problem(label, None, "the file is empty"))
        return
    (first_row, first), expected = written[0], separator.join(header)
    if [field.strip() for field in first.split(separator)] != header:
        problems.append(Problem(label, first_row, f"the header is {_shortened(first)}; expected {expected}"))
    elif first_row > 1:
        problems.append(Problem(label, 1, f"the line is blank; expected the header {expected}"))
    yield from written[1:]


def _shortened(text: str, longest: int = 60) -> str:
    """The text in quotes, cut where it is longer."""
    text = text.strip()
    return repr(text if len(text) <= longest else text[: longest - 1] + "…")
