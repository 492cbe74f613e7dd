"""What the trainings of GFLA, DPTN and NTED have in common: images compared in a frozen network's layers, and a
discriminator that sees nothing but an image.

Their networks work on images of `size`, to which others are stretched, poses too (DeepFashion's 176 columns to 256, as
published); generated images are resized back. A joint's map is drawn around its whole pixel.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.gan.feature_losses import FeatureLosses
from baselines.gan.settings import ImageGANSettings
from baselines.geometry import resized
from xinggan.data.batch import images_to_float
from xinggan.model.losses import adversarial_loss
from xinggan.model.method import Method

Size = tuple[int, ...] | None  # height and width that images are stretched to; None: they keep their own


def stretched(images: Tensor, size: Size) -> Tensor:
    """float [B, 3, H, W] in [-1, 1] -> [B, 3, *size], bicubic; the same images where they have the size."""
    return images if size is None else resized(images, size).clamp(-1, 1)


def network_inputs(
    method: Method, source: Tensor, source_pose: Tensor, target_pose: Tensor, size: Size
) -> tuple[Tensor, Tensor, Tensor]:
    """Source image [B, 3, h, w] in [-1, 1] and both poses' maps [B, 18, h, w], in the network's size.

    source: float [B, 3, H, W]; poses: [B, 18, 3] in its pixels.
    """
    image = stretched(source, size)
    grown = torch.tensor([image.shape[3] / source.shape[3], image.shape[2] / source.shape[2]], device=image.device)
    poses = (torch.cat([(p[..., :2] * grown).trunc(), p[..., 2:]], dim=-1) for p in (source_pose, target_pose))
    source_maps, target_maps = (method.pose_maps(pose, image) for pose in poses)
    return image, source_maps, target_maps


def stretching_image(
    method: Method, generator: nn.Module, source: Tensor, source_pose: Tensor, target_pose: Tensor, size: Size
) -> Tensor:
    """What the method's generator makes of `network_inputs`, resized back: float [B, 3, H, W]."""
    made, _ = generator(*network_inputs(method, source, source_pose, target_pose, size))
    return stretched(made.float(), source.shape[-2:])


class ImageGAN(Method):
    """A method with a generator, a discriminator of images, and losses in the layers of a frozen network."""

    averaged = ("generator",)
    summed: ClassVar[bool] = False  # whether the discriminator's loss is the sum of both instead of their mean
    generator: nn.Module  # gives the image, and what else training looks at

    def __init__(
        self,
        settings: ImageGANSettings,
        generator: nn.Module,
        discriminator: nn.Module,
        losses: FeatureLosses,
        updates: float = 1.0,
    ):
        """updates: of the discriminator's updates, the share without regularisation; its Adam is slowed to match
        (Karras et al., CVPR 2020, appendix B). Without an adversarial loss there is no discriminator.
        """
        super().__init__()
        self.settings = s = settings
        self.generator = generator
        self.discriminator = discriminator if s.losses.adversarial else None
        self.frozen = [losses]
        self.networks = {str(s.losses.perceptual_network): losses.sha256}
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._add_adam("generator", s.learning_rate, (s.beta1, s.beta2))
        rate, betas = s.learning_rate * s.discriminator_rate * updates, (s.beta1**updates, s.beta2**updates)
        if self.discriminator is not None:
            self._add_adam("discriminator", rate, betas)

    def _add_adam(self, network: str, rate: float, betas: tuple[float, float]) -> None:
        self.optimisers[network] = torch.optim.Adam(getattr(self, network).parameters(), rate, betas, fused=True)

    @property
    def feature_losses(self) -> FeatureLosses:
        """Content and style losses of features that it gives of images."""
        return self.frozen[0]

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """images: [B, 3, H, W] in [-1, 1]. Returns features [B, C, h, w] by layer."""
        with self.autocast():
            return self.feature_losses(images)

    def image_losses(self, generated: Tensor, target: Tensor, seen_target: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weighted L1, content (perceptual) and style losses, [] each; images [B, 3, H, W]."""
        weights, seen = self.settings.losses, self.features(generated)
        return {
            "l1": weights.l1 * F.l1_loss(generated.float(), target),
            "perceptual": weights.perceptual * self.feature_losses.content(seen, seen_target),
            "style": self.settings.style * self.feature_losses.style(seen, seen_target),
        }

    def adversarial(self, generated: Tensor) -> dict[str, Tensor]:
        """The generator's weighted adversarial loss, []; nothing without a discriminator."""
        if self.discriminator is None:
            return {}
        weights = self.settings.losses
        self.discriminator.requires_grad_(False)  # the generator's update needs no gradient of its weights
        with self.autocast():
            scores = self.discriminator(generated)
        self.discriminator.requires_grad_(True)
        return {"adversarial": weights.adversarial * adversarial_loss(scores, True, weights.adversarial_kind)}

    def update_generator(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step down the sum of the losses. Returns them and the gradient's norm."""
        return losses | {"gradient_generator": self.update("generator", torch.stack(list(losses.values())).sum())}

    def update_discriminator(self, generated: Tensor, target: Tensor) -> dict[str, Tensor]:
        """One step down the losses of real and generated images [B, 3, H, W]: their mean, or as `summed` says."""
        if self.discriminator is None:
            return {}
        with self.autocast():
            real, fake = self.discriminator(target), self.discriminator(generated.detach().float())
        kind = self.settings.losses.adversarial_kind
        loss = adversarial_loss(real, True, kind) + adversarial_loss(fake, False, kind)
        loss = loss if self.summed else loss / 2
        return {"discriminator": loss, "gradient_discriminator": self.update("discriminator", loss)}

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. The generators have no noise input, so the seeds change nothing."""
        with self.autocast():
            return self.image(images_to_float(source), source_pose, target_pose).clamp(-1, 1)

    def image(self, source: Tensor, source_pose: Tensor, target_pose: Tensor) -> Tensor:
        """The image float [B, 3, H, W] that the generator makes of a float image and poses [B, 18, 3]."""
        return stretching_image(self, self.generator, source, source_pose, target_pose, self.settings.size)
