"""Torchvision's detections become poses: the surest person's, in the image's own pixels."""

import numpy as np
import pytest
import torch

from xinggan.data.coco_joints import COCO_JOINTS
from xinggan.data.estimators import EstimatorUnavailable, open_estimator
from xinggan.data.keypoint_rcnn import KeypointRCNN, surest_person
from xinggan.data.poses import JOINTS


def detection(*people: tuple[float, float]) -> dict[str, torch.Tensor]:
    """As torchvision gives it: for (score, x) a person with joint number k at (x, 10 + k), pixel centres at halves."""
    rows = torch.arange(17) + 10.5
    joints = [torch.stack([torch.full((17,), x + 0.5), rows, torch.ones(17)], dim=1) for _, x in people]
    return {
        "scores": torch.tensor([score for score, _ in people]),
        "keypoints": torch.stack(joints) if joints else torch.zeros(0, 17, 3),
        "keypoints_scores": torch.full((len(people), 17), 5.0),
    }


def test_the_surest_person_counts():
    found = surest_person(detection((0.6, 3), (0.9, 7), (0.7, 11)))
    assert found[:, 0].tolist() == [7] * 17
    assert found[:, 1].tolist() == list(range(10, 27))


class Answering(torch.nn.Module):
    """A detector that gives the same detection for any image, and checks what it is asked."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, images):
        assert not self.training
        assert images[0].shape == (3, 40, 30)
        assert images[0].max() <= 1
        return [self.answer]


def test_poses_are_in_the_order_of_the_layout():
    estimator = KeypointRCNN(Answering(detection((0.9, 7))), "", threshold=2.0)
    poses, scores = estimator.estimate(np.full((2, 40, 30, 3), 255, dtype=np.uint8))
    assert poses.shape == (2, 18, 3)
    assert scores.shape == (2, 18)
    for number, name in enumerate(JOINTS):
        if name != "neck":
            assert poses[1, number].tolist() == [7, 10 + COCO_JOINTS.index(name), 1]


@pytest.mark.parametrize("people", [(), ((0.3, 5),)])
def test_without_a_person_every_joint_is_missing(people):
    estimator = KeypointRCNN(Answering(detection(*people)), "", threshold=2.0)
    poses, _ = estimator.estimate(np.zeros((1, 40, 30, 3), dtype=np.uint8))
    assert (poses == (-1, -1, 0)).all()


def test_missing_operators_are_said_before_any_work(monkeypatch):
    monkeypatch.setattr("xinggan.torchvision_operators.compiled_operators_load", lambda: False)
    with pytest.raises(EstimatorUnavailable, match="compiled operators"):
        open_estimator("keypointrcnn")


def test_weights_of_movenet_are_refused(tmp_path):
    with pytest.raises(EstimatorUnavailable, match="belongs to movenet"):
        open_estimator("keypointrcnn", weights=tmp_path / "movenet.tflite")
