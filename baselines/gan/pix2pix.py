"""pix2pix: "Image-to-Image Translation with Conditional Adversarial Networks" (Isola et al., CVPR 2017), on poses.

Implemented: the U-Net with its noise (section 3.2.1 and appendix 6.1.1), the PatchGAN discriminator that sees the whole
input (3.2.2, 6.1.2) and training on the conditional adversarial loss plus 100 times L1 (3.1, 3.3). The paper knows no
poses; chosen here: the input is the source image beside source and target pose maps, 3 + 18 + 18 channels. It is the
floor: skips carry each source pixel to the same place, and nothing moves it to another.

As in the paper the only noise is dropout in the decoder, also when generating; the masks are drawn from the image's own
seed. Departures: generating uses BatchNorm's running statistics, as a test batch's would make images depend on one
another; the innermost level has no norm (the authors' correction); fewer levels for images smaller than 256 pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.refusals import is_number, refuse
from xinggan.data.batch import PosePair, images_to_float
from xinggan.data.poses import JOINTS, pose_maps
from xinggan.data.settings import PoseMap
from xinggan.model.blocks import Dropout, normalisation, pad_to_multiple
from xinggan.model.generator import check_resolution, initialise_generator
from xinggan.model.losses import adversarial_loss
from xinggan.model.method import Method, adam
from xinggan.model.switches import Norm

INPUTS = 3 + 2 * len(JOINTS)  # source image, source and target pose maps
NOISY = 3  # decoder levels with dropout, from the innermost
PATCHES = {16: 1, 34: 2, 70: 3, 142: 4, 286: 5}  # receptive field in pixels: halvings of the resolution


def seeded_dropout(features: Tensor, probability: float, generators: list[torch.Generator]) -> Tensor:
    """features: [B, C, h, w]; the mask of each image is drawn on the CPU from its own generator."""
    if probability == 0:
        return features
    draws = torch.stack([torch.rand(features.shape[1:], generator=generator) for generator in generators])
    return features * (draws >= probability).to(features.device) / (1 - probability)


class UNet(nn.Module):
    """Input [B, 39, H, W] -> image [B, 3, H, W] in [-1, 1]; `levels` times half the resolution and back, with skips.

    Images are padded to a multiple of 2 ** levels: 256x176 to 256x256 at the paper's 8 levels.
    """

    def __init__(self, width: int = 64, levels: int = 8, norm: str = Norm.batch, dropout: float = 0.5):
        super().__init__()
        self.levels, self.dropout = levels, Dropout(dropout)
        bias = norm == Norm.instance
        channels = [min(2**level, 8) * width for level in range(levels)]  # 64, 128, 256, 512, 512, ...
        down: list[nn.Module] = [nn.Conv2d(INPUTS, width, 4, 2, 1, bias=bias)]
        up: list[nn.Module] = []
        for level in range(1, levels):
            outer, inner = channels[level - 1], channels[level]
            innermost = level == levels - 1
            convolution = nn.Conv2d(outer, inner, 4, 2, 1, bias=bias)
            norms = [] if innermost else [normalisation(norm, inner)]
            down.append(nn.Sequential(nn.LeakyReLU(0.2), convolution, *norms))
            enlarging = nn.ConvTranspose2d(inner if innermost else 2 * inner, outer, 4, 2, 1, bias=bias)
            up.append(nn.Sequential(nn.ReLU(), enlarging, normalisation(norm, outer)))
        self.down = nn.ModuleList(down)
        self.up = nn.ModuleList(reversed(up))  # from the innermost
        self.image = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(2 * width, 3, 4, 2, 1), nn.Tanh())

    def forward(self, inputs: Tensor, seeds: Tensor | None = None) -> Tensor:
        """seeds: int64 [B], of each image's noise; None: dropout as in training, from PyTorch's generator."""
        height, width = inputs.shape[-2:]
        features, skips = pad_to_multiple(inputs, 2**self.levels), []
        for layer in self.down:
            features = layer(features)  # [B, channels of the level, half of h, half of w]
            skips.append(features)
        generators = [] if seeds is None else [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]
        skips.pop()  # the innermost goes on as it is
        for place, layer in enumerate(self.up):
            features = layer(features)
            if place < NOISY and seeds is None:
                features = self.dropout(features)
            elif place < NOISY:
                features = seeded_dropout(features, self.dropout.probability, generators)
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
        """Raises ValueError for images on which no score is left."""
        least = 3 * 2 ** PATCHES[self.patch]
        if min(images.shape[-2:]) < least:
            height, width = images.shape[-2:]
            raise ValueError(
                f"method.patch={self.patch} takes images of at least {least}x{least} pixels, these have "
                f"{height}x{width}: accepted is a smaller patch ({', '.join(map(str, PATCHES))})"
            )
        return super().forward(images)


class Pix2Pix(Method):
    """pix2pix in its own training: discriminator and generator in turn. `l1` is the paper's lambda."""

    averaged = ("generator",)

    def __init__(
        self,
        width: int = 64,
        levels: int = 8,
        patch: int = 70,
        norm: Norm = Norm.batch,
        dropout: float = 0.5,
        l1: float = 100.0,
        learning_rate: float = 2e-4,
        pose_map: PoseMap = PoseMap.gaussian,
        pose_sigma: float = 6.0,
        seed: int = 0,
    ):
        super().__init__()
        reasons = []
        if not isinstance(levels, int) or not 2 <= levels <= 8:
            reasons.append(f"method.levels={levels}: accepted are 2 to 8")
        if patch not in PATCHES:
            reasons.append(f"method.patch={patch}: accepted are {', '.join(map(str, PATCHES))} (pixels)")
        if not is_number(l1, least=0):
            reasons.append(f"method.l1={l1}: accepted is 0 or more")
        refuse(reasons, width=width, dropout=dropout)
        self.l1, self.pose_map, self.pose_sigma = l1, pose_map, pose_sigma
        self.generator = UNet(width, levels, norm, dropout)
        self.discriminator = PatchDiscriminator(width, patch, norm)
        initialise_generator(self.generator, seed)
        initialise_generator(self.discriminator, seed + 1)  # the paper draws both from N(0, 0.02)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimisers["generator"] = adam(self.generator.parameters(), learning_rate)
        self.optimisers["discriminator"] = adam(self.discriminator.parameters(), learning_rate)

    def training_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """A step of the discriminator, at half its loss, then one of the generator, on the same generated images."""
        target = images_to_float(batch.target_image)
        inputs = self._inputs(batch.source_image, batch.source_pose, batch.target_pose)  # [B, 39, H, W]
        with self.autocast():
            generated = self.generator(inputs)  # [B, 3, H, W]
            real = self.discriminator(torch.cat([inputs, target], dim=1))
            fake = self.discriminator(torch.cat([inputs, generated.detach()], dim=1))
        judged = (adversarial_loss(real, True) + adversarial_loss(fake, False)) / 2
        terms = {"discriminator": judged, "gradient_discriminator": self.update("discriminator", judged)}

        self.discriminator.requires_grad_(False)  # the generator's update needs no gradient of its weights
        with self.autocast():
            scores = self.discriminator(torch.cat([inputs, generated], dim=1))
        self.discriminator.requires_grad_(True)
        terms["adversarial"] = adversarial_loss(scores, True)
        terms["l1"] = self.l1 * F.l1_loss(generated.float(), target)
        terms["gradient_generator"] = self.update("generator", terms["adversarial"] + terms["l1"])
        return {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. The seed draws an image's dropout masks."""
        with self.autocast():
            generated = self.generator(self._inputs(source, source_pose, target_pose), seeds)
        return generated.float()

    def _inputs(self, source: Tensor, source_pose: Tensor, target_pose: Tensor) -> Tensor:
        image = images_to_float(source)
        check_resolution(image)
        maps = [pose_maps(pose, image, self.pose_map, self.pose_sigma) for pose in (source_pose, target_pose)]
        return torch.cat([image, *maps], dim=1)
