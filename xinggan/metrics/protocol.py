"""Protocols: everything that has to be fixed before a metric is a number, as plain values.

Two tables of the literature that both say "SSIM" may differ in window, data range and padding; a protocol names these
choices once, and every value of a run record carries its own. `CLEAN` is the suite's default.
"""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class SsimSettings:
    """Structural similarity (Wang et al., 2004) as scikit-image computes it with a Gaussian window."""

    sigma_px: float = 1.5  # standard deviation of the Gaussian window
    truncate: float = 3.5  # the window ends after so many standard deviations: 11x11 pixels for 1.5
    covariance: str = "population"
    k1: float = 0.01
    k2: float = 0.03
    data_range: float = 255.0
    channels: str = "mean of R, G, B"
    border: str = "reflected for the map; the outermost window radius is left out of the whole image's mean"

    @property
    def radius_px(self) -> int:
        """Pixels from the window's centre to its edge."""
        return int(self.truncate * self.sigma_px + 0.5)


@dataclass(frozen=True)
class MaskSettings:
    """How the body mask of the target pose restricts a metric."""

    mask: str = "limbs and joints of the target pose drawn 4 pixels wide"
    ssim_inside: str = "SSIM map averaged over the mask's pixels, borders of the image included"
    is_inside: str = "pixels outside the mask set to 0"


@dataclass(frozen=True)
class RangeSettings:
    """The value range in which differences of pixels are measured."""

    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True)
class InceptionScoreSettings:
    """Inception score (Salimans et al., 2016) as torch-fidelity computes it."""

    splits: int = 10
    shuffle_seed: int = 2020


@dataclass(frozen=True)
class KernelSettings:
    """Kernel distance (Bińkowski et al., 2018): mean over subsets, polynomial kernel of degree 3."""

    subsets: int = 100
    subset_size: int = 1000  # or the smaller set's size where that is less; the value's protocol has the size used
    degree: int = 3
    gamma: str = "1 / number of features"
    offset: float = 1.0
    seed: int = 2020


@dataclass(frozen=True)
class ManifoldSettings:
    """Precision and recall (Kynkäänniemi et al., 2019)."""

    neighbourhood: int = 3


@dataclass(frozen=True)
class PckhSettings:
    """PCKh by the head box of the target pose: nose, neck, eyes and ears."""

    tolerance: float = 0.5  # of the head box's width along x and of its height along y, strictly less
    head_joints_needed: int = 2  # images whose target shows fewer are left out
    absent_joints: str = "a joint that the estimator calls absent counts as wrong"


@dataclass(frozen=True)
class Protocol:
    """A named set of choices, one group for each family of metrics."""

    name: str
    quantisation: str = "uint8 before anything is measured"
    ssim: SsimSettings = field(default_factory=SsimSettings)
    mask: MaskSettings = field(default_factory=MaskSettings)
    l1: RangeSettings = field(default_factory=RangeSettings)
    psnr: RangeSettings = field(default_factory=RangeSettings)
    inception_score: InceptionScoreSettings = field(default_factory=InceptionScoreSettings)
    kernel: KernelSettings = field(default_factory=KernelSettings)
    manifold: ManifoldSettings = field(default_factory=ManifoldSettings)
    pckh: PckhSettings = field(default_factory=PckhSettings)

    def as_dict(self) -> dict[str, Any]:
        """All choices as nested plain values, for JSON."""
        return asdict(self)


CLEAN = Protocol(name="clean")
