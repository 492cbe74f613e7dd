"""The component switches of XingGAN++ and which of their combinations make sense. Imports nothing heavy.

The first choice of each is the default: all the defaults together are XingGAN++ (TPAMI 2025), and
`scale=single attention=plain fusion=coattention` is XingGAN (ECCV 2020).
"""

from dataclasses import dataclass
from enum import StrEnum


class Scale(StrEnum):
    """Over which positions of the guiding code a query attends."""

    multi = "multi"  # pyramid-pooled keys and values (MSA, MAS)
    single = "single"  # all positions (SA, AS)


class Attention(StrEnum):
    """What happens to the correlation matrix before its softmax."""

    enhanced = "enhanced"  # the EA module lets correlation vectors agree with one another
    plain = "plain"  # nothing
    none = "none"  # no cross-attention at all: the two codes meet only in the convolutions


class Fusion(StrEnum):
    """How the two codes become one image."""

    dense = "dense"  # candidates and attention maps from every stage's codes
    coattention = "coattention"  # candidates and attention maps from the last stage
    concat = "concat"  # the concatenated codes are decoded straight to an image


class Branches(StrEnum):
    """Which generation branches exist."""

    both = "both"
    appearance = "appearance"  # shape-guided appearance (SA) alone
    shape = "shape"  # appearance-guided shape (AS) alone


class Discriminators(StrEnum):
    """Which discriminators judge the generated image."""

    both = "both"
    appearance = "appearance"  # generated beside source image
    shape = "shape"  # generated beside target pose
    none = "none"


class Norm(StrEnum):
    batch = "batch"  # Market-1501
    instance = "instance"  # DeepFashion, without affine parameters


class AdversarialLoss(StrEnum):
    bce = "bce"  # Market-1501
    lsgan = "lsgan"  # DeepFashion: least squares


class PerceptualNetwork(StrEnum):
    embedded = "embedded"  # trained on synthetic people, committed with the suite
    vgg19 = "vgg19"  # relu1_2 of ImageNet's VGG19, as published; needs its weight file


@dataclass
class LossWeights:
    """lambda_GAN, lambda_L1 and lambda_per with the kinds of their terms; a weight of 0 leaves the term out."""

    adversarial: float = 5.0
    l1: float = 50.0
    perceptual: float = 50.0
    adversarial_kind: AdversarialLoss = AdversarialLoss.bce
    perceptual_network: PerceptualNetwork = PerceptualNetwork.embedded


@dataclass(frozen=True)
class Architecture:
    """Every choice that shapes the generator; `check` says what does not fit together."""

    scale: Scale = Scale.multi
    attention: Attention = Attention.enhanced
    fusion: Fusion = Fusion.dense
    branches: Branches = Branches.both
    blocks: int = 9
    width: int = 64  # channels of the first encoder layer; the codes have 4 * width
    norm: Norm = Norm.batch
    dropout: float = 0.5
    candidates: int = 10  # RGB candidates a branch
    tie_projections: bool = True  # SA and AS share query, key, value and gamma, as in the published code
    pyramid: tuple[int, ...] = (1, 3, 6, 8)  # bins along the shorter side, one number a level

    @property
    def levels(self) -> tuple[int, ...]:
        """Of the pyramid; none with one scale."""
        return tuple(self.pyramid) if self.scale == Scale.multi else ()

    def check(self) -> None:
        """Raise ValueError naming every switch whose value is out of range or has nothing to act on."""
        reasons = []
        if self.attention == Attention.none and self.scale == Scale.single:
            reasons.append(
                "scale=single has nothing to act on when attention=none: leave scale out, or choose attention"
            )
        if self.attention == Attention.none and not self.tie_projections:
            reasons.append("tie_projections=false has nothing to act on when attention=none")
        if self.branches != Branches.both and not self.tie_projections:
            reasons.append(
                f"tie_projections=false has nothing to act on when branches={self.branches}: there is one attention"
            )
        if self.attention == Attention.none and self.branches == Branches.appearance:
            reasons.append("attention=none with branches=appearance: the target pose would never reach the image")
        if not 1 <= self.blocks <= 64:
            reasons.append(f"blocks={self.blocks}: accepted are 1 to 64")
        if self.width < 4 or self.width % 2:
            reasons.append(f"width={self.width}: accepted are even numbers from 4")
        if not 0 <= self.dropout < 1:
            reasons.append(f"dropout={self.dropout}: accepted is 0 up to, not including, 1")
        if self.candidates < 1:
            reasons.append(f"candidates={self.candidates}: accepted is 1 or more")
        if self.scale == Scale.multi and (not self.pyramid or min(self.pyramid) < 1):
            reasons.append(
                f"pyramid={list(self.pyramid)}: accepted is a list of bin counts from 1, such as [1, 3, 6, 8]"
            )
        if reasons:
            raise ValueError("; ".join(reasons))
