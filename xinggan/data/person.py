"""A person to be generated: the source image, the pose in it, and the poses wanted, brought to the size of a method."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xinggan.data.photographs import Framing, read_picture
from xinggan.data.pose_files import NamedPose, PoseReader, read_photograph
from xinggan.data.poses import JOINTS
from xinggan.data.problems import Problem


@dataclass(frozen=True)
class Person:
    """One source image with n poses; `notes` say what was resized."""

    image: np.ndarray  # [H, W, 3] uint8
    pose: np.ndarray  # [18, 3] float32, of the source image
    poses: np.ndarray  # [n, 18, 3] float32
    notes: list[str]


def read_person(
    source: Path,
    source_pose: str | None,
    poses: Sequence[str],
    reader: PoseReader,
    size: tuple[int, int] | None,
    resize: bool = False,
) -> Person | None:
    """The person of the photograph `source`, whose pose is read from there unless `source_pose` says where else.

    size: height and width in pixels of the images to generate, None where that is not known: then everything is read,
    to find what is wrong with it, and nothing returned. None as well when there are problems, all in `reader.problems`.
    """
    notes: list[str] = []
    image, own = None, list[NamedPose]()
    try:
        image = read_photograph(source)
    except ValueError as error:
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
            image = read_picture(source, Framing((wide, high), *size, crop=False, resize=True)).image
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


def _of_another_size(found: tuple[int, int], expected: tuple[int, int]) -> str:
    (high, wide), (height, width) = found, expected
    return f"{wide} x {high} pixels (width x height); expected {width} x {height} as in training, or --resize"
