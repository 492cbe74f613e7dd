"""The words of a command line that describe a data set or its photographs, for every command that reads them.

Imports nothing heavy.
"""

import argparse
from dataclasses import fields
from enum import StrEnum
from pathlib import Path

from xinggan.data.settings import DatasetSettings

DATASETS = ("synthetic", "folder", "market1501", "deepfashion")
CACHE = Path("data")
SYNTHETIC_ONLY = ("people_train", "people_test", "views", "seed")
PHOTOGRAPHS_ONLY = ("resize", "identity_pattern")


class Fit(StrEnum):
    """What to do with generated images of another size than the data set's."""

    none = "none"  # refuse them
    crop = "crop"  # take the middle
    resize = "resize"  # bicubic with antialiasing, corners on corners


def add_dataset_options(parser: argparse.ArgumentParser) -> None:
    """Add the kind of data set as a positional argument, and an option for each of its settings."""
    parser.add_argument("name", choices=DATASETS, metavar="KIND", help=f"data set: one of {', '.join(DATASETS)}")
    parser.add_argument("--root", help="folder in Pose-Transfer layout (photographs)")
    parser.add_argument(
        "--cache", type=Path, default=CACHE, help="where packed data sets are kept (default: %(default)s)"
    )
    parser.add_argument("--height", type=int, help="pixels; photographs: as the files are, synthetic: 128")
    parser.add_argument("--width", type=int, help="pixels; photographs: as the files are, synthetic: 64")
    parser.add_argument("--resize", action="store_true", help="resize photographs of another size (area)")
    parser.add_argument("--test-pairs", type=int, help="keep only the first so many test pairs")
    parser.add_argument("--identity-pattern", help="regular expression whose first group is the identity in a name")
    parser.add_argument("--mask-radius", type=int, help="pixels around limbs in the body mask (4)")
    for name, default in (("people-train", 400), ("people-test", 60), ("views", 8), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, help=f"synthetic people only (default: {default})")


def dataset_settings(options: argparse.Namespace) -> DatasetSettings:
    """The data set that parsed options describe; what was not said keeps its default.

    Raises ValueError for an option of the other kind of data set, which would do nothing.
    """
    said = {field.name: getattr(options, field.name) for field in fields(DatasetSettings)}
    said = {name: value for name, value in said.items() if value is not None and value is not False}
    is_synthetic = options.name == "synthetic"
    idle = [name for name in (("root", *PHOTOGRAPHS_ONLY) if is_synthetic else SYNTHETIC_ONLY) if name in said]
    if idle:
        words = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
        whose = "photographs" if is_synthetic else "the synthetic people"
        raise ValueError(f"{words}: only for {whose}; leave out for the data set {options.name}")
    return DatasetSettings(**said)


def add_proportions(parser: argparse.ArgumentParser) -> None:
    """Add --proportions, which a command has that finds joints in photographs: (width, height) or None."""
    parser.add_argument(
        "--proportions",
        type=_proportions,
        metavar="W:H",
        help="of the photographs before somebody stretched them, such as 48:128 (default: they are as they were taken)",
    )


def _proportions(text: str) -> tuple[int, int]:
    width, _, height = text.partition(":")
    if not (width.isdecimal() and height.isdecimal() and 0 < int(width) < 100_000 and 0 < int(height) < 100_000):
        raise argparse.ArgumentTypeError(f"{text!r}; expected WIDTH:HEIGHT, for example 48:128")
    return int(width), int(height)
