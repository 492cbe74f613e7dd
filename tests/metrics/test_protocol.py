"""Published protocols give the published numbers, and each scores what it defines and nothing else."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from scored_sets import colours, golden_split, split_of
from skimage.metrics import structural_similarity

from xinggan.data.packed import PackedSplit
from xinggan.data.synthetic import render
from xinggan.metrics.networks import FeatureNetwork
from xinggan.metrics.protocol import (
    CLEAN,
    GENERATED_RANGE,
    GFLA,
    POSE_TRANSFER,
    POSE_TRANSFER_DEEPFASHION,
    Protocol,
    SsimSettings,
    plain,
    protocols_for,
)
from xinggan.metrics.score import score
from xinggan.metrics.set_scores import IMAGENET, INCEPTION
from xinggan.metrics.values import Scores

# scikit-image's default window, which some tables call SSIM too
UNIFORM_7 = SsimSettings.uniform(7, data_range=GENERATED_RANGE)
# metrics whose networks are not at hand in these tests
WITHOUT_NETWORK = {"pckh", "pckh_real", "is", "is_real", "mask_is", "lpips", "fid_imagenet"}


@pytest.fixture(scope="module")
def split() -> PackedSplit:
    rendering = render(5, np.arange(6).repeat(2), np.tile(np.arange(2), 6))
    return split_of(rendering.images, rendering.poses, [[i, i ^ 1] for i in range(12)])


@pytest.fixture(scope="module")
def golden(shared) -> tuple[PackedSplit, list[dict]]:
    """The golden pairs and the published evaluations' values of each."""
    files = [shared / "golden" / f"{name}_metrics.json" for name in ("pose_transfer", "cfld")]
    tables = [json.loads(file.read_text())["pairs"] for file in files]
    pairs = [older | newer for older, newer in zip(*tables, strict=True)]
    return golden_split(shared, pairs), pairs


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
        (GFLA, "ssim_window51", "ssim_window51"),
        (CLEAN, "psnr", "psnr"),
    ],
)
def test_each_pair_gets_the_published_evaluations_value(golden, protocol, metric, published):
    split, pairs = golden
    values = scored(split, protocol).per_image[metric]
    assert len(values) == 60
    assert np.abs(values - [pair[published] for pair in pairs]).max() < (1e-5 if metric == "psnr" else 1e-6)


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


@pytest.mark.parametrize("protocol", [POSE_TRANSFER, POSE_TRANSFER_DEEPFASHION, GFLA])
@pytest.mark.parametrize("synthetic", [True, False])
def test_a_protocol_scores_the_metrics_that_it_defines_and_no_other(split, protocol, synthetic):
    values = scored(split, protocol, synthetic=synthetic).values
    assert sorted(value.metric for value in values) == sorted(protocol.metrics)
    absent = WITHOUT_NETWORK | (set() if synthetic else {"pckh_embedded", "pckh_embedded_real"})
    for value in values:
        assert (value.value is None) == (value.metric in absent), value
        assert value.protocol["name"] == protocol.name
    assert json.loads(json.dumps([asdict(value) for value in values]))


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Puts mean colours in both Inceptions' places; counts how often they are opened."""
    names: list[str] = []
    for family in (INCEPTION, IMAGENET):
        name = family.open.__name__
        opening = lambda device, name=name: names.append(name) or FeatureNetwork(colours, {"network": name})  # noqa: E731
        place = "INCEPTION" if family is INCEPTION else "IMAGENET"
        monkeypatch.setattr(f"xinggan.metrics.score.{place}", replace(family, open=opening))
    return names


@pytest.mark.parametrize(("protocol", "reference"), [(POSE_TRANSFER, None), (GFLA, "all images of the training list")])
def test_with_its_network_a_protocol_has_its_set_metrics_against_the_reference_it_names(
    split, opened, protocol, reference
):
    assert protocol.reference == reference
    values = {value.metric: value for value in scored(split, protocol).values}
    of_sets = {"is", "is_real", "mask_is", "fid_imagenet"} & set(protocol.metrics)
    assert all(values[metric].value is not None for metric in of_sets)
    assert {values[metric].protocol.get("reference") for metric in of_sets} == {reference}
    without_training = {value.metric: value for value in scored(split, protocol, train_split=None).values}
    assert sorted(without_training) == sorted(protocol.metrics)
    if reference:
        assert without_training["fid_imagenet"].unavailable_because == "no training images were given"


def test_protocols_scored_together_give_what_each_gives_alone(split, opened):
    protocols = protocols_for("market1501").values()
    generated = split.images[split.pairs[:, 0]]
    options = {"train_split": split, "synthetic": True}
    together = score(generated, split, np.arange(len(split)), protocols=[*protocols], **options)
    assert sorted(opened) == ["open_imagenet_inception", "open_inception"]
    for protocol in protocols:
        alone = scored(split, protocol, synthetic=True)
        assert together[protocol.name].values == alone.values
        for metric, per_image in alone.per_image.items():
            np.testing.assert_array_equal(together[protocol.name].per_image[metric], per_image)


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
    assert not {"ssim_window51", "fid_imagenet"} & set(CLEAN.metrics)


@pytest.mark.parametrize(("dataset", "white"), [("synthetic", None), ("market1501", None), ("deepfashion", 40)])
def test_every_protocol_is_found_by_name_and_survives_json(dataset, white):
    protocols = protocols_for(dataset)
    assert list(protocols) == ["clean", "pose-transfer", "gfla"]
    assert protocols["pose-transfer"].ssim.white_columns == white
    told = [json.loads(json.dumps(plain(protocol))) for protocol in protocols.values()]
    assert [one["metrics"] for one in told] == [list(protocol.metrics) for protocol in protocols.values()]
    stated = [json.dumps(Scores(protocol).described(protocol.ssim)) for protocol in protocols.values()]
    assert len(set(stated)) == len(stated)  # values of different choices carry different protocols
    windows = [settings.window for settings in (POSE_TRANSFER.ssim, GFLA.ssim, UNIFORM_7)]
    gaussian = ["Gaussian of sigma 1.5, 11x11 pixels", "Gaussian of sigma 1.2, 9x9 pixels"]
    assert windows == [*gaussian, "uniform, 7x7 pixels"]


def test_images_of_one_value_have_no_data_range_and_are_left_out_and_counted(split):
    generated = split.images[split.pairs[:, 0]].copy()
    generated[1] = 90
    generated[2, ...] = 0
    scores = scored(split, POSE_TRANSFER, generated)
    values = {value.metric: value for value in scores.values}
    assert np.isnan(scores.per_image["ssim"]).nonzero()[0].tolist() == [1, 2]
    assert np.isnan(scores.per_image["mask_ssim"]).nonzero()[0].tolist() == [2]
    assert values["ssim"].n == len(split) - 2
    assert values["ssim"].protocol["left_out"].startswith("2 pairs: the generated image has a single value")


def test_a_window_larger_than_the_images_leaves_its_metric_unavailable(split):
    small = split_of(split.images[:, ::3, ::3].copy(), split.poses // 3, split.pairs)
    value = next(value for value in scored(small, GFLA).values if value.metric == "ssim_window51")
    assert value.value is None
    assert "51x51" in str(value.unavailable_because)
    assert "43x22" in str(value.unavailable_because)


def test_images_too_small_for_a_network_or_a_window_leave_these_metrics_unavailable_and_the_rest_is_scored(
    split, shared, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(shared / "weights" / "torch_home"))
    small = split_of(split.images[:, ::8, ::4].copy(), split.poses // 8, split.pairs)  # 16x16 pixels
    values = {value.metric: value for value in scored(small, CLEAN, lpips_net="squeeze").values}
    assert values["lpips"].unavailable_because == "the images (16x16) are too small for LPIPS's network squeeze"
    assert values["ssim"].value is not None and values["l1"].value is not None
    tiny = split_of(split.images[:, ::16, ::8].copy(), split.poses // 16, split.pairs)  # 8x8
    values = {value.metric: value for value in scored(tiny, CLEAN).values}
    for metric in ("ssim", "mask_ssim"):
        assert values[metric].unavailable_because.startswith("the images (8x8) are too small for SSIM's window")
    assert values["l1"].value is not None and values["psnr"].value is not None


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
