"""How the embedded attribute classifier learns, and how often it is right about people it has never seen."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xinggan.metrics.embedded.architectures import AttributeClassifier, to_network_size
from xinggan.metrics.embedded.people import LearningSet, augmented


def loss(network: nn.Module, images: Tensor, poses: Tensor, attributes: Tensor, generator: torch.Generator) -> Tensor:
    """Loss of one batch: images float [B, 3, 128, 64] in [-1, 1], attributes [B, attributes]; poses do not matter."""
    assert isinstance(network, AttributeClassifier)
    if torch.rand((), generator=generator) < 0.5:
        images = images.flip(3)
    _, logits = network(augmented(images, generator))
    heads = network.by_attribute(logits.float()).values()
    losses = [F.cross_entropy(head, classes) for head, classes in zip(heads, attributes.T, strict=True)]
    return torch.stack(losses).mean()


@torch.inference_mode()
def held_out_scores(network: nn.Module, people: LearningSet) -> dict[str, float]:
    """Accuracy of each attribute, and their mean. An attribute that a view hides counts too."""
    assert isinstance(network, AttributeClassifier)
    logits = torch.cat([network(to_network_size(images))[1] for images in people.images.split(128)])
    heads = network.by_attribute(logits)
    accuracy = {
        name: float((heads[name].argmax(1) == classes).float().mean())
        for name, classes in zip(heads, people.attributes.T, strict=True)
    }
    return {"mean_accuracy": sum(accuracy.values()) / len(accuracy), **accuracy}
