"""Scoring of one set of generated images: every metric that a protocol defines, or the reason why it has no value.

Images are read a batch at a time, so the set may be a memory-mapped array. Pairs are compared first, then whole sets,
then poses. Networks cost far more than any formula on their output, so each runs once however many protocols ask.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xinggan.data.poses import pckh
from xinggan.metrics.embedded.networks import load_embedded, network_description
from xinggan.metrics.images import ScoredPairs, computed_once, image_batches
from xinggan.metrics.networks import LPIPS_VERSION, open_lpips
from xinggan.metrics.protocol import CLEAN, GENERATED_RANGE, MULTIPLIED, Protocol
from xinggan.metrics.set_scores import EMBEDDED, IMAGENET, INCEPTION, ImageSet, Open, SetFeatures, score_sets
from xinggan.metrics.similarity import l1, mean_inside, mean_without_border, psnr, ssim, ssim_map
from xinggan.metrics.values import Scores
from xinggan.weights_files import MetricUnavailable

if TYPE_CHECKING:
    from xinggan.data.estimators import Estimator
    from xinggan.data.packed import PackedSplit

NO_ESTIMATOR = (
    "no pose estimator was named: evaluation.estimator=movenet evaluation.estimator_weights=FILE.tflite of a run, "
    "--estimator movenet --weights FILE.tflite of xinggan.evaluate"
)
EMBEDDED_ONLY_SYNTHETIC = "embedded networks are trained on synthetic people"

Poses = NDArray[np.float32]  # [n, 18, 3]


def score(
    generated: NDArray[np.uint8],
    split: "PackedSplit",
    pairs: NDArray[np.integer],
    *,
    train_split: "PackedSplit | None",
    synthetic: bool,
    protocols: Sequence[Protocol] = (CLEAN,),
    lpips_net: str = "alex",
    estimator: "Estimator | None" = None,
    device: torch.device | str = "cpu",
) -> dict[str, Scores]:
    """Score `generated` (uint8 [n, H, W, 3], one image for each of `pairs`, rows of the test split's pairs).

    Each protocol gives, under its name, the metrics that it defines and no other. train_split: whose images are the
    training reference; None leaves those metrics unavailable. synthetic: whether the images are of synthetic people,
    which the embedded networks know. lpips_net: alex, vgg or squeeze, where the protocol does not fix it. estimator: of
    PCKh. Raises ValueError if images and pairs do not fit together or a metric comes out nonfinite.
    """
    outputs = NetworkOutputs(ScoredPairs(generated, split, np.asarray(pairs)), train_split, device, estimator)
    results = {protocol.name: Scores(protocol) for protocol in protocols}
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        for scores in results.values():
            score_similarity(scores, outputs.test, device)
            _score_lpips(scores, outputs, scores.protocol.lpips_net or lpips_net)
            score_sets(scores, INCEPTION, outputs.features)
            score_sets(scores, IMAGENET, outputs.features)
            _score_poses(scores, outputs)
            if synthetic:
                _score_embedded(scores, outputs)
            else:
                embedded = [metric for metric in scores.protocol.metrics if "_embedded" in metric]
                scores.add_unavailable(embedded, EMBEDDED_ONLY_SYNTHETIC, scores.described())
    return results


class NetworkOutputs:
    """Outputs of the learned networks for a set of test pairs, each computed when first asked for, then kept."""

    def __init__(
        self,
        test: ScoredPairs,
        train_split: "PackedSplit | None",
        device: torch.device | str,
        estimator: "Estimator | None" = None,
    ):
        self.test, self.train_split, self.device, self.estimator = test, train_split, device, estimator
        self.lpips, self.features = cache(self._lpips), cache(self._features)  # both raise MetricUnavailable

    def _lpips(self, network: str) -> tuple[NDArray[np.float64], dict[str, str]]:
        """LPIPS of each pair [n], and which weights it was computed with."""
        distance = open_lpips(network, self.device)
        distance.check_size(self.test.split.height, self.test.split.width, self.device)
        return self.distances(distance, "LPIPS"), distance.weights

    def _features(self, open_network: Open) -> SetFeatures:
        """The sets' features as a network sees them."""
        return SetFeatures(open_network(self.device), self.test, self.train_split, self.device)

    def distances(self, distance: Callable[[Tensor, Tensor], Tensor], description: str) -> NDArray[np.float64]:
        """`distance` of each pair's generated image to its target [n]."""
        batches = self.test.batches(self.device, description)
        return torch.cat([distance(generated, target).cpu() for generated, target, _ in batches]).numpy()

    @cached_property
    def poses_found(self) -> tuple[Poses, Poses]:
        """Poses that the estimator, which must have been given, finds in each pair's generated and real image."""
        estimator = self.estimator
        assert estimator is not None
        network = f"{estimator.name} {estimator.weights_sha256} {estimator.proportions}"
        return self._poses(
            network, lambda images: estimator.estimate(images.permute(0, 2, 3, 1).contiguous().cpu().numpy())[0]
        )

    @cached_property
    def poses_embedded(self) -> tuple[Poses, Poses]:
        """Poses that the embedded estimator finds in each pair's generated and real image."""
        estimator = load_embedded("pose").to(self.device)
        network = f"{network_description('pose')} on {self.device}"
        return self._poses(network, lambda images: estimator.estimate(images).cpu().numpy())

    def _poses(self, network: str, estimate: Callable[[Tensor], Poses]) -> tuple[Poses, Poses]:
        def poses_of(images: NDArray[np.uint8], rows: NDArray[np.integer], which: str) -> Poses:
            return np.concatenate([estimate(batch) for batch in image_batches(images, rows, self.device, which)])

        real, (targets, _, target_of_pair) = self.test.split.images, self.test.distinct_targets
        found = computed_once(network, real, targets, lambda: poses_of(real, targets, "poses of real images"))
        every = np.arange(len(self.test))
        return poses_of(self.test.generated, every, "poses of generated images"), found[target_of_pair]


def score_similarity(scores: Scores, test: ScoredPairs, device: torch.device | str) -> None:
    """Record SSIM, Mask-SSIM, PSNR and L1 as the protocol of `scores` defines them."""
    protocol = scores.protocol
    unmasked = replace(protocol.ssim, white_columns=None)  # Mask-SSIM looks at the frame as it is
    wide = protocol.ssim_window51
    windows = {"ssim": protocol.ssim, "ssim_window51": wide, "mask_ssim": unmasked}
    size = test.split.height, test.split.width
    misfits = {metric: reason for metric, window in windows.items() if window and (reason := window.misfit(*size))}
    fitting = {*scores.wanted("ssim", "ssim_window51", "mask_ssim", "psnr", "l1")} - misfits.keys()

    def measure(generated: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
        values, whole = {}, None
        if "ssim" in fitting:
            whole = ssim_map(generated, target, protocol.ssim)
            values["ssim"] = mean_without_border(whole, protocol.ssim)
        if wide and "ssim_window51" in fitting:
            values["ssim_window51"] = ssim(generated, target, wide)
        if "mask_ssim" in fitting:
            if protocol.mask.ssim_inside == MULTIPLIED:
                values["mask_ssim"] = ssim(generated * mask, target * mask, unmasked)
            else:
                if whole is None or unmasked != protocol.ssim:
                    whole = ssim_map(generated, target, unmasked)
                values["mask_ssim"] = mean_inside(whole, mask)
        if "psnr" in fitting:
            values["psnr"] = psnr(generated, target)
        return values | {"l1": l1(generated, target, protocol.l1)}

    library = {"library": f"torch {version('torch').split('+')[0]}, computing as scikit-image's structural_similarity"}
    stated = {
        "ssim": scores.described(protocol.ssim, **library),
        "ssim_window51": scores.described(*([wide] if wide else []), **library),
        "mask_ssim": scores.described(unmasked, protocol.mask, **library),
        "psnr": scores.described(protocol.psnr),
        "l1": scores.described(protocol.l1),
    }
    nan_means = {"mask_ssim": "the target pose has no body mask"}
    if protocol.ssim.data_range == GENERATED_RANGE:
        nan_means["ssim"] = "the generated image has a single value"
        nan_means["mask_ssim"] += f" or {nan_means['ssim']} inside it"

    blocks = [measure(*batch) for batch in test.batches(device, f"SSIM, L1 ({protocol.name})")]
    for metric in blocks[0]:
        values = torch.cat([block[metric] for block in blocks]).cpu().numpy()
        if metric == "psnr" and (equal := np.isinf(values).sum()):
            reason = f"infinite: {equal} of {len(test)} generated images equal their targets"
            scores.add_unavailable([metric], reason, stated[metric])
        else:
            scores.add_per_image(metric, values, stated[metric], nan_means.get(metric))
    for metric, reason in misfits.items():
        scores.add_unavailable([metric], reason, stated[metric])


def _score_lpips(scores: Scores, outputs: NetworkOutputs, network: str) -> None:
    if not scores.wanted("lpips"):
        return
    description = scores.described(library=f"lpips {version('lpips')}", version=LPIPS_VERSION, network=network)
    try:
        per_image, weights = outputs.lpips(network)
    except MetricUnavailable as reason:
        scores.add_unavailable(["lpips"], str(reason), description)
    else:
        scores.add_per_image("lpips", per_image, description | weights)


def _score_poses(scores: Scores, outputs: NetworkOutputs) -> None:
    """PCKh by the estimator that was named."""
    estimator, metrics = outputs.estimator, ("pckh", "pckh_real")
    if estimator is None:
        scores.add_unavailable(metrics, NO_ESTIMATOR, scores.described(scores.protocol.pckh))
    elif scores.wanted(*metrics):
        network = {"network": estimator.name, "weights_sha256": estimator.weights_sha256}
        if estimator.proportions:
            network["proportions"] = f"{estimator.proportions[0]}:{estimator.proportions[1]}, as the people really are"
        _add_pckh(scores, outputs.test, metrics, outputs.poses_found, network)


def _score_embedded(scores: Scores, outputs: NetworkOutputs) -> None:
    """Metrics of the attribute classifier's features, then PCKh by the embedded pose estimator."""
    description = scores.described(**network_description("attributes"))
    classifier = load_embedded("attributes").to(outputs.device)
    if scores.wanted("perceptual_embedded"):
        distances = outputs.distances(classifier.perceptual_distance, "embedded perceptual distance")
        stated = {**description, "stages": "five, averaged; uncalibrated"}
        scores.add_per_image("perceptual_embedded", distances, stated)
    score_sets(scores, EMBEDDED, outputs.features)
    if scores.wanted("attributes_embedded"):
        sets = outputs.features(EMBEDDED.open)
        generated, real = (sets.of(images).logits for images in (ImageSet.generated, ImageSet.real_of_pairs))
        stated = {**description, "attributes": ", ".join(classifier.attributes)}
        scores.add_per_image("attributes_embedded", classifier.agreement(generated, real).numpy(), stated)
    if scores.wanted("pckh_embedded"):
        metrics = ("pckh_embedded", "pckh_embedded_real")
        _add_pckh(scores, outputs.test, metrics, outputs.poses_embedded, network_description("pose"))


def _add_pckh(
    scores: Scores, test: ScoredPairs, metrics: tuple[str, str], found: tuple[Poses, Poses], network: dict[str, str]
) -> None:
    """PCKh of the poses found in generated and in real images, in this order, pooled over all joints."""
    rule, target_poses = scores.protocol.pckh, test.split.poses[test.target_rows]
    description = scores.described(rule, **network, value="pooled over joints")
    for metric, poses in zip(metrics, found, strict=True):
        correct, total = pckh(poses, target_poses, rule.tolerance, rule.head_joints_needed)
        with np.errstate(invalid="ignore"):
            per_image = correct / total  # NaN where the target shows no head box
            pooled = correct.sum() / total.sum()
        left_out = "the target pose shows fewer than two head joints"
        scores.add_per_image(metric, per_image, description, nan_means=left_out, value=float(pooled))
