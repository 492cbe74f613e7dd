"""Scores one set of generated images: every metric that a protocol defines, with the protocol, or the reason why not.

Images are read a batch at a time, so the set may be a memory-mapped array. Pairs are compared first, then whole sets.
Several protocols in one go share what the networks see in the images.
"""

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xinggan.metrics.images import ImageSet, ScoredPairs
from xinggan.metrics.perceptual import LPIPS_VERSION
from xinggan.metrics.protocol import CLEAN, MULTIPLIED, OF_THE_GENERATED, Protocol, SsimSettings
from xinggan.metrics.readings import Readings, compare
from xinggan.metrics.set_scores import EMBEDDED, INCEPTION, score_sets
from xinggan.metrics.similarity import (
    l1,
    mean_inside,
    mean_without_border,
    psnr,
    ssim,
    ssim_map,
)
from xinggan.metrics.values import MetricValue, Scores, described
from xinggan.weights_files import MetricUnavailable

if TYPE_CHECKING:
    from xinggan.data.estimators import IdentifiedEstimator
    from xinggan.data.packed import PackedSplit

__all__ = ["MetricValue", "Scores", "score", "score_protocols"]

NO_ESTIMATOR = "no pose estimator was named; xinggan.evaluate takes one: --estimator movenet --weights FILE.tflite"
EMBEDDED_ONLY_SYNTHETIC = "embedded networks are trained on synthetic people"


def score(
    generated: NDArray[np.uint8],
    split: "PackedSplit",
    pairs: NDArray[np.integer],
    *,
    train_split: "PackedSplit | None",
    synthetic: bool,
    protocol: Protocol = CLEAN,
    lpips_net: str = "alex",
    device: torch.device | str = "cpu",
) -> Scores:
    """`score_protocols` with a single protocol."""
    options: dict[str, Any] = {"train_split": train_split, "synthetic": synthetic, "lpips_net": lpips_net}
    return score_protocols(generated, split, pairs, protocols=[protocol], device=device, **options)[protocol.name]


def score_protocols(
    generated: NDArray[np.uint8],
    split: "PackedSplit",
    pairs: NDArray[np.integer],
    *,
    protocols: Sequence[Protocol],
    train_split: "PackedSplit | None",
    synthetic: bool,
    lpips_net: str = "alex",
    estimator: "IdentifiedEstimator | None" = None,
    device: torch.device | str = "cpu",
) -> dict[str, Scores]:
    """Score `generated` (uint8 [n, H, W, 3], one image for each of `pairs`, rows of the test split's pairs).

    protocols: each gives, under its name, the metrics that it defines and no other. train_split: whose images are the
    training reference; None leaves those metrics unavailable. synthetic: whether the images are of synthetic people,
    which the embedded networks know. lpips_net: alex, vgg or squeeze, where the protocol does not fix it. estimator: of
    PCKh. Raises ValueError if images and pairs do not fit together or a metric comes out nonfinite.
    """
    test = ScoredPairs(generated, split, np.asarray(pairs))
    training = None if train_split is None else ImageSet(train_split.images, np.unique(train_split.pairs))
    readings = Readings(test, training, device, estimator)
    results = {}
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        for protocol in protocols:
            results[protocol.name] = scores = Scores()
            score_similarity(scores, test, protocol, device)
            if "lpips" in protocol.metrics:
                _score_lpips(scores, readings, protocol, protocol.lpips_net or lpips_net)
            score_sets(scores, INCEPTION, readings.sets(INCEPTION), protocol)
            _score_poses(scores, readings, protocol)
            if synthetic:
                if "perceptual_embedded" in protocol.metrics:
                    _score_embedded(scores, readings, protocol)
                if "pckh_embedded" in protocol.metrics:
                    _score_embedded_poses(scores, readings, protocol)
            else:
                embedded = [name for name in protocol.metrics if "_embedded" in name]
                scores.add_unavailable(embedded, EMBEDDED_ONLY_SYNTHETIC, described(protocol))
    return results


def score_similarity(scores: Scores, test: ScoredPairs, protocol: Protocol, device: torch.device | str) -> None:
    library = {"library": f"torch {version('torch').split('+')[0]}, computing as scikit-image's structural_similarity"}
    of_window51 = described(protocol, protocol.ssim_window51 or protocol.ssim, **library)
    too_small = _larger_than_images(protocol.ssim_window51, test)

    def measure(generated: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
        values = _ssim_values(generated, target, mask, protocol) | {"l1": l1(generated, target, protocol.l1)}
        if "psnr" in protocol.metrics:
            values["psnr"] = psnr(generated, target)
        if protocol.ssim_window51 is not None and not too_small:
            values["ssim_window51"] = ssim(generated, target, protocol.ssim_window51)
        return values

    per_image = compare(test, measure, f"SSIM, L1 ({protocol.name})", device)
    one_value = "the generated image has a single value" if protocol.ssim.data_range == OF_THE_GENERATED else None
    scores.add_per_image("ssim", per_image["ssim"], described(protocol, protocol.ssim, **library), nan_means=one_value)
    if too_small:
        scores.add_unavailable(["ssim_window51"], too_small, of_window51)
    elif "ssim_window51" in per_image:
        scores.add_per_image("ssim_window51", per_image["ssim_window51"], of_window51)
    if "mask_ssim" in per_image:
        masked = described(protocol, _of_the_frame(protocol.ssim), protocol.mask, **library)
        empty = "the target pose has no body mask" + (f" or {one_value} inside it" if one_value else "")
        scores.add_per_image("mask_ssim", per_image["mask_ssim"], masked, nan_means=empty)
    if "psnr" in per_image:
        _add_psnr(scores, per_image["psnr"], described(protocol, protocol.psnr))
    scores.add_per_image("l1", per_image["l1"], described(protocol, protocol.l1))


def _ssim_values(generated: Tensor, target: Tensor, mask: Tensor, protocol: Protocol) -> dict[str, Tensor]:
    """SSIM and, where the protocol defines it, Mask-SSIM. One map serves both where both are means of it."""
    if "mask_ssim" not in protocol.metrics:
        return {"ssim": ssim(generated, target, protocol.ssim)}
    framed = _of_the_frame(protocol.ssim)
    if protocol.mask.ssim_inside == MULTIPLIED:
        inside = ssim(generated * mask, target * mask, framed)
        return {"ssim": ssim(generated, target, protocol.ssim), "mask_ssim": inside}
    similarity = ssim_map(generated, target, framed)
    shared = framed == protocol.ssim
    whole = mean_without_border(similarity, framed) if shared else ssim(generated, target, protocol.ssim)
    return {"ssim": whole, "mask_ssim": mean_inside(similarity, mask)}


def _of_the_frame(settings: SsimSettings) -> SsimSettings:
    """Masked metrics look at the frame as it is, without white columns."""
    return replace(settings, white_columns=None)


def _larger_than_images(settings: SsimSettings | None, test: ScoredPairs) -> str | None:
    """Why a window cannot be used on these images, if so."""
    height, width = test.split.height, test.split.width
    if settings is None or settings.window_px <= min(height, width):
        return None
    return f"SSIM's window ({settings.window}) is larger than the images ({height}x{width})"


def _add_psnr(scores: Scores, per_image: NDArray[np.float64], protocol: dict[str, Any]) -> None:
    equal = np.isinf(per_image)
    if equal.any():
        reason = f"infinite: {equal.sum()} of {len(per_image)} generated images equal their targets"
        scores.add_unavailable(["psnr"], reason, protocol)
    else:
        scores.add_per_image("psnr", per_image, protocol)


def _score_lpips(scores: Scores, readings: Readings, protocol: Protocol, network: str) -> None:
    description = described(protocol, library=f"lpips {version('lpips')}", version=LPIPS_VERSION, network=network)
    try:
        per_image, weights = readings.lpips(network)
    except MetricUnavailable as reason:
        scores.add_unavailable(["lpips"], str(reason), description)
        return
    scores.add_per_image("lpips", per_image, description | weights)


def _score_embedded(scores: Scores, readings: Readings, protocol: Protocol) -> None:
    """Metrics of the attribute classifier's features, all or none of which a protocol defines."""
    from xinggan.metrics.embedded.scoring import attribute_agreement, network_description

    description = described(protocol, **network_description("attributes"))
    stated = {**description, "stages": "five, averaged; uncalibrated"}
    scores.add_per_image("perceptual_embedded", readings.perceptual_embedded, stated)

    features = readings.sets(EMBEDDED)
    score_sets(scores, EMBEDDED, features, protocol)
    assert not isinstance(features, MetricUnavailable)  # the embedded network is always there
    classifier = readings.classifier
    agreement = attribute_agreement(classifier, features.generated.logits, features.real_of_pairs.logits)
    attributes = {"attributes": ", ".join(classifier.attributes)}
    scores.add_per_image("attributes_embedded", agreement.numpy(), {**description, **attributes})


def _score_poses(scores: Scores, readings: Readings, protocol: Protocol) -> None:
    """PCKh by the estimator that was named."""
    metrics = [metric for metric in ("pckh", "pckh_real") if metric in protocol.metrics]
    if readings.estimator is None:
        scores.add_unavailable(metrics, NO_ESTIMATOR, described(protocol, protocol.pckh))
    elif metrics:
        estimator = readings.estimator
        network = {"network": estimator.name, "weights_sha256": estimator.weights_sha256}
        if estimator.proportions:
            network["proportions"] = f"{estimator.proportions[0]}:{estimator.proportions[1]}, as the people really are"
        _add_pckh(scores, readings, protocol, metrics, readings.poses_found, network)


def _score_embedded_poses(scores: Scores, readings: Readings, protocol: Protocol) -> None:
    from xinggan.metrics.embedded.scoring import network_description

    metrics = ["pckh_embedded", "pckh_embedded_real"]
    _add_pckh(scores, readings, protocol, metrics, readings.poses_embedded, network_description("pose"))


def _add_pckh(
    scores: Scores,
    readings: Readings,
    protocol: Protocol,
    metrics: Sequence[str],
    found: tuple[NDArray[np.float32], NDArray[np.float32]],
    network: dict[str, str],
) -> None:
    """PCKh of the poses found in generated and in real images, in this order, pooled over all joints."""
    from xinggan.metrics.pose import pckh

    target_poses = readings.test.split.poses[readings.test.target_rows]
    description = described(protocol, protocol.pckh, **network, value="pooled over joints")
    for metric, poses in zip(metrics, found, strict=True):
        correct, total = pckh(poses, target_poses, protocol.pckh)
        with np.errstate(invalid="ignore"):
            per_image = correct / total  # NaN where the target shows no head box
            pooled = correct.sum() / total.sum()
        left_out = "the target pose shows fewer than two head joints"
        scores.add_per_image(metric, per_image, description, nan_means=left_out, value=float(pooled))
