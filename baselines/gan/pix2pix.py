"""pix2pix: "Image-to-Image Translation with Conditional Adversarial Networks" (Isola et al., CVPR 2017), on poses.

Implemented: the U-Net with its noise (section 3.2.1 and appendix 6.1.1), the PatchGAN discriminator that sees the whole
input (3.2.2, 6.1.2) and training on the conditional adversarial loss plus 100 times L1 (3.1, 3.3). The paper has no
poses; chosen here: the input is the source image beside source and target pose maps, 3 + 18 + 18 channels. pix2pix is
the floor of the comparison: skips carry each source pixel to the same place, and no layer moves it to another.

As in the paper the only noise is dropout in the decoder, also when generating; the masks are drawn from the image's own
seed. Departures: generating uses BatchNorm's running statistics, as a test batch's would make images depend on one
another; the innermost level has no norm (the authors' correction); fewer levels for images smaller than 256 pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.gan.settings import PATCHES, Pix2PixSettings
from xinggan.data.batch import PosePair, images_to_float
from xinggan.data.poses import JOINTS
from xinggan.model.blocks import Dropout, check_resolution, initialise_generator, normalisation, pad_to_multiple
from xinggan.model.losses import adversarial_loss
from xinggan.model.method import Method, adam
from xinggan.model.switches import Norm

INPUTS = 3 + 2 * len(JOINTS)  # source image, source and target pose maps
NOISY = 3  # decoder levels with dropout, from the innermost


def seeded_dropout(features: Tensor, probability: float, generators: list[torch.Generator]) -> Tensor:
    """features: [B, C, h, w]; the mask of each image is drawn on the CPU from its own generator."""
    if probability == 0:
        return features
    draws = torch.stack([torch.rand(features.shape[1:], generator=generator) for generator in generators])
    return features * (draws >= probability).to(features.device) / (1 - probability)


class UNetLevel(nn.Sequential):
    """An activation, a 4x4 (transposed) convolution that halves or doubles the resolution, and a norm."""


class UNet(nn.Module):
    """Input [B, 39, H, W] -> image [B, 3, H, W] in [-1, 1]; `levels` times half the resolution and back, with skips.

    Images are padded to a multiple of 2 ** levels: 256x176 to 256x256 at the paper's 8 levels.
    """

    def __init__(self, settings: Pix2PixSettings):
        super().__init__()
        self.settings = s = settings
        width, norm, bias = s.width, s.norm, s.norm == Norm.instance
        self.dropout = Dropout(s.dropout)
        channels = [min(2**level, 8) * width for level in range(s.levels)]  # 64, 128, 256, 512, 512, ...
        down: list[nn.Module] = [nn.Conv2d(INPUTS, width, 4, 2, 1, bias=bias)]
        up: list[nn.Module] = []
        for level in range(1, s.levels):
            outer, inner = channels[level - 1], channels[level]
            innermost = level == s.levels - 1
            convolution = nn.Conv2d(outer, inner, 4, 2, 1, bias=bias)
            norms = [] if innermost else [normalisation(norm, inner)]
            down.append(UNetLevel(nn.LeakyReLU(0.2), convolution, *norms))
            enlarging = nn.ConvTranspose2d(inner if innermost else 2 * inner, outer, 4, 2, 1, bias=bias)
            up.append(UNetLevel(nn.ReLU(), enlarging, normalisation(norm, outer)))
        self.down = nn.ModuleList(down)
        self.up = nn.ModuleList(reversed(up))  # from the innermost
        self.image = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(2 * width, 3, 4, 2, 1), nn.Tanh())

    def forward(self, inputs: Tensor, seeds: Tensor | None = None) -> Tensor:
        """seeds: int64 [B], of each image's noise; None: dropout as in training, from PyTorch's generator."""
        height, width = inputs.shape[-2:]
        features, skips = pad_to_multiple(inputs, 2**self.settings.levels), []
        for layer in self.down:
            features = layer(features)  # [B, channels of the level, half of h, half of w]
            skips.append(features)
        generators = [] if seeds is None else [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]
        skips.pop()  # the innermost is no skip
        for place, layer in enumerate(self.up):
            features = layer(features)
            if place < NOISY and seeds is None:
                features = self.dropout(features)
            elif place < NOISY:
                features = seeded_dropout(features, self.settings.dropout, generators)
            features = torch.cat([features, skips.pop()], dim=1)
        return self.image(features)[..., :height, :width]


class PatchDiscriminator(nn.Sequential):
    """Image beside its whole input [B, 42, H, W] -> one score (before any sigmoid) a patch of `patch` pixels."""

    def __init__(self, width: int = 64, patch: int = 70, norm: str = Norm.batch):
        self.patch, halvings = patch, PATCHES[patch]
        channels = [min(2**level, 8) * width for level in range(halvings + 1)]
        layers: list[nn.Module] = [nn.Conv2d(INPUTS + 3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for level in range(1, halvings + 1):
            stride = 2 if level < halvings else 1
            bias = norm == Norm.instance
            layers.append(nn.Conv2d(channels[level - 1], channels[level], 4, stride, 1, bias=bias))
            layers += [normalisation(norm, channels[level]), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(channels[-1], 1, 4, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """images: [B, 42, H, W]. Raises ValueError for images that are too small for a score."""
        least = 3 * 2 ** PATCHES[self.patch]
        if min(images.shape[-2:]) < least:
            height, width = images.shape[-2:]
            raise ValueError(
                f"patch={self.patch} takes images of at least {least}x{least} pixels, these have "
                f"{height}x{width}: accepted is a smaller patch ({', '.join(map(str, PATCHES))})"
            )
        return super().forward(images)


class Pix2Pix(Method):
    """pix2pix in its own training: discriminator and generator in turn."""

    averaged = ("generator",)
    checkpointed = (UNetLevel, PatchDiscriminator)

    def __init__(self, settings: Pix2PixSettings | None = None):
        super().__init__()
        self.settings = s = settings or Pix2PixSettings()
        self.generator = UNet(s)
        self.discriminator = PatchDiscriminator(s.width, s.patch, s.norm)
        initialise_generator(self.generator, s.seed)
        initialise_generator(self.discriminator, s.seed + 1)  # the paper draws both from N(0, 0.02)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimisers["generator"] = adam(self.generator.parameters(), s.learning_rate)
        self.optimisers["discriminator"] = adam(self.discriminator.parameters(), s.learning_rate)

    def training_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """A step of the discriminator, at half its loss, then one of the generator, on the same generated images."""
        target = images_to_float(batch.target_image)
        inputs = self.inputs(batch.source_image, batch.source_pose, batch.target_pose)  # [B, 39, H, W]
        with self.autocast():
            generated = self.generator(inputs)  # [B, 3, H, W]
            real = self.discriminator(torch.cat([inputs, target], dim=1))
            fake = self.discriminator(torch.cat([inputs, generated.detach()], dim=1))
        loss = (adversarial_loss(real, True) + adversarial_loss(fake, False)) / 2
        terms = {"discriminator": loss, "gradient_discriminator": self.update("discriminator", loss)}

        self.discriminator.requires_grad_(False)  # the generator's update needs no gradient of its weights
        with self.autocast():
            scores = self.discriminator(torch.cat([inputs, generated], dim=1))
        terms["adversarial"] = adversarial_loss(scores, True)
        terms["l1"] = self.settings.l1 * F.l1_loss(generated.float(), target)
        terms["gradient_generator"] = self.update("generator", terms["adversarial"] + terms["l1"])
        self.discriminator.requires_grad_(True)
        return {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. The seed draws an image's dropout masks."""
        with self.autocast():
            generated = self.generator(self.inputs(source, source_pose, target_pose), seeds)
        return generated.float()

    def inputs(self, source: Tensor, source_pose: Tensor, target_pose: Tensor) -> Tensor:
        """Source image and both poses' maps, [B, 39, H, W], of uint8 images [B, 3, H, W] and poses [B, 18, 3]."""
        image = images_to_float(source)
        check_resolution(image)
        maps = [self.pose_maps(pose, image) for pose in (source_pose, target_pose)]
        return torch.cat([image, *maps], dim=1)
