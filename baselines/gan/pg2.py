"""PG2: "Pose Guided Person Image Generation" (Ma et al., NeurIPS 2017).

Implemented: stage I, a U-Net of residual blocks with a fully connected bottleneck that makes a coarse image from the
source image and the target pose maps, trained on the pose mask loss (section 3.1); stage II, a second network that
adds a difference map to it, trained against a discriminator of pairs (3.2). First stage I is trained, then, with it
fixed, stage II and the discriminator. As published: channels grow by `width` a level, ReLU without any norm in the
generators, stage II has two levels less and no skip at full resolution, a DCGAN discriminator of 5x5 convolutions.

Where paper and published code differ, this is the paper: the discriminator sees generated (or target) image beside the
source image, where the code shows it single images and has it reject source images too; the mask loss is in both
stages. Chosen here: what is fully connected sees a grid of 8x4, to which maps of other sizes are pooled (at 128x64 they
have it; no weight depends on the image size); the last layer of stage II starts at zero, so that the image is the
coarse one until stage II begins; weights are Xavier's, which the code's library takes where nothing is said.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.gan.settings import PG2Settings
from xinggan.data.batch import PosePair, images_to_float
from xinggan.data.poses import JOINTS
from xinggan.model.blocks import check_resolution, initialise_generator, normalisation, pad_to_multiple
from xinggan.model.losses import adversarial_loss
from xinggan.model.method import Method, adam
from xinggan.model.switches import Norm

GRID = (8, 4)  # rows and columns of what is fully connected
CODE = 64  # numbers in the fully connected bottleneck


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the size (divided by `stride`), then ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.ReLU())


class DoubleConvolution(nn.Sequential):
    """Two 3x3 convolutions, each with ReLU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(convolution(inputs, outputs), convolution(outputs, outputs))


class ResidualBlock(nn.Module):
    """The features plus two convolutions of them."""

    def __init__(self, channels: int):
        super().__init__()
        self.block = DoubleConvolution(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.block(features)


class LevelGenerator(nn.Module):
    """The way down of both generators: `encoder` has a block a level, `down` a convolution between two levels."""

    first: nn.Module
    encoder: nn.ModuleList
    down: nn.ModuleList

    def encoded(self, inputs: Tensor) -> list[Tensor]:
        """The features of each level, [B, (level + 1) * width, H / 2**level, W / 2**level] of the padded inputs."""
        features, levels = self.first(pad_to_multiple(inputs, 2 ** len(self.down))), []
        for level, encode in enumerate(self.encoder):
            features = encode(self.down[level - 1](features) if level else features)
            levels.append(features)
        return levels


class CoarseGenerator(LevelGenerator):
    """Stage I: source image and target pose maps [B, 21, H, W] -> coarse image [B, 3, H, W], not bounded."""

    def __init__(self, width: int = 128, levels: int = 5):
        super().__init__()
        self.levels, self.width = levels, width
        channels = [width * (level + 1) for level in range(levels)]
        joined = [*(2 * number for number in channels[:-1]), channels[-1] + width]  # decoder's features beside a skip
        self.first = convolution(3 + len(JOINTS), width)
        self.encoder = nn.ModuleList(ResidualBlock(number) for number in channels)
        self.down = nn.ModuleList(convolution(i, o, stride=2) for i, o in pairwise(channels))
        self.code = nn.Linear(channels[-1] * GRID[0] * GRID[1], CODE)
        self.spread = nn.Linear(CODE, width * GRID[0] * GRID[1])
        self.decoder = nn.ModuleList(ResidualBlock(number) for number in joined)
        self.up = nn.ModuleList(convolution(i, o, kernel=1) for i, o in zip(joined[1:], channels[:-1], strict=True))
        self.image = nn.Conv2d(joined[0], 3, 3, padding=1)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: [B, 21, H, W]. Returns [B, 3, H, W]."""
        height, width = inputs.shape[-2:]
        skips = self.encoded(inputs)
        code = self.code(F.adaptive_avg_pool2d(skips[-1], GRID).flatten(1))  # [B, 64]
        features = self.spread(code).unflatten(1, (self.width, *GRID))
        features = F.interpolate(features, skips[-1].shape[-2:])  # [B, width, h, w]
        for level in reversed(range(self.levels)):
            features = self.decoder[level](torch.cat([features, skips[level]], dim=1))
            if level > 0:  # pointwise, so it may as well come before the enlarging
                features = F.interpolate(self.up[level - 1](features), scale_factor=2)
        return self.image(features)[..., :height, :width]


class RefinementGenerator(LevelGenerator):
    """Stage II: coarse and source image [B, 6, H, W] -> difference map [B, 3, H, W]."""

    def __init__(self, width: int = 128, levels: int = 3):
        super().__init__()
        self.levels = levels
        channels = [width * (level + 1) for level in range(levels)]
        skipped = [0, *channels[1:-1]][: levels - 1]  # none at full resolution; the lowest level has nothing to skip
        joined = [*(width + number for number in skipped), channels[-1]]
        self.first = convolution(6, width)
        self.encoder = nn.ModuleList(DoubleConvolution(i, o) for i, o in pairwise([width, *channels]))
        self.down = nn.ModuleList(convolution(number, number, stride=2) for number in channels[:-1])
        self.decoder = nn.ModuleList(DoubleConvolution(number, width) for number in joined)
        self.difference = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: [B, 6, H, W]. Returns [B, 3, H, W]."""
        height, width = inputs.shape[-2:]
        skips = self.encoded(inputs)
        features = self.decoder[-1](skips[-1])  # [B, width, h, w]
        for level in reversed(range(self.levels - 1)):
            features = F.interpolate(features, scale_factor=2)
            if level > 0:
                features = torch.cat([features, skips[level]], dim=1)
            features = self.decoder[level](features)
        return self.difference(features)[..., :height, :width]


class PairDiscriminator(nn.Sequential):
    """Generated or target image beside the source image [B, 6, H, W] -> score [B, 1] before any sigmoid."""

    def __init__(self, width: int = 64, halvings: int = 4, norm: str = Norm.batch):
        channels = [width * min(2**level, 8) for level in range(halvings)]
        layers: list[nn.Module] = [nn.Conv2d(6, width, 5, 2, 2), nn.LeakyReLU(0.2)]
        for inputs, outputs in pairwise(channels):
            layers += [nn.Conv2d(inputs, outputs, 5, 2, 2), normalisation(norm, outputs), nn.LeakyReLU(0.2)]
        last = nn.Linear(channels[-1] * GRID[0] * GRID[1], 1)
        super().__init__(*layers, nn.AdaptiveAvgPool2d(GRID), nn.Flatten(), last)


def pose_mask_loss(generated: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference, doubled on the target pose's body (eq. 1). mask: bool [B, 1, H, W]. Returns []."""
    return ((generated.float() - target).abs() * (1 + mask.float())).mean()


class PG2(Method):
    """PG2 in its own training: stage I for the first `coarse_share` of the planned steps, then stage II."""

    averaged = ("coarse", "refinement")
    checkpointed = (ResidualBlock, DoubleConvolution)

    def __init__(self, settings: PG2Settings | None = None):
        super().__init__()
        self.settings = s = settings or PG2Settings()
        self.coarse = CoarseGenerator(s.width, s.levels)
        self.refinement = RefinementGenerator(s.width, s.levels - 2)
        self.discriminator = PairDiscriminator(s.width // 2, s.levels - 1, s.norm)
        random = torch.Generator().manual_seed(s.seed)
        for module in (*self.coarse.modules(), *self.refinement.modules()):
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_uniform_(module.weight, generator=random)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.refinement.difference.weight)
        initialise_generator(self.discriminator, s.seed + 1)  # N(0, 0.02), as DCGAN's
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for name in ("coarse", "refinement", "discriminator"):
            self.optimisers[name] = adam(getattr(self, name).parameters(), s.learning_rate)

    def training_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """A step of stage I or II, each with losses of its own."""
        target = images_to_float(batch.target_image)
        source, inputs = self.inputs(batch.source_image, batch.target_pose)
        if step >= round(self.settings.coarse_share * self.planned_steps):
            return self._refine(source, inputs, target, batch.target_mask)
        with self.autocast():
            coarse = self.coarse(inputs)
        loss = pose_mask_loss(coarse, target, batch.target_mask)
        return {"l1_coarse": loss.detach(), "gradient_coarse": self.update("coarse", loss)}

    def _refine(self, source: Tensor, inputs: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """A step of stage II: the refinement generator, then the discriminator on the same images."""
        with self.autocast():
            with torch.no_grad():  # stage I stays as it is
                coarse = self.coarse(inputs)
            refined = coarse + self.refinement(torch.cat([coarse, source], dim=1))
            self.discriminator.requires_grad_(False)  # the generator's update needs no gradient of its weights
            _, fake = self.scores(target, refined, source)
        terms = {
            "adversarial": adversarial_loss(fake, True),
            "l1": self.settings.l1 * pose_mask_loss(refined, target, mask),
        }
        terms["gradient_refinement"] = self.update("refinement", terms["adversarial"] + terms["l1"])
        self.discriminator.requires_grad_(True)
        with self.autocast():
            real, fake = self.scores(target, refined.detach(), source)
        terms["discriminator"] = adversarial_loss(real, True) + adversarial_loss(fake, False)
        terms["gradient_discriminator"] = self.update("discriminator", terms["discriminator"])
        return {name: term.detach() for name, term in terms.items()}

    def scores(self, target: Tensor, refined: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """The discriminator's scores [B, 1] of target and of refined images [B, 3, H, W].

        Both are one batch: with a batch each, BatchNorm would remove the difference of their means.
        """
        pairs = torch.cat([torch.cat([target, refined]), source.repeat(2, 1, 1, 1)], dim=1)  # [2 B, 6, H, W]
        real, fake = self.discriminator(pairs).chunk(2)
        return real, fake

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. The source pose and the seeds change nothing: PG2 is given neither pose nor noise."""
        image, inputs = self.inputs(source, target_pose)
        with self.autocast():
            coarse = self.coarse(inputs)
            refined = coarse + self.refinement(torch.cat([coarse, image], dim=1))
        return refined.float().clamp(-1, 1)

    def inputs(self, source: Tensor, target_pose: Tensor) -> tuple[Tensor, Tensor]:
        """The source image [B, 3, H, W] and stage I's input [B, 21, H, W]."""
        image = images_to_float(source)
        check_resolution(image)
        maps = self.pose_maps(target_pose, image)
        return image, torch.cat([image, maps], dim=1)
