"""Training writes a network that loads, scores itself on strangers, and learns where joints are, in the mirror too."""

import json

import pytest
import torch

from xinggan.metrics.embedded import networks, train
from xinggan.metrics.embedded.train import cell_weights, mirrored, render_people


@pytest.mark.parametrize("name", ["pose", "perceptual"])
def test_a_trained_network_is_stored_with_its_scores_and_loads(name, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "HELD_OUT_WORLDS", 1)
    monkeypatch.setattr(train, "HELD_OUT_PEOPLE", 4)
    recipe = train.Recipe(worlds=1, people=8, steps=3, seed=1, batch=8)
    scores = train.train_and_store(name, recipe, tmp_path)
    monkeypatch.setattr(networks, "FOLDER", tmp_path)
    network = networks.load_embedded(name)
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    record = networks.training_record(name)
    assert json.loads(record["held_out"]) == pytest.approx(scores, abs=1e-4)
    assert json.loads(record["recipe"])["steps"] == 3


def test_the_same_recipe_trains_the_same_network():
    people = render_people("pose", worlds=1, people=4)
    recipe = train.Recipe(worlds=1, people=4, steps=2, seed=5, batch=8)
    first, second = (train.train("pose", recipe, people).state_dict() for _ in range(2))
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)


def test_a_joints_target_has_the_joint_as_its_mean():
    poses = torch.tensor([[[10.3, 77.7, 1.0]] * 18])
    weights = cell_weights(poses, 32, 16)[0, 0]
    columns, rows = 4 * (torch.arange(16) + 0.5), 4 * (torch.arange(32) + 0.5)
    assert float((weights.sum(0) * columns).sum()) == pytest.approx(10.3, abs=1e-3)
    assert float((weights.sum(1) * rows).sum()) == pytest.approx(77.7, abs=1e-3)


def test_a_mirrored_persons_right_hand_is_on_the_other_side():
    people = render_people("pose", worlds=1, people=2)
    images, poses = mirrored(people.images, people.poses)
    assert torch.equal(images.flip(3), people.images)
    assert torch.allclose(poses[:, 4, 0], 64 - people.poses[:, 7, 0])
    assert torch.equal(poses[:, 4, 1:], people.poses[:, 7, 1:])
    assert torch.allclose(mirrored(images, poses)[1], people.poses, atol=1e-4)
