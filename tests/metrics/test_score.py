"""A set of images is scored whole: every metric has a value with its protocol, or a reason."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from scored_sets import colours, split_of

from xinggan.data.packed import PackedSplit
from xinggan.data.poses import body_masks
from xinggan.data.synthetic import render
from xinggan.metrics.catalogue import METRICS
from xinggan.metrics.networks import FeatureNetwork
from xinggan.metrics.protocol import CLEAN
from xinggan.metrics.score import score as score_protocols
from xinggan.metrics.set_scores import INCEPTION, inception_score
from xinggan.metrics.similarity import ssim
from xinggan.metrics.values import MetricValue, Scores

PEOPLE, VIEWS = 6, 4


def synthetic_split(first_person: int) -> PackedSplit:
    """Every ordered pair of different views of a few rendered people."""
    people, views = np.arange(PEOPLE).repeat(VIEWS) + first_person, np.tile(np.arange(VIEWS), PEOPLE)
    rendering = render(77, people, views)
    pairs = [(i, j) for i in range(len(people)) for j in range(len(people)) if i != j and people[i] == people[j]]
    return split_of(rendering.images, rendering.poses, pairs, rendering.people)


@pytest.fixture(scope="module")
def train_split() -> PackedSplit:
    return synthetic_split(0)


@pytest.fixture(scope="module")
def split() -> PackedSplit:
    return synthetic_split(100)


def score(generated, split, pairs=None, train_split=None, synthetic=True) -> Scores:
    """Scores under the default protocol."""
    pairs = np.arange(len(split)) if pairs is None else pairs
    return score_protocols(generated, split, pairs, train_split=train_split, synthetic=synthetic)["clean"]


def by_metric(scores: Scores) -> dict[str, MetricValue]:
    return {value.metric: value for value in scores.values}


def noisy_targets(split: PackedSplit) -> np.ndarray:
    targets = split.images[split.pairs[:, 1]].astype(float)
    noise = np.random.default_rng(0).normal(0, 8, targets.shape)
    return np.clip(targets + noise, 0, 255).round().astype(np.uint8)


@pytest.fixture(scope="module")
def scored(split, train_split) -> tuple[np.ndarray, Scores]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", "/nonexistent")
        return noisy_targets(split), score(noisy_targets(split), split, train_split=train_split)


def test_every_metric_of_the_protocol_has_one_value_or_a_reason(scored):
    _, scores = scored
    assert sorted(value.metric for value in scores.values) == sorted(CLEAN.metrics)
    for value in scores.values:
        assert (value.value is None) == (value.unavailable_because is not None)
        assert value.protocol["name"] == "clean"
        if value.value is not None:
            assert np.isfinite(value.value)
            assert value.n > 0
    assert json.loads(json.dumps([asdict(value) for value in scores.values]))
    reasons = {value.metric: value.unavailable_because for value in scores.values if value.value is None}
    assert {"lpips", "fid", "fid_train", "kid_real", "is", "mask_is", "precision"} <= set(reasons)
    assert "alexnet-owt-7be5be79.pth" in reasons["lpips"]
    assert "weights-inception-2015-12-05-6726825d.pth" in reasons["fid"]


def test_per_image_values_belong_to_their_pairs(scored, split):
    generated, scores = scored
    assert all(len(column) == len(split) for column in scores.per_image.values())
    pair = 17
    images = (generated[pair], split.images[split.pairs[pair, 1]])
    a, b = (torch.from_numpy(image).permute(2, 0, 1)[None] for image in images)
    assert scores.per_image["ssim"][pair] == pytest.approx(float(ssim(a, b)), abs=1e-12)
    for metric in ("ssim", "l1", "psnr", "mask_ssim"):
        assert by_metric(scores)[metric].value == pytest.approx(scores.per_image[metric].mean(), abs=1e-12)


def test_with_a_feature_network_at_hand_every_set_metric_has_a_value(split, train_split, monkeypatch):
    batches = []

    def extract(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        batches.append(len(images))
        return colours(images)

    family = replace(INCEPTION, open=lambda device: FeatureNetwork(extract, {"network": "colours"}))
    monkeypatch.setattr("xinggan.metrics.score.INCEPTION", family)
    generated, count = noisy_targets(split), len(split)
    values = by_metric(score(generated, split, train_split=train_split, synthetic=False))
    for metric in family.metrics:
        assert values[metric].value is not None, values[metric].unavailable_because
        assert values[metric].protocol["network"] == "colours"
    assert values["fid"].value < values["fid_train"].value
    assert values["fid"].n == count
    assert values["precision"].n == values["fid_real"].n == PEOPLE * VIEWS  # no repeated target
    assert sum(batches) == 2 * count + 2 * PEOPLE * VIEWS  # generated, the same masked, targets, training images
    batches.clear()  # a reference in the same process: real images are known, by their content
    again = by_metric(score(generated, replace(split), train_split=replace(train_split), synthetic=False))
    assert sum(batches) == 2 * count
    assert again == values

    masks = body_masks(split.poses[split.pairs[:, 1]], 128, 64)
    inside = torch.from_numpy(generated * masks[..., None]).permute(0, 3, 1, 2)
    expected = inception_score(colours(inside)[1], CLEAN.inception_score)
    assert values["mask_is"].value == pytest.approx(expected, rel=1e-9)
    assert "mask" in values["mask_is"].protocol


def test_any_selection_and_order_of_pairs_gives_the_same_value_for_a_pair(scored, split, tmp_path):
    """From a memory-mapped file too."""
    generated, scores = scored
    some = np.array([40, 3, 17, 8])
    np.save(tmp_path / "generated.npy", generated[some])
    again = score(np.load(tmp_path / "generated.npy", mmap_mode="r"), split, some)
    for metric, column in again.per_image.items():
        assert np.allclose(column, scores.per_image[metric][some], atol=1e-5, equal_nan=True), metric


def test_embedded_values_carry_the_hash_of_their_weights_and_the_reference(scored):
    values = by_metric(scored[1])
    assert len(values["pckh_embedded"].protocol["weights_sha256"]) == 64
    assert values["fd_embedded_train"].protocol["reference"] != values["fd_embedded"].protocol["reference"]
    assert values["fd_embedded"].protocol["reference_images"] == PEOPLE * VIEWS
    assert values["kd_embedded"].protocol["subset_size"] == PEOPLE * VIEWS
    assert values["fd_embedded_real"].n == PEOPLE * VIEWS


def test_worse_images_score_worse_on_every_paired_metric(scored, split):
    others = split.images[np.roll(split.pairs[:, 1], len(split) // 2)]  # other people in other poses
    good, bad = by_metric(scored[1]), by_metric(score(others, split))
    for metric in ("ssim", "mask_ssim", "psnr", "l1", "perceptual_embedded", "attributes_embedded", "pckh_embedded"):
        assert (good[metric].value > bad[metric].value) == METRICS[metric].higher_is_better, metric


def test_the_targets_themselves_reach_every_ceiling(split):
    scores = score(split.images[split.pairs[:, 1]], split)
    values = by_metric(scores)
    assert values["ssim"].value == pytest.approx(1.0)
    assert values["l1"].value == values["perceptual_embedded"].value == 0.0
    assert values["attributes_embedded"].value == 1.0
    assert values["pckh_embedded"].value == values["pckh_embedded_real"].value
    assert values["fd_embedded"].value == pytest.approx(0.0, abs=0.05)  # each target is there three times
    assert values["precision_embedded"].value == values["recall_embedded"].value == 1.0
    assert values["is_embedded"].value == pytest.approx(values["is_embedded_real"].value)
    assert values["psnr"].value is None
    assert "infinite" in values["psnr"].unavailable_because
    assert "psnr" not in scores.per_image


def test_networks_that_know_synthetic_people_only_score_no_photographs(split):
    scores = score(noisy_targets(split)[:12], split, np.arange(12), synthetic=False)
    embedded = [value for value in scores.values if "_embedded" in value.metric]
    assert embedded
    assert all("synthetic people" in str(value.unavailable_because) for value in embedded)
    assert sorted(value.metric for value in scores.values) == sorted(CLEAN.metrics)


def test_a_target_without_body_mask_is_left_out_and_counted(split):
    masks, empty = split.masks.copy(), split.pairs[5, 1]
    masks[empty] = 0
    scores = score(noisy_targets(split), replace(split, masks=masks), synthetic=False)
    value, left_out = by_metric(scores)["mask_ssim"], int((split.pairs[:, 1] == empty).sum())
    assert value.n == len(split) - left_out
    assert np.isnan(scores.per_image["mask_ssim"]).sum() == left_out
    assert value.protocol["left_out"].startswith(f"{left_out} pairs")


def test_incomplete_or_misshapen_sets_are_refused(split):
    generated, count = noisy_targets(split), len(split)
    with pytest.raises(ValueError, match=f"{count - 1} generated images for {count} test pairs"):
        score(generated[1:], split)
    with pytest.raises(ValueError, match="uint8"):
        score(generated / 255.0, split)
    with pytest.raises(ValueError, match="different rows"):
        score(generated[:2], split, np.array([3, 3]))


def test_a_nonfinite_value_is_refused_with_the_metrics_name():
    with pytest.raises(ValueError, match="FID"):
        Scores(CLEAN).add("fid", float("nan"), {}, 10)
    with pytest.raises(ValueError, match="LPIPS"):
        Scores(CLEAN).add_per_image("lpips", np.array([0.1, np.nan]), {})
