"""The embedded networks load from small, described files, and know people they were not trained on."""

import json

import numpy as np
import pytest
import torch

from xinggan.data.poses import pckh
from xinggan.data.synthetic import ATTRIBUTES, GENERATOR_VERSION, describe, render
from xinggan.files import sha256_of
from xinggan.metrics.embedded import networks
from xinggan.metrics.embedded.networks import (
    FOLDER,
    NAMES,
    AttributeClassifier,
    Convolution,
    PoseEstimator,
    load_embedded,
    to_network_size,
    training_record,
)
from xinggan.metrics.embedded.train import fold_normalisation

WORLD = 5_000_001  # neither trained on nor held out by the training script


@pytest.fixture(scope="module")
def strangers():
    return render(WORLD, np.arange(60).repeat(4), np.tile(np.arange(4), 60))


def test_the_weights_are_small_and_say_what_they_were_trained_on():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2e6
    for name in NAMES:
        record = training_record(name)
        assert record["generator_version"] == GENERATOR_VERSION, "train them anew: xinggan.metrics.embedded.train"
        assert json.loads(record["held_out"])
        assert record["sha256"] == sha256_of(FOLDER / f"{name}.safetensors")


def test_the_pose_estimator_finds_the_joints_of_strangers(strangers):
    estimator = load_embedded("pose")
    found = estimator.estimate(torch.from_numpy(strangers.images).permute(0, 3, 1, 2)).numpy()
    correct, total = pckh(found, strangers.poses)
    assert correct.sum() / total.sum() > 0.95


def test_found_joints_are_in_the_pixels_of_the_given_image(strangers):
    estimator = load_embedded("pose")
    images = torch.from_numpy(strangers.images[:40]).permute(0, 3, 1, 2)
    doubled = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    small, large = estimator.estimate(images, all_joints=True), estimator.estimate(doubled, all_joints=True)
    shown = torch.from_numpy(strangers.poses[:40, :, 2]) > 0
    assert (large[..., :2] / 2 - small[..., :2]).abs()[shown].mean() < 0.3


def test_the_attribute_classifier_recognises_what_strangers_wear(strangers):
    classifier = load_embedded("attributes")
    with torch.inference_mode():
        _, logits = classifier(to_network_size(torch.from_numpy(strangers.images).permute(0, 3, 1, 2)))
    attributes = describe(WORLD, strangers.people)
    accuracy = {
        name: float(np.mean(head.argmax(1).numpy() == attributes[name]))
        for name, head in classifier.by_attribute(logits).items()
    }
    assert set(accuracy) == set(ATTRIBUTES)
    for name in ("upper_colour", "lower_colour", "lower_kind", "shoes", "skin"):
        assert accuracy[name] > 0.7, accuracy


def test_the_loss_does_not_see_with_the_network_that_scores():
    """Nor with a network that somebody else has changed: every load is a copy."""
    loss_stage, scoring_stage = load_embedded("perceptual"), load_embedded("attributes").stages[0]
    for loss_weights, scoring_weights in zip(loss_stage.parameters(), scoring_stage.parameters(), strict=True):
        assert loss_weights.shape == scoring_weights.shape
        assert not torch.allclose(loss_weights, scoring_weights, atol=1e-2)
    with torch.no_grad():
        next(loss_stage.parameters()).zero_()
    assert next(load_embedded("perceptual").parameters()).abs().sum() > 0


@pytest.mark.parametrize("size", [(128, 64), (64, 32), (256, 176)])
def test_perceptual_features_keep_the_resolution_and_pass_gradients(size):
    stage = load_embedded("perceptual")
    images = torch.rand(2, 3, *size).mul(2).sub(1).requires_grad_()
    features = stage(images)
    assert features.shape == (2, 16, *size)
    features.square().mean().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in stage.parameters())


@pytest.mark.parametrize("damage", ["missing", "cut", "other network"])
def test_a_missing_or_damaged_file_is_named_with_what_to_do(damage, tmp_path, monkeypatch):
    content = (FOLDER / "pose.safetensors").read_bytes()
    if damage == "cut":
        (tmp_path / "pose.safetensors").write_bytes(content[:5000])
    elif damage == "other network":
        (tmp_path / "pose.safetensors").write_bytes((FOLDER / "perceptual.safetensors").read_bytes())
    monkeypatch.setattr(networks, "FOLDER", tmp_path)
    with pytest.raises(RuntimeError, match=r"pose\.safetensors.*missing or damaged.*--which pose"):
        load_embedded("pose")


def test_an_unknown_name_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="pose, attributes, perceptual"):
        load_embedded("vgg")


@pytest.mark.parametrize("make", [PoseEstimator, lambda form=False: AttributeClassifier({"hair": 3, "bag": 4}, form)])
def test_folding_the_normalisation_changes_nothing(make):
    torch.manual_seed(0)
    network, stored = make(True), make()
    for block in network.modules():
        if isinstance(block, Convolution):
            torch.nn.init.normal_(block[1].running_mean)
            torch.nn.init.uniform_(block[1].running_var, 0.5, 2.0)
            torch.nn.init.uniform_(block[1].weight, 0.5, 1.5)
    images = torch.randn(3, 3, 128, 64)
    with torch.inference_mode():
        expected = network.eval()(images)
        fold_normalisation(network)
        stored.load_state_dict(network.state_dict())
        got = stored.eval()(images)
    for before, after in zip(expected, got, strict=True):
        assert torch.allclose(before, after, rtol=1e-3, atol=1e-3 * float(before.abs().max()))
