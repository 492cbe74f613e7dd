"""What the learned networks see in a set of test pairs, each run once however many protocols ask.

Networks cost far more than any formula on their output, and most of what they say is the same under every protocol.
"""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xinggan.metrics.images import ImageSet, ScoredPairs
from xinggan.metrics.perceptual import open_lpips
from xinggan.metrics.set_scores import Family, SetFeatures
from xinggan.progress import Progress
from xinggan.weights_files import MetricUnavailable

if TYPE_CHECKING:
    from xinggan.data.estimators import IdentifiedEstimator
    from xinggan.metrics.embedded.architectures import AttributeClassifier

Measure = Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]]  # generated, target, mask -> metric: [B]


def compare(
    test: ScoredPairs, measure: Measure, description: str, device: torch.device | str
) -> dict[str, NDArray[np.float64]]:
    """`measure` over all pairs, a batch at a time: metric -> [n]."""
    columns: dict[str, list[Tensor]] = {}
    with Progress(description, len(test), "pairs") as progress:
        for generated, target, mask in test.blocks(device):
            for metric, values in measure(generated, target, mask).items():
                columns.setdefault(metric, []).append(values.double().cpu())
            progress.update(len(generated))
    return {metric: torch.cat(blocks).numpy() for metric, blocks in columns.items()}


class Readings:
    """Everything that depends on the images and a network alone; computed when first asked for, then kept."""

    def __init__(
        self,
        test: ScoredPairs,
        training: ImageSet | None,
        device: torch.device | str,
        estimator: "IdentifiedEstimator | None" = None,
    ):
        self.test, self.training, self.device, self.estimator = test, training, device, estimator
        self._lpips: dict[str, tuple[NDArray[np.float64], dict[str, str]]] = {}
        self._sets: dict[str, SetFeatures | MetricUnavailable] = {}

    def lpips(self, network: str) -> tuple[NDArray[np.float64], dict[str, str]]:
        """Distance of each pair [n], and which weights it was computed with. Raises MetricUnavailable."""
        if network not in self._lpips:
            distance = open_lpips(network, self.device)
            per_image = compare(
                self.test, lambda generated, target, _: {"lpips": distance(generated, target)}, "LPIPS", self.device
            )
            self._lpips[network] = per_image["lpips"], distance.weights
        return self._lpips[network]

    def sets(self, family: Family) -> SetFeatures | MetricUnavailable:
        """The features of a family's network, or why there are none."""
        if family.score not in self._sets:
            try:
                self._sets[family.score] = SetFeatures(family, self.test, self.training, self.device)
            except MetricUnavailable as reason:
                self._sets[family.score] = reason
        return self._sets[family.score]

    @cached_property
    def classifier(self) -> "AttributeClassifier":
        """The embedded attribute classifier on the device."""
        from xinggan.metrics.embedded.networks import load_embedded

        return load_embedded("attributes")[0].to(self.device)

    @cached_property
    def perceptual_embedded(self) -> NDArray[np.float64]:
        """Distance of each pair in the embedded classifier's features [n]."""
        from xinggan.metrics.embedded.scoring import perceptual_distance

        def measure(generated: Tensor, target: Tensor, _: Tensor) -> dict[str, Tensor]:
            return {"distance": perceptual_distance(self.classifier, generated, target)}

        return compare(self.test, measure, "embedded perceptual distance", self.device)["distance"]

    @cached_property
    def poses_found(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What the estimator, which must have been given, finds in each pair's generated and real image, [n, 18, 3]."""
        assert self.estimator is not None
        targets, place, _ = self.test.real_targets()
        sets = {"poses of generated images": self.test.generated_images(), "poses of real images": targets}
        found = []
        for description, images in sets.items():
            poses = []
            with Progress(description, len(images), "images") as progress:
                for batch in images.batches():
                    poses.append(self.estimator.estimate(batch.permute(0, 2, 3, 1).contiguous().numpy())[0])
                    progress.update(len(batch))
            found.append(np.concatenate(poses))
        return found[0], found[1][place]

    @cached_property
    def poses_embedded(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What the embedded pose estimator finds in each pair's generated and real image, [n, 18, 3] each."""
        from xinggan.metrics.embedded.networks import load_embedded
        from xinggan.metrics.embedded.scoring import estimate_poses

        estimator = load_embedded("pose")[0].to(self.device)
        targets, place, _ = self.test.real_targets()
        generated = estimate_poses(estimator, self.test.generated_images(), self.device, "poses of generated images")
        real = estimate_poses(estimator, targets, self.device, "poses of real images")
        return generated.numpy(), real.numpy()[place]
