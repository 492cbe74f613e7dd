"""Torchvision's keypoint R-CNN (ResNet-50 FPN, BSD licence) as a pose estimator: 17 COCO joints of all people it sees.

Of several people the one with the highest detection score counts. Torchvision downloads the weights by itself into
TORCH_HOME, once.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xinggan.data.coco_joints import COCO_JOINTS, poses_from_coco
from xinggan.data.estimators import EstimatorUnavailable
from xinggan.files import sha256_of

if TYPE_CHECKING:
    from torch import Tensor, nn

SURE_OF_A_PERSON = 0.5  # detection score
NOWHERE = -1e6  # pixels: outside every image


class KeypointRCNN:
    """A detector as torchvision builds it, in evaluation mode, and the hash of the file with its weights."""

    name = "keypointrcnn"
    proportions: tuple[int, int] | None = None  # it sees photographs as they are

    def __init__(self, detector: "nn.Module", weights_sha256: str, threshold: float):
        self.detector, self.weights_sha256, self.threshold = detector.eval(), weights_sha256, threshold

    def estimate(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """images uint8 [n, H, W, 3] -> poses float32 [n, 18, 3] in their pixels, scores (heatmap logits) [n, 18]."""
        import torch

        height, width = images.shape[1:3]
        found = []
        with torch.no_grad():
            for image in images:
                tensor = torch.tensor(image).permute(2, 0, 1) / 255  # [3, H, W] in [0, 1]
                found.append(surest_person(self.detector([tensor])[0]))
        people = np.array(found).reshape(-1, len(COCO_JOINTS), 3)
        return poses_from_coco(people[..., :2], people[..., 2], self.threshold, height, width)


def surest_person(detection: "dict[str, Tensor]") -> np.ndarray:
    """What torchvision says about one image -> the surest person's joints [17, 3]: x, y in pixels, score.

    Without a person every joint lies outside the image. Torchvision's x and y have pixel centres at halves.
    """
    scores = detection["scores"]  # [people]
    if not len(scores) or scores.max() < SURE_OF_A_PERSON:
        return np.full((len(COCO_JOINTS), 3), NOWHERE, dtype=np.float32)
    person = int(scores.argmax())
    places = detection["keypoints"][person, :, :2].cpu().numpy() - 0.5  # [17, 2]
    return np.concatenate([places, detection["keypoints_scores"][person, :, None].cpu().numpy()], axis=1)


def open_keypoint_rcnn(
    weights: Path | None, threshold: float, proportions: tuple[int, int] | None = None
) -> KeypointRCNN:
    """The detector with torchvision's own weights. Raises EstimatorUnavailable before any work."""
    if weights is not None:
        raise EstimatorUnavailable("--weights: belongs to movenet; keypointrcnn uses the weights of torchvision")
    if proportions:
        raise EstimatorUnavailable("--proportions: belongs to movenet")
    from xinggan.torchvision_operators import compiled_operators_load, import_torchvision

    if not compiled_operators_load():
        what = "keypointrcnn needs torchvision's compiled operators (nms, roi_align), which do not load here"
        raise EstimatorUnavailable(
            f"{what}; install torchvision from the same source and for the same device as torch, or use movenet"
        )
    import_torchvision()
    from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights, keypointrcnn_resnet50_fpn

    from xinggan.weights_files import download, place_of

    choice = KeypointRCNN_ResNet50_FPN_Weights.COCO_V1
    file = place_of(choice.url)
    try:
        download(choice.url)
        detector = keypointrcnn_resnet50_fpn(weights=choice)
    except (OSError, RuntimeError) as error:
        where = f"put {file.name} (from {choice.url}) into {file.parent}"
        raise EstimatorUnavailable(f"the weights of keypointrcnn cannot be had: {error}; {where}") from None
    return KeypointRCNN(detector, sha256_of(file), threshold)
