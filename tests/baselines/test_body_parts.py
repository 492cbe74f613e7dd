"""Affine motion of body parts against one part, one pixel, one corner at a time."""

import numpy as np
import pytest
import torch

from baselines.body_parts import (
    BACKGROUND,
    BOXES,
    LIMBS,
    PARTS,
    part_labels,
    rectangles,
    warp_parts,
    with_symmetric_limbs,
)

HEIGHT, WIDTH = 24, 16
SWAPPED = {(2, 3): (5, 6), (3, 4): (6, 7), (8, 9): (11, 12), (9, 10): (12, 13)}  # right limb: left limb
SWAPPED |= {left: right for right, left in SWAPPED.items()}


def random_poses(count, seed, missing=0.0):
    """Joints anywhere in the image, and a little outside of it."""
    random = np.random.default_rng(seed)
    places = random.uniform(-2, [WIDTH + 2, HEIGHT + 2], (count, 18, 2))
    shown = random.random((count, 18, 1)) >= missing
    return torch.tensor(np.where(shown, np.concatenate([places, shown], axis=2), [-1, -1, 0]), dtype=torch.float32)


def slow_thickness(pose):
    found = [np.linalg.norm(pose[a, :2] - pose[b, :2]) for a, b in ((2, 11), (5, 8)) if pose[a, 2] and pose[b, 2]]
    return max(np.mean(found) / 3, 1) if found else max(HEIGHT / 10, 1)


def slow_corners(pose, part):
    """Four corners in order, or None for a part that does not show."""
    thickness = slow_thickness(pose)
    if part < len(BOXES):
        joints, least = ((0, 1, 14, 15, 16, 17), 2) if part == 0 else ((2, 5, 8, 11), 3)
        shown = [pose[joint, :2] for joint in joints if pose[joint, 2]]
        if len(shown) < least:
            return None
        (left, top), (right, bottom) = np.min(shown, axis=0) - thickness / 2, np.max(shown, axis=0) + thickness / 2
        return np.array([[right, bottom], [right, top], [left, top], [left, bottom]])
    a, b = LIMBS[part - len(BOXES)]
    if not (pose[a, 2] and pose[b, 2]):
        return None
    start, end = pose[a, :2], pose[b, :2]
    along = (end - start) / np.linalg.norm(end - start)
    aside = np.array([-along[1], along[0]]) * thickness / 2
    if np.linalg.norm(end - start) < 1:
        middle = (start + end) / 2
        start, end = middle - along / 2, middle + along / 2
    return np.array([end + aside, end - aside, start - aside, start + aside])


def slow_source_corners(pose, part):
    corners = slow_corners(pose, part)
    if corners is None and part >= len(BOXES):
        corners = slow_corners(pose, len(BOXES) + LIMBS.index(SWAPPED[LIMBS[part - len(BOXES)]]))
    return corners


def slow_warp(features, source_pose, target_pose, stride):
    """features: [C, h, w] of one image."""
    channels, height, width = features.shape
    result = np.zeros((PARTS, channels, height, width))
    for part in range(PARTS):
        source, target = slow_source_corners(source_pose, part), slow_corners(target_pose, part)
        if source is None or target is None:
            continue
        affine = np.linalg.lstsq(np.c_[target, np.ones(4)], source, rcond=None)[0]  # [3, 2]
        for row in range(height):
            for column in range(width):
                place = np.array([(column + 0.5) * stride - 0.5, (row + 0.5) * stride - 0.5])
                edges = np.roll(target, -1, axis=0) - target
                sides = [edge[0] * way[1] - edge[1] * way[0] for edge, way in zip(edges, place - target, strict=True)]
                if not (min(sides) >= 0 or max(sides) <= 0):
                    continue
                x, y = (np.append(place, 1) @ affine + 0.5) / stride - 0.5
                for j in (int(np.floor(y)), int(np.floor(y)) + 1):
                    for i in (int(np.floor(x)), int(np.floor(x)) + 1):
                        if 0 <= j < height and 0 <= i < width:
                            weight = (1 - abs(y - j)) * (1 - abs(x - i))
                            result[part, :, row, column] += weight * features[:, j, i]
    return result.max(axis=0)


@pytest.mark.parametrize(("missing", "stride"), [(0.0, 1), (0.15, 1), (0.4, 2), (0.15, 4)])
def test_all_parts_at_once_are_moved_as_one_after_the_other(missing, stride):
    source, target = random_poses(3, 1, missing), random_poses(3, 2, missing)
    features = torch.randn(3, 2, HEIGHT // stride, WIDTH // stride, generator=torch.Generator().manual_seed(0))
    parts = with_symmetric_limbs(rectangles(source, HEIGHT)), rectangles(target, HEIGHT)
    moved = warp_parts(features, *parts, stride)
    for image in range(3):
        expected = slow_warp(*(values[image].numpy().astype(float) for values in (features, source, target)), stride)
        np.testing.assert_allclose(moved[image].numpy(), expected, atol=1e-3)
        assert np.abs(expected).max() > 0.1


def test_a_hidden_limb_takes_the_symmetric_ones_appearance_and_without_that_nothing():
    pose = random_poses(1, 6)
    lower_right_arm = len(BOXES) + LIMBS.index((3, 4))
    lower_left_arm = len(BOXES) + LIMBS.index((6, 7))
    hidden = pose.clone()
    hidden[0, 4] = torch.tensor([-1.0, -1.0, 0.0])  # right wrist
    whole, filled = rectangles(pose, HEIGHT), with_symmetric_limbs(rectangles(hidden, HEIGHT))
    assert filled.known.all()
    torch.testing.assert_close(filled.axes[0, lower_right_arm], whole.axes[0, lower_left_arm])
    hidden[0, 7] = torch.tensor([-1.0, -1.0, 0.0])  # left wrist
    known = with_symmetric_limbs(rectangles(hidden, HEIGHT)).known[0]
    assert (~known).nonzero().flatten().tolist() == [lower_right_arm, lower_left_arm]


@pytest.mark.parametrize("place", [(3.0, 4.0), (-1.0, -1.0)])
def test_joints_in_one_place_or_none_at_all_give_finite_images(place):
    pose = torch.tensor([*place, float(place[0] > 0)]).repeat(1, 18, 1)
    features = torch.rand(1, 2, HEIGHT, WIDTH, requires_grad=True)
    for source, target in ((pose, random_poses(1, 7)), (random_poses(1, 7), pose), (pose, pose)):
        moved = warp_parts(features, rectangles(source, HEIGHT), rectangles(target, HEIGHT), 1)
        moved.sum().backward()
        assert moved.isfinite().all()
        assert features.grad.isfinite().all()


def test_parts_lie_where_their_joints_are_and_limbs_over_the_torso():
    """A person with outstretched legs, whose right lower arm lies across the belly."""
    poses = torch.zeros(1, 18, 3)
    places = {0: (32, 10), 1: (32, 20), 2: (24, 22), 3: (20, 44), 4: (40, 44), 5: (40, 22), 8: (26, 60), 11: (38, 60)}
    places |= {9: (26, 80), 10: (26, 100), 14: (30, 8), 15: (34, 8)}
    for joint, (x, y) in places.items():
        poses[0, joint] = torch.tensor([x, y, 1.0])
    labels = part_labels(poses, 4, (32, 16))[0]  # of 128x64 pixels
    at = lambda x, y: labels[y // 4, x // 4].item()  # noqa: E731
    assert at(32, 10) == 0  # head
    assert at(32, 30) == 1  # torso
    assert at(32, 44) == 3  # right lower arm
    assert at(26, 70) == 6  # right upper leg
    assert at(26, 92) == 7  # right lower leg
    assert at(4, 4) == at(60, 120) == at(38, 90) == BACKGROUND  # nothing known of the left leg
