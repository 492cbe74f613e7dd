"""A person to be generated: a source image and poses from files, photographs or tables, in the size of a method.

A pose is a JSON file, a row of an annotation file, or the joints of another photograph. Reading does not stop at a bad
one: each problem is appended to a list, and the others are read.
"""

import difflib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xinggan.command import Problem
from xinggan.data.image_files import (
    IMAGE_SUFFIXES,
    RESIZED_BY,
    UnusableImage,
    file_named,
    hidden_note,
    open_image,
    read_image,
    resized,
    visible,
)
from xinggan.data.poses import JOINTS, are_fractions, drop_undetected
from xinggan.data.tables import Annotations, image_name, is_coordinate, read_annotations

if TYPE_CHECKING:
    from xinggan.data.estimators import Estimator

ACCEPTED = "a .json file, TABLE.csv, TABLE.csv:NAME, a photograph, or a folder of .json files or photographs"
# OpenPose's BODY_25 has the middle of the hips as joint 8 and six joints of the feet at its end; the others are ours.
OF_BODY_25 = (*range(8), *range(9, 19))

Size = tuple[int, int]  # height and width in pixels


@dataclass(frozen=True)
class NamedPose:
    """A pose, its origin, and the size of the image that it belongs to (None: not known)."""

    name: str
    pose: np.ndarray  # [18, 3] float32
    size: Size | None


@dataclass(frozen=True)
class Person:
    """One source image with n poses; `notes` name kinds of files and what was resized."""

    image: np.ndarray  # [H, W, 3] uint8
    pose: np.ndarray  # [18, 3] float32, of the source image
    poses: np.ndarray  # [n, 18, 3] float32
    notes: list[str]


def parse_pose_json(content: Any) -> tuple[np.ndarray, Size | None]:
    """One pose in a decoded JSON file -> pose float32 [18, 3] and (height, width), None for OpenPose's.

    {"joints": [[x, y], null, ... 18 in all], "height": 128, "width": 64}     null: the joint is missing
    {"people": [{"pose_keypoints_2d": [x, y, confidence, ...]}]}              OpenPose: 18 joints (COCO) or 25 (BODY_25)

    Both are in OpenPose order and pixels; OpenPose's may have canvas_height and canvas_width. Several joints at exactly
    0, 0 are missing. Raises ValueError for anything else.
    """
    content = content if isinstance(content, dict) else {}
    size: Size | None = None
    if "joints" in content:
        pose, size = _own_joints(content["joints"]), (_pixels(content, "height"), _pixels(content, "width"))
    elif isinstance(people := content.get("people"), list):
        if len(people) != 1:
            raise ValueError(f"{len(people)} people; expected one: leave the one that is meant")
        pose = _openpose_joints(people[0].get("pose_keypoints_2d") if isinstance(people[0], dict) else None)
        if content.keys() & {"canvas_height", "canvas_width"}:
            size = _pixels(content, "canvas_height"), _pixels(content, "canvas_width")
    else:
        raise ValueError('neither {"joints": ..., "height": ..., "width": ...} nor OpenPose\'s {"people": ...}')
    drop_undetected(pose[None])
    return pose, size


def _own_joints(joints: Any) -> np.ndarray:
    """The pose [18, 3] in the suite's own JSON."""
    if not isinstance(joints, list) or len(joints) != len(JOINTS):
        found = len(joints) if isinstance(joints, list) else "no list of"
        raise ValueError(f"{found} joints; expected {len(JOINTS)} (OpenPose order), each [x, y] or null")
    for index, joint in enumerate(joints):
        if joint is not None and not (isinstance(joint, list) and len(joint) == 2 and all(map(is_coordinate, joint))):
            raise ValueError(f"joint {index} ({JOINTS[index]}) is {json.dumps(joint)[:40]}; expected [x, y] or null")
    return np.array([(-1, -1, 0) if joint is None else (*joint, 1) for joint in joints], dtype=np.float32)


def _openpose_joints(values: Any) -> np.ndarray:
    """The pose [18, 3] in OpenPose's JSON."""
    if not isinstance(values, list) or len(values) not in (54, 75):
        found = f"{len(values)} values" if isinstance(values, list) else "no list"
        raise ValueError(f"pose_keypoints_2d: {found}; expected 18 (COCO) or 25 (BODY_25) times x, y, confidence")
    if wrong := [place for place, value in enumerate(values) if not is_coordinate(value)]:
        joint, axis = divmod(wrong[0], 3)
        what = f"{('x', 'y', 'confidence')[axis]} of joint {joint} is {json.dumps(values[wrong[0]])[:40]}"
        raise ValueError(f"pose_keypoints_2d: {what}; expected a number")
    joints = np.array(values, dtype=np.float32).reshape(-1, 3)
    joints = joints[list(OF_BODY_25)] if len(joints) == 25 else joints
    present = joints[:, 2] > 0
    joints[present, 2] = 1
    joints[~present] = (-1, -1, 0)
    return joints


def _pixels(content: dict, key: str) -> int:
    """The height or width in the suite's own JSON."""
    value = content.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 1e5:
        raise ValueError(f"{key} is {json.dumps(value)[:40]}; expected pixels of the image that the joints belong to")
    return value


def poses_in(folder: Path) -> list[Path]:
    """The files of a folder that are its poses: all .json files or, where there are none, all photographs."""
    files = [path for path in visible(folder) if path.is_file()]
    chosen = [path for path in files if path.suffix.lower() == ".json"]
    return chosen or [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]


@dataclass
class PoseReader:
    """Reads the poses that words of a command line name.

    The pose of a photograph is its row of the table `annotation`, or else the estimate of `estimator`.
    """

    annotation: Path | None = None
    estimator: "Estimator | None" = None
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _tables: dict[Path, tuple[Annotations, list[Problem]]] = field(default_factory=dict)

    def read(self, word: str) -> list[NamedPose]:
        """The poses that one word means, in the order of the table or of the folder's names."""
        path, row_name = Path(word), ""
        if not path.exists() and ".csv:" in word:
            table, _, row_name = word.partition(".csv:")
            path = Path(f"{table}.csv")
        suffix = path.suffix.lower()
        if path.is_dir():
            if not (files := poses_in(path)):
                return self._refuse(path, "the folder holds neither .json files nor photographs")
            self.notes += hidden_note(path)
            return [pose for file in files for pose in self.read(str(file))]
        if not path.is_file():
            return self._refuse(word, f"there is no such file; accepted is {ACCEPTED}")
        if suffix == ".csv":
            return self._row(path, image_name(row_name)) if row_name else self._all_rows(path)
        if suffix in IMAGE_SUFFIXES:
            return self.of_photograph(path)
        if suffix != ".json":
            return self._refuse(word, f"not a kind of file that holds a pose; accepted is {ACCEPTED}")
        try:
            content = json.loads(path.read_bytes().decode("utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            return self._refuse(path, f"the file cannot be read as JSON: {error}")
        try:
            return [NamedPose(str(path), *parse_pose_json(content))]
        except ValueError as error:
            return self._refuse(path, str(error))

    def of_photograph(self, path: Path) -> list[NamedPose]:
        """The pose of the person on a photograph, in the photograph's own pixels; [] and a problem without one.

        Its row is named like the file, or like the last parts of its path where names have folders in them.
        """
        try:
            image, _ = read_image(path)
        except UnusableImage as error:
            return self._refuse(path, str(error))
        if self.annotation:
            parts = image_name(path.resolve().as_posix())
            fitting = [name for name in self._table(self.annotation)[0].named if parts.endswith(f"/{name}")]
            if fitting or not self.estimator:
                return self._row(self.annotation, max(fitting, key=len, default=image_name(path.name)), image.shape[:2])
        if not self.estimator:
            return self._refuse(path, "nothing says where its joints are; give --annotation TABLE.csv or --estimator")
        (pose,), _ = self.estimator.estimate(image[None])
        if not (pose[:, 2] > 0).any():
            return self._refuse(path, "the estimator found no joint in it")
        return [NamedPose(str(path), pose.astype(np.float32), image.shape[:2])]

    def _all_rows(self, path: Path) -> list[NamedPose]:
        """The poses of a table."""
        table, problems = self._table(path)
        self.problems += problems
        if not table.names and not problems:
            return self._refuse(path, "the table has no row below its header")
        rows = zip(table.names, table.poses, strict=True)
        return [NamedPose(f"{path}:{name}", pose, _size_beside(path, name)) for name, pose in rows]

    def _row(self, path: Path, name: str, size: Size | None = None) -> list[NamedPose]:
        """The pose of a row of a table; problems of other rows do not count."""
        table, problems = self._table(path)
        beginnings = (f"{name}: ", f"{name} ")
        if own := [each for each in problems if each.row in (None, 1) or each.what.startswith(beginnings)]:
            self.problems += own
            return []
        if name in table.names:
            pose = table.poses[table.names.index(name)]
            return [NamedPose(f"{path}:{name}", pose, size or _size_beside(path, name))]
        close = difflib.get_close_matches(name, table.names, n=2) or table.names[:2]
        such = f"it has {len(table.names)} rows, such as {', '.join(close)}"
        return self._refuse(path, f"no row is named {name!r}; {such}")

    def _table(self, path: Path) -> tuple[Annotations, list[Problem]]:
        """The table, read once, and its problems."""
        if path not in self._tables:
            problems: list[Problem] = []
            self._tables[path] = read_annotations(path, str(path), problems), problems
            self.notes += self._tables[path][0].notes
        return self._tables[path]

    def _refuse(self, where: str | Path, what: str) -> list[NamedPose]:
        """No pose, and a problem."""
        self.problems.append(Problem(str(where), None, what))
        return []


def _size_beside(table: Path, name: str) -> Size | None:
    """The size of the photograph of a row, in its split's folder or in the table's; None where it is not there."""
    split = table.stem.rpartition("-annotation-")[2]  # "train" of people-annotation-train.csv
    for folder in (table.parent / split, table.parent):
        with suppress(UnusableImage), open_image(file_named(folder, name)) as image:
            return image.size[1], image.size[0]
    return None


def read_person(
    source: Path, source_pose: str | None, poses: Sequence[str], reader: PoseReader, size: Size | None, resize: bool
) -> Person | None:
    """The person of the photograph `source`, whose pose is read from there or from the word `source_pose`.

    size: of the images to generate; None: not known, then everything is read to find its problems. Returns None without
    a size and with problems, which are in `reader.problems`.
    """
    image, own, notes = None, list[NamedPose](), list[str]()
    try:
        image, kinds = read_image(source)
        notes += [f"{source}: {kind}" for kind in kinds]
    except UnusableImage as error:
        reader.problems.append(Problem(str(source), None, str(error)))
    if source_pose:
        own = reader.read(source_pose)
        if len(own) > 1:
            reader.problems.append(Problem(source_pose, None, f"{len(own)} poses; expected the one of {source}"))
    elif image is not None:
        own = reader.of_photograph(source)
    if image is not None:  # a pose of unknown size is given in the pixels of its photograph
        own = [replace(pose, size=pose.size or image.shape[:2]) for pose in own]
    wanted = [pose for word in poses for pose in reader.read(word)]
    if size is None:
        return None

    if image is not None and image.shape[:2] != size:
        high, wide = image.shape[:2]
        if resize:
            image = resized(image, *size)
            what = f"resized from {wide} x {high} to {size[1]} x {size[0]} pixels (width x height; {RESIZED_BY})"
            notes.append(f"{source}: {what}")
        else:
            reader.problems.append(Problem(str(source), None, _another_size((high, wide), size)))
    fitting = []
    for named in (*own, *wanted):
        try:
            fitting.append(fitted(named, *size, resize))
        except ValueError as error:
            reader.problems.append(Problem(named.name, None, str(error)))
    if moved := sum(named.size not in (None, size) for named in wanted):
        notes.append(f"{moved} of {len(wanted)} poses: resized with the images they belong to")
    if sizeless := sum(named.size is None for named in wanted):
        of = f"{sizeless} of {len(wanted)} poses: of which size their photographs were is not known"
        notes.append(f"{of}; taken in pixels of the image of {size[1]} x {size[0]} (width x height)")
    if reader.problems or image is None:
        return None
    return Person(image, fitting[0], np.stack(fitting[1:]), [*dict.fromkeys(reader.notes), *notes])


def fitted(named: NamedPose, height: int, width: int, resize: bool) -> np.ndarray:
    """The pose [18, 3] in the pixels of an image of `height` x `width`. Raises ValueError where it does not fit in.

    A pose of another size is scaled if `resize`. A pose of unknown size is not scaled, and must lie in the image.
    """
    pose = named.pose.copy()
    present = pose[:, 2] > 0
    if are_fractions(pose[None]):
        raise ValueError("joints between 0 and 1; expected pixels, not fractions of the image (--keypoint_scale 0)")
    if named.size not in (None, (height, width)):
        high, wide = named.size
        if not resize:
            raise ValueError(_another_size((high, wide), (height, width)))
        pose[present, :2] = (pose[present, :2] + 0.5) * (width / wide, height / high) - 0.5  # pixel centres are whole
    inside = ((pose[:, :2] >= -0.5) & (pose[:, :2] < (width - 0.5, height - 0.5))).all(axis=1)
    if not (present & inside).any():
        raise ValueError(f"no joint lies inside the image of {width} x {height} pixels (width x height)")
    if named.size is None and (outside := np.flatnonzero(present & ~inside)).size:
        x, y, _ = pose[outside[0]]
        what = f"the {JOINTS[outside[0]]} at x {x:g}, y {y:g} lies outside the image of {width} x {height} pixels"
        raise ValueError(f"{what} (width x height); for joints of another size use JSON with height and width")
    return pose


def _another_size(found: Size, expected: Size) -> str:
    """The reason why an image of the size `found` is refused."""
    (high, wide), (height, width) = found, expected
    return f"{wide} x {high} pixels (width x height); expected {width} x {height} as in training, or --resize"
