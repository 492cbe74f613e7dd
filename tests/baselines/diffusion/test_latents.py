"""Packed latents and poses on their grid: against encoding one by one, the heatmaps' formula, points in rectangles."""

import math

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from baselines.body_parts import BACKGROUND, part_labels
from baselines.diffusion.autoencoder import encode, make_autoencoder
from baselines.diffusion.latent_diffusion import PackedLatents
from baselines.diffusion.pocold import latent_joint_maps
from xinggan.data.batch import images_to_float
from xinggan.data.settings import PoseMap

pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def autoencoder():
    return make_autoencoder("trained", width=4, factor=4, channels=3, seed=0)[0].requires_grad_(False)


def test_a_pairs_latents_are_those_of_its_images(people, autoencoder):
    rows = [5, 0, 3]
    packed = PackedLatents(autoencoder, people.train, torch.device("cpu"), progress=False)
    batch = people.train.batch(rows)
    for latents, images in zip(packed.of_pairs(batch.pair), (batch.source_image, batch.target_image), strict=True):
        for place in range(len(rows)):
            alone = encode(autoencoder, images_to_float(images[place : place + 1]))[0]
            torch.testing.assert_close(latents[place], alone, atol=1e-5, rtol=1e-4)


def test_statistics_make_every_channel_standard_and_know_its_range(people, autoencoder):
    packed = PackedLatents(autoencoder, people.train, torch.device("cpu"), progress=False)
    mean, std, limit = packed.statistics()
    values = ((packed.latents - mean) / std).numpy()
    np.testing.assert_allclose(values.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(values.std(axis=(0, 2, 3)), 1, atol=1e-3)
    assert float(limit) == pytest.approx(np.abs(values).max())


def test_packing_is_no_part_of_a_steps_flops(people, autoencoder):
    with FlopCounterMode(display=False) as counter:
        PackedLatents(autoencoder, people.train, torch.device("cpu"), progress=False)
        assert counter.get_total_flops() == 0
        encode(autoencoder, torch.zeros(1, 3, 16, 16))
        assert counter.get_total_flops() > 0


def test_joint_maps_have_the_value_of_the_pixels_at_the_latents_centres():
    poses = torch.zeros(1, 18, 3)
    poses[0, 4] = torch.tensor([9.0, 21.0, 1])
    maps = latent_joint_maps(poses, 4, (8, 4), PoseMap.gaussian, sigma=6.0)
    for row in range(8):
        for column in range(4):
            x, y = 4 * column + 1.5, 4 * row + 1.5  # the centre of 4 pixels, counted from the first one's
            expected = math.exp(-((x - 9) ** 2 + (y - 21) ** 2) / (2 * 6**2))
            assert maps[0, 4, row, column].item() == pytest.approx(expected, rel=1e-5)
    assert maps[0, [j for j in range(18) if j != 4]].abs().max() == 0


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
