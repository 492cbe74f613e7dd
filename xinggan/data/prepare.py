"""Prepare a data set once: check everything, pack it under the digest of its content, and find it again next time.

    python -m xinggan.data.prepare synthetic
    python -m xinggan.data.prepare market1501 --root ../market_data

prints the data card; or the table of everything that is wrong with the files, exit status 2 and nothing written.
"""

import argparse
import hashlib
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xinggan.data.settings import DatasetSettings

if TYPE_CHECKING:
    from xinggan.data.packed import PackedDataset

DATASETS = ("synthetic", "folder", "market1501", "deepfashion")
SYNTHETIC_ONLY = ("people_train", "people_test", "views", "seed")
PHOTOGRAPHS_ONLY = ("resize", "identity_pattern")
CACHE = Path("data")


def prepare(settings: DatasetSettings, cache: Path | str = CACHE, progress: bool = True) -> "PackedDataset":
    """The packed data set of these settings, from the cache when the same content was packed before.

    Raises ValueError for settings that cannot be met and LayoutProblems, a ValueError with every problem of the files;
    nothing is left in the cache then. Several processes may prepare the same data set at once.
    """
    from xinggan.data.packed import open_packed, packed_directory, write_packed
    from xinggan.data.rendered import render_splits

    content = digest(settings, cache)
    directory = packed_directory(cache, settings.name, content)
    if directory.is_dir():
        try:
            return open_packed(directory)
        except ValueError as error:
            print(f"{error}\nIt is prepared again now.", file=sys.stderr)
    splits = render_splits(settings, progress)
    card = {"settings": _relevant(settings)}
    return write_packed(directory, content, card, splits, settings.mask_radius)


def digest(settings: DatasetSettings, cache: Path | str | None = None) -> str:
    """SHA-256 (hex) of all that decides what is packed: the settings that matter for this kind of data set without its
    root, and the generator's version or the bytes of annotations, pairs and images; see `photograph_digest`."""
    from xinggan.data.packed import PACK_FORMAT
    from xinggan.data.synthetic import GENERATOR_VERSION

    _check(settings)
    content = {"pack_format": PACK_FORMAT, "settings": _relevant(settings), "generator": GENERATOR_VERSION}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _relevant(settings: DatasetSettings) -> dict[str, Any]:
    """The settings that decide what is packed, with defaults filled in: equal content, equal digest."""
    from xinggan.data.rendered import rendered_size

    ignored = {"root", *(PHOTOGRAPHS_ONLY if settings.name == "synthetic" else SYNTHETIC_ONLY)}
    values = {field.name: getattr(settings, field.name) for field in fields(settings) if field.name not in ignored}
    if settings.name == "synthetic":
        values["height"], values["width"] = rendered_size(settings)
    return values


def _check(settings: DatasetSettings) -> None:
    if settings.name not in DATASETS:
        raise ValueError(f"data set {settings.name!r} is not known; accepted: {', '.join(DATASETS)}")
    for side in ("height", "width"):
        pixels = getattr(settings, side)
        if pixels is not None and (pixels < 16 or pixels % 4):
            raise ValueError(
                f"{side} is {pixels} pixels; accepted: multiples of 4 from 16 on (the networks halve twice)"
            )
    if settings.test_pairs is not None and settings.test_pairs < 1:
        raise ValueError(f"test_pairs is {settings.test_pairs}; accepted: at least 1, or none for all pairs")
    if settings.mask_radius < 1:
        raise ValueError(f"mask_radius is {settings.mask_radius} pixels; accepted: at least 1")
