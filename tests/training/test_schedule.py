"""Steps as functions of seed and step number."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinggan.training.generation import image_seeds
from xinggan.training.schedule import batch_indices, learning_rate_factor, step_seed

SEEDS = st.integers(0, 2**31)


@given(seed=SEEDS, batch=st.integers(1, 12), pairs=st.integers(1, 40))
def test_every_epoch_sees_every_pair_once(seed, batch, pairs):
    epochs = 2
    steps = -(-epochs * pairs // batch)
    seen = np.concatenate([batch_indices(seed, step, batch, pairs) for step in range(steps)])
    for epoch in range(epochs):
        assert sorted(seen[epoch * pairs : (epoch + 1) * pairs]) == list(range(pairs))


def test_seeds_differ_between_steps_runs_and_pairs():
    assert len({step_seed(seed, step) for seed in range(20) for step in range(100)}) == 2000
    assert len(set(image_seeds(0, np.arange(1000)).tolist())) == 1000


def test_an_images_seed_depends_on_its_pair_not_on_its_batch():
    assert image_seeds(3, np.array([5, 9]))[1] == image_seeds(3, np.array([9]))[0]


def test_learning_rate_is_constant_then_falls_linearly_towards_zero():
    factors = [learning_rate_factor(step, steps=10, decay_steps=4) for step in range(10)]
    assert factors == pytest.approx([1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    assert learning_rate_factor(9, 10, 0) == 1
