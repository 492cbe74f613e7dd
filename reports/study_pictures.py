"""The pictures that a study shows: what several runs generated for the same test pairs, beside what was given to them.

Source and target come from the packed data set, found by what the run records say, or, where a record was copied
elsewhere, from the few example pairs that every record keeps. Records are read without trust: names stay inside
their folder, and an image is the one whose checksum the manifest holds.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from reports.record import Record, read_record

if TYPE_CHECKING:
    import numpy as np

    from xinggan.data.packed import PackedSplit

GIVEN = ("source", "target_pose", "target")


@dataclass(frozen=True)
class ScoredPair:
    """A row that the manifests of all runs have."""

    place: int  # in the run record, counted from 0
    pair: int  # row of the test set's pairs
    pair_id: str  # source___target
    source: str  # names of the two images in the data set
    target: str
    files: dict[str, tuple[Path, str]]  # run directory's name -> generated image and its SHA-256


@dataclass(frozen=True)
class StudyPictures:
    """Test pairs of several runs and where their pictures are: in `split`, or in the `examples` of the first run."""

    records: list[Record]
    pairs: list[ScoredPair]
    split: "PackedSplit | None"

    def given(self, pair: ScoredPair, which: str) -> "np.ndarray":
        """source, target_pose (its skeleton) or target of a pair: uint8 [H, W, 3]."""
        from xinggan.data.poses import draw_skeleton

        if self.split is None:
            examples = self.records[0].directory / "generated" / "examples"
            return _read_image(examples / f"{pair.place:02d}_{which}.png")
        source, target = self.split.pairs[pair.pair]
        if self.split.pair_id(pair.pair) != pair.pair_id:
            raise ValueError(
                f"pair {pair.pair} is {pair.pair_id} in the run record and {self.split.pair_id(pair.pair)} in the "
                "packed data set; name the data set of these runs by --dataset"
            )
        if which == "target_pose":
            return draw_skeleton(self.split.poses[target], self.split.height, self.split.width)
        return self.split.images[source if which == "source" else target]

    def generated(self, pair: ScoredPair, run: str) -> "np.ndarray":
        """What the run of this directory name generated for a pair: uint8 [H, W, 3]."""
        path, checksum = pair.files[run]
        return _read_image(path, checksum)


def open_pictures(runs: Sequence[Path], dataset: Path | None = None) -> StudyPictures:
    """Read the runs' manifests and open their data set.

    Raises ValueError with all that is wrong: no generated images, runs of different test sets, one run twice.
    """
    records, problems, manifests = [], [], []
    for path in runs:
        record = read_record(path.resolve())
        records.append(record)
        try:
            manifests.append(_read_manifest(record.directory))
        except (OSError, ValueError, KeyError, TypeError) as error:
            problems.append(
                f"{path}: its generated images cannot be used ({error}); a run folder <label>-<hash> with "
                "generated/manifest.json is needed, which `python -m ablations.run` writes when training is over"
            )
    names = [record.run for record in records]
    problems += [f"{name}: is named twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    tested_on = {record.dataset_digest: record.run for record in records}
    if len(tested_on) > 1:
        listed = "; ".join(f"{run}: {str(digest)[:12]}" for digest, run in tested_on.items())
        problems.append(f"the runs were tested on different data sets ({listed}); choose runs of one")
    if problems:
        raise ValueError("\n".join(problems))
    split = _open_split(records[0], dataset)
    pairs = []
    for place, row in enumerate(manifests[0]):
        if all(row in manifest for manifest in manifests):
            of_runs = zip(records, manifests, strict=True)
            files = {run.run: (run.directory / "generated" / found[row][0], found[row][1]) for run, found in of_runs}
            pairs.append(ScoredPair(place, *row, files=files))
    if split is None:
        kept = len(list((records[0].directory / "generated" / "examples").glob("*_target.png")))
        pairs = [pair for pair in pairs if pair.place < kept]
    return StudyPictures(records, pairs, split)


def _read_manifest(directory: Path) -> dict[tuple[int, str, str, str], tuple[str, str]]:
    """(pair, pair id, source, target) -> (file, SHA-256), in the order of the test set."""
    rows: Any = json.loads((directory / "generated" / "manifest.json").read_bytes())
    found = {}
    for row in rows:
        file = str(row["file"])
        if PurePath(file).name != file or file in ("", "..") or "\\" in file:
            raise ValueError(f"manifest.json names {file!r}, accepted is a file in generated/")
        found[int(row["pair"]), str(row["pair_id"]), str(row["source"]), str(row["target"])] = file, str(row["sha256"])
    return found


def _open_split(record: Record, dataset: Path | None) -> "PackedSplit | None":
    """The test split that the run was scored on; None where it is not on this machine and nobody named it."""
    from xinggan.data.packed import open_packed, packed_directory

    digest, cache = record.dataset_digest, record.config.get("cache")
    settings = record.config.get("dataset")
    if dataset is None and isinstance(digest, str) and isinstance(cache, str) and isinstance(settings, dict):
        dataset = packed_directory(cache, str(settings.get("name")), digest)
        if not dataset.is_dir():
            return None
    if dataset is None:
        return None
    packed = open_packed(dataset)
    if packed.digest != digest:
        raise ValueError(
            f"{dataset} is the data set {packed.digest[:12]}, the runs were tested on {str(digest)[:12]}; name theirs"
        )
    return packed.test


def _read_image(path: Path, checksum: str | None = None) -> "np.ndarray":
    import numpy as np
    from PIL import Image

    try:
        if checksum not in (None, hashlib.sha256(path.read_bytes()).hexdigest()):
            raise ValueError(f"{path}: is not the image that was scored (its SHA-256 is not the manifest's)")
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: the image cannot be read ({error})") from error
