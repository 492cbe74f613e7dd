"""Limb maps against another library's distance and against what is drawn by hand."""

import numpy as np
import torch
from scipy.ndimage import distance_transform_cdt

from baselines.geometry import moved, scaled_and_cropped
from baselines.limb_maps import COLOURS, distances, limb_maps
from xinggan.data.poses import BONES


def test_distances_are_those_of_another_library():
    random = np.random.default_rng(0)
    masks = random.random((3, 20, 30)) < [[[0.1]], [[0.02]], [[0.005]]]
    expected = np.stack([distance_transform_cdt(~mask, metric="taxicab") for mask in masks])
    np.testing.assert_array_equal(distances(torch.from_numpy(masks)).numpy(), expected)
    assert distances(torch.zeros(1, 4, 4, dtype=torch.bool)).min() > 1e5


def pose(**joints):
    poses = torch.full((1, 18, 3), -1.0)
    poses[..., 2] = 0
    for joint, (x, y) in joints.items():
        poses[0, int(joint[1:])] = torch.tensor([x, y, 1.0])
    return poses


def test_a_joint_is_a_disc_and_a_limb_an_ellipse_over_it():
    maps = limb_maps(pose(j2=(20, 40), j3=(20, 80)), 128, 64, half_width=4)[0]
    limb = BONES.index((2, 3))
    disc, line = (torch.tensor(COLOURS[i]) / 255 for i in (2, limb))
    torch.testing.assert_close(maps[:3, 40 - 4, 20], disc)  # above the limb's end
    torch.testing.assert_close(maps[:3, 60, 20 + 4], 0.6 * line)
    torch.testing.assert_close(maps[:3, 42, 20], 0.4 * disc + 0.6 * line)
    assert maps[:3, 60, 20 + 5].sum() == 0
    torch.testing.assert_close(maps[3 + limb, 60, 20 + 4 + 31], torch.tensor(10 / 255))  # 31 pixels away, a third
    others = [3 + i for i in range(17) if i != limb]
    assert (maps[others] == 1).all()
    assert maps[3 + limb].max() < 0.2


def test_moved_images_and_joints_stay_together():
    """A bright spot on the joint; scaled, turned clockwise, shifted."""
    image = torch.full((1, 1, 65, 33), -1.0).expand(1, 3, -1, -1).clone()
    image[..., 20:23, 9:12] = 1.0
    poses = pose(j0=(10, 21))
    turned, after = moved(image, poses, torch.tensor([90.0]), torch.tensor([[2.0, -3.0]]), torch.ones(1), fill=-1.0)
    np.testing.assert_allclose(after[0, 0], [16 + 11 + 2, 32 - 6 - 3, 1], atol=1e-4)  # (-6, -11) becomes (11, -6)
    assert turned[0, 0, 23, 29] > 0.9
    assert turned[0, 0].mean() < -0.9


def test_enlarged_images_are_cropped_within_themselves():
    torch.manual_seed(0)
    images, poses = torch.rand(64, 3, 16, 8), pose(j0=(0, 0), j1=(7, 15)).expand(64, -1, -1)
    cropped, after = scaled_and_cropped(images, poses, 1.5)
    assert cropped.min() >= -1e-6
    span = after[:, 1, :2] - after[:, 0, :2]
    scale = span / torch.tensor([7.0, 15.0])
    torch.testing.assert_close(scale[:, 0], scale[:, 1])
    assert 1 <= scale.min() < 1.05 < 1.45 < scale.max() <= 1.5
    assert (after[:, 0, :2] <= (scale - 1) / 2 + 1e-4).all()  # the corner leaves the image, or stays where it was
    assert len(after[:, 0, 0].unique()) > 32
