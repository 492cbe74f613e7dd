"""The embedded networks as metrics: a perceptual distance, agreement of attributes, classes for an Inception score.

The networks know synthetic people only. Their metrics have names of their own, and each value carries the weights'
hash.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from xinggan.metrics.embedded.networks import AttributeClassifier, to_network_size, training_record

CLOTHES = ("upper_colour", "lower_colour")  # the inception score is over their combinations


def clothes_logits(classifier: AttributeClassifier, logits: Tensor) -> Tensor:
    """Logits of all attributes [B, classes] -> log-probability of each combination of CLOTHES, [B, combinations]."""
    heads = classifier.by_attribute(logits)
    upper, lower = (heads[name].log_softmax(1) for name in CLOTHES)
    return (upper[:, :, None] + lower[:, None, :]).flatten(1)


def network_description(name: str) -> dict[str, str]:
    """The part of a value's protocol that describes an embedded network."""
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
