"""Losses of XingGAN's training (ECCV 2020, section 3.5) and the history pool of generated images."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xinggan.model.switches import AdversarialLoss, PerceptualNetwork

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def adversarial_loss(scores: Tensor, real: bool, kind: str = AdversarialLoss.bce) -> Tensor:
    """Mean binary cross-entropy of the scores (logits) or least squares to the label, 1 real, 0 fake; a scalar."""
    scores = scores.float()
    target = torch.full_like(scores, float(real))
    if kind == AdversarialLoss.bce:
        return F.binary_cross_entropy_with_logits(scores, target)
    return F.mse_loss(scores, target)


class PerceptualLoss(nn.Module):
    """L1 between early features of generated and target image; the network is frozen and named by `network`.

    `vgg19`: relu1_2 of ImageNet's VGG19 (features[0..3]), as published. `embedded`: the first stage of a classifier
    trained on synthetic people, never the one that scores. FileNotFoundError says which weight file is missing.
    """

    network: nn.Module

    def __init__(self, network: str = PerceptualNetwork.embedded):
        super().__init__()
        if network != PerceptualNetwork.embedded:
            layers, self.sha256 = vgg19(network)
            self.network = nn.Sequential(ImageNetNormalisation(), layers[:4])
        else:
            from xinggan.metrics.embedded.networks import load_embedded, training_record

            self.network, self.sha256 = load_embedded("perceptual"), training_record("perceptual")["sha256"]
        self.features = self.network.forward
        self.requires_grad_(False)

    def forward(self, generated: Tensor, target: Tensor) -> Tensor:
        """generated, target: [B, 3, H, W] in [-1, 1]. Returns a scalar."""
        with torch.no_grad():
            target_features = self.features(target)
        return F.l1_loss(self.features(generated).float(), target_features.float())


def vgg19(network: str) -> tuple[nn.Sequential, str]:
    """The convolutional layers of ImageNet's VGG19, frozen, and the SHA-256 of their file; or `untrained`, and "".

    Raises FileNotFoundError, saying what to put where, when the file is neither there nor to be had.
    """
    from pathlib import Path

    from xinggan.files import sha256_of
    from xinggan.torchvision_operators import import_torchvision

    models = import_torchvision().models
    if network == PerceptualNetwork.untrained:
        return models.vgg19().features.eval().requires_grad_(False), ""
    weights = models.VGG19_Weights.IMAGENET1K_V1
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        layers = models.vgg19(weights=weights).features.eval().requires_grad_(False)
    except OSError as error:
        raise FileNotFoundError(
            f"losses.perceptual_network=vgg19 needs {file.name} from torchvision ({weights.url}); it could not be "
            f"downloaded ({error}). Put the file at {file}, or choose losses.perceptual_network=embedded"
        ) from error
    return layers, sha256_of(file)


class ImageNetNormalisation(nn.Module):
    """[-1, 1] -> ImageNet's mean 0 and deviation 1."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images.add(1).div(2) - self.mean) / self.std


class HistoryPool(nn.Module):
    """Pool of past generated images for a discriminator (as in CycleGAN, PATN, XingGAN).

    Once `capacity` images are held, each new image is with probability 1/2 swapped for a random old one. Draws depend
    on torch's global generator; the images are buffers, so they are in checkpoints.
    """

    images: Tensor

    def __init__(self, capacity: int):
        super().__init__()
        self.capacity = capacity
        self.register_buffer("images", torch.empty(0))

    @torch.no_grad()
    def exchange(self, fresh: Tensor) -> Tensor:
        """fresh: [B, C, H, W]. Returns as many images, some of them from earlier steps."""
        if self.capacity == 0:
            return fresh
        returned = []
        for image in fresh.detach():
            if len(self.images) < self.capacity:
                held = [self.images] if len(self.images) else []
                self.images = torch.cat([*held, image[None]])
                returned.append(image)
                continue
            swap, slot = torch.rand(2).tolist()
            if swap < 0.5:
                returned.append(image)
            else:
                index = int(slot * self.capacity)
                returned.append(self.images[index].clone())
                self.images[index] = image
        return torch.stack(returned)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        if (saved := state_dict.get(prefix + "images")) is not None:
            self.images = self.images.new_empty(saved.shape)  # the pool grows, so the saved shape counts
        super()._load_from_state_dict(state_dict, prefix, *args)
