"""Published protocols give the published numbers, and each scores what it defines and nothing else."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from xinggan.data.packed import PackedSplit
from xinggan.data.poses import body_masks, pckh
from xinggan.data.synthetic import render
from xinggan.metrics.protocol import (
    CLEAN,
    GFLA,
    OF_THE_GENERATED,
    POSE_TRANSFER,
    POSE_TRANSFER_DEEPFASHION,
    Protocol,
    SsimSettings,
    plain,
    protocols_for,
)
from xinggan.metrics.score import score
from xinggan.metrics.set_scores import INCEPTION, FeatureNetwork
from xinggan.metrics.similarity import ssim, ssim_map
from xinggan.metrics.values import Scores

# scikit-image's default window, which some tables call SSIM too
UNIFORM_7 = SsimSettings.uniform(7, data_range=OF_THE_GENERATED)
# metrics whose networks are not at hand in these tests
WITHOUT_NETWORK = {
    "pckh",
    "pckh_real",
    "is",
    "is_real",
    "mask_is",
    "lpips",
    "fid_train",
    "kid_train",
    "precision_train",
    "recall_train",
}


def split_of(images: np.ndarray, poses: np.ndarray, pairs: np.ndarray) -> PackedSplit:
    """A test split in memory. images [n, H, W, 3], poses [n, 18, 3], pairs [p, 2]."""
    masks = np.packbits(body_masks(poses, *images.shape[1:3]), axis=-1)
    return PackedSplit(
        "test", images, poses, masks, np.zeros(len(images), np.int64), pairs, [f"{i}.png" for i in range(len(images))]
    )


@pytest.fixture(scope="module")
def split() -> PackedSplit:
    rendering = render(5, np.arange(4).repeat(2), np.tile(np.arange(2), 4))
    return split_of(rendering.images, rendering.poses, np.array([[0, 1], [2, 3], [4, 5], [6, 7]], np.int32))


@pytest.fixture(scope="module")
def golden(shared) -> tuple[PackedSplit, list[dict]]:
    """The photographs of the golden pairs with their annotated poses, and the published evaluation's values."""
    pairs = json.loads((shared / "golden" / "pose_transfer_metrics.json").read_text())["pairs"]
    folder = next((shared / "data").glob("*/test"))
    annotated = {}
    for line in next(folder.parent.glob("*-annotation-test.csv")).read_text().splitlines()[1:]:
        name, y, x = line.split(":")
        x, y = np.array(json.loads(x)), np.array(json.loads(y))
        annotated[name] = np.stack([x, y, (x >= 0) & (y >= 0)], 1).astype(np.float32)
    names = sorted({pair[role] for pair in pairs for role in ("source", "target")})
    images = np.stack([np.array(Image.open(folder / name).convert("RGB")) for name in names])
    rows = [[names.index(pair["source"]), names.index(pair["target"])] for pair in pairs]
    return split_of(images, np.stack([annotated[name] for name in names]), np.array(rows, np.int32)), pairs


@pytest.fixture(autouse=True)
def without_downloaded_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


def scored(split: PackedSplit, protocol: Protocol, generated: np.ndarray | None = None, **options) -> Scores:
    """Scores of `generated`, else of the source images, under a protocol."""
    generated = split.images[split.pairs[:, 0]] if generated is None else generated
    options = {"train_split": split, "synthetic": False} | options
    return score(generated, split, np.arange(len(split)), protocols=[protocol], **options)[protocol.name]


@pytest.mark.parametrize(
    ("protocol", "metric", "published"),
    [
        (POSE_TRANSFER, "ssim", "ssim"),
        (POSE_TRANSFER, "mask_ssim", "mask_ssim"),
        (POSE_TRANSFER, "l1", "l1"),
        (POSE_TRANSFER_DEEPFASHION, "ssim", "ssim_white_padded"),
        (POSE_TRANSFER_DEEPFASHION, "mask_ssim", "mask_ssim"),
        (replace(POSE_TRANSFER, ssim=UNIFORM_7), "ssim", "ssim_uniform7"),
        (GFLA, "ssim", "ssim_sigma1_2"),
    ],
)
def test_each_pair_gets_the_published_evaluations_value(golden, protocol, metric, published):
    split, pairs = golden
    values = scored(split, protocol).per_image[metric]
    assert len(values) == 60
    assert np.abs(values - [pair[published] for pair in pairs]).max() < 1e-6


def test_mask_pixels_and_pckh_counts_are_the_published_evaluations_exactly(golden):
    split, pairs = golden
    source, target = split.pairs.T
    masks = np.unpackbits(split.masks[target], axis=-1)
    assert masks.sum((1, 2)).tolist() == [pair["mask_pixels"] for pair in pairs]
    correct, total = pckh(split.poses[source], split.poses[target])
    assert correct.tolist() == [pair["pckh_correct"] for pair in pairs]
    assert total.tolist() == [pair["pckh_total"] for pair in pairs]


def slow(generated: np.ndarray, target: np.ndarray, **options) -> float:
    return structural_similarity(target, generated, channel_axis=2, **options)


def published_loop(protocol: Protocol, generated: np.ndarray, target: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """One pair with scikit-image as the published programs call it. [H, W, 3] twice and bool [H, W]."""
    gaussian = {"gaussian_weights": True, "use_sample_covariance": False}
    if protocol.name == "gfla":
        a, b = generated / 255, target / 255
        return {
            "ssim": slow(a, b, sigma=1.2, data_range=1, **gaussian),
            "ssim_window51": slow(a, b, win_size=51, data_range=1),
            "l1": np.abs(a - b).mean(),
        }
    inside = [image * mask[..., None] for image in (generated, target)]
    difference = np.abs(generated / 127.5 - target / 127.5).mean()
    if protocol == POSE_TRANSFER_DEEPFASHION:
        sides = ((0, 0), (40, 40), (0, 0))
        generated, target = (np.pad(image, sides, constant_values=255) for image in (generated, target))
    ranges = [int(image.max()) - int(image.min()) for image in (generated, inside[0])]
    return {
        "ssim": slow(generated, target, sigma=1.5, data_range=ranges[0], **gaussian),
        "mask_ssim": slow(*inside, sigma=1.5, data_range=ranges[1], **gaussian),
        "l1": difference,
    }


@pytest.mark.parametrize("protocol", [POSE_TRANSFER, POSE_TRANSFER_DEEPFASHION, GFLA])
def test_values_equal_a_loop_of_scikit_image_over_the_pairs(split, protocol):
    values = scored(split, protocol).per_image
    masks = np.unpackbits(split.masks, axis=-1).astype(bool)
    for i, (source, target) in enumerate(split.pairs):
        expected = published_loop(protocol, split.images[source], split.images[target], masks[target])
        assert {metric: column[i] for metric, column in values.items()} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("size", [(51, 60), (70, 51), (128, 64)])
@pytest.mark.parametrize("window_px", [3, 7, 51])
@pytest.mark.parametrize("covariance", ["sample", "population"])
def test_uniform_windows_and_their_maps_are_scikit_images(size, window_px, covariance):
    rng = np.random.default_rng(window_px)
    a, b = (rng.integers(0, 256, (2, *size, 3), dtype=np.uint8) for _ in range(2))
    a[0] //= 8
    options = {"win_size": window_px, "data_range": 255, "use_sample_covariance": covariance == "sample"}
    expected = [structural_similarity(x, y, channel_axis=2, full=True, **options) for x, y in zip(a, b, strict=True)]
    settings = SsimSettings.uniform(window_px, covariance=covariance)
    tensors = [torch.from_numpy(images).permute(0, 3, 1, 2) for images in (a, b)]
    assert np.abs(ssim(*tensors, settings).numpy() - [mean for mean, _ in expected]).max() < 1e-6
    assert np.abs(ssim_map(*tensors, settings).numpy() - [full.mean(2) for _, full in expected]).max() < 1e-6


@pytest.mark.parametrize("protocol", [POSE_TRANSFER, POSE_TRANSFER_DEEPFASHION, GFLA])
def test_a_protocol_scores_the_metrics_that_it_defines_and_no_other(split, protocol):
    for synthetic in (True, False):
        values = scored(split, protocol, synthetic=synthetic).values
        assert sorted(value.metric for value in values) == sorted(protocol.metrics)
        absent = WITHOUT_NETWORK | (set() if synthetic else {"pckh_embedded", "pckh_embedded_real"})
        for value in values:
            assert (value.value is None) == (value.metric in absent), value
            assert value.protocol["name"] == protocol.name
        assert json.loads(json.dumps([asdict(value) for value in values]))


def colours(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A stand-in for a feature network: mean colours of the image's quarters."""
    features = torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1)
    return features, features / 20


def test_with_its_network_a_protocol_has_all_its_set_metrics_against_the_reference_it_names(monkeypatch):
    rendering = render(5, np.arange(6).repeat(2), np.tile(np.arange(2), 6))
    pairs = np.array([[i, i ^ 1] for i in range(12)], np.int32)
    split = split_of(rendering.images, rendering.poses, pairs)
    family = replace(INCEPTION, open=lambda device: FeatureNetwork(colours, {"network": "colours"}))
    monkeypatch.setattr("xinggan.metrics.score.INCEPTION", family)
    for protocol in (POSE_TRANSFER, GFLA):
        values = {value.metric: value for value in scored(split, protocol).values}
        assert sorted(values) == sorted(protocol.metrics)
        of_sets = WITHOUT_NETWORK & set(protocol.metrics) - {"lpips", "pckh", "pckh_real"}
        assert all(values[metric].value is not None for metric in of_sets)
        references = {values[metric].protocol.get("reference") for metric in of_sets}
        assert references == {
            "distinct images of the training pairs" if protocol.reference == "training images" else None
        }
        without_training = scored(split, protocol, train_split=None).values
        assert sorted(value.metric for value in without_training) == sorted(protocol.metrics)


def test_protocols_scored_together_give_what_each_gives_alone(split, monkeypatch):
    opened = []

    def open_once(device):
        opened.append(device)
        return FeatureNetwork(colours, {"network": "colours"})

    monkeypatch.setattr("xinggan.metrics.score.INCEPTION", replace(INCEPTION, open=open_once))
    protocols = protocols_for("market1501").values()
    generated = split.images[split.pairs[:, 0]]
    options = {"train_split": split, "synthetic": True}
    together = score(generated, split, np.arange(len(split)), protocols=[*protocols], **options)
    assert len(opened) == 1
    for protocol in protocols:
        alone = scored(split, protocol, synthetic=True)
        assert together[protocol.name].values == alone.values
        for metric, per_image in alone.per_image.items():
            np.testing.assert_array_equal(together[protocol.name].per_image[metric], per_image)


def test_values_of_different_choices_carry_different_protocols():
    stated = [
        json.dumps(Scores(protocol).described(protocol.ssim), sort_keys=True)
        for protocol in (CLEAN, POSE_TRANSFER, GFLA)
    ] + [json.dumps(Scores(POSE_TRANSFER).described(POSE_TRANSFER_DEEPFASHION.ssim), sort_keys=True)]
    assert len(set(stated)) == len(stated)
    assert "40" in stated[-1]


def test_the_clean_protocols_record_is_what_it_was_before_others_came():
    assert Scores(CLEAN).described(CLEAN.ssim, CLEAN.mask) == {
        "name": "clean",
        "quantisation": "uint8 before anything is measured",
        "sigma_px": 1.5,
        "truncate": 3.5,
        "covariance": "population",
        "k1": 0.01,
        "k2": 0.03,
        "data_range": 255.0,
        "channels": "mean of R, G, B",
        "border": "reflected for the map; the outermost window radius is left out of the whole image's mean",
        "mask": "limbs and joints of the target pose drawn 4 pixels wide",
        "ssim_inside": "SSIM map averaged over the mask's pixels, borders of the image included",
        "is_inside": "pixels outside the mask set to 0",
    }
    assert "ssim_window51" not in CLEAN.metrics


def test_every_protocol_is_found_by_name_and_survives_json():
    for dataset in ("synthetic", "market1501", "deepfashion"):
        protocols = protocols_for(dataset)
        assert list(protocols) == ["clean", "pose-transfer", "gfla"]
        assert protocols["pose-transfer"].ssim.white_columns == (40 if dataset == "deepfashion" else None)
        for protocol in protocols.values():
            told = json.loads(json.dumps(plain(protocol)))
            assert told["metrics"] == list(protocol.metrics)
            assert told["ssim"]["sigma_px"] == protocol.ssim.sigma_px
    assert (POSE_TRANSFER.ssim.window, GFLA.ssim.window) == (
        "Gaussian of sigma 1.5, 11x11 pixels",
        "Gaussian of sigma 1.2, 9x9 pixels",
    )
    assert UNIFORM_7.window == "uniform, 7x7 pixels"


def test_images_of_one_value_have_no_data_range_and_are_left_out_and_counted(split):
    generated = split.images[split.pairs[:, 0]].copy()
    generated[1] = 90
    generated[2, ...] = 0
    scores = scored(split, POSE_TRANSFER, generated)
    values = {value.metric: value for value in scores.values}
    assert np.isnan(scores.per_image["ssim"]).tolist() == [False, True, True, False]
    assert np.isnan(scores.per_image["mask_ssim"]).tolist() == [False, False, True, False]
    assert values["ssim"].n == 2
    assert values["ssim"].protocol["left_out"].startswith("2 pairs: the generated image has a single value")


def test_a_window_larger_than_the_images_leaves_its_metric_unavailable(split):
    small = split_of(split.images[:, ::3, ::3].copy(), split.poses // 3, split.pairs)
    value = next(value for value in scored(small, GFLA).values if value.metric == "ssim_window51")
    assert value.value is None
    assert "51x51" in str(value.unavailable_because)
    assert "43x22" in str(value.unavailable_because)


def test_the_protocol_decides_on_the_lpips_network_where_it_fixes_one(split):
    stated = [
        next(value for value in scored(split, protocol, lpips_net="squeeze").values if value.metric == "lpips").protocol
        for protocol in (CLEAN, GFLA)
    ]
    assert [description["network"] for description in stated] == ["squeeze", "alex"]


@pytest.mark.parametrize(
    "choice",
    [
        {"uniform_window_px": 7},
        {"sigma_px": None},
        {"truncate": None, "uniform_window_px": 7},
        {"covariance": "other"},
        {"data_range": "max"},
        {"sigma_px": None, "truncate": None, "uniform_window_px": 8},
    ],
)
def test_choices_that_do_not_exist_are_refused(choice):
    with pytest.raises(ValueError):
        SsimSettings(**choice)


def test_each_pairs_data_range_is_its_own_whatever_else_is_in_the_batch(split):
    settings = SsimSettings(data_range=OF_THE_GENERATED)
    a, b = (torch.from_numpy(split.images[split.pairs[:, side]]).permute(0, 3, 1, 2) for side in (0, 1))
    a = a.clone()
    a[1] //= 4
    alone = torch.cat([ssim(a[i : i + 1], b[i : i + 1], settings) for i in range(len(a))])
    assert torch.equal(ssim(a, b, settings), alone)
