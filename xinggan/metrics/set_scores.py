"""Metrics of whole sets, from extracting features to recorded values, for the Inception and the embedded network alike.

Three sets are looked at, each once: the generated images, the distinct real targets of the scored pairs, and the
distinct training images. Where many pairs share a target, precision and recall take the first pair of each target only:
images that repeat would be one another's nearest neighbours, and every manifold would shrink to points.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
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
from xinggan.weights_files import MetricUnavailable

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


class SetFeatures:
    """A feature network's features of the sets it is asked about, each extracted once, for however many protocols.

    Raises MetricUnavailable when the network's weights are not at hand.
    """

    def __init__(self, family: Family, test: ScoredPairs, training: ImageSet | None, device: torch.device | str):
        self.extractor = family.open(device)
        self.test, self.training_images, self.device = test, training, device

    @cached_property
    def generated(self) -> Features:
        """Of one image for each scored pair."""
        return extract(self.extractor, self.test.generated_images(), self.device, GENERATED)

    @cached_property
    def masked(self) -> Features:
        """Of the same images, black outside the body masks."""
        return extract(self.extractor, self.test.generated_images(masked=True), self.device, MASKED)

    @cached_property
    def real(self) -> Features:
        """Of the distinct real targets."""
        return extract(self.extractor, self.test.real_targets()[0], self.device, REAL_TARGETS)

    @cached_property
    def training(self) -> Features:
        """Of the training images, which must have been given."""
        assert self.training_images is not None
        return extract(self.extractor, self.training_images, self.device, TRAINING_IMAGES)

    @property
    def generated_once(self) -> Features:
        """Of the first generated image of each distinct target."""
        return self.generated.at(self.test.real_targets()[2], FIRST_GENERATED)

    @property
    def real_of_pairs(self) -> Features:
        """Of the real target of each scored pair."""
        return self.real.at(self.test.real_targets()[1], REPEATED_TARGETS)


def score_sets(scores: Scores, family: Family, sets: SetFeatures | MetricUnavailable, protocol: Protocol) -> None:
    """Record those of a family's metrics that the protocol defines, or why the network cannot give them."""
    wanted = [metric for metric in family.metrics if metric in protocol.metrics]
    if not wanted:
        return
    description = described(protocol, library=f"torch-fidelity {version('torch-fidelity')}")
    if isinstance(sets, MetricUnavailable):
        scores.add_unavailable(wanted, str(sets), description)
        return
    description |= sets.extractor.description
    alone: dict[str | None, Callable[[], Features]] = {
        family.score: lambda: sets.generated,
        f"{family.score}_real": lambda: sets.real_of_pairs,
        family.masked_score: lambda: sets.masked,
    }
    for metric in (metric for metric in alone if metric in wanted):
        features = alone[metric]()
        groups = [protocol.inception_score, *([protocol.mask] if metric == family.masked_score else [])]
        stated = described(protocol, *groups, images=features.of) | description
        compute = partial(inception_score, sets.extractor.class_logits(features.logits), protocol.inception_score)
        scores.attempt([metric], compute, stated, len(features))

    compared = {suffix: [name + suffix for name in family.compared if name + suffix in wanted] for suffix in REFERENCES}
    if compared[""]:
        _compare(scores, family, "", (sets.generated, sets.generated_once), sets.real, protocol, description)
    if sets.training_images is None:
        scores.add_unavailable(compared["_train"] + compared["_real"], NO_TRAINING_IMAGES, description)
        return
    if compared["_train"]:
        pairs_and_once = (sets.generated, sets.generated_once)
        _compare(scores, family, "_train", pairs_and_once, sets.training, protocol, description)
    if compared["_real"]:
        _compare(scores, family, "_real", (sets.real, sets.real), sets.training, protocol, description)


def _compare(
    scores: Scores,
    family: Family,
    suffix: str,
    images: tuple[Features, Features],
    reference: Features,
    protocol: Protocol,
    description: dict[str, Any],
) -> None:
    """Record the metrics of `images`, all and those without repeats, against `reference`."""
    (a, once), b = (features.pooled for features in images), reference.pooled
    description = {**description, "images": images[0].of, "reference": reference.of, "reference_images": len(b)}
    frechet, kernel, precision, recall = (name + suffix for name in family.compared)
    scores.attempt([frechet], lambda: frechet_distance(a, b), description, len(a))

    fitted = fit_to_samples(protocol.kernel, len(a), len(b))
    scores.attempt([kernel], lambda: kernel_distance(a, b, fitted), described(protocol, fitted) | description, len(a))

    stated = described(protocol, protocol.manifold) | description | {"images": images[1].of}
    scores.attempt([precision, recall], lambda: precision_and_recall(once, b, protocol.manifold), stated, len(once))
