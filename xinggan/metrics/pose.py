"""PCKh: how many of the target pose's joints are where they should be, measured in heads.

The head box spans the target's nose, neck, eyes and ears. A joint is right when it lies strictly less than half the
box's width away along x and half its height along y, as the evaluation tools of PATN and XingGAN count it.
"""

import numpy as np
from numpy.typing import NDArray

from xinggan.metrics.protocol import CLEAN, PckhSettings

HEAD_JOINTS = (0, 1, 14, 15, 16, 17)  # nose, neck, eyes, ears in OpenPose order


def pckh(
    prediction: NDArray[np.floating], target: NDArray[np.floating], settings: PckhSettings = CLEAN.pckh
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the right joints of each image.

    prediction, target: [n, 18, 3] with x and y in pixels and visible (1 or 0). Only joints that the target shows
    count; one that the prediction calls absent is wrong. Returns (correct [n], total [n]); total is 0 for images left
    out because their target shows fewer than two head joints. A set's PCKh is correct.sum() / total.sum().
    """
    if prediction.shape != target.shape or target.shape[1:] != (18, 3):
        raise ValueError(f"PCKh compares two arrays [n, 18, 3]; got {prediction.shape} and {target.shape}")
    shown = target[..., 2] > 0  # [n, 18]
    head, head_shown = target[:, HEAD_JOINTS, :2], shown[:, HEAD_JOINTS, None]  # [n, 6, 2], [n, 6, 1]
    lowest = np.where(head_shown, head, np.inf).min(1)  # [n, 2]
    highest = np.where(head_shown, head, -np.inf).max(1)
    scored = head_shown.sum((1, 2)) >= settings.head_joints_needed  # [n]
    box = np.where(scored[:, None], highest - lowest, 0.0)  # [n, 2] width, height
    distance = np.abs(prediction[..., :2] - target[..., :2])  # [n, 18, 2]
    right = (distance < settings.tolerance * box[:, None]).all(2) & (prediction[..., 2] > 0) & shown
    return right.sum(1), np.where(scored, shown.sum(1), 0)
