"""Metrics of sets agree with closed forms and with torch-fidelity called the usual way."""

import json

import numpy as np
import pytest
import torch
from golden import SALT
from scipy.linalg import sqrtm
from torch.utils.data import Dataset

from xinggan.metrics.images import image_batches
from xinggan.metrics.networks import open_embedded
from xinggan.metrics.protocol import CLEAN, InceptionScoreSettings, KernelSettings
from xinggan.metrics.set_scores import (
    fit_to_samples,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_and_recall,
)
from xinggan.torchvision_operators import import_torchvision
from xinggan.weights_files import MetricUnavailable


def gaussian_features(seed: int, count: int, mean: float = 0.0, scale: float = 1.0, width: int = 12) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * scale + mean


def test_frechet_distance_equals_the_formula_with_a_matrix_square_root():
    a, b = gaussian_features(0, 300), gaussian_features(1, 200, mean=0.5, scale=1.7)
    x, y = a.double().numpy(), b.double().numpy()
    covariances = [np.cov(each, rowvar=False) for each in (x, y)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(sum(covariances) - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(a, a + 3.0) == pytest.approx(9.0 * a.shape[1], rel=1e-4)


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
    assert fit_to_samples(CLEAN.kernel, 60, 3000) == KernelSettings(subset_size=60)
    assert fit_to_samples(CLEAN.kernel, 60, 60) == KernelSettings(subsets=1, subset_size=60)


def test_precision_and_recall_of_disjoint_and_of_nested_sets(monkeypatch):
    a = gaussian_features(5, 400)
    assert precision_and_recall(a + 100, a, CLEAN.manifold) == (0.0, 0.0)
    whole = precision_and_recall(a * 0.05, a, CLEAN.manifold)  # a cluster in the middle of the reference
    assert whole[0] > 0.95
    assert whole[1] < 0.05
    monkeypatch.setattr("xinggan.metrics.set_scores.DISTANCES_AT_ONCE", 17)
    assert precision_and_recall(a * 0.05, a, CLEAN.manifold) == pytest.approx(whole)


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


class Listed(Dataset):
    """Images [n, H, W, 3] as torch-fidelity reads a data set: uint8 [3, H, W] each."""

    def __init__(self, images: np.ndarray):
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[index]


def test_metrics_of_the_embedded_network_equal_torch_fidelity_called_the_usual_way():
    import_torchvision()
    import torch_fidelity
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    network = open_embedded()

    class Registered(FeatureExtractorBase):
        def __init__(self, name, layers, **_):
            super().__init__(name, layers)

        def forward(self, images):
            pooled, logits = network.extract(images)
            provided = {"pooled": pooled, "classes": network.class_logits(logits)}
            return tuple(provided[name] for name in self.features_list)

        @staticmethod
        def get_provided_features_list():
            return ("pooled", "classes")

        @staticmethod
        def get_default_feature_layer_for_metric(metric):
            return "classes" if metric == "isc" else "pooled"

    torch_fidelity.register_feature_extractor("of-the-test", Registered)
    coarse = np.random.default_rng(0).integers(0, 256, (290, 16, 8, 3), dtype=np.uint8)
    sets = (coarse // np.where(np.arange(290) < 150, 1, 2)[:, None, None, None].astype(np.uint8)).repeat(8, 1)
    a, b = np.split(sets.repeat(8, 2), [150])
    options = {"feature_extractor": "of-the-test", "cuda": False, "save_cpu_ram": True, "cache": False}
    direct = torch_fidelity.calculate_metrics(
        input1=Listed(a), input2=Listed(b), isc=True, fid=True, verbose=False, **options
    )
    with torch.inference_mode():
        outputs = [[network.extract(x) for x in image_batches(s, np.arange(len(s)), "cpu", "images")] for s in (a, b)]
    (pooled, logits), (reference, _) = ([torch.cat(parts) for parts in zip(*output, strict=True)] for output in outputs)
    assert frechet_distance(pooled, reference) == pytest.approx(direct["frechet_inception_distance"], rel=1e-3)
    score = inception_score(network.class_logits(logits), CLEAN.inception_score)
    assert score == pytest.approx(direct["inception_score_mean"], rel=1e-4)


def test_frechet_distances_are_those_of_the_published_programs(shared):
    golden = json.loads((shared / "golden" / "cfld_metrics.json").read_text())
    g = torch.Generator().manual_seed(SALT + 2)
    a, m, b, n = (torch.randn(shape, generator=g).double() for shape in ((500, 64), (64, 64), (400, 64), (64, 64)))
    assert frechet_distance(a @ m / 8, b @ n / 8 + 0.5) == pytest.approx(golden["frechet_seeded_64"], rel=1e-8)
    features = np.load(shared / "golden" / "inception_features.npz")
    pairs = [torch.from_numpy(features[name][:, ::8]).double() for name in ("generated", "target")]
    assert frechet_distance(*pairs) == pytest.approx(golden["frechet_pairs_32"], rel=1e-5)
