"""What an annotation leaves behind: the table of the Pose-Transfer layout, and beside it scores, origin and a picture.

people-annotation-train.csv             name:keypoints_y:keypoints_x, as `tables` reads it
people-annotation-train-scores.csv      name and a score for each joint
people-annotation-train-estimator.json  which estimator, which weights, which settings
people-annotation-train-sheet.png       skeletons over some of the photographs
"""

import csv
import io
import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xinggan.data.poses import JOINTS, draw_skeleton
from xinggan.data.tables import ANNOTATION_HEADER
from xinggan.files import atomic_path

SHOWN = 48  # photographs on the sheet
TALL = 256  # pixels of a photograph on the sheet
WIDEST = 384
COLUMNS = 12


@dataclass
class Annotated:
    """n photographs with their poses in their own pixels, and small pictures of some for the sheet."""

    names: list[str]
    poses: list[np.ndarray]  # n times [18, 3] float32
    scores: list[np.ndarray]  # n times [18] float32
    pictures: list[np.ndarray]  # [h, w, 3] uint8


def annotation_text(names: list[str], poses: list[np.ndarray]) -> str:
    """The table, in the form of the published files: a space after each colon, -1 where a joint is missing."""
    rows = [":".join(ANNOTATION_HEADER)]
    for name, pose in zip(names, poses, strict=True):
        x, y = pose[:, :2].astype(int).T.tolist()
        rows.append(f"{name}: {y}: {x}")
    return "\n".join(rows) + "\n"


def scores_text(names: list[str], scores: list[np.ndarray]) -> str:
    """A comma-separated table: name, then the score of each joint, the missing ones' too."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *JOINTS])
    writer.writerows([name, *(f"{score:.4f}" for score in row)] for name, row in zip(names, scores, strict=True))
    return text.getvalue()


def small_picture(image: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """A photograph uint8 [H, W, 3] and its skeleton, at most TALL x WIDEST pixels."""
    from PIL import Image

    scale = min(TALL / image.shape[0], WIDEST / image.shape[1])
    height, width = (max(1, round(pixels * scale)) for pixels in image.shape[:2])
    resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    moved = pose.copy()
    moved[:, :2] = (moved[:, :2] + 0.5) * scale - 0.5
    return draw_skeleton(moved, height, width, background=resized)


def sheet(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures of any size on one white sheet."""
    from xinggan.pictures import contact_sheet

    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    cells = np.full((len(pictures), height, width, 3), 255, dtype=np.uint8)
    for cell, picture in zip(cells, pictures, strict=True):
        left = (width - picture.shape[1]) // 2
        cell[: picture.shape[0], left : left + picture.shape[1]] = picture
    return contact_sheet(cells, COLUMNS)


def write_annotations(annotated: dict[Path, Annotated], origin: dict[str, Any]) -> None:
    """The four files of each table, all or, on an error, none: everything is written before anything gets its name."""
    from xinggan.pictures import save_png

    with ExitStack() as stack:
        for out, content in annotated.items():  # names are given backwards: each table after what is beside it
            stack.enter_context(atomic_path(out)).write_text(annotation_text(content.names, content.poses), "utf-8")
            scores = stack.enter_context(atomic_path(beside(out, "-scores.csv")))
            scores.write_text(scores_text(content.names, content.scores), "utf-8")
            estimator = stack.enter_context(atomic_path(beside(out, "-estimator.json")))
            estimator.write_text(json.dumps(origin, indent=2) + "\n", "utf-8")
            save_png(stack.enter_context(atomic_path(beside(out, "-sheet.png"))), sheet(content.pictures))


def beside(out: Path, ending: str) -> Path:
    """The file that belongs to the table `out`."""
    return out.with_name(out.stem + ending)
