"""Pictures for people: grids of test pairs, strips over poses, contact sheets, PNG and GIF. Arrays: uint8 [H, W, 3]."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from xinggan.data.poses import draw_skeleton
from xinggan.files import atomic_path

if TYPE_CHECKING:
    from xinggan.data.batch import PosePair

GUTTER = 2  # pixels of white between images


def save_png(path: Path, image: np.ndarray) -> None:
    """Write a lossless PNG atomically."""
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")


def save_gif(path: Path, frames: np.ndarray, frames_per_second: float) -> None:
    """Write frames [n, H, W, 3] atomically as an animation that repeats.

    GIF counts time in hundredths of a second; of equal frames in a row one is kept, and shown for as long as all.
    """
    # Every frame has 256 colours of its own and no dithering, which would flicker where nothing moves.
    pictures = [Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE) for frame in frames]
    duration_ms = max(round(100 / frames_per_second), 1) * 10
    with atomic_path(path) as temporary:
        pictures[0].save(
            temporary, format="GIF", save_all=True, append_images=pictures[1:], duration=duration_ms, loop=0
        )


def tile(rows: Sequence[Sequence[np.ndarray]], gap: int = GUTTER, border: int = 0) -> np.ndarray:
    """Images in rows and columns on white, `gap` pixels apart, with `border` pixels around all.

    Every cell has the height and the width of the largest image. A smaller image stands at the top of its cell, in the
    middle across; a short row is filled up with white.
    """
    height, width = (max(image.shape[axis] for row in rows for image in row) for axis in (0, 1))
    columns = max(len(row) for row in rows)
    size = (len(rows) * (height + gap) - gap + 2 * border, columns * (width + gap) - gap + 2 * border)
    sheet = np.full((*size, 3), 255, dtype=np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top = border + i * (height + gap)
            left = border + j * (width + gap) + (width - image.shape[1]) // 2
            sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def panels(batch: "PosePair", row: int) -> dict[str, np.ndarray]:
    """The images of a pair by name: source, source_pose, target_pose, target."""
    height, width = batch.source_image.shape[-2:]
    return {
        "source": batch.source_image[row].permute(1, 2, 0).numpy(),
        "source_pose": draw_skeleton(batch.source_pose[row].numpy(), height, width),
        "target_pose": draw_skeleton(batch.target_pose[row].numpy(), height, width),
        "target": batch.target_image[row].permute(1, 2, 0).numpy(),
    }


def comparison_grid(batch: "PosePair", generated: np.ndarray) -> np.ndarray:
    """One row a pair: source, source pose, target pose, target, generated (uint8 [B, H, W, 3])."""
    return tile([[*panels(batch, row).values(), generated[row]] for row in range(len(batch))])


def pose_strip(
    source: np.ndarray, source_pose: np.ndarray, poses: np.ndarray, generated: np.ndarray, columns: int = 16
) -> np.ndarray:
    """The source first, then each of `generated` [n, H, W, 3], in rows of `columns`; above each image its skeleton."""
    height, width = source.shape[:2]
    images = [source, *generated]
    skeletons = [draw_skeleton(pose, height, width) for pose in (source_pose, *poses)]
    starts = range(0, len(images), columns)
    return tile([row[start : start + columns] for start in starts for row in (skeletons, images)])


def contact_sheet(images: Sequence[np.ndarray] | np.ndarray, columns: int = 16) -> np.ndarray:
    """Many images, each [H, W, 3], on one sheet of `columns`."""
    return tile([list(images[start : start + columns]) for start in range(0, len(images), columns)])
