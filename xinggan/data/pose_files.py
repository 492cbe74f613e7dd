"""A person to be generated: a source image and poses from files, photographs or tables, in the size of a method.

A pose is a JSON file, a row of an annotation file, or the joints of another photograph. Reading never stops at the
first bad one: what is wrong is appended to a list of problems and the rest is read.
"""

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xinggan.data.image_files import IMAGE_SUFFIXES, UnusableImage, open_image, read_image, resized
from xinggan.data.poses import JOINTS
from xinggan.data.problems import Problem
from xinggan.data.tables import Annotations, read_annotations

if TYPE_CHECKING:
    from xinggan.data.estimators import Estimator

ACCEPTED = "a .json file, TABLE.csv, TABLE.csv:NAME, a photograph, or a folder of .json files or photographs"
# OpenPose's BODY_25 has the middle of the hips as joint 8 and six joints of the feet at its end; the others are ours.
OF_BODY_25 = (*range(8), *range(9, 19))

Size = tuple[int, int]  # height and width in pixels


@dataclass(frozen=True)
class NamedPose:
    """A pose and where it is from. `size`: of the image it was seen in; None: not said."""

    name: str
    pose: np.ndarray  # [18, 3] float32
    size: Size | None


@dataclass(frozen=True)
class Person:
    """One source image with n poses; `notes` say what was resized."""

    image: np.ndarray  # [H, W, 3] uint8
    pose: np.ndarray  # [18, 3] float32, of the source image
    poses: np.ndarray  # [n, 18, 3] float32
    notes: list[str]


def parse_pose_json(content: Any) -> tuple[np.ndarray, Size | None]:
    """One pose in a decoded JSON file -> pose float32 [18, 3] and (height, width), None for OpenPose's.

    {"joints": [[x, y], null, ... 18 in all], "height": 128, "width": 64}     null: the joint is missing
    {"people": [{"pose_keypoints_2d": [x, y, confidence, ...]}]}              OpenPose: 18 joints (COCO) or 25 (BODY_25)

    Both are in OpenPose order and pixels. Raises ValueError for anything else.
    """
    if isinstance(content, dict) and "joints" in content:
        return _own_joints(content["joints"]), (_pixels(content, "height"), _pixels(content, "width"))
    if isinstance(content, dict) and isinstance(content.get("people"), list):
        if len(content["people"]) != 1:
            raise ValueError(f"{len(content['people'])} people; expected one: leave the one that is meant")
        person = content["people"][0]
        return _openpose_joints(person.get("pose_keypoints_2d") if isinstance(person, dict) else None), None
    raise ValueError('neither {"joints": ..., "height": ..., "width": ...} nor OpenPose\'s {"people": ...}')


def _own_joints(joints: Any) -> np.ndarray:
    if not isinstance(joints, list) or len(joints) != len(JOINTS):
        found = len(joints) if isinstance(joints, list) else "no list of"
        raise ValueError(f"{found} joints; expected {len(JOINTS)} (OpenPose order), each [x, y] or null")
    pose = np.full((len(JOINTS), 3), (-1, -1, 0), dtype=np.float32)
    for index, joint in enumerate(joints):
        if joint is None:
            continue
        if not isinstance(joint, list) or len(joint) != 2 or not all(_is_coordinate(value) for value in joint):
            raise ValueError(f"joint {index} ({JOINTS[index]}) is {json.dumps(joint)[:40]}; expected [x, y] or null")
        pose[index] = (*joint, 1)
    return pose


def _openpose_joints(values: Any) -> np.ndarray:
    if not isinstance(values, list) or len(values) not in (54, 75) or not all(map(_is_coordinate, values)):
        found = f"{len(values)} values" if isinstance(values, list) else "no list"
        raise ValueError(f"pose_keypoints_2d: {found}; expected 18 (COCO) or 25 (BODY_25) times x, y, confidence")
    joints = np.array(values, dtype=np.float32).reshape(-1, 3)
    joints = joints[list(OF_BODY_25)] if len(joints) == 25 else joints
    present = joints[:, 2] > 0
    if present.any() and joints[present, :2].max() <= 1:
        raise ValueError(
            "pose_keypoints_2d: coordinates between 0 and 1; expected pixels (OpenPose: --keypoint_scale 0)"
        )
    return np.where(present[:, None], np.insert(joints[:, :2], 2, 1, axis=1), (-1, -1, 0)).astype(np.float32)


def _is_coordinate(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6


def _pixels(content: dict, key: str) -> int:
    value = content.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 1e5:
        raise ValueError(f"{key} is {json.dumps(value)[:40]}; expected pixels of the image that the joints belong to")
    return value


def poses_in(folder: Path) -> list[Path]:
    """The files of a folder that are its poses: all .json files or, where there are none, all photographs."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    chosen = [path for path in files if path.suffix.lower() == ".json"]
    return chosen or [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]


@dataclass
class PoseReader:
    """Reads the poses that words of a command line name.

    The pose of a photograph is its row of the table `annotation`, else what `estimator` finds.
    """

    annotation: Path | None = None
    estimator: "Estimator | None" = None
    problems: list[Problem] = field(default_factory=list)
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
            return [pose for file in files for pose in self.read(str(file))]
        if not path.is_file():
            return self._refuse(word, f"there is no such file; accepted is {ACCEPTED}")
        if suffix == ".csv":
            return self._of_row(path, row_name) if row_name else self._of_table(path)
        if suffix == ".json":
            return self._of_json(path)
        if suffix in IMAGE_SUFFIXES:
            return self.of_photograph(path)
        return self._refuse(word, f"not a kind of file that holds a pose; accepted is {ACCEPTED}")

    def of_photograph(self, path: Path) -> list[NamedPose]:
        """The pose of the person on a photograph, in the photograph's own pixels; [] with a problem where it has none.

        Its row is named like the file, or like the last parts of its path where names have folders in them.
        """
        try:
            image = read_image(path)
        except UnusableImage as error:
            return self._refuse(path, str(error))
        if self.annotation:
            parts = path.resolve().as_posix()
            fitting = [name for name in self._table(self.annotation)[0].named if parts.endswith(f"/{name}")]
            if fitting or not self.estimator:
                return self._of_row(self.annotation, max(fitting, key=len, default=path.name), image.shape[:2])
        if not self.estimator:
            return self._refuse(path, "nothing says where its joints are; give --annotation TABLE.csv or --estimator")
        poses, _ = self.estimator.estimate(image[None])
        if not (poses[0, :, 2] > 0).any():
            return self._refuse(path, "the estimator found no joint in it")
        return [NamedPose(str(path), poses[0].astype(np.float32), image.shape[:2])]

    def _of_table(self, path: Path) -> list[NamedPose]:
        table, problems = self._table(path)
        self.problems += problems
        if not table.names and not problems:
            return self._refuse(path, "the table has no row below its header")
        rows = zip(table.names, table.poses, strict=True)
        return [NamedPose(f"{path}:{name}", pose, _size_beside(path, name)) for name, pose in rows]

    def _of_row(self, path: Path, name: str, size: Size | None = None) -> list[NamedPose]:
        table, problems = self._table(path)
        beginnings = (f"{name}: ", f"{name} ")
        own = [problem for problem in problems if problem.row in (None, 1) or problem.what.startswith(beginnings)]
        self.problems += own
        if own:
            return []
        if name in table.names:
            pose = table.poses[table.names.index(name)]
            return [NamedPose(f"{path}:{name}", pose, size or _size_beside(path, name))]
        close = difflib.get_close_matches(name, table.names, n=2) or table.names[:2]
        such = f"it has {len(table.names)} rows, such as {', '.join(close)}"
        return self._refuse(path, f"no row is named {name!r}; {such}")

    def _table(self, path: Path) -> tuple[Annotations, list[Problem]]:
        if path not in self._tables:
            problems: list[Problem] = []
            self._tables[path] = read_annotations(path, str(path), problems), problems
        return self._tables[path]

    def _of_json(self, path: Path) -> list[NamedPose]:
        try:
            content = json.loads(path.read_bytes().decode("utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            return self._refuse(path, f"the file cannot be read as JSON: {error}")
        try:
            return [NamedPose(str(path), *parse_pose_json(content))]
        except ValueError as error:
            return self._refuse(path, str(error))

    def _refuse(self, where: str | Path, what: str) -> list[NamedPose]:
        self.problems.append(Problem(str(where), None, what))
        return []


def _size_beside(table: Path, name: str) -> Size | None:
    """The size of the photograph of a row, in its split's folder or in the table's; None where it is not there.

    Without it joints of photographs of another size would be taken for pixels of this one.
    """
    split = table.stem.rpartition("-annotation-")[2]  # "train" of people-annotation-train.csv
    for path in (table.parent / split / name, table.parent / name):
        try:
            with open_image(path) as image:
                return image.height, image.width
        except UnusableImage:  # no such file, or none that says its size
            continue
    return None


def read_person(
    source: Path, source_pose: str | None, poses: Sequence[str], reader: PoseReader, size: Size | None, resize: bool
) -> Person | None:
    """The person of the photograph `source`, whose pose is read from there unless `source_pose` says where else.

    size: of the images to generate, None where that is not known: then everything is read, to find what is wrong with
    it, and nothing returned. None as well when there are problems, all in `reader.problems`.
    """
    notes: list[str] = []
    image, own = None, list[NamedPose]()
    try:
        image = read_image(source)
    except UnusableImage as error:
        reader.problems.append(Problem(str(source), None, str(error)))
    if source_pose:
        own = reader.read(source_pose)
        if len(own) > 1:
            reader.problems.append(Problem(source_pose, None, f"{len(own)} poses; expected the one of {source}"))
    elif image is not None:
        own = reader.of_photograph(source)
    if image is not None:  # a pose of unknown size is given in the pixels of its photograph
        own = [NamedPose(pose.name, pose.pose, pose.size or image.shape[:2]) for pose in own]
    wanted = [pose for word in poses for pose in reader.read(word)]
    if size is None:
        return None

    if image is not None and image.shape[:2] != size:
        high, wide = image.shape[:2]
        if resize:
            image = resized(image, *size)
            notes.append(f"{source}: resized from {wide} x {high} to {size[1]} x {size[0]} pixels (width x height)")
        else:
            reader.problems.append(Problem(str(source), None, _of_another_size((high, wide), size)))
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
    return Person(image, fitting[0], np.stack(fitting[1:]), notes)


def fitted(named: NamedPose, height: int, width: int, resize: bool) -> np.ndarray:
    """The pose [18, 3] in the pixels of an image of `height` x `width`. Raises ValueError where it has no place there.

    A pose of another size is scaled if `resize`; one of unknown size is taken as it is, if all of it is in the image.
    """
    pose = named.pose.copy()
    present = pose[:, 2] > 0
    if named.size not in (None, (height, width)):
        high, wide = named.size
        if not resize:
            raise ValueError(_of_another_size((high, wide), (height, width)))
        pose[present, :2] = (pose[present, :2] + 0.5) * (width / wide, height / high) - 0.5  # pixel centres are whole
    inside = ((pose[:, :2] >= -0.5) & (pose[:, :2] < (width - 0.5, height - 0.5))).all(axis=1)
    if not (present & inside).any():
        raise ValueError(f"no joint lies inside the image of {width} x {height} pixels (width x height)")
    if named.size is None and (outside := np.flatnonzero(present & ~inside)).size:
        x, y, _ = pose[outside[0]]
        what = f"the {JOINTS[outside[0]]} at x {x:g}, y {y:g} lies outside the image of {width} x {height} pixels"
        raise ValueError(f"{what} (width x height); for joints of another size use JSON with height and width")
    return pose


def _of_another_size(found: Size, expected: Size) -> str:
    (high, wide), (height, width) = found, expected
    return f"{wide} x {high} pixels (width x height); expected {width} x {height} as in training, or --resize"
