"""Protocols: everything that has to be fixed before a metric is a number, as plain values.

Two tables of the literature that both say "SSIM" may differ in window, data range and padding; a protocol names these
choices once, and every value of a run record carries its own. `CLEAN` is the suite's default; `POSE_TRANSFER` is what
the tables of PG2 ... XingGAN were computed with, `GFLA` those of GFLA, PIDM and CFLD.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from xinggan.metrics.catalogue import METRICS

LPIPS_NETWORKS = ("alex", "vgg", "squeeze")  # the first is the default
GENERATED_RANGE = "max - min of the generated image"  # a data range that every pair has its own of
INSIDE_THE_MASK = "SSIM map averaged over the mask's pixels, borders of the image included"
MULTIPLIED = "both images set to 0 outside the mask, mean of the whole frame"


@dataclass(frozen=True)
class SsimSettings:
    """Structural similarity (Wang et al., 2004) as scikit-image computes it.

    The window is Gaussian, or uniform where `uniform_window_px` is given instead of `sigma_px` and `truncate`. Raises
    ValueError for a choice that does not exist.
    """

    sigma_px: float | None = 1.5  # standard deviation of the Gaussian window
    truncate: float | None = 3.5  # the window ends after so many standard deviations: 11x11 pixels for 1.5
    covariance: str = "population"  # divided by the window's pixels; "sample": by one less
    k1: float = 0.01
    k2: float = 0.03
    data_range: float | str = 255.0  # a number, or GENERATED_RANGE
    channels: str = "mean of R, G, B"
    border: str = "reflected for the map; the outermost window radius is left out of the whole image's mean"
    uniform_window_px: int | None = None  # side of the window, odd
    white_columns: int | None = None  # added on the left and as many on the right of both images first
    high: float | None = None  # images are on [0, high]; None: bytes, [0, 255]

    def __post_init__(self) -> None:
        uniform = self.uniform_window_px is not None
        if (self.sigma_px is None) != uniform or (self.truncate is None) != uniform:
            raise ValueError(
                "an SSIM window is Gaussian (sigma_px and truncate) or uniform (uniform_window_px), not both"
            )
        if self.uniform_window_px is not None and (self.uniform_window_px < 3 or self.uniform_window_px % 2 == 0):
            raise ValueError(f"uniform_window_px is an odd number of at least 3 pixels, not {self.uniform_window_px}")
        if self.covariance not in ("population", "sample"):
            raise ValueError(f"covariance is population or sample, not {self.covariance!r}")
        if isinstance(self.data_range, str) and self.data_range != GENERATED_RANGE:
            raise ValueError(f"data_range is a number or {GENERATED_RANGE!r}, not {self.data_range!r}")

    @property
    def radius_px(self) -> int:
        """Pixels from the window's centre to its edge."""
        if self.uniform_window_px is not None:
            return self.uniform_window_px // 2
        assert self.sigma_px is not None and self.truncate is not None  # one of the two windows is there
        return int(self.truncate * self.sigma_px + 0.5)

    @property
    def window_px(self) -> int:
        """Side of the window."""
        return 2 * self.radius_px + 1

    @property
    def window(self) -> str:
        """The window's kind and size in words."""
        kind = "uniform" if self.sigma_px is None else f"Gaussian of sigma {self.sigma_px:g}"
        return f"{kind}, {self.window_px}x{self.window_px} pixels"

    def misfit(self, height: int, width: int) -> str | None:
        """The reason why images of this size have no SSIM under these settings; None where they have."""
        if min(height, width + 2 * (self.white_columns or 0)) >= self.window_px:
            return None
        return f"the images ({height}x{width}) are too small for SSIM's window ({self.window})"

    @property
    def in_words(self) -> str:
        """Window, data range and padding, for a reader who compares protocols."""
        spread = self.data_range if isinstance(self.data_range, str) else f"{self.data_range:g}"
        padding = f", {self.white_columns} white columns added on each side" if self.white_columns else ""
        return f"{self.window}, data range {spread}{padding}"

    @classmethod
    def uniform(cls, window_px: int, **other: Any) -> "SsimSettings":
        """A uniform window with what scikit-image pairs it with by default: sample covariance."""
        choices = {"covariance": "sample"} | other
        return cls(sigma_px=None, truncate=None, uniform_window_px=window_px, **choices)


@dataclass(frozen=True)
class MaskSettings:
    """The restriction of a metric to the body mask of the target pose."""

    mask: str = "limbs and joints of the target pose drawn 4 pixels wide"
    ssim_inside: str = INSIDE_THE_MASK  # or MULTIPLIED
    is_inside: str = "pixels outside the mask set to 0"

    def __post_init__(self) -> None:
        if self.ssim_inside not in (INSIDE_THE_MASK, MULTIPLIED):
            raise ValueError(f"ssim_inside is {INSIDE_THE_MASK!r} or {MULTIPLIED!r}, not {self.ssim_inside!r}")


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
    """A named set of choices, one group for each family of metrics, and the metrics that it defines.

    A group of a metric that `metrics` does not name is not used. What is None does not apply.
    """

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
    metrics: tuple[str, ...] = tuple(name for name in METRICS if name not in ("ssim_window51", "fid_imagenet"))
    resize: str = "none; a feature network resizes to its own input"
    ssim_window51: SsimSettings | None = None
    lpips_net: str | None = None  # None: whoever scores chooses
    feature_network: str | None = None  # of metrics of whole sets
    reference: str | None = None  # what sets of generated images are compared with


def plain(settings: Any) -> dict[str, Any]:
    """A dataclass of settings as nested plain values, without what does not apply."""
    return asdict(settings, dict_factory=lambda items: {name: value for name, value in items if value is not None})


CLEAN = Protocol(name="clean")

POSE_TRANSFER = Protocol(
    name="pose-transfer",
    ssim=SsimSettings(data_range=GENERATED_RANGE),
    mask=MaskSettings(ssim_inside=MULTIPLIED),
    l1=RangeSettings(-1.0, 1.0),
    metrics=(
        *("ssim", "mask_ssim", "l1", "is", "is_real", "mask_is"),
        *("pckh", "pckh_real", "pckh_embedded", "pckh_embedded_real"),
    ),
    feature_network="Inception 2015-12-05",
)
# DeepFashion's images of 256x176 pixels were scored at 256x256; Mask-SSIM is of the frame as it is.
POSE_TRANSFER_DEEPFASHION = replace(POSE_TRANSFER, ssim=replace(POSE_TRANSFER.ssim, white_columns=40))

GFLA = Protocol(
    name="gfla",
    ssim=SsimSettings(sigma_px=1.2, data_range=1.0, high=1.0),
    ssim_window51=SsimSettings.uniform(51, data_range=1.0, high=1.0),
    metrics=("ssim", "ssim_window51", "l1", "lpips", "fid_imagenet"),
    lpips_net="alex",
    feature_network="torchvision's Inception-v3 with ImageNet weights",
    reference="all images of the training list",
)


def protocols_for(dataset: str) -> dict[str, Protocol]:
    """Every protocol by its name, as the literature used it on a data set ("deepfashion" is padded, others are not)."""
    pose_transfer = POSE_TRANSFER_DEEPFASHION if dataset == "deepfashion" else POSE_TRANSFER
    return {protocol.name: protocol for protocol in (CLEAN, pose_transfer, GFLA)}


PROTOCOLS = tuple(protocols_for("any"))  # their names
