"""The component switches of XingGAN++, and the settings that shape and train it. Imports nothing heavy.

The first choice of each switch is the default: all the defaults together are XingGAN++ (TPAMI 2025), and
`scale=single attention=plain fusion=coattention` is XingGAN (ECCV 2020).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from math import inf

from xinggan.data.settings import PoseMap


class Scale(StrEnum):
    """The regions of the guiding code that a query attends to."""

    multi = "multi"  # the bins of a pyramid of grids (MSA, MAS)
    single = "single"  # all positions (SA, AS)


class Attention(StrEnum):
    """The refinement of the correlation matrix before its softmax."""

    enhanced = "enhanced"  # an inner attention between correlation vectors (EA)
    aiatrack = "aiatrack"  # the inner attention of AiATrack as published, which fits one resolution
    plain = "plain"  # nothing
    none = "none"  # no cross-attention at all: the two codes meet only in the convolutions


class Fusion(StrEnum):
    """The fusion of the two codes into one image."""

    dense = "dense"  # candidates and attention maps from every stage's codes
    coattention = "coattention"  # candidates and attention maps from the last stage
    concat = "concat"  # the concatenated codes are decoded straight to an image


class Branches(StrEnum):
    """The generation branches that exist."""

    both = "both"
    appearance = "appearance"  # shape-guided appearance (SA) alone
    shape = "shape"  # appearance-guided shape (AS) alone


class Discriminators(StrEnum):
    """The discriminators that the generator is trained against."""

    both = "both"
    appearance = "appearance"  # generated beside source image
    shape = "shape"  # generated beside target pose
    none = "none"


class Norm(StrEnum):
    """Normalisation of generator and discriminators."""

    batch = "batch"  # Market-1501
    instance = "instance"  # DeepFashion, without affine parameters


class AdversarialLoss(StrEnum):
    """The adversarial loss."""

    bce = "bce"  # Market-1501: binary cross-entropy
    lsgan = "lsgan"  # DeepFashion: least squares


class PerceptualNetwork(StrEnum):
    """The frozen network that the perceptual loss compares features of."""

    embedded = "embedded"  # trained on synthetic people, committed with the suite
    vgg19 = "vgg19"  # relu1_2 of ImageNet's VGG19, as published; needs its weight file
    untrained = "untrained"  # VGG19 with fresh weights: costs as much, teaches nothing; to time training


@dataclass(kw_only=True)
class LossWeights:
    """lambda_GAN, lambda_L1 and lambda_per with the kinds of their terms; a weight of 0 leaves the term out."""

    adversarial: float = 5.0
    l1: float = 50.0
    perceptual: float = 50.0
    adversarial_kind: AdversarialLoss = AdversarialLoss.bce
    perceptual_network: PerceptualNetwork = PerceptualNetwork.embedded

    def __post_init__(self) -> None:
        """Raise ValueError for a weight that is negative or not finite, and for an unknown kind."""
        self.adversarial_kind = AdversarialLoss(self.adversarial_kind)
        self.perceptual_network = PerceptualNetwork(self.perceptual_network)
        refuse(
            f"losses.{key}={getattr(self, key):g}: accepted is 0 (the term is left out) or more"
            for key in ("adversarial", "l1", "perceptual")
            if not 0 <= getattr(self, key) < inf
        )


@dataclass(kw_only=True)
class Settings:
    """Settings of a method, checked when they are made."""

    seed: int = 0  # of the initial weights

    def __post_init__(self) -> None:
        """Raise ValueError naming every setting that is out of range or does not fit the others."""
        refuse(self.reasons())
        for key, kind in self._choices().items():
            setattr(self, key, kind(getattr(self, key)))  # from the word

    @property
    def caveat(self) -> str:
        """What makes these settings another method than the published one, such as "embedded losses"; "": nothing.

        Wherever the method is named, the caveat stands behind its name in parentheses.
        """
        return ""

    def reasons(self) -> list[str]:
        """One sentence for each setting that is wrong; a subclass extends the list."""
        found = []
        for key, kind in self._choices().items():
            found += self.misfits(**{key: (getattr(self, key) in list(kind), f"are {', '.join(kind)}")})
        return found

    def _choices(self) -> dict[str, type[StrEnum]]:
        """The enumeration of each key that takes one."""
        return {each.name: type(each.default) for each in fields(self) if isinstance(each.default, StrEnum)}

    def misfits(self, **checks: tuple[bool, str]) -> list[str]:
        """A sentence for each key whose check is false. checks: key -> (whether it fits, "is 0 or more")."""
        wrong = {key: accepted for key, (fits, accepted) in checks.items() if not fits}
        return [f"{key}={getattr(self, key)}: accepted {accepted}" for key, accepted in wrong.items()]


@dataclass(kw_only=True)
class MethodSettings(Settings):
    """Settings of every trained method: the learning rate, and how a pose becomes maps."""

    learning_rate: float = 2e-4  # of Adam
    pose_map: PoseMap = PoseMap.gaussian
    pose_sigma: float = 6.0  # of a joint's Gaussian, pixels

    def reasons(self) -> list[str]:
        """Extended by what has to be positive."""
        positive = {key: (0 < getattr(self, key) < inf, "is more than 0") for key in ("learning_rate", "pose_sigma")}
        return [*super().reasons(), *self.misfits(**positive)]


@dataclass(kw_only=True)
class TransferSettings(MethodSettings):
    """Settings that XingGAN, PATN and BiGraphGAN have in common: encoders, blocks, discriminators, losses.

    Adam has the betas (0.5, 0.999).
    """

    width: int = 64  # channels of the first encoder layer; the codes have 4 * width
    blocks: int = 9  # T, the stages between encoders and decoder
    norm: Norm = Norm.batch
    dropout: float = 0.5
    discriminators: Discriminators = Discriminators.both
    losses: LossWeights = field(default_factory=LossWeights)
    history: int = 50  # generated images in each discriminator's pool

    def reasons(self) -> list[str]:
        """Extended by ranges, and by losses that leave nothing to train for."""
        found = super().reasons() + self.misfits(
            blocks=(1 <= self.blocks <= 64, "are 1 to 64"),
            width=(self.width >= 4 and self.width % 2 == 0, "are even numbers from 4"),
            dropout=(0 <= self.dropout < 1, "is 0 up to, not including, 1"),
            history=(self.history >= 0, "is 0 or more"),
        )
        adversarial = self.losses.adversarial and self.discriminators != Discriminators.none
        if not (adversarial or self.losses.l1 or self.losses.perceptual):
            found.append("losses: every weight is 0 or has no discriminator, so there is nothing to train for")
        return found


@dataclass(kw_only=True)
class XingGANSettings(TransferSettings):
    """Settings of XingGAN++; `xinggan` gives those of XingGAN."""

    scale: Scale = Scale.multi
    attention: Attention = Attention.enhanced
    fusion: Fusion = Fusion.dense
    branches: Branches = Branches.both
    pyramid: tuple[int, ...] = (1, 3, 6, 8)  # bins along the shorter side of each of the pyramid's grids
    candidates: int = 10  # RGB candidates a branch
    tie_projections: bool = True  # SA and AS share query, key, value, gamma and EA, as in the published code
    code_size: tuple[int, int] | None = None  # rows and columns of the codes, for which attention=aiatrack is built

    def reasons(self) -> list[str]:
        """Extended by switches that do not fit together."""
        found = super().reasons()
        no_attention = self.attention == Attention.none
        if no_attention and self.scale == Scale.single:
            found.append("scale=single has nothing to act on when attention=none: leave scale out, or choose attention")
        if no_attention and not self.tie_projections:
            found.append("tie_projections=false has nothing to act on when attention=none")
        if self.branches != Branches.both and not self.tie_projections:
            only = f"branches={self.branches}: there is one attention"
            found.append(f"tie_projections=false has nothing to act on when {only}")
        if no_attention and self.branches == Branches.appearance:
            found.append("attention=none with branches=appearance: the target pose would never reach the image")
        if self.attention == Attention.aiatrack and self.code_size is None:
            found.append("attention=aiatrack is built for one resolution: give dataset.height= and dataset.width=")
        if self.candidates < 1:
            found.append(f"candidates={self.candidates}: accepted is 1 or more")
        if self.scale == Scale.multi and (not self.pyramid or min(self.pyramid) < 1):
            accepted = "a list of bin counts from 1, such as [1, 3, 6, 8]"
            found.append(f"pyramid={list(self.pyramid)}: accepted is {accepted}")
        return found


@dataclass(kw_only=True)
class PublishedSettings:
    """A checkpoint of the published code, and how joints are drawn for it."""

    path: str
    sha256: str | None = None  # of the file, checked if given
    pose_map: PoseMap | None = None  # None: what the file was trained with
    pose_sigma: float = 6.0  # of a joint's Gaussian, pixels

    def __post_init__(self) -> None:
        """Raise ValueError for a sigma that is not positive."""
        refuse([f"pose_sigma={self.pose_sigma}: accepted is more than 0"] if not 0 < self.pose_sigma < inf else [])


def xinggan(**changes) -> XingGANSettings:
    """Settings of XingGAN (ECCV 2020), with `changes`."""
    switches = {"scale": Scale.single, "attention": Attention.plain, "fusion": Fusion.coattention}
    return XingGANSettings(**switches | changes)


def refuse(reasons: Iterable[str]) -> None:
    """Raise ValueError with all the reasons in one message, if there are any."""
    if found := list(reasons):
        raise ValueError("; ".join(found))
