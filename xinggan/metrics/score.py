"""Scores one set of generated images: every metric of the catalogue, each with its protocol, or the reason why not.

Images are read a batch at a time, so the set may be a memory-mapped array. Pairs are compared first, then whole sets.
"""

from collections import defaultdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xinggan.metrics.catalogue import METRICS
from xinggan.metrics.images import ImageSet, ScoredPairs
from xinggan.metrics.perceptual import LPIPS_VERSION, open_lpips
from xinggan.metrics.protocol import CLEAN, Protocol
from xinggan.metrics.set_scores import EMBEDDED, INCEPTION, score_sets
from xinggan.metrics.similarity import l1, mean_inside, mean_without_border, psnr, ssim_map
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
    images are of synthetic people, which the embedded networks know. lpips_net: alex, vgg or squeeze. Raises ValueError
    if images and pairs do not fit together or a metric comes out nonfinite.
    """
    test = ScoredPairs(generated, split, np.asarray(pairs))
    training = None if train_split is None else ImageSet(train_split.images, np.unique(train_split.pairs))
    scores = Scores()
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        _score_similarity(scores, test, protocol, device)
        _score_lpips(scores, test, protocol, lpips_net, device)
        score_sets(scores, INCEPTION, test, training, protocol, device)
        if synthetic:
            _score_embedded(scores, test, training, protocol, device)
        else:
            embedded = [name for name in METRICS if "_embedded" in name]
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
    def measure(generated: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
        similarity = ssim_map(generated, target, protocol.ssim)
        whole, inside = mean_without_border(similarity, protocol.ssim), mean_inside(similarity, mask)
        return {"ssim": whole, "mask_ssim": inside, "psnr": psnr(generated, target), "l1": l1(generated, target)}

    per_image = _compare(test, measure, "SSIM, PSNR, L1", device)
    library = {"library": f"torch {version('torch').split('+')[0]}, computing as scikit-image's structural_similarity"}
    scores.add_per_image("ssim", per_image["ssim"], described(protocol, protocol.ssim, **library))
    masked = described(protocol, protocol.ssim, protocol.mask, **library)
    scores.add_per_image("mask_ssim", per_image["mask_ssim"], masked, nan_means="the target pose has no body mask")
    equal = np.isinf(per_image["psnr"])
    if equal.any():
        reason = f"infinite: {equal.sum()} of {len(test)} generated images equal their targets"
        scores.add_unavailable(["psnr"], reason, described(protocol, protocol.psnr))
    else:
        scores.add_per_image("psnr", per_image["psnr"], described(protocol, protocol.psnr))
    scores.add_per_image("l1", per_image["l1"], described(protocol, protocol.l1))


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
    _score_poses(scores, test, protocol, device)


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
