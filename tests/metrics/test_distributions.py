"""Distances of sets agree with closed forms and with torch-fidelity called the usual way."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from xinggan.metrics.distributions import (
    fit_to_samples,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_and_recall,
)
from xinggan.metrics.protocol import CLEAN, InceptionScoreSettings, KernelSettings
from xinggan.weights_files import MetricUnavailable


def gaussian_features(seed: int, count: int, mean: float = 0.0, scale: float = 1.0, width: int = 12) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * scale + mean


def test_frechet_distance_equals_the_formula_with_a_matrix_square_root():
    a, b = gaussian_features(0, 300), gaussian_features(1, 200, mean=0.5, scale=1.7)
    x, y = a.double().numpy(), b.double().numpy()
    root = sqrtm(np.cov(x, rowvar=False) @ np.cov(y, rowvar=False)).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(
        np.cov(x, rowvar=False) + np.cov(y, rowvar=False) - 2 * root
    )
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)


def test_frechet_distance_of_shifted_features_is_the_squared_shift():
    a = gaussian_features(2, 500)
    assert frechet_distance(a, a + 3.0) == pytest.approx(9.0 * a.shape[1], rel=1e-4)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-4)


def test_inception_score_of_certain_evenly_spread_predictions_is_the_number_of_classes():
    logits = torch.eye(5).repeat(200, 1) * 100
    assert inception_score(logits, InceptionScoreSettings(splits=1)) == pytest.approx(5.0, rel=1e-6)
    assert inception_score(torch.zeros(40, 5), CLEAN.inception_score) == pytest.approx(1.0)


def test_kernel_distance_equals_the_unbiased_estimator_summed_pair_by_pair():
    a, b = gaussian_features(3, 40), gaussian_features(4, 40, mean=1.0)
    x, y = a.double().numpy(), b.double().numpy()

    def kernel(u, v):
        return (u @ v / len(u) + 1.0) ** 3

    n = len(x)
    within = sum(kernel(s[i], s[j]) for s in (x, y) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    between = sum(kernel(u, v) for u in x for v in y) / n**2
    used = fit_to_samples(CLEAN.kernel, 40, 40)
    assert kernel_distance(a, b, used) == pytest.approx(within - 2 * between, rel=1e-4)


def test_the_kernels_subsets_shrink_to_the_smaller_set_and_say_so():
    assert fit_to_samples(CLEAN.kernel, 5000, 3000) == CLEAN.kernel
    assert fit_to_samples(CLEAN.kernel, 60, 3000).subset_size == 60
    assert fit_to_samples(CLEAN.kernel, 60, 3000).subsets == CLEAN.kernel.subsets
    assert fit_to_samples(CLEAN.kernel, 60, 60) == KernelSettings(subsets=1, subset_size=60)


def test_precision_and_recall_of_disjoint_and_of_nested_sets():
    a = gaussian_features(5, 400)
    assert precision_and_recall(a + 100, a, CLEAN.manifold) == (0.0, 0.0)
    precision, recall = precision_and_recall(a * 0.05, a, CLEAN.manifold)  # a cluster in the middle of the reference
    assert precision > 0.95
    assert recall < 0.05


def test_precision_does_not_depend_on_how_many_distances_are_held_at_once(monkeypatch):
    a, b = gaussian_features(6, 150), gaussian_features(7, 130, mean=0.3)
    whole = precision_and_recall(a, b, CLEAN.manifold)
    monkeypatch.setattr("xinggan.metrics.distributions.DISTANCES_AT_ONCE", 17)
    assert precision_and_recall(a, b, CLEAN.manifold) == pytest.approx(whole)


@pytest.mark.parametrize(
    "compute",
    [
        lambda few, many: frechet_distance(few[:1], many),
        lambda few, many: precision_and_recall(few, many, CLEAN.manifold),
        lambda few, many: inception_score(few, CLEAN.inception_score),
        lambda few, many: kernel_distance(few[:1], many, fit_to_samples(CLEAN.kernel, 1, len(many))),
    ],
)
def test_too_few_images_are_a_reason_not_a_number(compute):
    with pytest.raises(MetricUnavailable):
        compute(gaussian_features(8, 3), gaussian_features(9, 50))
