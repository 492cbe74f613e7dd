"""Poses from wherever a person has them: a JSON file, rows of an annotation file, another photograph, a folder.

Reading never stops at the first bad pose: what is wrong is appended to `problems` and the rest is read.
"""

import difflib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from xinggan.data.image_files import open_image, why_unreadable
from xinggan.data.layout import IMAGE_SUFFIXES
from xinggan.data.pose_json import parse_pose_json
from xinggan.data.problems import Problem
from xinggan.data.tables import Annotations, read_annotations

ACCEPTED = "a .json file, TABLE.csv, TABLE.csv:NAME, a photograph, or a folder of .json files or photographs"


@dataclass(frozen=True)
class NamedPose:
    """A pose and where it is from. `size`: height and width in pixels of the image it was seen in; None: not said."""

    name: str
    pose: np.ndarray  # [18, 3] float32
    size: tuple[int, int] | None


class Estimator(Protocol):
    """Finds joints in images."""

    def estimate(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """images uint8 [n, H, W, 3] -> poses [n, 18, 3] and a score for each joint [n, 18]."""


def read_photograph(path: Path) -> np.ndarray:
    """The pixels of an image file, upright, uint8 [H, W, 3]. Raises ValueError when it cannot be read."""
    try:
        with open_image(path) as image:
            return np.asarray(image.convert("RGB")).copy()
    except FileNotFoundError as error:
        raise ValueError(why_unreadable(error)) from error
    except Exception as error:  # whatever a decoder raises is about this file
        raise ValueError(f"the image cannot be read: {why_unreadable(error)}") from error


def size_beside(table: Path, name: str) -> tuple[int, int] | None:
    """Height and width of the photograph of a row, in its split's folder or in the table's; None where it is not there.

    Without it joints of photographs of another size would be taken for pixels of this one.
    """
    split = table.stem.rpartition("-annotation-")[2]  # "train" of people-annotation-train.csv
    for path in (table.parent / split / name, table.parent / name):
        try:
            with open_image(path) as image:
                return image.height, image.width
        except Exception:  # no such file, or none that says its size
            continue
    return None


def poses_in(folder: Path) -> list[Path]:
    """The files of a folder that are its poses: all .json files or, where there are none, all photographs."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    chosen = [path for path in files if path.suffix.lower() == ".json"]
    return chosen or [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]


@dataclass
class PoseReader:
    """Reads poses as a person names them. A photograph's comes from its row of `annotation`, else the `estimator`."""

    annotation: Path | None = None
    estimator: Estimator | None = None
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
            return self._of_folder(path)
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
            image = read_photograph(path)
        except ValueError as error:
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

    def _of_folder(self, folder: Path) -> list[NamedPose]:
        chosen = poses_in(folder)
        if not chosen:
            return self._refuse(folder, "the folder holds neither .json files nor photographs")
        return [pose for path in chosen for pose in self.read(str(path))]

    def _of_table(self, path: Path) -> list[NamedPose]:
        table, problems = self._table(path)
        self.problems += problems
        if not table.names and not problems:
            return self._refuse(path, "the table has no row below its header")
        rows = zip(table.names, table.poses, strict=True)
        return [NamedPose(f"{path}:{name}", pose, size_beside(path, name)) for name, pose in rows]

    def _of_row(self, path: Path, name: str, size: tuple[int, int] | None = None) -> list[NamedPose]:
        table, problems = self._table(path)
        own = [
            problem
            for problem in problems
            if problem.row in (None, 1) or problem.what.startswith((f"{name}: ", f"{name} "))
        ]
        self.problems += own
        if own:
            return []
        if name in table.names:
            pose = table.poses[table.names.index(name)]
            return [NamedPose(f"{path}:{name}", pose, size or size_beside(path, name))]
        close = difflib.get_close_matches(name, table.names, n=2) or table.names[:2]
        return self._refuse(
            path, f"no row is named {name!r}; it has {len(table.names)} rows, such as {', '.join(close)}"
        )

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
            pose, size = parse_pose_json(content)
        except ValueError as error:
            return self._refuse(path, str(error))
        return [NamedPose(str(path), pose, size)]

    def _refuse(self, where: str | Path, what: str) -> list[NamedPose]:
        self.problems.append(Problem(str(where), None, what))
        return []
