"""Every metric the suite knows: its name in run records, its title in tables and which direction is better.

This is the one place for a metric's direction. Metrics that compare two sets of images exist three times: against the
real test targets (`fid`), against the training images (`fid_train`), and with the real test targets in the generated
images' place (`fid_real`), which is what a perfect method would reach against the training images.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Metric:
    """A metric's name and what a reader of its values has to know; how it is computed stands in the protocol."""

    name: str  # in metrics.json and per_image.parquet
    title: str  # in tables and figures
    higher_is_better: bool
    summary: str
    unit: str = ""  # "" for a plain number
    per_image: bool = False  # whether every test pair has a value of its own


PER_PAIR = (
    Metric("ssim", "SSIM", True, "Structural similarity of the generated and the target image."),
    Metric("ssim_window51", "SSIM (window 51)", True, "SSIM with a uniform window of 51x51 pixels."),
    Metric("mask_ssim", "Mask-SSIM", True, "SSIM restricted to the body mask of the target pose."),
    Metric("psnr", "PSNR", True, "Peak signal-to-noise ratio against the target image.", unit="dB"),
    Metric("l1", "L1", False, "Mean absolute difference to the target image."),
    Metric("lpips", "LPIPS", False, "Learned perceptual distance to the target image."),
    Metric(
        "perceptual_embedded",
        "Perceptual distance (embedded)",
        False,
        "Distance in the embedded classifier's features; uncalibrated, not LPIPS.",
    ),
    Metric(
        "attributes_embedded",
        "Attribute agreement (embedded)",
        True,
        "Share of the embedded classifier's attributes that are alike.",
    ),
    Metric("pckh", "PCKh", True, "Share of the target pose's joints that the named pose estimator finds."),
    Metric(
        "pckh_real", "PCKh of real images", True, "The estimator's own PCKh on the real targets: the ceiling of pckh."
    ),
    Metric(
        "pckh_embedded", "PCKh (embedded)", True, "Share of the target pose's joints that the embedded estimator finds."
    ),
    Metric(
        "pckh_embedded_real",
        "PCKh (embedded) of real images",
        True,
        "The embedded estimator's own PCKh on the real targets: the ceiling.",
    ),
)

OF_ONE_SET = (
    Metric("is", "IS", True, "Inception score of the generated images."),
    Metric("is_real", "IS of real images", True, "Inception score of the real test targets."),
    Metric("mask_is", "Mask-IS", True, "Inception score of the generated images times the body masks."),
    Metric("is_embedded", "IS (embedded)", True, "Inception score with the embedded attribute classifier."),
    Metric("is_embedded_real", "IS (embedded) of real images", True, "The same of the real test targets."),
)

AGAINST_A_REFERENCE = (
    Metric("fid", "FID", False, "Fréchet distance of Inception features"),
    Metric("kid", "KID", False, "Kernel distance of Inception features"),
    Metric("precision", "Precision", True, "Share of images inside the reference's manifold"),
    Metric("recall", "Recall", True, "Share of the reference inside the images' manifold"),
    Metric("fd_embedded", "FD (embedded)", False, "Fréchet distance of the embedded classifier's features"),
    Metric("kd_embedded", "KD (embedded)", False, "Kernel distance of the embedded classifier's features"),
    Metric("precision_embedded", "Precision (embedded)", True, "Precision with the embedded classifier"),
    Metric("recall_embedded", "Recall (embedded)", True, "Recall with the embedded classifier"),
)

REFERENCES = {
    "": ("", "generated images against the real test targets"),
    "_train": (" to training images", "generated images against the training images"),
    "_real": (" of real images to training images", "real test targets against the training images"),
}

# The FID of the tables of GFLA, PIDM and CFLD: another network, and one reference only.
FID_IMAGENET = Metric(
    "fid_imagenet",
    "FID (ImageNet Inception)",
    False,
    "Fréchet distance of torchvision's Inception features to all training images.",
)


def against(metric: Metric, suffix: str) -> Metric:
    """The variant of a two-set metric that `suffix`, a key of REFERENCES, names."""
    title, sets = REFERENCES[suffix]
    name, summary = metric.name + suffix, f"{metric.summary}: {sets}."
    return replace(metric, name=name, title=metric.title + title, summary=summary)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        *(replace(metric, per_image=True) for metric in PER_PAIR),
        *OF_ONE_SET,
        *(against(metric, suffix) for metric in AGAINST_A_REFERENCE for suffix in REFERENCES),
        FID_IMAGENET,
    )
}

GROUPS = (
    "Each generated image beside its target",
    "All generated images together",
    "Against the training images",
    "The real test images under the same metrics: what a perfect method would reach",
)


# What tables and figures say of a metric. A metric of another version, unknown here, keeps its bare name, has no unit
# and no direction.


def title(name: str) -> str:
    return METRICS[name].title if name in METRICS else name


def unit(name: str) -> str:
    return METRICS[name].unit if name in METRICS else ""


def higher_is_better(name: str) -> bool | None:
    return METRICS[name].higher_is_better if name in METRICS else None


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
    return GROUPS[0] if name not in METRICS or METRICS[name].per_image else GROUPS[1]


def in_order(names: Iterable[str]) -> list[str]:
    """Distinct names in the catalogue's order, unknown ones at the end."""
    places = {name: place for place, name in enumerate(METRICS)}
    return sorted(set(names), key=lambda name: (places.get(name, len(places)), name))
