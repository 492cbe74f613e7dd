"""Metrics of whole sets from features: Inception score, Fréchet and kernel distance, precision and recall.

All are torch-fidelity's, called on features that were extracted once. The same functions serve the Inception network
(IS, FID, KID, ...) and the embedded attribute classifier (is_embedded, fd_embedded, ...).
"""

from dataclasses import replace

from torch import Tensor

from xinggan.metrics.protocol import InceptionScoreSettings, KernelSettings, ManifoldSettings
from xinggan.torchvision_operators import import_torchvision
from xinggan.weights_files import MetricUnavailable

DISTANCES_AT_ONCE = 2000  # rows of precision and recall's distance matrix in memory: 96 MB against 12,000 images


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
