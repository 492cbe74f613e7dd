"""Metrics of whole sets, from extracting features to recorded values, for the Inception and the embedded network alike.

Three sets are looked at, each once: the generated images, the distinct real targets of the scored pairs, and the
distinct training images. Where many pairs share a target, precision and recall take the first pair of each target only:
images that repeat would be one another's nearest neighbours, and every manifold would shrink to points.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import torch

from xinggan.metrics.catalogue import REFERENCES
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

GENERATED = "generated images, one for each scored pair"
MASKED = "generated images inside the body masks"
FIRST_GENERATED = "generated images of the first scored pair of each distinct target"
REPEATED_TARGETS = "real targets, one for each scored pair"
REAL_TARGETS = "distinct real targets of the scored pairs"
TRAINING_IMAGES = "distinct images of the training pairs"
NO_TRAINING_IMAGES = "no training images were given"


@dataclass(frozen=True)
class Family:
    """The catalogue's names for the set metrics of one feature network."""

    open: Callable[[torch.device | str], Extractor]
    score: str  # Inception score
    masked_score: str | None  # the same inside body masks
    compared: tuple[str, str, str, str]  # Fréchet and kernel distance, precision, recall

    @property
    def metrics(self) -> list[str]:
        """All names, with their references."""
        alone = [self.score, f"{self.score}_real", *([self.masked_score] if self.masked_score else [])]
        return alone + [name + suffix for suffix in REFERENCES for name in self.compared]


def _open_embedded(device: torch.device | str) -> Extractor:
    from xinggan.metrics.embedded.scoring import open_embedded_extractor

    return open_embedded_extractor(device)


INCEPTION = Family(open_inception, "is", "mask_is", ("fid", "kid", "precision", "recall"))
EMBEDDED = Family(
    _open_embedded, "is_embedded", None, ("fd_embedded", "kd_embedded", "precision_embedded", "recall_embedded")
)


def score_sets(
    scores: Scores,
    family: Family,
    test: ScoredPairs,
    training: ImageSet | None,
    protocol: Protocol,
    device: torch.device | str,
) -> tuple[Features, Features] | None:
    """Record those of a family's metrics that the protocol defines.

    Returns the features of each pair's generated and real image; None where no metric or no network is there.
    """
    wanted = [metric for metric in family.metrics if metric in protocol.metrics]
    if not wanted:
        return None
    description = described(protocol, library=f"torch-fidelity {version('torch-fidelity')}")
    try:
        extractor = family.open(device)
    except MetricUnavailable as reason:
        scores.add_unavailable(wanted, str(reason), description)
        return None
    description |= extractor.description
    generated = extract(extractor, test.generated_images(), device, GENERATED)
    targets, place, first = test.real_targets()
    real = extract(extractor, targets, device, REAL_TARGETS)
    real_of_pairs = real.at(place, REPEATED_TARGETS)

    alone = {family.score: generated, f"{family.score}_real": real_of_pairs}
    if family.masked_score in wanted:
        alone[family.masked_score] = extract(extractor, test.generated_images(masked=True), device, MASKED)
    for metric, features in ((metric, alone[metric]) for metric in alone if metric in wanted):
        groups = [protocol.inception_score, *([protocol.mask] if metric == family.masked_score else [])]
        stated = described(protocol, *groups, images=features.of) | description
        compute = partial(inception_score, extractor.class_logits(features.logits), protocol.inception_score)
        scores.attempt([metric], compute, stated, len(features))

    once = generated.at(first, FIRST_GENERATED)
    _compare(scores, family, "", (generated, once), real, protocol, description)
    compared = [name + suffix for suffix in ("_train", "_real") for name in family.compared if name + suffix in wanted]
    if training is None:
        scores.add_unavailable(compared, NO_TRAINING_IMAGES, description)
    elif compared:
        trained = extract(extractor, training, device, TRAINING_IMAGES)
        _compare(scores, family, "_train", (generated, once), trained, protocol, description)
        _compare(scores, family, "_real", (real, real), trained, protocol, description)
    return generated, real_of_pairs


def _compare(
    scores: Scores,
    family: Family,
    suffix: str,
    images: tuple[Features, Features],
    reference: Features,
    protocol: Protocol,
    description: dict[str, Any],
) -> None:
    """Record the metrics of `images`, all and those without repeats, against `reference`, if the protocol has them."""
    if family.compared[0] + suffix not in protocol.metrics:
        return
    (a, once), b = (features.pooled for features in images), reference.pooled
    description = {**description, "images": images[0].of, "reference": reference.of, "reference_images": len(b)}
    frechet, kernel, precision, recall = (name + suffix for name in family.compared)
    scores.attempt([frechet], lambda: frechet_distance(a, b), description, len(a))

    fitted = fit_to_samples(protocol.kernel, len(a), len(b))
    scores.attempt([kernel], lambda: kernel_distance(a, b, fitted), described(protocol, fitted) | description, len(a))

    stated = described(protocol, protocol.manifold) | description | {"images": images[1].of}
    scores.attempt([precision, recall], lambda: precision_and_recall(once, b, protocol.manifold), stated, len(once))
