"""The Pose-Transfer layout, which Market-1501, DeepFashion and everything prepared for PATN, XingGAN, ... use.

    <root>/train/, <root>/test/                  images
    <root>/<set>-annotation-{train,test}.csv     name: [18 y]: [18 x]
    <root>/<set>-pairs-{train,test}.csv          from,to (where it is missing, pairs follow from the rule of `pairing`)

Reading a layout looks at everything but the pictures themselves and reports all problems of a split at once.
"""

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from xinggan.data.pairing import derived_pairs, identity_of, identity_pattern, is_distractor, sampled_test_pairs
from xinggan.data.problems import LayoutProblems, Problem
from xinggan.data.settings import DatasetSettings
from xinggan.data.tables import Annotations, PairTable, name_trouble, read_annotations, read_pairs

__all__ = ["Layout", "LayoutFiles", "LayoutProblems", "Problem", "find_files", "read_layout"]

KNOWN_SETS = ("market", "fasion-resize", "fasion", "fashion", "pku")  # in order of preference
SETS_OF = {"market1501": ("market",), "deepfashion": ("fasion-resize", "fasion", "fashion")}  # looked for first
ENDING = "-annotation-train.csv"
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
    """Find the tables in the root or, where it has none, in the folder below it that has them.

    Raises ValueError when there is no root, no annotation file, or a choice of them.
    """
    if not settings.root:
        raise ValueError(f"data set {settings.name!r} needs root: the folder with train/, test/ and annotation files")
    root = Path(settings.root)
    with suppress(RuntimeError):  # the home of somebody who is not known here
        root = root.expanduser()
    if not (root.is_dir() and os.access(root, os.R_OK | os.X_OK)):
        what = "is a file" if root.is_file() else "cannot be read" if root.exists() else "does not exist"
        raise ValueError(f"root {root} {what}; expected a folder with train/, test/ and <set>{ENDING}")
    own = SETS_OF.get(settings.name, ())
    order = [*own, *(known for known in KNOWN_SETS if known not in own)]
    sets, preferred = _sets_in(root), order
    if not sets:
        sets, preferred = [files for below in sorted(root.glob("*/")) for files in _sets_in(below)], list(own)
    first = next((prefix for prefix in preferred if prefix in {files.prefix for files in sets}), None)
    chosen = [files for files in sets if files.prefix == first] or sets
    if not chosen:
        names = ", ".join(f"{prefix}{ENDING}" for prefix in order)
        raise ValueError(f"no annotations in {root} or a folder in it; looked for {names}, and any other *{ENDING}")
    if len(chosen) > 1:
        names = ", ".join(str((files.root / files.prefix).relative_to(root)) for files in chosen)
        raise ValueError(f"{root} has several sets ({names}); leave one <set>{ENDING} there, or name its own folder")
    return chosen[0]


def _sets_in(folder: Path) -> list[LayoutFiles]:
    return [LayoutFiles(folder, path.name.removesuffix(ENDING)) for path in sorted(folder.glob(f"*{ENDING}"))]


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
    folder, problems_before = files.root / split, len(problems)
    table = read_annotations(files.root / label, label, problems)
    listed = None
    if (files.root / pairs_label).exists():
        listed = read_pairs(files.root / pairs_label, pairs_label, problems)
    asked_for = set(listed.names) if listed else set()
    present = _images_in(folder)

    if not folder.is_dir():
        problems.append(Problem(f"{split}/", None, "the folder of the images is missing"))
    else:
        inside = folder.resolve()  # the folder itself may be a link, to anywhere
        for name, row in zip(table.names, table.rows, strict=True):
            if _is_wanted(name, settings, asked_for) and (trouble := _file_trouble(inside, name)):
                problems.append(Problem(label, row, f"{split}/{name}: {trouble}"))
    kept, identities = _identified(table, settings, asked_for, label, problems)
    names, poses = [table.names[index] for index in kept], table.poses[kept]

    notes: list[str] = []
    if listed:
        pairs = _listed_pairs(listed, names, table, present, problems, (pairs_label, split))
    else:
        pairs = derived_pairs(identities, poses)
        if settings.name == "market1501" and split == "test":
            pairs = sampled_test_pairs(pairs)
    if not len(pairs) and (kept or len(problems) == problems_before):  # and not only because nothing could be read
        what = "no usable pair: expected two images of one identity, both with shoulders and hips present"
        problems.append(Problem(pairs_label if listed else label, None, what))
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


def _file_trouble(folder: Path, name: str) -> str:
    """What is wrong with the place of an image in a folder without links on its path, or the empty string."""
    path = folder / name
    if not path.is_file():
        return "the image is missing"
    if not path.resolve().is_relative_to(folder):
        return "a link that leaves the folder of the images; put the file there, or make the whole folder a link"
    return ""


def _is_wanted(name: str, settings: DatasetSettings, asked_for: set[str]) -> bool:
    return name in asked_for or not is_distractor(name, settings)


def _identified(
    table: Annotations, settings: DatasetSettings, asked_for: set[str], label: str, problems: list[Problem]
) -> tuple[list[int], list[str]]:
    """Indices into `table` of the images to pack, and their identities."""
    pattern = identity_pattern(settings)
    wanted = [index for index, name in enumerate(table.names) if _is_wanted(name, settings, asked_for)]
    found = {index: identity_of(table.names[index], pattern) for index in wanted}
    if wanted and not any(found.values()):
        what = f"{pattern.pattern!r} fits none of {len(wanted)} names, {table.names[wanted[0]]} for one"
        problems.append(Problem(label, None, f"no identities: {what}; set identity_pattern"))
        return [], []
    kept, identities, row_of_stem = list[int](), list[str](), dict[str, int]()
    for index, identity in found.items():
        name, row = table.names[index], table.rows[index]
        stem = PurePosixPath(name).stem
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
    listed: PairTable,
    names: list[str],
    table: Annotations,
    present: set[str],
    problems: list[Problem],
    where: tuple[str, str],
) -> np.ndarray:
    """The pairs of a file as rows of `names` [p, 2]. Names with a bad annotation are reported there and not here."""
    label, split = where
    if not table.named:
        return np.empty((0, 2), dtype=np.int64)
    row_of = {name: row for row, name in enumerate(names)}
    known = np.array([row_of.get(name, -1) for name in listed.names], dtype=np.int64)
    pairs = known[listed.pairs]  # [p, 2]; -1: not among `names`
    trouble = {}  # of names
    for number, name in enumerate(listed.names):
        if known[number] < 0 and name not in table.named:
            reason = "has no annotation" if name in present else "is unknown: neither annotated nor in the folder"
            trouble[number] = name_trouble(name) or f"{name} {reason}"
    for at in np.flatnonzero(np.isin(listed.pairs, list(trouble)).any(axis=1)).tolist():
        what = next(trouble[number] for number in listed.pairs[at].tolist() if number in trouble)
        problems.append(Problem(label, int(listed.rows[at]), what))
    for at in np.flatnonzero(listed.pairs[:, 0] == listed.pairs[:, 1]).tolist():
        what = f"{listed.names[listed.pairs[at, 0]]} is paired with itself"
        problems.append(Problem(label, int(listed.rows[at]), what))
    if split == "test":
        _, first, place = np.unique(listed.pairs, axis=0, return_index=True, return_inverse=True)
        for at in np.flatnonzero(first[place] != np.arange(len(place))).tolist():
            what = f"the pair is listed already in row {listed.rows[first[place[at]]]}; test pairs are scored once"
            problems.append(Problem(label, int(listed.rows[at]), what))
    return pairs[(pairs >= 0).all(axis=1)]
