"""Deform: "Deformable GANs for Pose-based Human Image Generation" (Siarohin et al., CVPR 2018).

Implemented: the generator, a U-Net with one encoder for the source image and its pose and one for the target pose, its
deformable skip connections (ten rectangles, one affine transform each, the maximum over parts), the conditional
discriminator and the nearest-neighbour loss. As in the published code, the appearance skips of the four finest
resolutions are moved, a part is cut out in the target pose, and nothing reaches a moved skip from outside the
rectangles: the background comes through the coarse skips.

Departures (those of the rectangles are in `body_parts`). The loss looks through the suite's perceptual network and is a
mean over channels, where the paper sums 64 of a VGG19 that sees values to 255: its weight of 0.01 is about 37 here
(0.01 * 64 * 255 * 0.225, ImageNet's deviation). Instance normalisation is that of each channel, in the published code
of all together. Weights are drawn from N(0, 0.02). Images are padded to a multiple of 2 ** levels (the discriminator's
to one of 32) by repeating their last row and column.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.body_parts import rectangles, warp_parts, with_symmetric_limbs
from baselines.gan.settings import DeformSettings
from xinggan.data.batch import PosePair, images_to_float
from xinggan.data.poses import JOINTS
from xinggan.model.blocks import Dropout, InstanceNorm, check_resolution, initialise_generator, pad_to_multiple
from xinggan.model.losses import PerceptualLoss, adversarial_loss
from xinggan.model.method import Method, adam

MOVED = 4  # resolutions whose appearance skips are moved, from the finest
NOISY = 3  # decoder levels with dropout, from the innermost


class Halving(nn.Sequential):
    """Leaky ReLU, a 4x4 convolution that halves the resolution, and instance normalisation."""

    def __init__(self, inputs: int, outputs: int, norm: bool = True):
        convolution = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
        super().__init__(nn.LeakyReLU(0.2), convolution, *([InstanceNorm(outputs, affine=True)] if norm else []))


class Doubling(nn.Sequential):
    """ReLU, a 4x4 transposed convolution that doubles the resolution, instance normalisation and dropout."""

    def __init__(self, inputs: int, outputs: int, dropout: float):
        convolution = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
        super().__init__(nn.ReLU(), convolution, InstanceNorm(outputs, affine=True), Dropout(dropout))


class DeformableUNet(nn.Module):
    """Generates the person of the source image in the target pose; `levels` halvings of the resolution."""

    def __init__(self, width: int = 64, levels: int = 5, dropout: float = 0.5):
        super().__init__()
        self.levels = levels
        channels = [min(2**level, 8) * width for level in range(levels + 1)]  # 64, 128, 256, 512, 512, 512

        def encoder(inputs: int) -> nn.ModuleList:
            first = nn.Conv2d(inputs, width, 3, padding=1)
            deeper = (Halving(channels[i], channels[i + 1], norm=i + 1 < levels) for i in range(levels))
            return nn.ModuleList([first, *deeper])

        self.appearance = encoder(3 + len(JOINTS))
        self.shape = encoder(len(JOINTS))
        self.decoder = nn.ModuleList()
        before = 0
        for level in range(levels, 0, -1):  # from the innermost
            noise = dropout if levels - level < NOISY else 0.0
            self.decoder.append(Doubling(before + 2 * channels[level], channels[level], noise))
            before = channels[level]
        self.image = nn.Sequential(nn.ReLU(), nn.Conv2d(before + 2 * width, 3, 3, padding=1), nn.Tanh())

    def forward(self, source: Tensor, poses: list[Tensor], maps: list[Tensor]) -> Tensor:
        """source: [B, 3, H, W] in [-1, 1]; poses: [B, 18, 3] and maps: [B, 18, H, W] of source and target.

        Returns [B, 3, H, W] in [-1, 1]. Raises ValueError unless H and W are divisible by 4 and at least 16.
        """
        check_resolution(source)
        height, width = source.shape[-2:]
        source_parts = with_symmetric_limbs(rectangles(poses[0], height))
        target_parts = rectangles(poses[1], height)
        appearance = pad_to_multiple(torch.cat([source, maps[0]], dim=1), 2**self.levels)
        shape = pad_to_multiple(maps[1], 2**self.levels)
        skips = []
        for level, (encode_appearance, encode_shape) in enumerate(zip(self.appearance, self.shape, strict=True)):
            appearance, shape = encode_appearance(appearance), encode_shape(shape)  # [B, channels[level], h, w] each
            moved = warp_parts(appearance, source_parts, target_parts, 2**level) if level < MOVED else appearance
            skips.append(torch.cat([moved, shape], dim=1))
        features = skips.pop()
        for decode in self.decoder:
            features = torch.cat([decode(features), skips.pop()], dim=1)
        return self.image(features)[..., :height, :width]


class ConditionalDiscriminator(nn.Sequential):
    """Image, source image and both poses' maps [B, 42, H, W] -> scores [B, 1, H/32, W/32], before any sigmoid."""

    def __init__(self, width: int = 64):
        layers = [Halving(width * 2**i, width * 2 ** (i + 1)) for i in range(3)]
        first = nn.Conv2d(2 * (3 + len(JOINTS)), width, 4, 2, 1)
        super().__init__(first, *layers, Halving(8 * width, 1, norm=False))

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(pad_to_multiple(images, 32))


def nearest_neighbour_loss(generated: Tensor, target: Tensor, neighbourhood: int) -> Tensor:
    """Mean over places of the least mean absolute difference from the target's features in a window. Returns [].

    generated, target: features [B, C, H, W]; neighbourhood: the window's side, an odd number of pixels.
    """
    reach = neighbourhood // 2
    outside = F.pad(target, (reach,) * 4, value=1e4)  # further than any feature, so never the nearest
    windows = outside.unfold(2, neighbourhood, 1).unfold(3, neighbourhood, 1)  # [B, C, H, W, n, n]
    return (generated[..., None, None] - windows).abs().mean(dim=1).amin(dim=(-2, -1)).mean()


class Deform(Method):
    """Deform in its own training. `losses.perceptual` weighs the nearest-neighbour loss, `losses.l1` a plain L1."""

    averaged = ("generator",)
    checkpointed = (Halving, Doubling)

    def __init__(self, settings: DeformSettings | None = None):
        super().__init__()
        self.settings = s = settings or DeformSettings()
        self.generator = DeformableUNet(s.width, s.levels, s.dropout)
        initialise_generator(self.generator, s.seed)
        self.optimisers["generator"] = adam(self.generator.parameters(), s.learning_rate)
        self.discriminator = ConditionalDiscriminator(s.width) if s.losses.adversarial else None
        if self.discriminator is not None:
            initialise_generator(self.discriminator, s.seed + 1)
            self.optimisers["discriminator"] = adam(self.discriminator.parameters(), s.learning_rate)
        if s.losses.perceptual:
            self.frozen = [loss := PerceptualLoss(s.losses.perceptual_network)]
            self.networks = {str(s.losses.perceptual_network): loss.sha256}
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def training_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """A step of the generator, then one of the discriminator on the same generated images."""
        source, poses, maps = self.inputs(batch.source_image, batch.source_pose, batch.target_pose)
        target = images_to_float(batch.target_image)
        condition = torch.cat([source, *maps], dim=1)  # [B, 39, H, W]
        weights, discriminator, terms = self.settings.losses, self.discriminator, {}
        with self.autocast():
            generated = self.generator(source, poses, maps)  # [B, 3, H, W]
            for loss in self.frozen:
                features = loss.features(generated).float(), loss.features(target).float()
                nearest = nearest_neighbour_loss(*features, self.settings.neighbourhood)
                terms["nearest_neighbour"] = weights.perceptual * nearest
            if weights.l1:
                terms["l1"] = weights.l1 * F.l1_loss(generated.float(), target)
            if discriminator is not None:
                discriminator.requires_grad_(False)  # the generator's update needs no gradient of its weights
                scores = discriminator(torch.cat([generated, condition], dim=1))
                terms["adversarial"] = weights.adversarial * adversarial_loss(scores, True, weights.adversarial_kind)
        terms["gradient_generator"] = self.update("generator", torch.stack(list(terms.values())).sum())

        if discriminator is not None:
            discriminator.requires_grad_(True)
            with self.autocast():
                real = discriminator(torch.cat([target, condition], dim=1))
                fake = discriminator(torch.cat([generated.detach(), condition], dim=1))
            kind = weights.adversarial_kind
            terms["discriminator"] = (adversarial_loss(real, True, kind) + adversarial_loss(fake, False, kind)) / 2
            terms["gradient_discriminator"] = self.update("discriminator", terms["discriminator"])
        return {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. Without dropout the generator has no noise, so the seeds change nothing."""
        with self.autocast():
            generated = self.generator(*self.inputs(source, source_pose, target_pose))
        return generated.float()

    def inputs(self, source: Tensor, source_pose: Tensor, target_pose: Tensor) -> tuple[Tensor, list, list]:
        """Source image [B, 3, H, W], both poses and their maps [B, 18, H, W], of uint8 images and poses [B, 18, 3]."""
        image, poses = images_to_float(source), [source_pose, target_pose]
        return image, poses, [self.pose_maps(pose, image) for pose in poses]
