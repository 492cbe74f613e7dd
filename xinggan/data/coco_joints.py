"""The 17 joints of COCO, which most estimators find, as the 18 of OpenPose, which the Pose-Transfer layout holds.

COCO has no neck: it is the middle of the shoulders, and missing where one of them is.
"""

import numpy as np

from xinggan.data.poses import JOINTS

COCO_JOINTS = (
    *("nose", "left eye", "right eye", "left ear", "right ear"),
    *("left shoulder", "right shoulder", "left elbow", "right elbow", "left wrist", "right wrist"),
    *("left hip", "right hip", "left knee", "right knee", "left ankle", "right ankle"),
)
NECK, SHOULDERS = JOINTS.index("neck"), [JOINTS.index("right shoulder"), JOINTS.index("left shoulder")]


def poses_from_coco(
    joints: np.ndarray, scores: np.ndarray, threshold: float, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """COCO joints [n, 17, 2] (x, y in pixels) and scores [n, 17] -> poses float32 [n, 18, 3], scores [n, 18].

    A joint is missing when its score is below `threshold` or it lies outside the image of `height` x `width` pixels.
    The neck's score is the lower of the shoulders'. Coordinates become whole pixels.
    """
    rows = [COCO_JOINTS.index(name) if name in COCO_JOINTS else 0 for name in JOINTS]
    places, certain = joints[:, rows].astype(np.float64), scores[:, rows].astype(np.float32)  # [n, 18, 2], [n, 18]
    places[:, NECK] = places[:, SHOULDERS].mean(axis=1)
    certain[:, NECK] = certain[:, SHOULDERS].min(axis=1)
    places = places.round()
    inside = np.all((places >= 0) & (places < (width, height)), axis=-1)
    present = (certain >= threshold) & inside
    present[:, NECK] = present[:, SHOULDERS].all(axis=1)
    poses = np.full((*present.shape, 3), (-1, -1, 0), dtype=np.float32)
    poses[present] = np.insert(places[present], 2, 1, axis=1)
    return poses, certain
