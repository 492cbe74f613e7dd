"""Prepare a data set once: check everything, pack it under the digest of its content, and find it again next time.

    python -m xinggan.data.prepare synthetic
    python -m xinggan.data.prepare market1501 --root ../market_data

prints the data card; or the table of everything that is wrong with the files, exit status 2 and nothing written. The
same command continues a packing that was interrupted.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xinggan.data.options import (
    CACHE,
    DATASETS,
    PHOTOGRAPHS_ONLY,
    SYNTHETIC_ONLY,
    add_dataset_options,
    dataset_settings,
)
from xinggan.data.problems import ROWS_SHOWN, LayoutProblems
from xinggan.data.settings import DatasetSettings

if TYPE_CHECKING:
    from xinggan.data.content import FileStates
    from xinggan.data.packed import PackedDataset


def prepare(settings: DatasetSettings, cache: Path | str = CACHE, progress: bool = True) -> "PackedDataset":
    """The packed data set of these settings, from the cache when the same content was packed before.

    Raises ValueError for settings that cannot be met and LayoutProblems, a ValueError with every problem of the files;
    nothing is left in the cache then. A packing that was killed is continued by the same call. Several processes may
    prepare the same data set at once: one packs, the others wait for it.
    """
    from xinggan.data.content import content_digest, file_states, remember
    from xinggan.data.packed import open_packed, packed_directory
    from xinggan.data.packing import write_packed

    check_settings(settings)
    check_cache(cache)
    files = None if settings.name == "synthetic" else file_states(settings)
    content = content_digest(files, cache, progress) if files else _generator()
    digest_ = _digest(settings, content)
    directory = packed_directory(cache, settings.name, digest_)
    if directory.is_dir():
        try:
            return open_packed(directory)
        except ValueError as error:
            print(f"{error} Preparing it again now.", file=sys.stderr)

    if files:
        from xinggan.data.photographs import photograph_splits

        splits, facts = photograph_splits(settings, progress)
        checked = partial(_then_check, splits["test"].chunks, settings, files)
        splits["test"] = replace(splits["test"], chunks=checked)
    else:
        from xinggan.data.rendered import render_splits

        splits = render_splits(settings, progress)
        facts = {"notes": [], "shared": {"images": 0, "identities": 0}}
    card = {"settings": _relevant(settings), **facts}
    dataset = write_packed(directory, digest_, card, splits, settings.mask_radius, files.key if files else "")
    if files:
        remember(files, content, cache)
    return dataset


def digest(settings: DatasetSettings, cache: Path | str | None = None) -> str:
    """SHA-256 (hex) of all that decides what is packed: the settings that matter for this kind of data set (never its
    root), and the generator's version or the bytes of annotations, pairs and images. With a `cache`, files that were
    prepared there and have not changed since are not read again."""
    from xinggan.data.content import content_digest, file_states

    check_settings(settings)
    is_synthetic = settings.name == "synthetic"
    return _digest(settings, _generator() if is_synthetic else content_digest(file_states(settings), cache))


def check_settings(settings: DatasetSettings) -> None:
    """Raise ValueError for settings that no files could meet."""
    if settings.name not in DATASETS:
        raise ValueError(f"data set {settings.name!r} is not known; accepted: {', '.join(DATASETS)}")
    for side in ("height", "width"):
        pixels = getattr(settings, side)
        if pixels is not None and (pixels < 8 or pixels % 4):
            raise ValueError(f"{side} is {pixels} pixels; accepted: multiples of 4, 8 or more")
    for name, least in {"test_pairs": 1, "mask_radius": 1}.items():
        value = getattr(settings, name)
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}; accepted: {least} or more")


def check_cache(cache: Path | str) -> None:
    """Raise ValueError for a folder that nothing can be written to."""
    there = next(folder for folder in (Path(cache), *Path(cache).parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "cannot be written to" if there.is_dir() else "is a file"
        raise ValueError(f"cache {cache}: {there} {what}; name a folder for packed data sets")


def _digest(settings: DatasetSettings, content: str) -> str:
    from xinggan.data.packed import PACK_FORMAT

    parts = {"pack_format": PACK_FORMAT, "settings": _relevant(settings), "content": content}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _generator() -> str:
    from xinggan.data.synthetic import GENERATOR_VERSION

    return f"synthetic people {GENERATOR_VERSION}"


def _relevant(settings: DatasetSettings) -> dict[str, Any]:
    """The settings that decide what is packed, with defaults filled in: equal content, equal digest."""
    from xinggan.data.rendered import rendered_size

    ignored = {"root", *(PHOTOGRAPHS_ONLY if settings.name == "synthetic" else SYNTHETIC_ONLY)}
    values = {field.name: getattr(settings, field.name) for field in fields(settings) if field.name not in ignored}
    if settings.name == "synthetic":
        values["height"], values["width"] = rendered_size(settings)
    return values


def _then_check(chunks: Any, settings: DatasetSettings, before: "FileStates", kept: Any) -> Iterator[Any]:
    """The same chunks; at their end, ValueError if the files are no longer those that the digest was made of."""
    from xinggan.data.content import file_states

    yield from chunks(kept)
    if file_states(settings).key != before.key:
        raise ValueError(f"files in {before.root} changed while they were packed; nothing was kept, prepare again")


def describe(dataset: "PackedDataset") -> str:
    """The data card as text."""
    lines = [f"{dataset.card['settings']['name']}, digest {dataset.digest}", str(dataset.directory.resolve()), ""]
    counts = dataset.card["splits"]
    for key in ("images", "identities", "pairs", "height", "width", "joints_outside"):
        title = key.replace("_", " ")
        lines.append(f"  {title:<16}" + "".join(f"{counts[split][key]:>10,}" for split in counts))
    lines[3:3] = [f"  {'':<16}" + "".join(f"{split:>10}" for split in counts)]
    lines.append("  joints visible")
    for joint in counts["train"]["joint_visibility"]:
        lines.append(
            f"    {joint:<14}" + "".join(f"{counts[split]['joint_visibility'][joint]:>10.1%}" for split in counts)
        )
    if shared := dataset.card.get("shared"):
        told = ", ".join(f"{number:,} {what}" for what, number in shared.items())
        lines.append(f"  train and test share {told}")
    lines += [f"  note: {note}" for note in dataset.card["notes"]]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns its exit status: 0, 2 with one message on standard error, or 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        dataset = prepare(dataset_settings(options), options.cache)
    except LayoutProblems as problems:
        print(problems.table(options.rows), file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"xinggan.data.prepare: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    print(describe(dataset))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m xinggan.data.prepare", description=(__doc__ or "").split("\n")[0], allow_abbrev=False
    )
    add_dataset_options(parser)
    parser.add_argument(
        "--rows", type=int, default=ROWS_SHOWN, help="how many problems to print (default: %(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
