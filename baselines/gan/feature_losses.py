"""Content and style losses of GFLA, DPTN and NTED: images compared in the layers of a frozen network.

Content: the mean absolute difference of features, summed over layers (Johnson et al., ECCV 2016). Style: that of their
Gram matrices, divided by C h w (Gatys et al., CVPR 2016). The published network is ImageNet's VGG19. The embedded
network, which needs no file, has one early layer at full resolution; methods trained with it are titled so.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xinggan.metrics.embedded.networks import load_embedded, training_record
from xinggan.model.losses import ImageNetNormalisation, vgg19
from xinggan.model.switches import PerceptualNetwork

RELU1 = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
STYLE = ("relu2_2", "relu3_4", "relu4_4", "relu5_2")
EMBEDDED = "embedded"
# Gram matrices of the embedded layer have larger entries: the published weights of style losses draw stripes there.
EMBEDDED_STYLE = 0.01


class LayerFeatures(nn.Module):
    """A frozen network whose layers are looked at. VGG19's are named relu1_1 to relu5_4, after their activation."""

    def __init__(self, layers: nn.Sequential, names: dict[int, str], first: nn.Module | None = None):
        """names: place in `layers` -> name of what it gives; first: what changes images [-1, 1] before, such as
        ImageNet's normalisation."""
        super().__init__()
        self.first = first or nn.Identity()
        self.layers, self.names = layers[: max(names) + 1], names
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images: [B, 3, H, W] in [-1, 1]. Returns features [B, C, h, w] by name."""
        features, found = self.first(images), {}
        for place, layer in enumerate(self.layers.children()):
            features = layer(features)
            if place in self.names:
                found[self.names[place]] = features
        return {name: features.float() for name, features in found.items()}


class FeatureLosses(nn.Module):
    """Losses between a generated and a target image in the features that `forward` gives of each."""

    def __init__(
        self, kind: str, content: tuple[str, ...] = RELU1, style: tuple[str, ...] = STYLE, normalised: bool = False
    ):
        """kind: a PerceptualNetwork; content, style: names of VGG19's layers; normalised: VGG19 sees images in
        ImageNet's normalisation, else in [-1, 1]. Raises FileNotFoundError where VGG19's file is missing."""
        super().__init__()
        if kind != PerceptualNetwork.embedded:
            layers, self.sha256 = vgg19(kind)
            self.network = vgg19_features(layers, normalised)
            self.content_layers, self.style_layers, self.style_share = content, style, 1.0
        else:
            self.network = LayerFeatures(nn.Sequential(load_embedded("perceptual")), {0: EMBEDDED})
            self.sha256 = training_record("perceptual")["sha256"]
            self.content_layers, self.style_layers, self.style_share = (EMBEDDED,), (EMBEDDED,), EMBEDDED_STYLE

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images: [B, 3, H, W] in [-1, 1]. Returns features [B, C, h, w] by layer."""
        return self.network(images)

    def content(self, generated: dict[str, Tensor], target: dict[str, Tensor]) -> Tensor:
        """Sum over the content layers of the mean absolute difference, []."""
        return torch.stack([F.l1_loss(generated[name], target[name]) for name in self.content_layers]).sum()

    def style(self, generated: dict[str, Tensor], target: dict[str, Tensor]) -> Tensor:
        """Sum over the style layers of the mean absolute difference of Gram matrices, []."""
        losses = [style_loss(generated[name], target[name]) for name in self.style_layers]
        return self.style_share * torch.stack(losses).sum()


def vgg19_features(layers: nn.Sequential, normalised: bool) -> LayerFeatures:
    """VGG19's convolutional layers as LayerFeatures, named after their stage and number."""
    names, stage, number = {}, 1, 0
    for place, layer in enumerate(layers):
        if isinstance(layer, nn.MaxPool2d):
            stage, number = stage + 1, 0
        elif isinstance(layer, nn.ReLU):
            number += 1
            names[place] = f"relu{stage}_{number}"
    needed = {
        place: name for place, name in names.items() if place <= next(p for p, n in names.items() if n == STYLE[-1])
    }
    return LayerFeatures(layers, needed, ImageNetNormalisation() if normalised else None)


def style_loss(generated: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of the Gram matrices of two feature maps [B, C, h, w], divided by C h w."""
    made, wanted = (features.flatten(2) @ features.flatten(2).mT for features in (generated, target))  # [B, C, C]
    return F.l1_loss(made, wanted) / target[0].numel()
