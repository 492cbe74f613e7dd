"""Trivial references are what their names say."""

import numpy as np

from baselines.trivial import CopySource, GroundTruth, MeanImage
from xinggan.training.generation import generate_pairs


def test_copy_source_and_ground_truth_give_the_bytes_of_the_files(people):
    pairs = range(len(people.test))
    sources, targets = people.test.pairs[:, 0], people.test.pairs[:, 1]
    assert np.array_equal(generate_pairs(CopySource(), people.test, pairs), people.test.images[sources])
    assert np.array_equal(generate_pairs(GroundTruth(), people.test, pairs), people.test.images[targets])


def test_mean_image_is_the_mean_of_the_training_images(people):
    method = MeanImage()
    method.begin(people.train)
    image = generate_pairs(method, people.test, [0])[0]
    assert np.abs(image - people.train.images[:].astype(float).mean(0)).max() <= 0.51
