"""A set of images is scored whole: every metric has a value with its protocol, or a reason."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from xinggan.data.packed import PackedSplit
from xinggan.data.poses import body_masks
from xinggan.data.synthetic import render
from xinggan.metrics.catalogue import METRICS
from xinggan.metrics.networks import FeatureNetwork
from xinggan.metrics.protocol import CLEAN
from xinggan.metrics.score import score as score_protocols
from xinggan.metrics.set_scores import INCEPTION, inception_score
from xinggan.metrics.similarity import ssim
from xinggan.metrics.values import Scores

PEOPLE, VIEWS = 6, 4


def synthetic_split(name: str, first_person: int) -> PackedSplit:
    """Every ordered pair of different views of a few rendered people, packed in memory."""
    people, views = np.arange(PEOPLE).repeat(VIEWS) + first_person, np.tile(np.arange(VIEWS), PEOPLE)
    rendering = render(77, people, views)
    pairs = [(i, j) for i in range(len(people)) for j in range(len(people)) if i != j and people[i] == people[j]]
    masks = np.packbits(body_masks(rendering.poses, 128, 64), axis=-1)
    names = [f"{person:04d}_{view}.png" for person, view in zip(people, views, strict=True)]
    return PackedSplit(
        name, rendering.images, rendering.poses, masks, rendering.people, np.array(pairs, dtype=np.int32), names
    )


@pytest.fixture(scope="module")
def train_split() -> PackedSplit:
    return synthetic_split("train", 0)


@pytest.fixture(scope="module")
def split() -> PackedSplit:
    return synthetic_split("test", 100)


@pytest.fixture(autouse=True)
def without_downloaded_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


def score(*arguments, **options) -> Scores:
    """Scores under the default protocol."""
    return score_protocols(*arguments, **options)["clean"]


def noisy_targets(split: PackedSplit, deviation: float = 8.0) -> np.ndarray:
    targets = split.images[split.pairs[:, 1]].astype(float)
    noise = np.random.default_rng(0).normal(0, deviation, targets.shape)
    return np.clip(targets + noise, 0, 255).round().astype(np.uint8)


@pytest.fixture(scope="module")
def scored(split, train_split) -> tuple[np.ndarray, Scores]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", "/nonexistent")
        generated = noisy_targets(split)
        pairs = np.arange(len(split))
        return generated, score(generated, split, pairs, train_split=train_split, synthetic=True)


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
    a = torch.from_numpy(generated[pair]).permute(2, 0, 1)[None]
    b = torch.from_numpy(split.images[split.pairs[pair, 1]]).permute(2, 0, 1)[None]
    assert scores.per_image["ssim"][pair] == pytest.approx(float(ssim(a, b)), abs=1e-12)
    means = {
        value.metric: value.value for value in scores.values if value.metric in ("ssim", "l1", "psnr", "mask_ssim")
    }
    for metric, value in means.items():
        assert value == pytest.approx(scores.per_image[metric].mean(), abs=1e-12)


def colours(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A stand-in for a feature network: mean colours of the image's quarters."""
    features = torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1)
    return features, features / 20


def test_with_a_feature_network_at_hand_every_set_metric_has_a_value(split, train_split, monkeypatch):
    batches = []

    def extract(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        batches.append(len(images))
        return colours(images)

    family = replace(INCEPTION, open=lambda device: FeatureNetwork(extract, {"network": "colours"}))
    monkeypatch.setattr("xinggan.metrics.score.INCEPTION", family)
    pairs, generated = np.arange(len(split)), noisy_targets(split)
    scores = score(generated, split, pairs, train_split=train_split, synthetic=False)
    values = {value.metric: value for value in scores.values}
    for metric in family.metrics:
        assert values[metric].value is not None, values[metric].unavailable_because
        assert values[metric].protocol["network"] == "colours"
    assert values["fid"].value < values["fid_train"].value
    assert values["fid"].n == len(pairs)
    assert values["precision"].n == values["fid_real"].n == PEOPLE * VIEWS  # no repeated target
    assert sum(batches) == 2 * len(pairs) + 2 * PEOPLE * VIEWS  # generated, the same masked, targets, training images

    masks = body_masks(split.poses[split.pairs[:, 1]], 128, 64)
    inside = torch.from_numpy(generated * masks[..., None]).permute(0, 3, 1, 2)
    expected = inception_score(colours(inside)[1], CLEAN.inception_score)
    assert values["mask_is"].value == pytest.approx(expected, rel=1e-9)
    assert "mask" in values["mask_is"].protocol


def test_any_selection_and_order_of_pairs_gives_the_same_value_for_a_pair(scored, split):
    generated, scores = scored
    some = np.array([40, 3, 17, 8])
    again = score(generated[some], split, some, train_split=None, synthetic=True)
    for metric, column in again.per_image.items():
        assert np.allclose(column, scores.per_image[metric][some], atol=1e-5, equal_nan=True), metric


def test_embedded_values_carry_the_hash_of_their_weights_and_the_reference(scored):
    by_name = {value.metric: value for value in scored[1].values}
    assert len(by_name["pckh_embedded"].protocol["weights_sha256"]) == 64
    assert by_name["fd_embedded_train"].protocol["reference"] != by_name["fd_embedded"].protocol["reference"]
    assert by_name["fd_embedded"].protocol["reference_images"] == PEOPLE * VIEWS
    assert by_name["kd_embedded"].protocol["subset_size"] == PEOPLE * VIEWS
    assert by_name["fd_embedded_real"].n == PEOPLE * VIEWS


def test_worse_images_score_worse_on_every_paired_metric(scored, split):
    good = {value.metric: value.value for value in scored[1].values}
    pairs = np.arange(len(split))
    others = split.images[np.roll(split.pairs[:, 1], len(split) // 2)]  # other people in other poses
    bad = {v.metric: v.value for v in score(others, split, pairs, train_split=None, synthetic=True).values}
    for metric in ("ssim", "mask_ssim", "psnr", "l1", "perceptual_embedded", "attributes_embedded", "pckh_embedded"):
        assert (good[metric] > bad[metric]) == METRICS[metric].higher_is_better, metric


def test_the_targets_themselves_reach_every_ceiling(split):
    targets = split.images[split.pairs[:, 1]]
    scores = score(targets, split, np.arange(len(split)), train_split=None, synthetic=True)
    values = {value.metric: value for value in scores.values}
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


def test_photographs_are_not_judged_by_networks_that_know_synthetic_people_only(split):
    scores = score(noisy_targets(split)[:12], split, np.arange(12), train_split=None, synthetic=False)
    embedded = [value for value in scores.values if "_embedded" in value.metric]
    assert embedded
    assert all("synthetic people" in str(value.unavailable_because) for value in embedded)
    assert sorted(value.metric for value in scores.values) == sorted(CLEAN.metrics)


def test_a_target_without_body_mask_is_left_out_and_counted(split):
    masks = split.masks.copy()
    empty = split.pairs[5, 1]
    masks[empty] = 0
    scores = score(
        noisy_targets(split), replace(split, masks=masks), np.arange(len(split)), train_split=None, synthetic=False
    )
    value = next(value for value in scores.values if value.metric == "mask_ssim")
    left_out = int((split.pairs[:, 1] == empty).sum())
    assert value.n == len(split) - left_out
    assert np.isnan(scores.per_image["mask_ssim"]).sum() == left_out
    assert value.protocol["left_out"].startswith(f"{left_out} pairs")


def test_generated_images_may_lie_in_a_memory_mapped_file(scored, split, tmp_path):
    generated, scores = scored
    np.save(tmp_path / "generated.npy", generated)
    mapped = np.load(tmp_path / "generated.npy", mmap_mode="r")
    again = score(mapped, split, np.arange(len(split)), train_split=None, synthetic=False)
    assert np.array_equal(again.per_image["ssim"], scores.per_image["ssim"])


def test_incomplete_or_misshapen_sets_are_refused(split):
    generated, pairs = noisy_targets(split), np.arange(len(split))
    with pytest.raises(ValueError, match=f"{len(split) - 1} generated images for {len(split)} test pairs"):
        score(generated[1:], split, pairs, train_split=None, synthetic=True)
    with pytest.raises(ValueError, match="uint8"):
        score(generated / 255.0, split, pairs, train_split=None, synthetic=True)
    with pytest.raises(ValueError, match="different rows"):
        score(generated[:2], split, np.array([3, 3]), train_split=None, synthetic=True)


def test_a_nonfinite_value_is_refused_with_the_metrics_name():
    with pytest.raises(ValueError, match="FID"):
        Scores(CLEAN).add("fid", float("nan"), {}, 10)
    with pytest.raises(ValueError, match="LPIPS"):
        Scores(CLEAN).add_per_image("lpips", np.array([0.1, np.nan]), {})
