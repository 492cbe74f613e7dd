"""The embedded networks as metrics: a perceptual distance, a feature extractor for torch-fidelity, and found poses.

They know synthetic people only. Their metrics have names of their own, and each value carries the weights' hash.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from xinggan.metrics.embedded.architectures import AttributeClassifier, PoseEstimator, to_network_size
from xinggan.metrics.embedded.networks import load_embedded, training_record
from xinggan.metrics.extractors import Extractor
from xinggan.metrics.images import ImageSet
from xinggan.progress import Progress
from xinggan.torchvision_operators import import_torchvision

import_torchvision()
from torch_fidelity import register_feature_extractor  # noqa: E402  (imports torchvision)
from torch_fidelity.feature_extractor_base import FeatureExtractorBase  # noqa: E402

EXTRACTOR = "embedded-attributes"
CLOTHES = ("upper_colour", "lower_colour")  # the inception score is over their combinations


class EmbeddedFeatures(FeatureExtractorBase):
    """The embedded attribute classifier as torch-fidelity wants a feature extractor: uint8 images -> named features."""

    def __init__(self, name: str, features_list: list[str], **_: Any):
        super().__init__(name, features_list)
        self.classifier, self.sha256 = load_embedded("attributes")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 [B, 3, H, W] -> the requested features, [B, 128], [B, 80] or [B, classes of all attributes]."""
        pooled, logits = self.classifier(to_network_size(images))
        provided = {"pooled": pooled, "clothes": clothes_logits(self.classifier, logits), "attributes": logits}
        return tuple(provided[name] for name in self.features_list)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("pooled", "clothes", "attributes")

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "clothes" if metric == "isc" else "pooled"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        return torch.zeros(1, 3, 128, 64, dtype=torch.uint8)


register_feature_extractor(EXTRACTOR, EmbeddedFeatures)


def clothes_logits(classifier: AttributeClassifier, logits: Tensor) -> Tensor:
    """Logits of all attributes [B, classes] -> log-probability of each combination of CLOTHES, [B, combinations]."""
    heads = classifier.by_attribute(logits)
    upper, lower = (heads[name].log_softmax(1) for name in CLOTHES)
    return (upper[:, :, None] + lower[:, None, :]).flatten(1)


def open_embedded_extractor(device: torch.device | str = "cpu") -> Extractor:
    """The classifier's pooled features and its logits of all attributes."""
    network = EmbeddedFeatures(EXTRACTOR, ["pooled", "attributes"]).to(device)
    classifier = network.classifier
    description = {**network_description("attributes"), "feature_layers": f"pooled; {' x '.join(CLOTHES)}"}
    return Extractor(network, description, lambda logits: clothes_logits(classifier, logits))


def network_description(name: str) -> dict[str, str]:
    """What a value's protocol says of an embedded network."""
    record = training_record(name)
    return {
        "network": f"embedded {name}",
        "weights_sha256": record["sha256"],
        "trained_on": f"synthetic people, generator version {record['generator_version']}",
        "input": "resized to 128x64, bilinear",
    }


@torch.inference_mode()
def perceptual_distance(classifier: AttributeClassifier, generated: Tensor, target: Tensor) -> Tensor:
    """Distance of each pair. uint8 [B, 3, H, W] twice -> float64 [B].

    As LPIPS without its calibration: features of every position normalised to length 1, squared differences summed over
    channels and averaged over positions, then over the classifier's stages.
    """
    pairs = zip(*(classifier.stage_features(to_network_size(images)) for images in (generated, target)), strict=True)
    stages = [(F.normalize(a, eps=1e-4) - F.normalize(b, eps=1e-4)).square().sum(1).mean((1, 2)) for a, b in pairs]
    return torch.stack(stages).double().mean(0)


def attribute_agreement(classifier: AttributeClassifier, generated: Tensor, target: Tensor) -> Tensor:
    """Share of attributes whose likeliest class is the same in both. Logits [n, classes] twice -> float64 [n]."""
    heads = zip(classifier.by_attribute(generated).values(), classifier.by_attribute(target).values(), strict=True)
    return torch.stack([a.argmax(1) == b.argmax(1) for a, b in heads]).double().mean(0)


def estimate_poses(estimator: PoseEstimator, images: ImageSet, device: torch.device | str, description: str) -> Tensor:
    """Found poses of every image of a set, in order: float32 [n, 18, 3] in the images' pixels, on the CPU."""
    poses = []
    with Progress(description, len(images), "images") as progress:
        for batch in images.batches():
            poses.append(estimator.estimate(batch.to(device)).cpu())
            progress.update(len(batch))
    return torch.cat(poses)
