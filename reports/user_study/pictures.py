"""The pictures that a user study shows: what several runs generated for the same test pairs, and what they were given.

Source image, target pose and target image come from the packed data set that the runs were tested on or, where that is
not on this machine, from the few example pairs that every run record keeps. Run records are checked: a file name stays
inside its folder, and a generated image has the SHA-256 that the manifest holds.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    import numpy as np

    from xinggan.data.packed import PackedSplit

REAL, SCRAMBLED = "real", "scrambled"  # makers of pictures beside the runs


@dataclass(frozen=True)
class ScoredPair:
    """A test pair that the manifests of all runs have."""

    place: int  # in the run record, counted from 0
    pair: int  # row of the test set's pairs
    pair_id: str  # source___target
    source: str  # names of the two images in the data set
    target: str
    files: dict[str, tuple[Path, str]]  # run directory's name -> generated image and its SHA-256


@dataclass(frozen=True)
class StudyPictures:
    """Test pairs of several runs; their source, pose and target are in `split` or, where that is None, `examples`."""

    titles: dict[str, str]  # run directory's name -> distinct title
    pairs: list[ScoredPair]
    split: "PackedSplit | None"
    examples: Path  # generated/examples of the first run

    def given(self, pair: ScoredPair, which: str) -> "np.ndarray":
        """source, target_pose (its skeleton) or target of a pair: uint8 [H, W, 3]."""
        from xinggan.data.poses import draw_skeleton

        if self.split is None:
            return _read_image(self.examples / f"{pair.place:02d}_{which}.png")
        source, target = self.split.pairs[pair.pair]
        if which == "target_pose":
            return draw_skeleton(self.split.poses[target], self.split.height, self.split.width)
        return self.split.images[source if which == "source" else target]

    def made_by(self, pair: ScoredPair, maker: str) -> "np.ndarray":
        """The target image for REAL, the same scrambled for SCRAMBLED, else what the run of this name generated.

        uint8 [H, W, 3]. Raises ValueError for an image that is not the one that was scored.
        """
        if maker not in (REAL, SCRAMBLED):
            return _read_image(*pair.files[maker])
        target = self.given(pair, "target")
        return target if maker == REAL else scrambled(target)


def open_pictures(runs: Sequence[Path], dataset: Path | None = None) -> StudyPictures:
    """Read the runs' manifests and open the data set that they were tested on, or the packed folder `dataset`.

    Raises ValueError with all that is wrong: no generated images, runs of different test sets, one run twice.
    """
    runs = [path.resolve() for path in runs]
    names = [path.name for path in runs]
    problems = [f"{name}: is named twice" for name, count in Counter(names).items() if count > 1]
    manifests = {}
    for path in runs:
        try:
            manifests[path] = _read_manifest(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            problems.append(
                f"{path}: its generated images cannot be used ({error}); a run folder <label>-<hash> with "
                "generated/manifest.json is needed, which `python -m ablations.run` writes when training is over"
            )
    digests = {_mapping(path / "status.json").get("dataset_digest"): path.name for path in runs}
    if len(digests) > 1:
        listed = "; ".join(f"{run}: {str(digest)[:12]}" for digest, run in digests.items())
        problems.append(f"the runs were tested on different data sets ({listed}); choose runs of one")
    if problems:
        raise ValueError("\n".join(problems))
    configurations = [_mapping(path / "config.yaml") for path in runs]
    split = _open_split(configurations[0], next(iter(digests)), dataset)
    examples = runs[0] / "generated" / "examples"
    kept = len(list(examples.glob("*_target.png")))
    pairs = [
        ScoredPair(place, *row, files={path.name: manifest[row] for path, manifest in manifests.items()})
        for place, row in enumerate(manifests[runs[0]])
        if all(row in manifest for manifest in manifests.values()) and (split or place < kept)
    ]
    called = [str(config.get("name") or name) for name, config in zip(names, configurations, strict=True)]
    titles = [
        title if called.count(title) == 1 else f"{title} ({name})" for name, title in zip(names, called, strict=True)
    ]
    return StudyPictures(dict(zip(names, titles, strict=True)), pairs, split, examples)


def scrambled(image: "np.ndarray") -> "np.ndarray":
    """A picture that nobody takes for real: six bands of its rows, then four of its columns, change places."""
    import numpy as np

    rows = np.array_split(image, 6, axis=0)
    mixed = np.concatenate([rows[band] for band in (3, 0, 5, 1, 4, 2)], axis=0)
    columns = np.array_split(mixed, 4, axis=1)
    return np.concatenate([columns[band] for band in (2, 0, 3, 1)], axis=1)


def _read_manifest(run: Path) -> dict[tuple[int, str, str, str], tuple[Path, str]]:
    """(pair, pair id, source, target) -> (file, SHA-256), in the order of the test set."""
    found = {}
    for row in json.loads((run / "generated" / "manifest.json").read_bytes()):
        file = str(row["file"])
        if PurePath(file).name != file or file in ("", "..") or "\\" in file:
            raise ValueError(f"manifest.json names {file!r}, accepted is a file in generated/")
        key = int(row["pair"]), str(row["pair_id"]), str(row["source"]), str(row["target"])
        found[key] = run / "generated" / file, str(row["sha256"])
    return found


def _mapping(path: Path) -> dict[str, Any]:
    """Content of a YAML or JSON file; empty where it is missing, damaged or holds something else."""
    try:
        content = yaml.safe_load(path.read_bytes())
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _open_split(config: dict[str, Any], digest: Any, dataset: Path | None) -> "PackedSplit | None":
    """The test split that the runs were scored on; None where it is not on this machine and nobody named it."""
    from xinggan.data.packed import open_packed, packed_directory

    settings, cache = config.get("dataset"), config.get("cache")
    if dataset is None and isinstance(digest, str) and isinstance(cache, str) and isinstance(settings, dict):
        recorded = packed_directory(cache, str(settings.get("name")), digest)
        dataset = recorded if recorded.is_dir() else None
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
