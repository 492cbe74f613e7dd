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
from xinggan.data.tables import Annotations, name_trouble, read_annotations, read_pairs

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
    names: list[str]  # n, inside `folder`
    rows: list[int]  # n rows of the annotation file, to say where an image is from
    poses: np.ndarray  # [n, 18, 3] float32
    identities: list[str]  # n
    pairs: np.ndarray  # [p, 2] int64
    notes: list[str] = field(default_factory=list)  # what is worth knowing and no reason to stop

    @property
    def folder(self) -> Path:
        return self.files.root / self.split


def find_files(settings: DatasetSettings) -> LayoutFiles:
    """Find the tables in the root. Raises ValueError when there is no root, no annotation file, or a choice of them."""
    if not settings.root:
        raise ValueError(f"data set {settings.name!r} needs root: the folder with train/, test/ and annotation files")
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
    label, pairs_label = files.annotations(split), files.pairs(split)
    folder = files.root / split
    table = read_annotations(files.root / label, label, problems)
    listed = None
    if (files.root / pairs_label).exists():
        listed = read_pairs(files.root / pairs_label, pairs_label, problems)
    asked_for = {name for _, *pair in listed or [] for name in pair}
    present = _images_in(folder)

    if not folder.is_dir():
        problems.append(Problem(f"{split}/", None, "the folder of the images is missing"))
    else:
        for name, row in zip(table.names, table.rows, strict=True):
            if _is_wanted(name, settings, asked_for) and name not in present and not (folder / name).is_file():
                problems.append(Problem(label, row, f"{split}/{name}: the image is missing"))
    kept, identities = _identified(table, settings, asked_for, label, problems)
    names, poses = [table.names[index] for index in kept], table.poses[kept]

    notes: list[str] = []
    if listed is not None:
        pairs = _listed_pairs(listed, names, table, present, problems, (pairs_label, split))
    else:
        pairs = derived_pairs(identities, poses)
        if settings.name == "market1501" and split == "test":
            pairs = sampled_test_pairs(pairs)
    if not len(pairs):
        what = "no usable pair: expected two images of one identity, both with shoulders and hips present"
        problems.append(Problem(label if listed is None else pairs_label, None, what))
    if split == "test":
        pairs = pairs[: settings.test_pairs]
    people = np.unique(identities, return_inverse=True)[1]
    if different := int((people[pairs[:, 0]] != people[pairs[:, 1]]).sum()):
        notes.append(f"{pairs_label}: {different} pairs join images of different identities")
    if repeated := len(pairs) - len(np.unique(pairs, axis=0)):
        notes.append(f"{pairs_label}: {repeated} pairs are listed more than once")
    if unused := sorted(present - table.named):
        notes.append(f"{split}/: {len(unused)} images have no annotation and are left out, {unused[0]} for one")
    return Layout(files, split, names, [table.rows[index] for index in kept], poses, identities, pairs, notes)


def _images_in(folder: Path) -> set[str]:
    """Names of the image files lying directly in a folder; those in folders below are looked up one by one."""
    if not folder.is_dir():
        return set()
    return {path.name for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}


def _is_wanted(name: str, settings: DatasetSettings, asked_for: set[str]) -> bool:
    return name in asked_for or not is_distractor(name, settings)


def _identified(
    table: Annotations, settings: DatasetSettings, asked_for: set[str], label: str, problems: list[Problem]
) -> tuple[list[int], list[str]]:
    """Indices into `table` of the images to pack, and their identities."""
    pattern = identity_pattern(settings)
    kept, identities, row_of_stem = list[int](), list[str](), dict[str, int]()
    for index, (name, row) in enumerate(zip(table.names, table.rows, strict=True)):
        if not _is_wanted(name, settings, asked_for):
            continue
        identity, stem = identity_of(name, pattern), PurePosixPath(name).stem
        if identity is None:
            what = f"no identity in the name {name}: {pattern.pattern!r} does not fit; set identity_pattern"
            problems.append(Problem(label, row, what))
        elif stem in row_of_stem:
            what = f"{name} is named like the image of row {row_of_stem[stem]} but for folder and suffix"
            problems.append(Problem(label, row, f"{what}; generated images could not be told apart"))
        else:
            row_of_stem[stem] = row
            kept.append(index)
            identities.append(identity)
    return kept, identities


def _listed_pairs(
    listed: list[tuple[int, str, str]],
    names: list[str],
    table: Annotations,
    present: set[str],
    problems: list[Problem],
    where: tuple[str, str],
) -> np.ndarray:
    """The pairs of a file as rows of `names` [p, 2]. Names with a bad annotation are reported there and not here."""
    label, split = where
    row_of = {name: row for row, name in enumerate(names)}
    pairs = list[tuple[int, int]]()
    listed_in: dict[tuple[int, int], int] = {}
    for row, source, target in listed:
        troubles = [f"{source} is paired with itself"] if source == target else []
        for name in (source, target):
            if name not in row_of and name not in table.named:
                reason = "has no annotation" if name in present else "is unknown: neither annotated nor in the folder"
                troubles.append(name_trouble(name) or f"{name} {reason}")
        if not troubles and source in row_of and target in row_of:
            pair = (row_of[source], row_of[target])
            if listed_in.setdefault(pair, row) != row and split == "test":
                troubles.append(f"the pair is listed already in row {listed_in[pair]}; test pairs are scored once")
            pairs.append(pair)
        if troubles:
            problems.append(Problem(label, row, troubles[0]))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
