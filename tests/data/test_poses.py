"""Heatmaps equal the distance-grid formula, body masks the published rule, and both the golden maps."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xinggan.data.poses import HEAD_JOINTS, JOINTS, LIMBS, body_masks, draw_skeleton, heatmaps


def test_the_joints_are_openpose_s_eighteen():
    assert len(JOINTS) == 18
    head = [JOINTS[joint] for joint in HEAD_JOINTS]
    assert head == ["nose", "neck", "right eye", "left eye", "right ear", "left ear"]
    listed = "2-3 2-6 3-4 4-5 6-7 7-8 2-9 9-10 10-11 2-12 12-13 13-14 2-1 1-15 15-17 1-16 16-18 "
    listed += "2-17 2-18 9-12 12-6 9-3 17-18"
    assert list(LIMBS) == [tuple(int(joint) - 1 for joint in limb.split("-")) for limb in listed.split()]


@pytest.mark.parametrize("sigma", [1.5, 6.0])
def test_separable_heatmaps_equal_the_distance_grid(sigma):
    rng = np.random.default_rng(0)
    poses = np.concatenate([rng.uniform(-3, 40, (5, 18, 2)), rng.random((5, 18, 1)) < 0.7], axis=-1).astype(np.float32)
    rows, columns = np.mgrid[:36, :28]
    x, y, visible = np.moveaxis(poses, -1, 0)[..., None, None]
    expected = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2)) * visible
    maps = heatmaps(torch.from_numpy(poses), 36, 28, sigma)
    assert maps.shape == (5, 18, 36, 28) and maps.dtype == torch.float32
    np.testing.assert_allclose(maps.numpy(), expected, atol=2e-6)


def test_heatmaps_have_no_denormal_numbers_also_far_from_their_joints():
    poses = torch.rand(4, 18, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([176, 256, 0]) + 0.5
    maps = heatmaps(poses, 256, 176)
    assert maps[maps > 0].min() >= 1e-24
    assert (maps == 0).any()


def test_heatmaps_equal_the_golden_maps(shared, golden_poses):
    golden = np.load(shared / "golden/pose_transfer_metrics_maps.npz")
    keys = [key for key in golden if key.startswith("pose_map_")]
    assert keys
    for key in keys:
        maps = heatmaps(torch.from_numpy(golden_poses[key.removeprefix("pose_map_")])[None], 128, 64)[0]
        np.testing.assert_allclose(maps.permute(1, 2, 0)[::4, ::4].numpy(), golden[key], atol=1e-6)


joint = st.tuples(st.integers(0, 19), st.integers(0, 23), st.booleans())


@settings(max_examples=50, deadline=None)
@given(st.lists(joint, min_size=18, max_size=18))
def test_onehot_maps_are_the_gaussian_ones_cast_to_bytes(joints):
    pose = torch.tensor([(x, y, 1) if seen else (-1, -1, 0) for x, y, seen in joints], dtype=torch.float32)[None]
    expected = heatmaps(pose, 24, 20).to(torch.uint8).float()
    torch.testing.assert_close(heatmaps(pose, 24, 20, kind="onehot"), expected, rtol=0, atol=0)
    assert expected.sum(dim=(2, 3)).tolist() == pose[..., 2].tolist()


def test_a_missing_joint_leaves_its_map_empty_whatever_its_coordinates():
    pose = torch.full((1, 18, 3), 5.0)
    pose[0, 3, 2] = 0
    for kind in ("gaussian", "onehot"):
        maps = heatmaps(pose, 16, 16, kind=kind)
        assert maps[0, 3].abs().sum() == 0 and (maps[0, [0, 1, 2]].amax(dim=(1, 2)) == 1).all()
    with pytest.raises(ValueError, match=r"'limbs'.*gaussian, onehot"):
        heatmaps(pose, 8, 8, kind="limbs")


inside_or_near = st.tuples(st.integers(-3, 35), st.integers(-3, 27)).map(np.array)


@settings(max_examples=80, deadline=None)
@given(a=inside_or_near, b=inside_or_near, radius=st.sampled_from([3, 4]))
def test_a_mask_holds_what_is_nearer_to_a_limb_than_the_radius(a, b, radius):
    pose = np.full((1, 18, 3), (-1, -1, 0), dtype=np.float32)
    pose[0, 2], pose[0, 3] = (*a, 1), (*b, 1)
    pixels = np.stack(np.meshgrid(np.arange(32), np.arange(24)), axis=-1)  # [24, 32, 2] x, y
    along = ((pixels - a) @ (b - a) / max((b - a) @ (b - a), 1)).clip(0, 1)
    distance = np.linalg.norm(pixels - a - along[..., None] * (b - a), axis=-1)  # to the segment from a to b
    (mask,) = body_masks(pose, 24, 32, radius)
    assert mask[distance < radius - 0.01].all()
    assert not mask[distance > radius + 3].any()  # the closing fills corners


def test_a_person_without_joints_has_an_empty_mask_and_no_skeleton():
    missing = np.full((3, 18, 3), (-1, -1, 0), dtype=np.float32)
    assert not body_masks(missing, 32, 16).any()
    assert body_masks(missing[:0], 32, 16).shape == (0, 32, 16)
    grey = np.full((32, 16, 3), 90, dtype=np.uint8)
    np.testing.assert_array_equal(draw_skeleton(missing[0], 32, 16, background=grey), grey)
    assert not draw_skeleton(missing[0], 32, 16).any()


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


def test_the_skeleton_is_warm_on_the_right_and_cold_on_the_left():
    pose = np.full((18, 3), (-1, -1, 0), dtype=np.float32)
    pose[[2, 3, 4]] = [(16, 40, 1), (14, 60, 1), (12, 80, 1)]
    pose[[5, 6, 7]] = [(48, 40, 1), (50, 60, 1), (52, 80, 1)]
    drawn = draw_skeleton(pose, 128, 64, scale=2).astype(int)
    assert drawn.shape == (256, 128, 3)
    right, left = drawn[:, :64].sum(axis=(0, 1)), drawn[:, 64:].sum(axis=(0, 1))
    assert right[0] > 2 * right[2] and left[2] > 2 * left[0]
    assert not drawn[200:].any()
