"""The two tables of the Pose-Transfer layout: annotations (name: rows: columns of 18 joints) and pairs (from,to).

Reading never stops at the first bad row: what is wrong is appended to `problems` and the rest is read.
"""

import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from xinggan.data.poses import JOINTS
from xinggan.data.problems import Problem

MISSING = -1  # the coordinate of a joint that is not in the image
ANNOTATION_HEADER = ["name", "keypoints_y", "keypoints_x"]
PAIRS_HEADER = ["from", "to"]


@dataclass(frozen=True)
class Annotations:
    """The rows of an annotation file in its order. `named` has every name mentioned, those of bad rows too."""

    names: list[str]
    rows: list[int]  # line of the file, the header being 1
    poses: np.ndarray  # [n, 18, 3] float32
    named: set[str]


class ListedPair(NamedTuple):
    """A well-formed row of a pairs file."""

    row: int  # line of the file
    source: str
    target: str


def read_annotations(path: Path, label: str, problems: list[Problem]) -> Annotations:
    """Read `<set>-annotation-<split>.csv`, called `label` in problems."""
    names, rows, poses, named = list[str](), list[int](), list[np.ndarray](), dict[str, int]()
    for row, line in _lines(path, label, problems):
        fields = [field.strip() for field in line.split(":")]
        if row == 1:
            if fields != ANNOTATION_HEADER:
                found = _shortened(line)
                problems.append(Problem(label, 1, f"the header is {found}; expected {':'.join(ANNOTATION_HEADER)}"))
            continue
        name = fields[0]
        trouble = name_trouble(name)
        if not trouble and name in named:
            trouble = f"{name} is annotated already in row {named[name]}"
        pose = None
        if not trouble:
            named[name] = row
            try:
                pose = parse_pose(fields[1:])
            except ValueError as error:
                trouble = f"{name}: {error}"
        if pose is None:
            problems.append(Problem(label, row, trouble))
        else:
            names.append(name)
            rows.append(row)
            poses.append(pose)
    return Annotations(names, rows, np.array(poses, dtype=np.float32).reshape(-1, len(JOINTS), 3), set(named))


def annotated_names(path: Path) -> list[str]:
    """The names in an annotation file whose rows need not be right, for finding the images; bad names are left out."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as file:
        names = (line.partition(":")[0].strip() for line in islice(file, 1, None))
        return [name for name in names if not name_trouble(name)]


def parse_pose(fields: list[str]) -> np.ndarray:
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
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e6:
                found = _shortened(json.dumps(value))
                raise ValueError(f"{found} among the values of {axis} is no coordinate in pixels")
        coordinates.append(values)
    rows, columns = coordinates
    joints = zip(columns, rows, strict=True)
    return np.array([(-1, -1, 0) if MISSING in (x, y) else (x, y, 1) for x, y in joints], dtype=np.float32)


def read_pairs(path: Path, label: str, problems: list[Problem]) -> list[ListedPair]:
    """Read `<set>-pairs-<split>.csv`, called `label` in problems."""
    pairs = []
    for row, line in _lines(path, label, problems):
        try:
            fields = [sys.intern(field.strip()) for field in next(csv.reader([line]), [])]
        except csv.Error as error:
            problems.append(Problem(label, row, f"the row cannot be read: {error}"))
            continue
        if row == 1:
            if fields != PAIRS_HEADER:
                expected = ",".join(PAIRS_HEADER)
                problems.append(Problem(label, 1, f"the header is {_shortened(line)}; expected {expected}"))
        elif len(fields) != 2:
            problems.append(Problem(label, row, f"{len(fields)} fields separated by ','; expected 2 (from,to)"))
        else:
            pairs.append(ListedPair(row, *fields))
    return pairs


def name_trouble(name: str) -> str:
    """What is wrong with an image's name, or the empty string. A name is a path inside the split's folder."""
    path = PurePosixPath(name)
    if not name or "\0" in name:
        return "the name of the image is empty or has a zero byte"
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        return f"{_shortened(name)} leaves the folder of the images; expected a name inside it, with / between folders"
    return ""


def _lines(path: Path, label: str, problems: list[Problem]) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not empty, with their numbers, up to the first that is not UTF-8."""
    row = found = 0
    try:
        with path.open("rb") as file:
            for row, data in enumerate(file, start=1):
                line = data.decode("utf-8-sig" if row == 1 else "utf-8")
                if line.strip():
                    found += 1
                    yield row, line
    except OSError as error:
        problems.append(Problem(label, None, f"the file cannot be read: {error.strerror}"))
    except UnicodeDecodeError as error:
        problems.append(Problem(label, row, f"not text in UTF-8 (byte {error.start} of the line)"))
    else:
        if not found:
            problems.append(Problem(label, None, "the file is empty"))


def _shortened(text: str, longest: int = 60) -> str:
    text = text.strip()
    return repr(text if len(text) <= longest else text[: longest - 1] + "…")
