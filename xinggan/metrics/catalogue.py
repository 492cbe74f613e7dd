"""Every metric the suite knows: its name in run records, its title in tables and which direction is better.

This is the one place for a metric's direction; `docs/metrics.md` says what each asks. Metrics that compare two sets of
images exist three times: against the real test targets (`fid`), against the training images (`fid_train`), and with the
real test targets in the generated images' place (`fid_real`), which is what a perfect method would reach against the
training images.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Metric:
    """A metric's name and what a reader of its values has to know; how it is computed stands in the protocol."""

    name: str  # in metrics.json and per_image.parquet
    title: str  # in tables and figures
    higher_is_better: bool | None  # None: not known
    unit: str = ""  # "" for a plain number
    per_image: bool = False  # whether every test pair has a value of its own
    features: int = 0  # of a Fréchet distance's network: the covariance of fewer images is singular
    unbiased: bool = False  # an estimate of a distance that may therefore fall below zero


PER_PAIR = (
    Metric("ssim", "SSIM", True),
    Metric("ssim_window51", "SSIM (window 51)", True),
    Metric("mask_ssim", "Mask-SSIM", True),
    Metric("psnr", "PSNR", True, unit="dB"),
    Metric("l1", "L1", False),
    Metric("lpips", "LPIPS", False),
    Metric("perceptual_embedded", "Perceptual distance (embedded)", False),  # uncalibrated, not LPIPS
    Metric("attributes_embedded", "Attribute agreement (embedded)", True),
    Metric("pckh", "PCKh", True),
    Metric("pckh_real", "PCKh of real images", True),  # the ceiling of pckh, as its estimator is not perfect
    Metric("pckh_embedded", "PCKh (embedded)", True),
    Metric("pckh_embedded_real", "PCKh (embedded) of real images", True),
)
ONE_SET = (
    Metric("is", "IS", True),
    Metric("is_real", "IS of real images", True),
    Metric("mask_is", "Mask-IS", True),
    Metric("is_embedded", "IS (embedded)", True),
    Metric("is_embedded_real", "IS (embedded) of real images", True),
)
TWO_SETS = (
    Metric("fid", "FID", False, features=2048),
    Metric("kid", "KID", False, unbiased=True),
    Metric("precision", "Precision", True),
    Metric("recall", "Recall", True),
    Metric("fd_embedded", "FD (embedded)", False, features=128),
    Metric("kd_embedded", "KD (embedded)", False, unbiased=True),
    Metric("precision_embedded", "Precision (embedded)", True),
    Metric("recall_embedded", "Recall (embedded)", True),
)
REFERENCES = {"": "", "_train": " to training images", "_real": " of real images to training images"}  # name -> title

# The FID of the tables of GFLA, PIDM and CFLD: another network, and one reference only.
FID_IMAGENET = Metric("fid_imagenet", "FID (ImageNet Inception)", False, features=2048)

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        *(replace(metric, per_image=True) for metric in PER_PAIR),
        *ONE_SET,
        *(
            replace(metric, name=metric.name + suffix, title=metric.title + words)
            for metric in TWO_SETS
            for suffix, words in REFERENCES.items()
        ),
        FID_IMAGENET,
    )
}

GROUPS = (
    "Each generated image beside its target",
    "All generated images together",
    "Against the training images",
    "The real test images under the same metrics: what a perfect method would reach",
)


def known(name: str) -> Metric:
    """The metric of a name. One of another version, unknown here, has its bare name as title and no direction."""
    return METRICS.get(name) or Metric(name, name, None, per_image=True)


def title(name: str) -> str:
    """Name of the metric in tables and figures."""
    return known(name).title


def unit(name: str) -> str:
    """Unit of the metric's values, "" for plain numbers."""
    return known(name).unit


def higher_is_better(name: str) -> bool | None:
    """Direction of the metric; None for an unknown one."""
    return known(name).higher_is_better


def caution(name: str, value: float, n: int | None) -> str | None:
    """What a reader must know of a value that comes from `n` images; None where nothing is unusual about it."""
    metric = known(name)
    if n is not None and n < metric.features:
        return f"from {n:g} images, fewer than the network's {metric.features} features: mostly too large"
    return "an unbiased estimate, which may fall below zero" if metric.unbiased and value < 0 else None


def heading(name: str) -> str:
    """Title, unit and an arrow to where better values are, for the head of a column: `PSNR [dB] ↑`."""
    arrow = {True: " ↑", False: " ↓", None: ""}[higher_is_better(name)]
    return title(name) + (f" [{unit(name)}]" if unit(name) else "") + arrow


def direction(name: str) -> str:
    """Unit and where better values are, for an axis whose panel has the metric's title."""
    measured_in = f"{unit(name)}, " if unit(name) else ""
    words = {True: f"{measured_in}higher is better →", False: f"← {measured_in}lower is better", None: unit(name)}
    return words[higher_is_better(name)]


def group(name: str) -> str:
    """The table that the metric stands in, one of GROUPS."""
    if name.endswith("_real"):
        return GROUPS[3]
    if name.endswith("_train") or name == FID_IMAGENET.name:
        return GROUPS[2]
    return GROUPS[0] if known(name).per_image else GROUPS[1]


def in_order(names: Iterable[str]) -> list[str]:
    """Distinct names in the catalogue's order, unknown ones at the end."""
    places = {name: place for place, name in enumerate(METRICS)}
    return sorted(set(names), key=lambda name: (places.get(name, len(places)), name))
