"""Every metric the suite knows: its name in run records, its title in tables and which direction is better.

This is the one place for a metric's direction. Metrics that compare two sets of images exist three times: against the
real test targets (`fid`), against the training images (`fid_train`), and with the real test targets in the generated
images' place (`fid_real`), which is what a perfect method would reach against the training images.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A metric's name and what a reader of its values has to know; how it is computed stands in the protocol."""

    name: str  # in metrics.json and per_image.parquet
    title: str  # in tables and figures
    unit: str  # "" for a plain number
    higher_is_better: bool
    per_image: bool  # whether every test pair has a value of its own
    summary: str


PER_PAIR = (
    Metric("ssim", "SSIM", "", True, True, "Structural similarity of the generated and the target image."),
    Metric("ssim_window51", "SSIM (window 51)", "", True, True, "SSIM with a uniform window of 51x51 pixels."),
    Metric("mask_ssim", "Mask-SSIM", "", True, True, "SSIM restricted to the body mask of the target pose."),
    Metric("psnr", "PSNR", "dB", True, True, "Peak signal-to-noise ratio against the target image."),
    Metric("l1", "L1", "", False, True, "Mean absolute difference to the target image."),
    Metric("lpips", "LPIPS", "", False, True, "Learned perceptual distance to the target image."),
    Metric(
        "perceptual_embedded",
        "Perceptual distance (embedded)",
        "",
        False,
        True,
        "Distance to the target in normalised features of the embedded attribute classifier; uncalibrated, not LPIPS.",
    ),
    Metric(
        "attributes_embedded",
        "Attribute agreement (embedded)",
        "",
        True,
        True,
        "Share of the embedded classifier's attributes that come out alike on the generated and the target image.",
    ),
    Metric(
        "pckh",
        "PCKh",
        "",
        True,
        True,
        "Share of the target pose's joints that the named pose estimator finds in the generated image.",
    ),
    Metric(
        "pckh_real",
        "PCKh of real images",
        "",
        True,
        True,
        "The named pose estimator's own PCKh on the real target images: the ceiling of pckh.",
    ),
    Metric(
        "pckh_embedded",
        "PCKh (embedded)",
        "",
        True,
        True,
        "Share of the target pose's joints that the embedded pose estimator finds in the generated image.",
    ),
    Metric(
        "pckh_embedded_real",
        "PCKh (embedded) of real images",
        "",
        True,
        True,
        "The embedded pose estimator's own PCKh on the real target images: the ceiling of pckh_embedded.",
    ),
)

OF_ONE_SET = (
    Metric("is", "IS", "", True, False, "Inception score of the generated images."),
    Metric("is_real", "IS of real images", "", True, False, "Inception score of the real test targets."),
    Metric("mask_is", "Mask-IS", "", True, False, "Inception score of the generated images times the body masks."),
    Metric("is_embedded", "IS (embedded)", "", True, False, "Inception score with the embedded attribute classifier."),
    Metric("is_embedded_real", "IS (embedded) of real images", "", True, False, "The same of the real test targets."),
)

AGAINST_A_REFERENCE = (
    Metric("fid", "FID", "", False, False, "Fréchet distance of Inception features"),
    Metric("kid", "KID", "", False, False, "Kernel distance of Inception features"),
    Metric("precision", "Precision", "", True, False, "Share of images inside the reference's manifold"),
    Metric("recall", "Recall", "", True, False, "Share of the reference inside the images' manifold"),
    Metric("fd_embedded", "FD (embedded)", "", False, False, "Fréchet distance of the embedded classifier's features"),
    Metric("kd_embedded", "KD (embedded)", "", False, False, "Kernel distance of the embedded classifier's features"),
    Metric("precision_embedded", "Precision (embedded)", "", True, False, "Precision with the embedded classifier"),
    Metric("recall_embedded", "Recall (embedded)", "", True, False, "Recall with the embedded classifier"),
)

REFERENCES = {
    "": ("", "generated images against the real test targets"),
    "_train": (" to training images", "generated images against the training images"),
    "_real": (" of real images to training images", "real test targets against the training images"),
}


def against(metric: Metric, suffix: str) -> Metric:
    """The variant of a two-set metric that `suffix`, a key of REFERENCES, names."""
    title, sets = REFERENCES[suffix]
    return Metric(
        metric.name + suffix,
        metric.title + title,
        metric.unit,
        metric.higher_is_better,
        metric.per_image,
        f"{metric.summary}: {sets}.",
    )


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (*PER_PAIR, *OF_ONE_SET, *(against(m, suffix) for m in AGAINST_A_REFERENCE for suffix in REFERENCES))
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
    if name.endswith("_train"):
        return GROUPS[2]
    return GROUPS[0] if name not in METRICS or METRICS[name].per_image else GROUPS[1]


def in_order(names: Iterable[str]) -> list[str]:
    """Distinct names in the catalogue's order, unknown ones at the end."""
    places = {name: place for place, name in enumerate(METRICS)}
    return sorted(set(names), key=lambda name: (places.get(name, len(places)), name))
