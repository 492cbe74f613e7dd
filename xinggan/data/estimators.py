"""Pose estimators for photographs with one interface: uint8 images in, poses in OpenPose order and scores out.

Both find the 17 joints of COCO in an image of one person. MoveNet single-pose (Google, Apache-2.0) runs through LiteRT
from a TFLite file; keypoint R-CNN (ResNet-50 FPN, BSD licence) is torchvision's. `open_estimator` refuses before any
work if the library, the weights, or the compiled operators are missing.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from xinggan.data.poses import JOINTS
from xinggan.data.settings import ESTIMATORS
from xinggan.files import sha256_of

if TYPE_CHECKING:
    from PIL.Image import Resampling
    from torch import nn

DEFAULT_THRESHOLDS = {"movenet": 0.2, "keypointrcnn": 2.0}  # MoveNet: probability; keypoint R-CNN: heatmap logit

COCO_JOINTS = (
    *("nose", "left eye", "right eye", "left ear", "right ear"),
    *("left shoulder", "right shoulder", "left elbow", "right elbow", "left wrist", "right wrist"),
    *("left hip", "right hip", "left knee", "right knee", "left ankle", "right ankle"),
)
NECK, SHOULDERS = JOINTS.index("neck"), [JOINTS.index("right shoulder"), JOINTS.index("left shoulder")]

MOVENET_SOURCE = (
    "Get MoveNet SinglePose Lightning as a TFLite file from Kaggle Models (google/movenet, TFLite, "
    "singlepose-lightning; TF Hub: google/lite-model/movenet/singlepose/lightning)"
)
INPUT_TYPES = (np.uint8, np.int32, np.float32)  # each holding 0 ... 255
# 30 inputs: two ways to enlarge, five greys of the frame (near the middle: no edge is strong), three brightnesses. On
# PKU-Reid, counted from the edge as its annotations are, one input finds 78 % of the joints within 3 pixels, the median
# of the inputs 88 %.
GREYS = (118, 123, 128, 133, 138)
BRIGHTER = (-2, 0, 2)  # grey levels

SURE_OF_A_PERSON = 0.5  # detection score of keypoint R-CNN
NOWHERE = -1e6  # pixels: outside every image


class EstimatorUnavailable(ValueError):
    """An estimator cannot be used here; the message names the package or file that is missing."""


class Estimator(Protocol):
    """A network that finds the joints of one person in an image."""

    name: str
    weights_sha256: str  # of the file that its weights were read from
    proportions: tuple[int, int] | None  # width and height that photographs had before they were stretched

    def estimate(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """images uint8 [n, H, W, 3] -> poses float32 [n, 18, 3] in their pixels, scores of all joints [n, 18]."""


def open_estimator(
    name: str,
    weights: Path | None = None,
    threshold: float | None = None,
    proportions: tuple[int, int] | None = None,
) -> Estimator:
    """Open one of ESTIMATORS. Joints that score below `threshold` are missing.

    `proportions`: width and height of the photographs before they were stretched to another shape; None: they were not.
    Raises EstimatorUnavailable, and ValueError for an unknown name.
    """
    if name not in ESTIMATORS:
        raise ValueError(f"estimator {name!r} is not known; accepted: {', '.join(ESTIMATORS)}")
    least = DEFAULT_THRESHOLDS[name] if threshold is None else threshold
    if name == "movenet":
        return MoveNet(weights, least, proportions)
    if weights is not None:
        raise EstimatorUnavailable("--weights: belongs to movenet; keypointrcnn uses the weights of torchvision")
    if proportions:
        raise EstimatorUnavailable("--proportions: belongs to movenet")
    return KeypointRCNN(*_detector(), least)


def poses_from_coco(
    joints: np.ndarray, scores: np.ndarray, threshold: float, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """COCO joints [n, 17, 2] (x, y in pixels) and scores [n, 17] -> poses float32 [n, 18, 3], scores [n, 18].

    A joint is missing when its score is below `threshold` or it lies outside the image of `height` x `width` pixels.
    The neck, which COCO lacks, is the middle of the shoulders with the lower one of their scores, and missing where a
    shoulder is. Coordinates become whole pixels.
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


class MoveNet:
    """MoveNet on one thread. Raises EstimatorUnavailable without the library or the weights.

    The network sees the whole photograph, enlarged to its square input and framed with grey. On small photographs its
    output moves by pixels when the input changes by a grey level, so each coordinate is the median over several nearly
    equal inputs.
    """

    name = "movenet"

    def __init__(self, weights: Path | None, threshold: float, proportions: tuple[int, int] | None = None):
        self.threshold, self.proportions = threshold, proportions
        self._network, self.weights_sha256 = open_interpreter(weights)
        (self._input,), (self._output,) = self._network.get_input_details(), self._network.get_output_details()
        self._side = int(self._input["shape"][1])

    def estimate(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Estimator.estimate`. Scores are probabilities."""
        found = np.array([self._coco(image) for image in images]).reshape(-1, len(COCO_JOINTS), 3)
        return poses_from_coco(found[..., :2], found[..., 2], self.threshold, *images.shape[1:3])

    def _coco(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> [17, 3]: x, y in pixels, score."""
        from PIL.Image import Resampling

        height, width = image.shape[:2]
        answers = []
        for method in (Resampling.BICUBIC, Resampling.LANCZOS):
            framed, (top, left, high, wide) = _framed(image, self._side, method, self.proportions)
            for brighter in BRIGHTER:
                changed = (framed.astype(np.int16) + brighter).clip(0, 255)
                for grey in GREYS:
                    changed[:top], changed[top + high :], changed[:, :left], changed[:, left + wide :] = [grey] * 4
                    self._network.set_tensor(self._input["index"], changed[None].astype(self._input["dtype"]))
                    self._network.invoke()
                    answers.append(self._network.get_tensor(self._output["index"])[0, 0])  # [17, 3]: y, x, score
        y, x, score = np.median(answers, axis=0).T
        # the network counts from the square's edge, the suite from the middle of the first pixel
        across = (x * self._side - left) * width / wide - 0.5
        down = (y * self._side - top) * height / high - 0.5
        return np.stack([across, down, score], axis=1)


def _framed(
    image: np.ndarray, side: int, method: "Resampling", proportions: tuple[int, int] | None = None
) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """uint8 [H, W, 3] -> [side, side, 3] with the whole image in its middle, and top, left, height, width in there.

    The image keeps its own proportions or gets those of `proportions` (width, height).
    """
    from PIL import Image

    width, height = proportions or (image.shape[1], image.shape[0])
    high, wide = (max(1, round(pixels * side / max(height, width))) for pixels in (height, width))
    top, left = (side - high) // 2, (side - wide) // 2
    framed = np.zeros((side, side, 3), dtype=np.uint8)
    framed[top : top + high, left : left + wide] = np.asarray(Image.fromarray(image).resize((wide, high), method))
    return framed, (top, left, high, wide)


def open_interpreter(weights: Path | None) -> tuple[Any, str]:
    """The MoveNet in a .tflite file, ready to run, and the file's SHA-256. Raises EstimatorUnavailable."""
    if weights is None:
        raise EstimatorUnavailable(f"the estimator movenet needs its file: --weights FILE.tflite. {MOVENET_SOURCE}")
    if not weights.is_file():
        raise EstimatorUnavailable(f"--weights {weights}: there is no such file. {MOVENET_SOURCE}")
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        what = f"the library ai-edge-litert is not installed or does not load ({error})"
        raise EstimatorUnavailable(f"{what}; install it with: pip install -e '.[annotate]'") from None
    sha256, trouble = sha256_of(weights), ""
    try:
        network = Interpreter(str(weights), num_threads=1)
        network.allocate_tensors()
        inputs, outputs = network.get_input_details(), network.get_output_details()
        shapes = [[part["shape"].tolist() for part in parts] for parts in (inputs, outputs)]
        side = shapes[0][0][1] if len(shapes[0][0]) == 4 else 0
        if shapes != [[[1, side, side, 3]], [[1, 1, len(COCO_JOINTS), 3]]] or inputs[0]["dtype"] not in INPUT_TYPES:
            trouble = f"its inputs are {shapes[0]} and its outputs {shapes[1]}"
    except (ValueError, RuntimeError):
        trouble = "it is no TFLite model, or a damaged one"
    if trouble:
        accepted = "a single-pose MoveNet: one input [1, S, S, 3] of 0 ... 255, one output [1, 1, 17, 3]"
        file = f"--weights {weights} (SHA-256 {sha256})"
        raise EstimatorUnavailable(f"{file}: {trouble}; accepted is {accepted}. {MOVENET_SOURCE}")
    return network, sha256


class KeypointRCNN:
    """Torchvision's keypoint R-CNN. Of several people the one with the highest detection score counts."""

    name = "keypointrcnn"
    proportions: tuple[int, int] | None = None  # photographs are seen as they are

    def __init__(self, detector: "nn.Module", weights_sha256: str, threshold: float):
        self.detector, self.weights_sha256, self.threshold = detector.eval(), weights_sha256, threshold

    def estimate(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Estimator.estimate`. Scores are heatmap logits. Without a person every joint is missing."""
        import torch

        found = np.full((len(images), len(COCO_JOINTS), 3), NOWHERE)  # x, y in pixels, score
        for joints, image in zip(found, images, strict=True):
            with torch.no_grad():
                (seen,) = self.detector([torch.tensor(image).permute(2, 0, 1) / 255])  # [3, H, W] in [0, 1]
            if len(seen["scores"]) and seen["scores"].max() >= SURE_OF_A_PERSON:
                person = int(seen["scores"].argmax())
                joints[:, :2] = seen["keypoints"][person, :, :2].cpu().numpy() - 0.5  # pixel centres at halves there
                joints[:, 2] = seen["keypoints_scores"][person].cpu().numpy()
        return poses_from_coco(found[..., :2], found[..., 2], self.threshold, *images.shape[1:3])


def _detector() -> "tuple[nn.Module, str]":
    """Torchvision's detector with its own weights and their SHA-256. Raises EstimatorUnavailable before any work."""
    from xinggan.torchvision_operators import compiled_operators_load, import_torchvision
    from xinggan.weights_files import download, place_of

    if not compiled_operators_load():
        what = "keypointrcnn needs torchvision's compiled operators (nms, roi_align), which do not load here"
        raise EstimatorUnavailable(
            f"{what}; install torchvision from the same source and for the same device as torch, or use movenet"
        )
    import_torchvision()
    from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights, keypointrcnn_resnet50_fpn

    choice = KeypointRCNN_ResNet50_FPN_Weights.COCO_V1
    try:
        file = download(choice.url)
        return keypointrcnn_resnet50_fpn(weights=choice), sha256_of(file)
    except (OSError, RuntimeError) as error:
        path = place_of(choice.url)
        where = f"put {path.name} (from {choice.url}) into {path.parent}"
        raise EstimatorUnavailable(f"the weights of keypointrcnn cannot be had: {error}; {where}") from None
