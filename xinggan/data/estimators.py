"""Pose estimators for photographs, all asked in one way: uint8 images in, poses in OpenPose order and scores out.

`open_estimator` says what is missing before any work: the library, the weights, or the operators that they need.
"""

from pathlib import Path
from typing import Protocol

from xinggan.data.pose_files import Estimator

ESTIMATORS = {
    "movenet": "MoveNet Lightning, one person, 17 COCO joints; a .tflite file (--weights), the extra [annotate]",
    "keypointrcnn": "torchvision's keypoint R-CNN, 17 COCO joints; downloads its weights into TORCH_HOME",
}
DEFAULT_THRESHOLDS = {"movenet": 0.2, "keypointrcnn": 2.0}  # MoveNet: probability; keypoint R-CNN: heatmap logit


class EstimatorUnavailable(ValueError):
    """An estimator cannot be used here; the message says what to install or to put where."""


class IdentifiedEstimator(Estimator, Protocol):
    """An estimator that says what it is."""

    name: str
    weights_sha256: str  # of the file that its weights were read from
    proportions: tuple[int, int] | None  # width and height that photographs had before they were stretched


def open_estimator(
    name: str,
    weights: Path | None = None,
    threshold: float | None = None,
    proportions: tuple[int, int] | None = None,
) -> IdentifiedEstimator:
    """One of ESTIMATORS; joints that score below `threshold` are missing.

    `proportions`: width and height that people's true proportions ask for, where photographs were stretched to another
    shape; None: they are as they were taken.
    Raises EstimatorUnavailable, and ValueError for an unknown name.
    """
    least = DEFAULT_THRESHOLDS.get(name, 0.0) if threshold is None else threshold
    if name == "movenet":
        from xinggan.data.movenet import MoveNet

        return MoveNet(weights, least, proportions)
    if name == "keypointrcnn":
        from xinggan.data.keypoint_rcnn import open_keypoint_rcnn

        return open_keypoint_rcnn(weights, least, proportions)
    raise ValueError(f"estimator {name!r} is not known; accepted: {', '.join(ESTIMATORS)}")
