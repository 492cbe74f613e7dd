"""Metrics of whole sets, from extracting features to recorded values, for the Inception and the embedded network alike.

Three sets are looked at: the generated images, the distinct real targets of the scored pairs, and the distinct training
images. Each is extracted once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import torch

from xinggan.metrics.catalogue import METRICS, REFERENCES
from xinggan.metrics.distributions import (
    fit_to_samples,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_and_recall,
)
from xinggan.metrics.extractors import Extractor, Features, extract, open_inception
from xinggan.metrics.images import ImageSet, ScoredPairs
from xinggan.metrics.protocol import Protocol
from xinggan.metrics.values import Scores, described
from xinggan.metrics.weights_files import MetricUnavailable

REAL_TARGETS = "distinct real targets of the scored pairs"
TRAINING_IMAGES = "distinct images of the training pairs"
NO_TRAINING_IMAGES = "no training images were given"


@dataclass(frozen=True)
class Family:
    """The catalogue's names for the set metrics of one feature network."""

    open: Callable[[torch.device | str], Extractor]
    score: str  # Inception score
    masked_score: str | None  # the same inside body masks
    frechet: str
    kernel: str
    precision: str
    recall: str

    @property
    def metrics(self) -> list[str]:
        """All names, with their references."""
        compared = [self.frechet, self.kernel, self.precision, self.recall]
        alone = [self.score, f"{self.score}_real", *([self.masked_score] if self.masked_score else [])]
        return alone + [metric + suffix for suffix in REFERENCES for metric in compared]


def _open_embedded(device: torch.device | str) -> Extractor:
    from xinggan.metrics.embedded.scoring import open_embedded_extractor

    return open_embedded_extractor(device)


INCEPTION = Family(open_inception, "is", "mask_is", "fid", "kid", "precision", "recall")
EMBEDDED = Family(
    _open_embedded, "is_embedded", None, "fd_embedded", "kd_embedded", "precision_embedded", "recall_embedded"
)


def score_sets(
    scores: Scores,
    family: Family,
    test: ScoredPairs,
    training: ImageSet | None,
    protocol: Protocol,
    device: torch.device | str,
) -> tuple[Features, Features] | None:
    """Record a family's metrics. Returns the features of the generated and of the distinct real images, if any."""
    description = described(protocol, library=f"torch-fidelity {version('torch-fidelity')}")
    try:
        extractor = family.open(device)
    except MetricUnavailable as reason:
        scores.add_unavailable(family.metrics, str(reason), description)
        return None
    description |= extractor.description
    what = METRICS[family.frechet].title
    generated = extract(extractor, test.generated_images(), device, f"{what}: generated images")
    real = extract(extractor, test.real_targets()[0], device, f"{what}: real images")
    trained = None
    if training is not None:
        trained = extract(extractor, training, device, f"{what}: training images")

    score_alone = {family.score: generated, f"{family.score}_real": real}
    if family.masked_score:
        masked = extract(extractor, test.generated_images(masked=True), device, f"{what}: masked images")
        score_alone[family.masked_score] = masked
    for metric, features in score_alone.items():
        groups = [protocol.inception_score, *([protocol.mask] if metric == family.masked_score else [])]
        stated = described(protocol, *groups) | description
        logits = extractor.class_logits(features.logits)
        compute = partial(inception_score, logits, protocol.inception_score)
        scores.attempt([metric], compute, stated, len(logits))

    _compare(scores, family, "", generated, real, protocol, {**description, "reference": REAL_TARGETS})
    for suffix, images in (("_train", generated), ("_real", real)):
        stated = {**description, "reference": TRAINING_IMAGES}
        if trained is None:
            compared = [family.frechet, family.kernel, family.precision, family.recall]
            scores.add_unavailable([metric + suffix for metric in compared], NO_TRAINING_IMAGES, stated)
        else:
            _compare(scores, family, suffix, images, trained, protocol, stated)
    return generated, real


def _compare(
    scores: Scores,
    family: Family,
    suffix: str,
    images: Features,
    reference: Features,
    protocol: Protocol,
    description: dict[str, Any],
) -> None:
    """Record the metrics of `images` against `reference`."""
    a, b = images.pooled, reference.pooled
    description = {**description, "reference_images": len(b)}
    scores.attempt([family.frechet + suffix], lambda: frechet_distance(a, b), description, len(a))

    kernel = fit_to_samples(protocol.kernel, len(a), len(b))
    stated = described(protocol, kernel) | description
    scores.attempt([family.kernel + suffix], lambda: kernel_distance(a, b, kernel), stated, len(a))

    stated = described(protocol, protocol.manifold) | description
    names = [family.precision + suffix, family.recall + suffix]
    scores.attempt(names, lambda: precision_and_recall(a, b, protocol.manifold), stated, len(a))
