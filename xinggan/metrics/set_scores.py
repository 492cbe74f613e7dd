"""Metrics of whole sets of images: Inception score, Fréchet and kernel distance, precision and recall.

The formulas are torch-fidelity's. The features are extracted here: its own entry points compare two sets a call,
extract a set anew for every selection of it, and cache features on disk under a name that does not depend on the
images. Here a network sees each set once, for all metrics, protocols and reference sets. The Inception network (IS,
FID, KID, ...), torchvision's Inception (fid_imagenet) and the embedded attribute classifier (is_embedded, fd_embedded,
...) go the same way.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xinggan.metrics.images import ScoredPairs, computed_once, image_batches
from xinggan.metrics.networks import FeatureNetwork, open_embedded, open_imagenet_inception, open_inception
from xinggan.metrics.protocol import InceptionScoreSettings, KernelSettings, ManifoldSettings
from xinggan.metrics.values import Scores
from xinggan.torchvision_operators import import_torchvision
from xinggan.weights_files import MetricUnavailable

if TYPE_CHECKING:
    from xinggan.data.packed import PackedSplit

DISTANCES_AT_ONCE = 2000  # rows of precision and recall's distance matrix in memory: 96 MB against 12,000 images
Open = Callable[[torch.device | str], FeatureNetwork]  # raises MetricUnavailable


class ImageSet(StrEnum):
    """The sets of images that metrics ask about, as a value's protocol calls them."""

    generated = "generated images, one for each scored pair"
    generated_once = "generated images of the first scored pair of each distinct target"
    masked = "generated images inside the body masks"
    real = "distinct real targets of the scored pairs"
    real_of_pairs = "real targets, one for each scored pair"
    training = "distinct images of the training pairs"
    training_list = "all images of the training list"


class Comparison(NamedTuple):
    """Two sets and the names of the metrics that compare them.

    Precision and recall take each target's first pair only: images that repeat would be one another's nearest
    neighbours, and every manifold would shrink to points.
    """

    metrics: list[str]  # Fréchet distance; where the network has them, kernel distance, precision and recall too
    images: ImageSet
    once: ImageSet  # `images` for precision and recall
    reference: ImageSet


def all_comparisons(*names: str) -> list[Comparison]:
    """Comparisons for metrics that exist with every reference of the catalogue."""
    compared = {
        "": (ImageSet.generated, ImageSet.generated_once, ImageSet.real),
        "_train": (ImageSet.generated, ImageSet.generated_once, ImageSet.training),
        "_real": (ImageSet.real, ImageSet.real, ImageSet.training),
    }
    return [Comparison([name + suffix for name in names], *sets) for suffix, sets in compared.items()]


@dataclass(frozen=True)
class Family:
    """A feature network and the metrics of the catalogue that it gives."""

    open: Open
    inception_scores: dict[str, ImageSet]
    comparisons: list[Comparison]

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics."""
        return [*self.inception_scores, *(name for comparison in self.comparisons for name in comparison.metrics)]


INCEPTION = Family(
    open_inception,
    {"is": ImageSet.generated, "is_real": ImageSet.real_of_pairs, "mask_is": ImageSet.masked},
    all_comparisons("fid", "kid", "precision", "recall"),
)
IMAGENET = Family(
    open_imagenet_inception,
    {},
    [Comparison(["fid_imagenet"], ImageSet.generated, ImageSet.generated_once, ImageSet.training_list)],
)
EMBEDDED = Family(
    open_embedded,
    {"is_embedded": ImageSet.generated, "is_embedded_real": ImageSet.real_of_pairs},
    all_comparisons("fd_embedded", "kd_embedded", "precision_embedded", "recall_embedded"),
)


class Features(NamedTuple):
    """Outputs of a feature network for the n images of a set: float32 on the CPU."""

    pooled: Tensor  # [n, d]
    logits: Tensor  # [n, k]

    def at(self, rows: NDArray[np.integer]) -> "Features":
        """The outputs for these of the images."""
        return Features(self.pooled[rows], self.logits[rows])


class SetFeatures:
    """A network's features of the sets that metrics ask about, each extracted once, when first asked for."""

    def __init__(
        self, network: FeatureNetwork, test: ScoredPairs, train_split: "PackedSplit | None", device: torch.device | str
    ):
        self.network, self.test, self.train_split, self.device = network, test, train_split, device
        self.of = cache(self._extract)  # raises MetricUnavailable for training images where no training split was given

    @torch.inference_mode()
    def _extract(self, images: ImageSet) -> Features:
        test, name = self.test, f"features of {images}"
        targets, first_pairs, target_of_pair = test.distinct_targets
        match images:
            case ImageSet.generated_once:
                return self.of(ImageSet.generated).at(first_pairs)
            case ImageSet.real_of_pairs:
                return self.of(ImageSet.real).at(target_of_pair)
            case ImageSet.generated:
                return self._outputs(image_batches(test.generated, np.arange(len(test)), self.device, name))
            case ImageSet.masked:
                return self._outputs(inside * mask for inside, _, mask in test.batches(self.device, name))
            case ImageSet.real:
                array, rows = test.split.images, targets
            case ImageSet.training | ImageSet.training_list:
                if self.train_split is None:
                    raise MetricUnavailable("no training images were given")
                array, paired = self.train_split.images, images == ImageSet.training
                rows = np.unique(self.train_split.pairs) if paired else np.arange(len(array))
        network = f"{self.network.description} on {self.device}"
        return computed_once(network, array, rows, lambda: self._outputs(image_batches(array, rows, self.device, name)))

    def _outputs(self, batches: Iterable[Tensor]) -> Features:
        outputs = [[output.float().cpu() for output in self.network.extract(batch)] for batch in batches]
        return Features(*(torch.cat(parts) for parts in zip(*outputs, strict=True)))


def inception_score(logits: Tensor, settings: InceptionScoreSettings) -> float:
    """Mean over splits of exp(KL(p(y|x) || p(y))) (Salimans et al., 2016). logits: [n, classes]."""
    import_torchvision()
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

    if len(logits) < settings.splits:
        raise MetricUnavailable(f"{len(logits)} images cannot be divided into {settings.splits} splits")
    return isc_features_to_metric(logits, settings.splits, True, settings.shuffle_seed)[KEY_METRIC_ISC_MEAN]


def frechet_distance(features: Tensor, reference: Tensor) -> float:
    """Fréchet distance of two Gaussians fitted to [n, d] and [m, d] (Heusel et al., 2017)."""
    import_torchvision()
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    if min(len(features), len(reference)) < 2:
        raise MetricUnavailable("a Gaussian cannot be fitted to fewer than 2 images")
    statistics = (fid_features_to_statistics(each) for each in (features, reference))
    return fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]


def fit_to_samples(settings: KernelSettings, count: int, reference_count: int) -> KernelSettings:
    """The settings with a subset size that both sets can fill; a single subset where it takes both sets whole."""
    subset_size = min(settings.subset_size, count, reference_count)
    subsets = 1 if subset_size == count == reference_count else settings.subsets
    return replace(settings, subset_size=subset_size, subsets=subsets)


def kernel_distance(features: Tensor, reference: Tensor, settings: KernelSettings) -> float:
    """Unbiased squared MMD with a polynomial kernel, mean over subsets (Bińkowski et al., 2018). May fall below 0."""
    import_torchvision()
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    if settings.subset_size < 2:
        raise MetricUnavailable("a kernel distance needs at least 2 images in each set")
    options = {"kid_subsets": settings.subsets, "kid_subset_size": settings.subset_size, "rng_seed": settings.seed}
    kernel = {"kid_kernel_poly_degree": settings.degree, "kid_kernel_poly_coef0": settings.offset}
    return kid_features_to_metric(features, reference, verbose=False, **options, **kernel)[KEY_METRIC_KID_MEAN]


def precision_and_recall(features: Tensor, reference: Tensor, settings: ManifoldSettings) -> tuple[float, float]:
    """Share of `features` inside the reference's manifold, and the reverse (Kynkäänniemi et al., 2019)."""
    import_torchvision()
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    if min(len(features), len(reference)) <= settings.neighbourhood:
        raise MetricUnavailable(f"{settings.neighbourhood} nearest neighbours need more images than that in each set")
    options = {"prc_neighborhood": settings.neighbourhood, "prc_batch_size": DISTANCES_AT_ONCE, "save_cpu_ram": True}
    values = prc_features_to_metric(features, reference, verbose=False, **options)
    return values[KEY_METRIC_PRECISION], values[KEY_METRIC_RECALL]


def score_sets(scores: Scores, family: Family, features: Callable[[Open], SetFeatures]) -> None:
    """Record those of a family's metrics that the protocol defines, or why there is no value. `features` gives the sets
    as a network sees them, or raises MetricUnavailable."""
    if not scores.wanted(*family.metrics):
        return
    protocol, description = scores.protocol, scores.described(library=f"torch-fidelity {version('torch-fidelity')}")
    try:
        sets = features(family.open)
    except MetricUnavailable as reason:
        scores.add_unavailable(family.metrics, str(reason), description)
        return
    description |= sets.network.description

    for metric, images in family.inception_scores.items():
        if scores.wanted(metric):
            logits = sets.network.class_logits(sets.of(images).logits)
            masks = [protocol.mask] if images == ImageSet.masked else []
            stated = scores.described(protocol.inception_score, *masks, images=images.value) | description
            scores.attempt([metric], partial(inception_score, logits, protocol.inception_score), stated, len(logits))

    for metrics, images, once, reference in family.comparisons:
        if not scores.wanted(*metrics):
            continue
        try:
            b = sets.of(reference).pooled
        except MetricUnavailable as reason:
            scores.add_unavailable(metrics, str(reason), description)
            continue
        a, stated = sets.of(images).pooled, description | {"reference": reference.value, "reference_images": len(b)}
        frechet, *others = metrics
        scores.attempt([frechet], partial(frechet_distance, a, b), stated | {"images": images.value}, len(a))
        if others:
            kernel, *manifold = others
            fitted = fit_to_samples(protocol.kernel, len(a), len(b))
            described = scores.described(fitted, images=images.value) | stated
            scores.attempt([kernel], partial(kernel_distance, a, b, fitted), described, len(a))
            a = sets.of(once).pooled
            described = scores.described(protocol.manifold, images=once.value) | stated
            scores.attempt(manifold, partial(precision_and_recall, a, b, protocol.manifold), described, len(a))
