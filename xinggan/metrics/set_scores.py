"""Metrics of whole sets of images: Inception score, Fréchet and kernel distance, precision and recall.

The formulas are torch-fidelity's. The features are extracted here: its own entry points compare two sets a call,
extract a set anew for every selection of it, and cache features on disk under a name that does not depend on the
images. Here a network sees each set once, for all metrics, protocols and reference sets. The Inception network (IS,
FID, KID, ...), the embedded attribute classifier (is_embedded, fd_embedded, ...) and torchvision's Inception
(fid_imagenet) go the same way.

Three sets are looked at: the generated images, the distinct real targets of the scored pairs, and the distinct training
images. Where many pairs share a target, precision and recall take the first pair of each target only: images that
repeat would be one another's nearest neighbours, and every manifold would shrink to points.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xinggan.metrics.catalogue import REFERENCES
from xinggan.metrics.images import ScoredPairs, image_batches
from xinggan.metrics.networks import FeatureNetwork, open_embedded, open_imagenet_inception, open_inception
from xinggan.metrics.protocol import InceptionScoreSettings, KernelSettings, ManifoldSettings
from xinggan.metrics.values import Scores
from xinggan.torchvision_operators import import_torchvision
from xinggan.weights_files import MetricUnavailable

if TYPE_CHECKING:
    from xinggan.data.packed import PackedSplit

DISTANCES_AT_ONCE = 2000  # rows of precision and recall's distance matrix in memory: 96 MB against 12,000 images
Open = Callable[[torch.device | str], FeatureNetwork]  # raises MetricUnavailable


@dataclass(frozen=True)
class Family:
    """A feature network and the catalogue's names for the metrics that it gives."""

    open: Open
    score: str  # Inception score
    masked_score: str | None  # the same inside body masks
    compared: tuple[str, str, str, str]  # Fréchet and kernel distance, precision, recall

    @property
    def metrics(self) -> list[str]:
        """All names, with their references."""
        alone = [self.score, f"{self.score}_real", *([self.masked_score] if self.masked_score else [])]
        return alone + [name + suffix for suffix in REFERENCES for name in self.compared]


INCEPTION = Family(open_inception, "is", "mask_is", ("fid", "kid", "precision", "recall"))
EMBEDDED = Family(
    open_embedded, "is_embedded", None, ("fd_embedded", "kd_embedded", "precision_embedded", "recall_embedded")
)


class Features(NamedTuple):
    """What a feature network says about the n images of a set."""

    label: str  # which images these are, for protocols and progress
    pooled: Tensor  # [n, d] float32, on the CPU
    logits: Tensor  # [n, k] float32

    def at(self, rows: NDArray[np.integer], label: str) -> "Features":
        """The features of these images, as a set of its own."""
        return Features(label, self.pooled[rows], self.logits[rows])


class SetFeatures:
    """A network's features of the sets that metrics ask about, each extracted once, when first asked for."""

    def __init__(
        self,
        network: FeatureNetwork,
        test: ScoredPairs,
        train_split: "PackedSplit | None",
        device: torch.device | str = "cpu",
    ):
        self.network, self.test, self.train_split, self.device = network, test, train_split, device

    @cached_property
    def generated(self) -> Features:
        """Of one image for each scored pair."""
        every = np.arange(len(self.test))
        return self._features("generated images, one for each scored pair", self.test.generated, every)

    @property
    def generated_once(self) -> Features:
        """Of the first generated image of each distinct target."""
        label = "generated images of the first scored pair of each distinct target"
        return self.generated.at(self.test.distinct_targets[1], label)

    @cached_property
    def masked(self) -> Features:
        """Of the generated images, black outside the body masks."""
        label = "generated images inside the body masks"
        batches = self.test.batches(self.device, f"features of {label}")
        return self._extract(label, (generated * mask for generated, _, mask in batches))

    @cached_property
    def real(self) -> Features:
        """Of the distinct real targets."""
        label = "distinct real targets of the scored pairs"
        return self._features(label, self.test.split.images, self.test.distinct_targets[0])

    @property
    def real_of_pairs(self) -> Features:
        """Of the real target of each scored pair."""
        return self.real.at(self.test.distinct_targets[2], "real targets, one for each scored pair")

    @cached_property
    def training(self) -> Features:
        """Of the distinct images of the training pairs. Raises MetricUnavailable where no training split was given."""
        split = self._training_split()
        return self._features("distinct images of the training pairs", split.images, np.unique(split.pairs))

    @cached_property
    def training_list(self) -> Features:
        """Of all images of the training list. Raises MetricUnavailable where no training split was given."""
        images = self._training_split().images
        return self._features("all images of the training list", images, np.arange(len(images)))

    def _training_split(self) -> "PackedSplit":
        if self.train_split is None:
            raise MetricUnavailable("no training images were given")
        return self.train_split

    def _features(self, label: str, images: NDArray[np.uint8], rows: NDArray[np.integer]) -> Features:
        return self._extract(label, image_batches(images, rows, self.device, f"features of {label}"))

    @torch.inference_mode()
    def _extract(self, label: str, batches: Iterator[Tensor]) -> Features:
        outputs = [[output.float().cpu() for output in self.network.extract(batch)] for batch in batches]
        pooled, logits = (torch.cat(parts) for parts in zip(*outputs, strict=True))
        return Features(label, pooled, logits)


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

    one_set: dict[str | None, Callable[[], Features]] = {
        family.score: lambda: sets.generated,
        f"{family.score}_real": lambda: sets.real_of_pairs,
        family.masked_score: lambda: sets.masked,
    }
    for metric in (metric for metric in one_set if metric and scores.wanted(metric)):
        images = one_set[metric]()
        groups = [protocol.inception_score, *([protocol.mask] if metric == family.masked_score else [])]
        stated = scores.described(*groups, images=images.label) | description
        logits = sets.network.class_logits(images.logits)
        scores.attempt([metric], partial(inception_score, logits, protocol.inception_score), stated, len(logits))

    compared: dict[str, Callable[[], tuple[Features, Features, Features]]] = {
        "": lambda: (sets.real, sets.generated, sets.generated_once),
        "_train": lambda: (sets.training, sets.generated, sets.generated_once),
        "_real": lambda: (sets.training, sets.real, sets.real),
    }
    for suffix, features_of in compared.items():
        frechet, kernel, precision, recall = metrics = [name + suffix for name in family.compared]
        if not scores.wanted(*metrics):
            continue
        try:
            reference, images, once = features_of()
        except MetricUnavailable as reason:
            scores.add_unavailable(metrics, str(reason), description)
            continue
        a, b, count = images.pooled, reference.pooled, len(images.pooled)
        stated = {**description, "images": images.label, "reference": reference.label, "reference_images": len(b)}
        scores.attempt([frechet], partial(frechet_distance, a, b), stated, count)
        fitted = fit_to_samples(protocol.kernel, count, len(b))
        scores.attempt([kernel], partial(kernel_distance, a, b, fitted), scores.described(fitted) | stated, count)
        stated = scores.described(protocol.manifold) | stated | {"images": once.label}
        compute = partial(precision_and_recall, once.pooled, b, protocol.manifold)
        scores.attempt([precision, recall], compute, stated, len(once.pooled))


def score_fid_imagenet(scores: Scores, features: Callable[[Open], SetFeatures]) -> None:
    """Record the FID of the tables of GFLA, PIDM and CFLD if the protocol defines it, or why there is no value."""
    if not scores.wanted("fid_imagenet"):
        return
    stated = scores.described(library=f"torch-fidelity {version('torch-fidelity')}")
    try:
        sets = features(open_imagenet_inception)
        reference = sets.training_list
    except MetricUnavailable as reason:
        scores.add_unavailable(["fid_imagenet"], str(reason), stated)
        return
    images, a, b = sets.generated, sets.generated.pooled, reference.pooled
    stated |= {"images": images.label, "reference": reference.label, "reference_images": len(b)}
    stated |= sets.network.description
    scores.attempt(["fid_imagenet"], partial(frechet_distance, a, b), stated, len(a))
