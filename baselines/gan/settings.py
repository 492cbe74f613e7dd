"""The settings of each GAN baseline; the defaults are what its authors published for Market-1501. Imports no torch.

Making settings that do not fit raises a ValueError that names all of them.
"""

from dataclasses import dataclass, field
from math import inf

from xinggan.model.switches import (
    AdversarialLoss,
    LossWeights,
    MethodSettings,
    Norm,
    PerceptualNetwork,
    Settings,
    TransferSettings,
)

PATCHES = {16: 1, 34: 2, 70: 3, 142: 4, 286: 5}  # pix2pix: receptive field in pixels -> halvings of the resolution


@dataclass(kw_only=True)
class PATNSettings(TransferSettings):
    """PATN; DeepFashion's loss weights are 5, 1 and 1."""

    losses: LossWeights = field(default_factory=lambda: LossWeights(adversarial=5, l1=10, perceptual=10))


@dataclass(kw_only=True)
class BiGraphSettings(TransferSettings):
    """BiGraphGAN; the loss weights are those of both data sets."""

    losses: LossWeights = field(default_factory=lambda: LossWeights(adversarial=5, l1=10, perceptual=10))
    image_fusion: bool = True  # add the source image, weighted by a map; published for Market-1501 alone


@dataclass(kw_only=True)
class GANSettings(MethodSettings):
    """Settings of the GAN baselines with networks of their own."""

    width: int = 64  # channels of the first level

    def reasons(self) -> list[str]:
        """Extended by the width's range."""
        fits = self.width >= 4 and self.width % 2 == 0
        return [*super().reasons(), *self.misfits(width=(fits, "are even numbers from 4"))]


@dataclass(kw_only=True)
class Pix2PixSettings(GANSettings):
    """pix2pix; the adversarial loss has the weight 1."""

    levels: int = 8  # halvings of the resolution: 256x256 becomes 1x1
    patch: int = 70  # pixels that a score of the discriminator sees
    norm: Norm = Norm.batch
    dropout: float = 0.5  # the generator's noise
    l1: float = 100.0  # weight of the L1 loss, the paper's lambda

    def reasons(self) -> list[str]:
        """Extended by ranges."""
        return super().reasons() + self.misfits(
            levels=(2 <= self.levels <= 8, "are 2 to 8"),
            patch=(self.patch in PATCHES, f"are {', '.join(map(str, PATCHES))} (pixels)"),
            dropout=(0 <= self.dropout < 1, "is 0 up to, not including, 1"),
            l1=(0 <= self.l1 < inf, "is 0 or more"),
        )


@dataclass(kw_only=True)
class PG2Settings(GANSettings):
    """PG2; the adversarial loss has the weight 1."""

    width: int = 128  # channels of the generators' first level; the discriminator's has half
    levels: int = 5  # resolutions of the coarse generator: 128x64 down to 8x4
    coarse_share: float = 0.6  # of the training steps, for stage I
    norm: Norm = Norm.batch  # of the discriminator
    l1: float = 10.0  # weight of stage II's pose mask loss, the paper's lambda
    learning_rate: float = 2e-5

    def reasons(self) -> list[str]:
        """Extended by ranges."""
        return super().reasons() + self.misfits(
            levels=(3 <= self.levels <= 7, "are 3 to 7"),
            coarse_share=(0 <= self.coarse_share <= 1, "is 0 to 1"),
            l1=(0 <= self.l1 < inf, "is 0 or more"),
        )


@dataclass(kw_only=True)
class DeformSettings(GANSettings):
    """Deform; `losses.perceptual` weighs the nearest-neighbour loss, the paper's 0.01 being 37 here: see `Deform`."""

    levels: int = 5  # halvings of the resolution: 128x64 becomes 4x2
    neighbourhood: int = 3  # side of the nearest-neighbour loss's window, pixels
    dropout: float = 0.5
    losses: LossWeights = field(default_factory=lambda: LossWeights(adversarial=1, l1=0, perceptual=37))

    def reasons(self) -> list[str]:
        """Extended by ranges, and by losses that leave nothing to train for."""
        found = super().reasons() + self.misfits(
            levels=(4 <= self.levels <= 8, "are 4 to 8"),
            neighbourhood=(self.neighbourhood in range(1, 10, 2), "are 1, 3, 5, 7, 9 (pixels)"),
            dropout=(0 <= self.dropout < 1, "is 0 up to, not including, 1"),
        )
        if not (self.losses.adversarial or self.losses.l1 or self.losses.perceptual):
            found.append("losses: every weight is 0, so there is nothing to train for")
        return found


@dataclass(kw_only=True)
class ImageGANSettings(Settings):
    """What GFLA, DPTN and NTED have in common: Adam, and losses in the layers of `losses.perceptual_network`."""

    learning_rate: float = 2e-4
    discriminator_rate: float = 0.1  # the discriminator's learning rate, as a share of `learning_rate`
    beta1: float = 0.0  # of Adam
    beta2: float = 0.999
    style: float = 500.0  # weight of the style loss
    losses: LossWeights = field(
        default_factory=lambda: LossWeights(adversarial=2, l1=5, perceptual=0.5, adversarial_kind=AdversarialLoss.lsgan)
    )

    @property
    def caveat(self) -> str:
        """The published losses look through VGG19."""
        network = self.losses.perceptual_network
        return "" if network == PerceptualNetwork.vgg19 else f"{network} losses"

    def reasons(self) -> list[str]:
        """Extended by ranges."""
        betas = {key: (0 <= getattr(self, key) < 1, "is 0 up to, not including, 1") for key in ("beta1", "beta2")}
        rates = ("learning_rate", "discriminator_rate")
        positive = {key: (0 < getattr(self, key) < inf, "is more than 0") for key in rates}
        weights = {"style": (0 <= self.style < inf, "is 0 or more")}
        return super().reasons() + self.misfits(**betas, **positive, **weights)


@dataclass(kw_only=True)
class StretchedSettings(ImageGANSettings, GANSettings):
    """GFLA and DPTN, whose network for DeepFashion works on images stretched to 256x256."""

    discriminator_levels: int = 3  # halvings of the resolution
    size: tuple[int, ...] | None = None  # height and width that images are stretched to; None: they are not

    def reasons(self) -> list[str]:
        """Extended by ranges."""
        fits = self.size is None or (len(self.size) == 2 and all(side >= 16 and side % 4 == 0 for side in self.size))
        return super().reasons() + self.misfits(
            discriminator_levels=(1 <= self.discriminator_levels <= 4, "are 1 to 4"),
            size=(fits, "are a height and a width divisible by 4, from 16, such as [256,256]"),
        )


@dataclass(kw_only=True)
class GFLASettings(StretchedSettings):
    """GFLA as published for DeepFashion; for Market-1501 it had `patches=[3]`."""

    patches: tuple[int, ...] = (5, 3)  # sides of the patches attended to at 1/4 and 1/8 of the resolution, or at 1/4
    flow_share: float = 0.25  # of the training steps, the first ones, which train the flow estimator alone
    correctness: float = 5.0  # weight of the sampling correctness loss
    regularisation: float = 0.0025  # weight of the flow's distance from affine
    augmentation: bool = False  # turn, shift and scale training images, as published for Market-1501
    learning_rate: float = 1e-4

    def reasons(self) -> list[str]:
        """Extended by ranges, and by a perceptual weight of 0: the flow is learnt through that network."""
        sizes = len(self.patches) in (1, 2) and all(size in (3, 5, 7) for size in self.patches)
        weights = ("correctness", "regularisation")
        found = super().reasons() + self.misfits(
            patches=(sizes, "are one or two of 3, 5 and 7, such as [5,3]"),
            flow_share=(0 <= self.flow_share < 1, "is 0 up to, not including, 1"),
            **{key: (0 <= getattr(self, key) < inf, "is 0 or more") for key in weights},
        )
        if not self.losses.perceptual:
            found.append("losses.perceptual=0: accepted is more than 0, as the flow is learnt through that network")
        return found


@dataclass(kw_only=True)
class DPTNSettings(StretchedSettings):
    """DPTN as published for DeepFashion; for Market-1501 it had L1 at 2, the adversarial loss at 5, a share of 0.8."""

    target_share: float = 0.5  # of the losses between images, for the target; the rest is the reconstruction's
    beta1: float = 0.5

    def reasons(self) -> list[str]:
        """Extended by the share's range."""
        return super().reasons() + self.misfits(target_share=(0 < self.target_share <= 1, "is more than 0, up to 1"))


@dataclass(kw_only=True)
class NTEDSettings(ImageGANSettings):
    """NTED as published for DeepFashion at 256x176. `style` is counted in units of the perceptual loss's weight."""

    channels: tuple[int, ...] = (128, 256, 512, 512, 512)  # at the image's resolution and after each halving
    labels: tuple[int, ...] = (64, 64, 32, 16)  # neural textures after each halving
    attention: float = 15.0  # weight of the attention reconstruction loss
    face: float = 1.0  # weight of the perceptual loss around the eyes
    adversarial_after: int = 20000  # steps before the discriminator comes in
    scaling: float = 1.1  # training images are enlarged by up to so much, and cropped; 1: they are not
    learning_rate: float = 2e-3
    discriminator_rate: float = 1.0
    beta2: float = 0.99
    losses: LossWeights = field(default_factory=lambda: LossWeights(adversarial=1.5, l1=0, perceptual=2))

    def reasons(self) -> list[str]:
        """Extended by ranges."""
        levels = len(self.labels) in range(2, 6) and len(self.channels) == len(self.labels) + 1
        accepted = "are 3 to 6 numbers from 4, one more than labels"
        found = super().reasons() + self.misfits(
            channels=(levels and min(self.channels) >= 4, accepted),
            labels=(bool(self.labels) and min(self.labels) >= 1, "are 2 to 5 numbers from 1"),
            adversarial_after=(self.adversarial_after >= 0, "is 0 or more"),
            scaling=(1 <= self.scaling <= 2, "is 1 to 2"),
            **{key: (0 <= getattr(self, key) < inf, "is 0 or more") for key in ("attention", "face")},
        )
        if not (self.losses.l1 or self.losses.perceptual):
            found.append("losses: neither l1 nor perceptual has a weight, so nothing says what the image is to be")
        return found
