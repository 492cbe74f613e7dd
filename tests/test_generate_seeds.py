"""What a method draws at random stays while the pose moves: an image depends on its seed, not on those beside it."""

import numpy as np
import torch

from xinggan.model.method import Method
from xinggan.training.generation import generate_pairs, generate_poses


class Noise(Method):
    """Draws every image from its seed."""

    def generate(self, source, source_pose, target_pose, seeds):
        images = [torch.rand(3, *source.shape[-2:], generator=torch.Generator().manual_seed(int(s))) for s in seeds]
        return torch.stack(images) * 2 - 1


def test_a_poses_image_depends_on_the_seed_and_not_on_the_poses_beside_it(trained_on):
    split = trained_on.test
    source, poses = split.pairs[0][0], np.array(split.poses[:3])
    several = generate_poses(Noise(), split.images[source], split.poses[source], poses, seed=4, batch=2)
    alone = generate_poses(Noise(), split.images[source], split.poses[source], poses[2:], seed=4)
    assert np.array_equal(several[2], alone[0])
    assert np.array_equal(alone, generate_pairs(Noise(), split, [0], seed=4))
    assert not np.array_equal(alone, generate_poses(Noise(), split.images[source], split.poses[source], poses[2:]))
