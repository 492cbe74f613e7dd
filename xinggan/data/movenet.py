"""MoveNet single-pose (Google, Apache-2.0) through LiteRT: a TFLite file that finds the 17 COCO joints of one person.

The network sees the whole photograph, enlarged to its square input and framed with grey. On small photographs its
answer moves by pixels when the input changes by a grey level, so several nearly equal inputs are asked and each
coordinate is their median.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xinggan.data.coco_joints import COCO_JOINTS, poses_from_coco
from xinggan.data.estimators import EstimatorUnavailable
from xinggan.files import sha256_of

if TYPE_CHECKING:
    from PIL.Image import Resampling

SOURCE = (
    "Get MoveNet SinglePose Lightning as a TFLite file from Kaggle Models (google/movenet, TFLite, "
    "singlepose-lightning; TF Hub: google/lite-model/movenet/singlepose/lightning)"
)
INPUT_TYPES = (np.uint8, np.int32, np.float32)  # each holding 0 ... 255
# 30 inputs: two ways to enlarge, greys of the frame around the middle (no edge is strong), the image a little darker
# and brighter. On PKU-Reid, counted from the edge as its annotations are, one input finds 78 % of the joints within 3
# pixels, the median 88 %; the median comes no closer to a left-out input of its own: the rest is the network's noise.
GREYS = (118, 123, 128, 133, 138)
BRIGHTER = (-2, 0, 2)  # grey levels


class MoveNet:
    """One network, one thread. Raises EstimatorUnavailable, saying what to install or to get."""

    name = "movenet"

    def __init__(self, weights: Path | None, threshold: float, proportions: tuple[int, int] | None = None):
        self.threshold, self.proportions = threshold, proportions
        self._network = _interpreter(weights)
        self.weights_sha256 = sha256_of(weights) if weights else ""
        (self._input,), (self._output,) = self._network.get_input_details(), self._network.get_output_details()
        self._side = int(self._input["shape"][1])

    def estimate(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """images uint8 [n, H, W, 3] -> poses float32 [n, 18, 3] in their pixels, scores float32 [n, 18]."""
        height, width = images.shape[1:3]
        found = np.array([self._coco(image) for image in images]).reshape(-1, len(COCO_JOINTS), 3)
        return poses_from_coco(found[..., :2], found[..., 2], self.threshold, height, width)

    def _coco(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> [17, 3]: x, y in pixels, score."""
        from PIL.Image import Resampling

        height, width = image.shape[:2]
        answers = []
        for method in (Resampling.BICUBIC, Resampling.LANCZOS):
            framed, (top, left, high, wide) = frame(image, self._side, method, self.proportions)
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


def frame(
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


def _interpreter(weights: Path | None) -> Any:
    """The network in a file, ready to run."""
    if weights is None:
        raise EstimatorUnavailable(f"the estimator movenet needs its file: --weights FILE.tflite. {SOURCE}")
    if not weights.is_file():
        raise EstimatorUnavailable(f"--weights {weights}: there is no such file. {SOURCE}")
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        what = f"the library ai-edge-litert is not installed or does not load ({error})"
        raise EstimatorUnavailable(f"{what}; install it with: pip install -e '.[annotate]'") from None
    try:
        network = Interpreter(str(weights), num_threads=1)
        network.allocate_tensors()
    except (ValueError, RuntimeError):
        raise EstimatorUnavailable(_odd(weights, "it is no TFLite model, or a damaged one")) from None
    inputs, outputs = network.get_input_details(), network.get_output_details()
    shapes = [[part["shape"].tolist() for part in parts] for parts in (inputs, outputs)]
    side = shapes[0][0][1] if len(shapes[0][0]) == 4 else 0
    if shapes != [[[1, side, side, 3]], [[1, 1, len(COCO_JOINTS), 3]]] or inputs[0]["dtype"] not in INPUT_TYPES:
        raise EstimatorUnavailable(_odd(weights, f"its inputs are {shapes[0]} and its outputs {shapes[1]}"))
    return network


def _odd(weights: Path, what: str) -> str:
    accepted = "a single-pose MoveNet: one input [1, S, S, 3] of 0 ... 255, one output [1, 1, 17, 3]"
    return f"--weights {weights} (SHA-256 {sha256_of(weights)}): {what}; accepted is {accepted}. {SOURCE}"
