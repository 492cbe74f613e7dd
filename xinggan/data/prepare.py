"""Prepare a data set once: check everything, pack it under the digest of its content, and find it again next time.

    python -m xinggan.data.prepare synthetic
    python -m xinggan.data.prepare market1501 --root ../market_data

prints the data card; or the table of everything that is wrong with the files, exit status 2 and nothing written.
"""

import hashlib
import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

from xinggan.command import ROWS_SHOWN, exit_status, parser_of, run_command
from xinggan.data.settings import (
    CACHE,
    PHOTOGRAPHS_ONLY,
    SYNTHETIC_ONLY,
    DatasetSettings,
    Split,
    add_dataset_options,
    check_settings,
    dataset_settings,
    rendered_size,
)
from xinggan.files import write_atomically
from xinggan.progress import track

if TYPE_CHECKING:
    from xinggan.data.packed import PackedDataset

MEMORY = ".digests"  # folder inside the cache
SETTLED_AFTER_S = 2.0  # a file changed later than this before it was read may change again with the same time stamp


def prepare(
    settings: DatasetSettings, cache: Path | str = CACHE, progress: bool = True, split: Split = Split.test
) -> "PackedDataset":
    """The packed data set of these settings, from the cache when the same content was packed before.

    `Split.validation` is a data set of its own, in which `test` holds people who left the training (see `validation`).
    Raises ValueError for settings that cannot be met and LayoutProblems, a ValueError with every problem of the files;
    nothing is left in the cache then. Several processes may prepare the same data set at once: one packs, the others
    wait for it.
    """
    from xinggan.data.packed import open_packed, packed_directory
    from xinggan.data.packing import write_packed

    if split == Split.validation:
        from xinggan.data.validation import packed_validation

        return packed_validation(prepare(settings, cache, progress), cache, settings.mask_radius)
    check_settings(settings)
    trouble = _trouble_of_cache(Path(cache))
    if trouble and not any(Path(cache).glob(f"{settings.name}-*")):
        raise ValueError(trouble)  # before files are read
    files = None if settings.name == "synthetic" else find_data_files(settings)
    content = content_digest(files, cache, progress)
    whole = _whole_digest(settings, content, files)
    directory = packed_directory(cache, settings.name, whole)
    if directory.is_dir():
        try:
            return open_packed(directory)
        except ValueError as error:
            print(f"{error} Preparing it again now.", file=sys.stderr)
    if trouble:
        raise ValueError(trouble)

    def check() -> None:
        if files and find_data_files(settings).state != files.state:
            raise ValueError(f"files in {files.root} changed while they were packed; nothing was kept, prepare again")

    if files:
        from xinggan.data.photographs import photograph_splits

        splits, facts = photograph_splits(settings, progress)
    else:
        from xinggan.data.synthetic import render_splits

        splits = render_splits(settings, progress)
        facts = {"notes": [], "shared": {"images": 0, "identities": 0}}
    card = {"settings": _deciding(settings), **facts}
    dataset = write_packed(directory, whole, card, splits, settings.mask_radius, check)
    if files and files.settled:
        write_atomically(Path(cache) / MEMORY / files.state, content)
    return dataset


def _trouble_of_cache(cache: Path) -> str:
    """The reason why nothing can be packed into a folder, or ""."""
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return ""
    what = "cannot be written to" if there.is_dir() else "is a file"
    return f"cache {cache}: {there} {what}; name a folder for packed data sets"


def digest(settings: DatasetSettings, cache: Path | str | None = None, split: Split = Split.test) -> str:
    """SHA-256 (hex) of all that decides what is packed.

    That is the settings that matter for this kind of data set (never its root), and the generator's version or the
    bytes of annotations, pairs and images. With a `cache`, files that were prepared there and have not changed since
    are not read again.
    """
    check_settings(settings)
    files = None if settings.name == "synthetic" else find_data_files(settings)
    whole = _whole_digest(settings, content_digest(files, cache), files)
    if split == Split.validation:
        from xinggan.data.validation import validation_digest

        return validation_digest(whole)
    return whole


def _whole_digest(settings: DatasetSettings, content: str, files: "DataFiles | None") -> str:
    """SHA-256 (hex) of the settings with the digest of the content."""
    from xinggan.data.packed import PACK_FORMAT

    parts: dict[str, Any] = {"pack_format": PACK_FORMAT, "settings": _deciding(settings), "content": content}
    if files and settings.test_pairs and not (files.lists_test_pairs or settings.name == "market1501"):
        parts["test_pairs"] = "people in turn"  # earlier versions packed those of the first people
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _deciding(settings: DatasetSettings) -> dict[str, Any]:
    """The settings that decide what is packed, with defaults filled in: equal content, equal digest."""
    ignored = {"root", "force", *(PHOTOGRAPHS_ONLY if settings.name == "synthetic" else SYNTHETIC_ONLY)}
    ignored |= {name for name in ("annotation_size", "layout") if getattr(settings, name) is None}
    values = {field.name: getattr(settings, field.name) for field in fields(settings) if field.name not in ignored}
    if settings.name == "synthetic":
        values["height"], values["width"] = rendered_size(settings)
    return values


@dataclass(frozen=True)
class DataFiles:
    """The tables of a layout and every image that is annotated, whether or not they are there."""

    root: Path
    files: dict[str, Path]  # by their names relative to root, in a fixed order
    state: str  # SHA-256 (hex) of the names with each file's size and times of change
    settled: bool  # the newest change is older than SETTLED_AFTER_S
    lists_test_pairs: bool  # in a file; elsewhere they are derived


def find_data_files(settings: DatasetSettings) -> DataFiles:
    """The files of a data set, without reading the images. Raises ValueError where there is no layout."""
    from xinggan.data.image_files import file_named
    from xinggan.data.layout import find_files
    from xinggan.data.packed import SPLITS
    from xinggan.data.tables import annotated_names

    layout, files = find_files(settings), dict[str, Path]()
    for split in SPLITS:
        files |= {name: layout.root / name for name in (layout.annotations(split), layout.pairs(split))}
        with suppress(OSError):  # reported with all other problems
            names = annotated_names(layout.root / layout.annotations(split))
            files |= {f"{split}/{name}": file_named(layout.root / split, name) for name in names}
    whole, newest_ns, looked_at = hashlib.sha256(), 0, time.time()
    for name, path in files.items():
        state = None
        with suppress(OSError):
            status = path.stat()
            state = status.st_size, status.st_mtime_ns, status.st_ctime_ns
            newest_ns = max(newest_ns, *state[1:])
        whole.update(f"{name}\0{state}\n".encode())
    settled, listed = looked_at - newest_ns / 1e9 > SETTLED_AFTER_S, files[layout.pairs("test")].exists()
    return DataFiles(layout.root, files, whole.hexdigest(), settled, listed)


def content_digest(files: DataFiles | None, cache: Path | str | None = None, progress: bool = False) -> str:
    """SHA-256 (hex) of the files' names and bytes, whatever their root; without files the generator's version.

    Reading 50,000 files takes a while, so the cache remembers the digest of files in this very state.
    """
    if files is None:
        from xinggan.data.synthetic import GENERATOR_VERSION

        return f"synthetic people {GENERATOR_VERSION}"
    if cache is not None:
        with suppress(OSError):
            return (Path(cache) / MEMORY / files.state).read_text(encoding="ascii")
    whole = hashlib.sha256()
    everything = track(files.files.items(), "reading the files' bytes", len(files.files), "files", enabled=progress)
    for name, path in everything:
        content = "missing"
        with suppress(OSError):
            if S_ISREG(path.stat().st_mode):  # a pipe would never end
                content = hashlib.sha256(path.read_bytes()).hexdigest()
        whole.update(f"{name}\0{content}\n".encode())
    return whole.hexdigest()


def describe(dataset: "PackedDataset") -> str:
    """The data card as text."""
    card, counts = dataset.card, dataset.card["splits"]
    lines = [f"{card['settings']['name']}, digest {dataset.digest}", str(dataset.directory.resolve()), ""]
    lines.append(f"  {'':<16}" + "".join(f"{split:>10}" for split in counts))
    for key in ("images", "identities", "pairs", "height", "width", "joints_outside"):
        lines.append(f"  {key.replace('_', ' '):<16}" + "".join(f"{each[key]:>10,}" for each in counts.values()))
    lines.append("  joints visible")
    for joint in counts["train"]["joint_visibility"]:
        shares = (each["joint_visibility"][joint] for each in counts.values())
        lines.append(f"    {joint:<14}" + "".join(f"{share:>10.1%}" for share in shares))
    lines.append("  train and test share " + ", ".join(f"{number:,} {what}" for what, number in card["shared"].items()))
    return "\n".join([*lines, *(f"  note: {note}" for note in card["notes"])])


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns its exit status: 0, 2 with one message on standard error, or 130 when interrupted."""
    parser = parser_of("xinggan.data.prepare", (__doc__ or "").split("\n")[0])
    add_dataset_options(parser)
    parser.add_argument(
        "--rows", type=int, default=ROWS_SHOWN, help="how many problems to print (default: %(default)s)"
    )
    options = parser.parse_args(arguments)

    def command() -> None:
        print(describe(prepare(dataset_settings(options), options.cache)))

    return exit_status("xinggan.data.prepare", command, options.rows)


if __name__ == "__main__":
    run_command(main)
