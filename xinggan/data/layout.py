"""The Pose-Transfer layout, which Market-1501, DeepFashion and everything prepared for PATN, XingGAN, ... use.

    <root>/train/, <root>/test/                  images
    <root>/<set>-annotation-{train,test}.csv     name: [18 y]: [18 x]
    <root>/<set>-pairs-{train,test}.csv          from,to (where it is missing, pairs follow from the rule of `pairing`)

Reading a layout looks at everything but the pictures themselves and reports all problems of a split at once.
"""

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from xinggan.data.pairing import derived_pairs, identity_of, identity_pattern, is_distractor, sampled_test_pairs
from xinggan.data.problems import LayoutProblems, Problem
from xinggan.data.settings import DatasetSettings
from xinggan.data.tables import name_trouble, read_annotations, read_pairs

__all__ = ["Layout", "LayoutFiles", "LayoutProblems", "Problem", "find_files", "read_layout"]

KNOWN_SETS = ("market", "fasion-resize", "fasion", "fashion", "pku")  # in order of preference
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True)
class LayoutFiles:
    """Where a data set's files lie. Pairs files may be missing."""

    root: Path
    prefix: str  # of the tables' names: "market", "fasion-resize", ...

    def annotations(self, split: str) -> str:
        return f"{self.prefix}-annotation-{split}.csv"

    def pairs(self, split: str) -> str:
        return f"{self.prefix}-pairs-{split}.csv"


@dataclass(frozen=True)
class Layout:
    """One split as its tables describe it: n images with poses in the files' own pixels, and p pairs of their rows."""

    files: LayoutFiles
    split: str
    names: list[str]  # n, inside <root>/<split>/
    rows: list[int]  # n lines of the annotation file, for messages
    poses: np.ndarray  # [n, 18, 3] float32
    identities: list[str]  # n
    pairs: np.ndarray  # [p, 2] int64
    notes: list[str] = field(default_factory=list)  # what is worth knowing and no reason to stop

    def image(self, row: int) -> Path:
        return self.files.root / self.split / self.names[row]


def find_files(settings: DatasetSettings) -> LayoutFiles:
    """Find the tables in the root. Raises ValueError when there is no root, no annotation file, or a choice of them."""
    if not settings.root:
        raise ValueError(
            f"data set {settings.name!r} needs root: the folder with train/, test/ and the annotation files"
        )
    root = Path(settings.root).expanduser()
    if not root.is_dir():
        raise ValueError(f"root {root} is not a folder; expected one with train/, test/ and <set>-annotation-train.csv")
    ending = "-annotation-train.csv"
    prefixes = sorted(path.name.removesuffix(ending) for path in root.glob(f"*{ending}"))
    preferred = [prefix for prefix in KNOWN_SETS if prefix in prefixes] or prefixes
    if not preferred:
        raise ValueError(f"{root} has no *{ending}; expected for example {KNOWN_SETS[0]}{ending}")
    if preferred == prefixes and len(prefixes) > 1 and prefixes[0] not in KNOWN_SETS:
        raise ValueError(f"{root} has several sets ({', '.join(prefixes)}); leave one <set>{ending} there")
    return LayoutFiles(root, preferred[0])


def read_layout(settings: DatasetSettings, split: str, problems: list[Problem] | None = None) -> Layout:
    """Read one split, "train" or "test".

    Problems are appended to `problems` where a list is given; without one, any problem raises LayoutProblems.
    """
    found: list[Problem] = []
    layout = _read(settings, find_files(settings), split, found)
    if problems is None and found:
        raise LayoutProblems(str(layout.files.root), found)
    if problems is not None:
        problems.extend(found)
    return layout


def _read(settings: DatasetSettings, files: LayoutFiles, split: str, problems: list[Problem]) -> Layout:
    label = files.annotations(split)
    table = read_annotations(files.root / label, label, problems)
    pairs_label = files.pairs(split)
    listed = None
    if (files.root / pairs_label).exists():
        listed = read_pairs(files.root / pairs_label, pairs_label, problems)
    asked_for = {name for _, *pair in listed or [] for name in pair}
    notes: list[str] = []

    present = _images_in(files.root / split)
    pattern = identity_pattern(settings)
    kept, identities, row_of_id = list[int](), list[str](), dict[str, int]()
    for index, (name, row) in enumerate(zip(table.names, table.rows, strict=True)):
        if is_distractor(name, settings) and name not in asked_for:
            continue
        identity = identity_of(name, pattern)
        stem = PurePosixPath(name).stem
        if name not in present and not (files.root / split / name).is_file():
            problems.append(Problem(f"{split}/{name}", None, f"the image is missing; {label} has it in row {row}"))
        if identity is None:
            expected = f"the pattern {pattern.pattern!r} does not fit"
            problems.append(Problem(label, row, f"no identity in the name {name}: {expected}; set identity_pattern"))
        elif stem in row_of_id:
            same = f"{name} and the image of row {row_of_id[stem]} have the same name without folder and suffix"
            problems.append(Problem(label, row, f"{same}; generated images could not be told apart"))
        else:
            row_of_id[stem] = row
            kept.append(index)
            identities.append(identity)
    names, poses = [table.names[index] for index in kept], table.poses[kept]

    if listed is not None:
        pairs = _listed_pairs(listed, names, table.named, present, pairs_label, split, problems, notes)
    else:
        pairs = derived_pairs(identities, poses)
        if settings.name == "market1501" and split == "test":
            pairs = sampled_test_pairs(pairs)
    if not len(pairs):
        what = "no usable pair: expected two images of one identity, both with shoulders and hips present"
        problems.append(Problem(label if listed is None else pairs_label, None, what))
    if split == "test":
        pairs = pairs[: settings.test_pairs]
    people = np.array(identities, dtype=object)
    if different := int((people[pairs[:, 0]] != people[pairs[:, 1]]).sum()) if len(pairs) else 0:
        notes.append(f"{pairs_label}: {different} pairs join images of different identities")
    if unused := sorted(present - table.named):
        notes.append(f"{split}/: {len(unused)} images have no annotation and are left out, {unused[0]} for one")
    return Layout(files, split, names, [table.rows[index] for index in kept], poses, identities, pairs, notes)


def _images_in(folder: Path) -> set[str]:
    """Names of the image files lying directly in a folder; those in folders below are looked up one by one."""
    if not folder.is_dir():
        return set()
    return {path.name for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}


def _listed_pairs(
    listed: list[tuple[int, str, str]],
    names: list[str],
    named: set[str],
    present: set[str],
    label: str,
    split: str,
    problems: list[Problem],
    notes: list[str],
) -> np.ndarray:
    """The pairs of a file as rows of `names` [p, 2]. Names with a bad annotation (in `named`) are reported there."""
    row_of = {name: row for row, name in enumerate(names)}
    pairs: dict[tuple[int, int], int] = {}
    repeated = 0
    for row, *pair in listed:
        trouble = ""
        for name in pair:
            if not trouble and name not in row_of and name not in named:
                trouble = name_trouble(name) or (
                    f"{name} has no annotation"
                    if name in present
                    else f"{name} is unknown: neither annotated nor there"
                )
        if not trouble and pair[0] == pair[1]:
            trouble = f"{pair[0]} is paired with itself"
        source, target = row_of.get(pair[0]), row_of.get(pair[1])
        if source is not None and target is not None and (source, target) in pairs:
            repeated += 1
            if split == "test":
                trouble = f"the pair is there already in row {pairs[source, target]}; each test pair is scored once"
        if trouble:
            problems.append(Problem(label, row, trouble))
        elif source is not None and target is not None:
            pairs.setdefault((source, target), row)
    if repeated and split == "train":
        notes.append(f"{label}: {repeated} pairs are repeated and count once")
    return np.array(list(pairs), dtype=np.int64).reshape(-1, 2)
