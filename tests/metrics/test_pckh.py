"""PCKh counts the joints that the published evaluation tool counts, and those that a loop over joints counts."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_sets import golden_split

from xinggan.data.poses import pckh


def slow_pckh(prediction: np.ndarray, target: np.ndarray) -> tuple[int, int]:
    """One image, joint by joint, from the rule's wording. prediction, target: [18, 3]."""
    head = [target[joint] for joint in (0, 1, 14, 15, 16, 17) if target[joint][2]]
    if len(head) < 2:
        return 0, 0
    width = max(joint[0] for joint in head) - min(joint[0] for joint in head)
    height = max(joint[1] for joint in head) - min(joint[1] for joint in head)
    correct = total = 0
    for (x, y, found), (target_x, target_y, shown) in zip(prediction, target, strict=True):
        if shown:
            total += 1
            correct += bool(found) and abs(x - target_x) < width / 2 and abs(y - target_y) < height / 2
    return correct, total


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), shown=st.floats(0, 1), spread=st.sampled_from([1, 4, 30]))
def test_counts_equal_the_loop_over_joints(seed, shown, spread):
    rng = np.random.default_rng(seed)
    target = np.concatenate([rng.integers(0, 60, (8, 18, 2)), rng.random((8, 18, 1)) < shown], 2).astype(np.float32)
    prediction = target + np.concatenate([rng.integers(-spread, spread + 1, (8, 18, 2)), np.zeros((8, 18, 1))], 2)
    prediction[..., 2] = rng.random((8, 18)) < 0.8
    counted = list(zip(*pckh(prediction, target), strict=True))
    assert counted == [slow_pckh(p, t) for p, t in zip(prediction, target, strict=True)]


def test_a_perfect_prediction_is_all_right_and_a_missing_head_leaves_the_image_out():
    rng = np.random.default_rng(0)
    target = np.concatenate([rng.random((2, 18, 2)) * 50, np.ones((2, 18, 1))], 2)
    target[1, [0, 14, 15, 16, 17], 2] = 0
    correct, total = pckh(target, target)
    assert correct[0] == total[0] == 18
    assert total[1] == 0


def test_arrays_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="18, 3"):
        pckh(np.zeros((2, 17, 3)), np.zeros((2, 17, 3)))


def test_the_published_counts_are_reproduced_exactly(shared):
    golden = json.loads((shared / "golden" / "pose_transfer_metrics.json").read_text())
    split = golden_split(shared, golden["pairs"])
    correct, total = pckh(split.poses[split.pairs[:, 0]], split.poses[split.pairs[:, 1]])
    assert correct.tolist() == [pair["pckh_correct"] for pair in golden["pairs"]]
    assert total.tolist() == [pair["pckh_total"] for pair in golden["pairs"]]
    assert correct.sum() / total.sum() == pytest.approx(golden["mean"]["pckh"], abs=1e-9)
