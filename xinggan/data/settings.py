"""The settings of a data set and its pose maps, as plain values and as options of a command line."""

import argparse
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

DATASETS = ("synthetic", "folder", "market1501", "deepfashion")
PUBLISHED_SIZES = {"market1501": (128, 64), "deepfashion": (256, 176)}  # height and width of the images, pixels
ESTIMATORS = {  # of poses in photographs, see `estimators`
    "movenet": "MoveNet Lightning, one person, 17 COCO joints; a .tflite file (--weights), the extra [annotate]",
    "keypointrcnn": "torchvision's keypoint R-CNN, 17 COCO joints; downloads its weights into TORCH_HOME",
}
CACHE = Path("data")
SYNTHETIC_ONLY = ("people_train", "people_test", "views", "seed")
PHOTOGRAPHS_ONLY = ("resize", "identity_pattern", "annotation_size", "layout", "force")
SQUARE_LAYOUTS = ("padded", "squeezed")  # of DeepFashion's 256x256 files
RENDERED_SIZE = (128, 64)  # height and width in pixels of synthetic people, unless the settings say otherwise


class PoseMap(StrEnum):
    """The kind of map that a joint becomes (see `poses.heatmaps`)."""

    gaussian = "gaussian"
    onehot = "onehot"  # one pixel a joint, as the published DeepFashion maps ended up


class Split(StrEnum):
    """The people whose pairs are scored (see `validation`)."""

    test = "test"
    validation = "validation"  # a tenth of the training people, who are not trained on then


class Fit(StrEnum):
    """The treatment of generated images of another size than the data set's."""

    none = "none"  # refuse them
    crop = "crop"  # take the middle
    resize = "resize"  # by the filter of `image_files.resized`, corners on corners


def described(default: Any, text: str, **option: Any) -> Any:
    """A field with its help, and other arguments of its option on a command line."""
    return field(default=default, metadata={"help": text, **option})


@dataclass
class DatasetSettings:
    """A data set to prepare. Its digest depends on the settings of its kind, without `root`, the place of the files."""

    name: str = "synthetic"  # one of DATASETS
    root: str | None = described(None, "folder in Pose-Transfer layout (photographs)")
    height: int | None = described(None, "pixels; photographs: as the files are, synthetic: 128")
    width: int | None = described(None, "pixels; photographs: as the files are, synthetic: 64")
    resize: bool = described(False, "resize photographs of another size")  # by `image_files.resized`
    test_pairs: int | None = described(
        None, "keep only so many test pairs: the first of the list; without a list, the people in turn"
    )
    identity_pattern: str | None = described(None, "regular expression whose first group is the identity in a name")
    annotation_size: str | None = described(None, "of the images that the joints belong to", metavar="HxW")
    layout: str | None = described(None, "of DeepFashion's square files (else as they look)", choices=SQUARE_LAYOUTS)
    force: bool = described(False, "take joints that do not seem to belong to the images")
    mask_radius: int = described(4, "pixels around limbs in the body mask (4)")  # 4 at 128x64 and 256x176
    people_train: int = described(400, "synthetic people only (default: 400)")
    people_test: int = described(60, "synthetic people only (default: 60)")
    views: int = described(8, "of each person; synthetic people only (default: 8)")
    seed: int = described(0, "which world of people, not the training seed; synthetic people only (default: 0)")


def rendered_size(settings: DatasetSettings) -> tuple[int, int]:
    """Height and width in pixels of the synthetic people."""
    return settings.height or RENDERED_SIZE[0], settings.width or RENDERED_SIZE[1]


def annotation_size(settings: DatasetSettings) -> tuple[int, int] | None:
    """Width and height in pixels of the images that the joints belong to; None: the files' own.

    Raises ValueError for a text that says no size.
    """
    if settings.annotation_size is None:
        return None
    height, by, width = settings.annotation_size.partition("x")
    if not (by and height.isdecimal() and width.isdecimal() and 0 < int(height) < 1e5 and 0 < int(width) < 1e5):
        expected = "HEIGHTxWIDTH in pixels, such as 256x176, or 1x1 for joints that are fractions of the image"
        raise ValueError(f"annotation_size is {settings.annotation_size!r}; accepted: {expected}")
    return int(width), int(height)


def check_settings(settings: DatasetSettings) -> None:
    """Raise ValueError for settings that no files could meet."""
    if settings.name not in DATASETS:
        raise ValueError(f"data set {settings.name!r} is not known; accepted: {', '.join(DATASETS)}")
    for side in ("height", "width"):
        pixels = getattr(settings, side)
        if pixels is not None and (pixels < 8 or pixels % 4):
            raise ValueError(f"{side} is {pixels} pixels; accepted: multiples of 4, 8 or more")
    for name in ("test_pairs", "mask_radius"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; accepted: 1 or more")
    if settings.layout is not None and (settings.name != "deepfashion" or settings.layout not in SQUARE_LAYOUTS):
        accepted = f"{' or '.join(SQUARE_LAYOUTS)}, for deepfashion only"
        raise ValueError(f"layout is {settings.layout!r}; accepted: {accepted}")
    annotation_size(settings)


def add_dataset_options(parser: argparse.ArgumentParser) -> None:
    """Add the kind of data set as a positional argument, and an option for each of its settings."""
    parser.add_argument("name", choices=DATASETS, metavar="KIND", help=f"data set: one of {', '.join(DATASETS)}")
    parser.add_argument(
        "--cache", type=Path, default=CACHE, help="where packed data sets are kept (default: %(default)s)"
    )
    for setting in fields(DatasetSettings)[1:]:
        how: dict[str, Any] = {"action": "store_true"} if setting.type is bool else {}
        if setting.type in (int, int | None):
            how = {"type": int}
        parser.add_argument(f"--{setting.name.replace('_', '-')}", **how, **setting.metadata)


def dataset_settings(options: argparse.Namespace) -> DatasetSettings:
    """The settings in parsed options; an option that was not given keeps its default.

    Raises ValueError for an option of the other kind of data set, which would do nothing.
    """
    given = {setting.name: getattr(options, setting.name) for setting in fields(DatasetSettings)}
    given = {name: value for name, value in given.items() if value is not None and value is not False}
    is_synthetic = options.name == "synthetic"
    others = ("root", *PHOTOGRAPHS_ONLY) if is_synthetic else SYNTHETIC_ONLY
    if without_effect := [name for name in others if name in given]:
        words = ", ".join(f"--{name.replace('_', '-')}" for name in without_effect)
        whose = "photographs" if is_synthetic else "the synthetic people"
        raise ValueError(f"{words}: only for {whose}; leave out for the data set {options.name}")
    return DatasetSettings(**given)


def add_proportions(parser: argparse.ArgumentParser) -> None:
    """Add --proportions, (width, height) or None, for a command that finds joints in photographs."""
    parser.add_argument(
        "--proportions",
        type=_proportions,
        metavar="W:H",
        help="of the photographs before somebody stretched them, such as 48:128 (default: they are as they were taken)",
    )


def proportions_of(text: str) -> tuple[int, int]:
    """`48:128` as (48, 128), width and height. Raises ValueError."""
    width, _, height = text.partition(":")
    if not (width.isdecimal() and height.isdecimal() and 0 < int(width) < 100_000 and 0 < int(height) < 100_000):
        raise ValueError(f"{text!r}; expected WIDTH:HEIGHT, for example 48:128")
    return int(width), int(height)


def _proportions(text: str) -> tuple[int, int]:
    try:
        return proportions_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
