"""Body masks: equal to scikit-image's drawing of the published rule, pixel for pixel, and to the golden masks."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.draw import disk, polygon
from skimage.morphology import closing

from xinggan.data.masks import body_mask, body_masks
from xinggan.data.poses import LIMBS


def slow_mask(pose: np.ndarray, height: int, width: int, radius: int) -> np.ndarray:
    """The rule as it is told: one limb and one joint after the other."""
    mask = np.zeros((height, width), dtype=bool)
    points, present = pose[:, 1::-1].astype(np.float64), pose[:, 2] > 0
    for a, b in LIMBS:
        segment = points[a] - points[b]
        if not (present[a] and present[b]) or not segment.any():
            continue
        aside = radius * np.array([-segment[1], segment[0]]) / np.linalg.norm(segment)
        corners = np.stack([points[a] + aside, points[a] - aside, points[b] - aside, points[b] + aside])
        mask[polygon(corners[:, 0], corners[:, 1], shape=mask.shape)] = True
    for joint in range(18):
        if present[joint]:
            mask[disk(points[joint], radius, shape=mask.shape)] = True
    return closing(mask, np.ones((5, 5)))


def random_poses(rng: np.random.Generator, count: int, height: int, width: int, whole: bool) -> np.ndarray:
    poses = rng.uniform(-3, 3, (count, 18, 3))
    poses[..., 0] += rng.uniform(0, width, (count, 18))
    poses[..., 1] += rng.uniform(0, height, (count, 18))
    poses = np.rint(poses) if whole else poses
    poses[..., 2] = rng.random((count, 18)) < 0.8
    poses[poses[..., 2] == 0] = (-1, -1, 0)
    return poses.astype(np.float32)


@pytest.mark.parametrize("whole", [True, False], ids=["whole pixels", "between pixels"])
@pytest.mark.parametrize(("height", "width", "radius"), [(128, 64, 4), (40, 52, 3), (256, 176, 4)])
def test_masks_drawn_together_equal_limbs_drawn_one_by_one(height, width, radius, whole):
    poses = random_poses(np.random.default_rng(height + whole), 24, height, width, whole)
    expected = np.stack([slow_mask(pose, height, width, radius) for pose in poses])
    np.testing.assert_array_equal(body_masks(poses, height, width, radius), expected)


@settings(max_examples=60, deadline=None)
@given(joints=st.lists(st.tuples(st.integers(-2, 33), st.integers(-2, 25), st.booleans()), min_size=18, max_size=18))
def test_level_upright_touching_and_coinciding_limbs_are_drawn_alike(joints):
    pose = np.array([(x, y, 1) if seen else (-1, -1, 0) for x, y, seen in joints], dtype=np.float32)
    np.testing.assert_array_equal(body_mask(pose, 24, 32), slow_mask(pose, 24, 32, 4))


def test_a_person_without_joints_has_an_empty_mask():
    missing = np.full((3, 18, 3), (-1, -1, 0), dtype=np.float32)
    assert not body_masks(missing, 32, 16).any()
    assert body_masks(missing[:0], 32, 16).shape == (0, 32, 16)


def test_masks_of_the_golden_pairs_are_reproduced_exactly(shared, golden_poses):
    golden = json.loads((shared / "golden/pose_transfer_metrics.json").read_text())["pairs"]
    stored = np.load(shared / "golden/pose_transfer_metrics_maps.npz")
    masks = body_masks(np.stack([golden_poses[pair["target"]] for pair in golden]), 128, 64)
    assert masks.sum(axis=(1, 2)).tolist() == [pair["mask_pixels"] for pair in golden]
    of_name = {pair["target"]: mask for pair, mask in zip(golden, masks, strict=True)}
    names = [key.removeprefix("mask_") for key in stored if key.startswith("mask_")]
    assert names
    for name in names:
        np.testing.assert_array_equal(np.packbits(of_name[name]), stored[f"mask_{name}"])
