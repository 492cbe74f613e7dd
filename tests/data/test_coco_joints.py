"""The 17 joints of COCO become the 18 of the layout by their names, and nothing becomes a joint that is none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinggan.data.coco_joints import COCO_JOINTS, poses_from_coco
from xinggan.data.poses import JOINTS

LIKELY = np.full((1, 17), 0.9)


def places() -> np.ndarray:
    """Joint number k of COCO at x = 2 k, y = 3 k."""
    return np.stack([2.0 * np.arange(17), 3.0 * np.arange(17)], axis=1)[None]


def test_joints_keep_their_names():
    poses, scores = poses_from_coco(places(), LIKELY, 0.2, 64, 64)
    for number, name in enumerate(JOINTS):
        if name != "neck":
            assert poses[0, number].tolist() == [2 * COCO_JOINTS.index(name), 3 * COCO_JOINTS.index(name), 1]
    assert scores[0] == pytest.approx(0.9)


def test_coco_joints_are_those_of_torchvision():
    from xinggan.torchvision_operators import import_torchvision

    import_torchvision()
    from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights

    names = KeypointRCNN_ResNet50_FPN_Weights.COCO_V1.meta["keypoint_names"]
    assert [name.replace("_", " ") for name in names] == list(COCO_JOINTS)


def test_neck_is_the_middle_of_the_shoulders_with_the_lower_score():
    joints, scores = places(), LIKELY.copy()
    joints[0, COCO_JOINTS.index("left shoulder")] = (10, 20)
    joints[0, COCO_JOINTS.index("right shoulder")] = (30, 26)
    scores[0, COCO_JOINTS.index("left shoulder")] = 0.4
    poses, certain = poses_from_coco(joints, scores, 0.2, 64, 64)
    assert poses[0, 1].tolist() == [20, 23, 1]
    assert certain[0, 1] == pytest.approx(0.4)


@pytest.mark.parametrize("side", ["left shoulder", "right shoulder"])
@pytest.mark.parametrize("why", ["unsure", "outside"])
def test_neck_is_missing_without_a_shoulder(side, why):
    joints, scores = places(), LIKELY.copy()
    if why == "unsure":
        scores[0, COCO_JOINTS.index(side)] = 0.1
    else:
        joints[0, COCO_JOINTS.index(side)] = (-3, 5)
    poses, _ = poses_from_coco(joints, scores, 0.2, 64, 64)
    missing = {JOINTS[joint] for joint in np.flatnonzero(poses[0, :, 2] == 0)}
    assert missing == {"neck", side}
    assert (poses[0, poses[0, :, 2] == 0] == (-1, -1, 0)).all()


@given(
    st.lists(st.tuples(st.floats(-40, 90), st.floats(-40, 90), st.floats(0, 1)), min_size=17, max_size=17),
    st.floats(0.01, 1),
)
def test_what_is_present_lies_inside_and_scores_enough(found, threshold):
    values = np.array(found, dtype=np.float64)[None]
    poses, scores = poses_from_coco(values[..., :2], values[..., 2], threshold, 50, 20)
    present = poses[..., 2] > 0
    assert (poses[present][:, :2] >= 0).all()
    assert (poses[present][:, :2] < (20, 50)).all()
    assert (scores[present] >= threshold).all()
    assert (poses[~present] == (-1, -1, 0)).all()
