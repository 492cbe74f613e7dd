"""Scores one set of generated images: every metric that a protocol defines, with the protocol, or the reason why not.

Images are read a batch at a time, so the set may be a memory-mapped array. Pairs are compared first, then whole sets.
"""

from collections import defaultdict
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xinggan.metrics.images import ImageSet, ScoredPairs
from xinggan.metrics.perceptual import LPIPS_VERSION, open_lpips
from xinggan.metrics.protocol import CLEAN, MULTIPLIED, OF_THE_GENERATED, Protocol, SsimSettings
from xinggan.metrics.set_scores import EMBEDDED, INCEPTION, score_sets
from xinggan.metrics.similarity import (
    l1,
    masked_images_ssim,
    mean_inside,
    mean_without_border,
    psnr,
    ssim,
    ssim_map,
)
from xinggan.metrics.values import MetricValue, Scores, described
from xinggan.metrics.weights_files import MetricUnavailable
from xinggan.progress import Progress

if TYPE_CHECKING:
    from xinggan.data.packed import PackedSplit

__all__ = ["MetricValue", "Scores", "score"]

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
    """Score `generated` (uint8 [n, H, W, 3], one image for each of `pairs`, rows of the test split's pairs).

    train_split: whose images are the training reference; None leaves those metrics unavailable. synthetic: whether the
    images are of synthetic people, which the embedded networks know. protocol: only the metrics that it defines are
    in the result. lpips_net: alex, vgg or squeeze. Raises ValueError if images and pairs do not fit together, a metric
    comes out nonfinite or the protocol fixes another network of LPIPS.
    """
    if protocol.lpips_net not in (None, lpips_net):
        raise ValueError(f"the protocol {protocol.name} fixes {protocol.lpips_net} as LPIPS's network, not {lpips_net}")
    test = ScoredPairs(generated, split, np.asarray(pairs))
    training = None if train_split is None else ImageSet(train_split.images, np.unique(train_split.pairs))
    scores = Scores()
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        _score_similarity(scores, test, protocol, device)
        if "lpips" in protocol.metrics:
            _score_lpips(scores, test, protocol, lpips_net, device)
        score_sets(scores, INCEPTION, test, training, protocol, device)
        if synthetic:
            if "perceptual_embedded" in protocol.metrics:
                _score_embedded(scores, test, training, protocol, device)
            if "pckh_embedded" in protocol.metrics:
                _score_poses(scores, test, protocol, device)
        else:
            embedded = [name for name in protocol.metrics if "_embedded" in name]
            scores.add_unavailable(embedded, EMBEDDED_ONLY_SYNTHETIC, described(protocol))
    return scores


def _compare(
    test: ScoredPairs, measure: Any, description: str, device: torch.device | str
) -> dict[str, NDArray[np.float64]]:
    """`measure(generated, target, mask) -> {metric: [B]}` over all pairs, as arrays [n]."""
    columns: dict[str, list[Tensor]] = defaultdict(list)
    with Progress(description, len(test), "pairs") as progress:
        for generated, target, mask in test.blocks(device):
            for metric, values in measure(generated, target, mask).items():
                columns[metric].append(values.double().cpu())
            progress.update(len(generated))
    return {metric: torch.cat(blocks).numpy() for metric, blocks in columns.items()}


def _score_similarity(scores: Scores, test: ScoredPairs, protocol: Protocol, device: torch.device | str) -> None:
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

    per_image = _compare(test, measure, f"SSIM, L1 ({protocol.name})", device)
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
        inside = masked_images_ssim(generated, target, mask, framed)
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


def _score_lpips(scores: Scores, test: ScoredPairs, protocol: Protocol, net: str, device: torch.device | str) -> None:
    description = described(protocol, library=f"lpips {version('lpips')}", version=LPIPS_VERSION, network=net)
    try:
        lpips = open_lpips(net, device)
    except MetricUnavailable as reason:
        scores.add_unavailable(["lpips"], str(reason), description)
        return
    per_image = _compare(test, lambda generated, target, _: {"lpips": lpips(generated, target)}, "LPIPS", device)
    scores.add_per_image("lpips", per_image["lpips"], {**description, "weights_sha256": lpips.sha256})


def _score_embedded(
    scores: Scores, test: ScoredPairs, training: ImageSet | None, protocol: Protocol, device: torch.device | str
) -> None:
    """Metrics of the attribute classifier's features, all or none of which a protocol defines."""
    from xinggan.metrics.embedded import scoring

    classifier = scoring.load_embedded("attributes")[0].to(device)
    description = described(protocol, **scoring.network_description("attributes"))

    def measure(generated: Tensor, target: Tensor, _: Tensor) -> dict[str, Tensor]:
        return {"perceptual_embedded": scoring.perceptual_distance(classifier, generated, target)}

    per_image = _compare(test, measure, "embedded perceptual distance", device)["perceptual_embedded"]
    scores.add_per_image("perceptual_embedded", per_image, {**description, "stages": "five, averaged; uncalibrated"})

    features = score_sets(scores, EMBEDDED, test, training, protocol, device)
    assert features is not None  # the embedded network is always there
    agreement = scoring.attribute_agreement(classifier, features[0].logits, features[1].logits)
    attributes = {"attributes": ", ".join(classifier.attributes)}
    scores.add_per_image("attributes_embedded", agreement.numpy(), {**description, **attributes})


def _score_poses(scores: Scores, test: ScoredPairs, protocol: Protocol, device: torch.device | str) -> None:
    from xinggan.metrics.embedded import scoring
    from xinggan.metrics.pose import pckh

    estimator = scoring.load_embedded("pose")[0].to(device)
    real, place, _ = test.real_targets()
    generated_poses = scoring.estimate_poses(estimator, test.generated_images(), device, "poses of generated images")
    real_poses = scoring.estimate_poses(estimator, real, device, "poses of real images")[place]
    target_poses = test.split.poses[test.target_rows]
    description = described(protocol, protocol.pckh, **scoring.network_description("pose"), value="pooled over joints")
    for metric, found in (("pckh_embedded", generated_poses), ("pckh_embedded_real", real_poses)):
        correct, total = pckh(found.numpy(), target_poses, protocol.pckh)
        with np.errstate(invalid="ignore"):
            per_image = correct / total  # NaN where the target shows no head box
            pooled = correct.sum() / total.sum()
        left_out = "the target pose shows fewer than two head joints"
        scores.add_per_image(metric, per_image, description, nan_means=left_out, value=float(pooled))
