"""The Pose-Transfer layout, which Market-1501, DeepFashion and everything prepared for PATN, XingGAN, ... use.

    <root>/train/, <root>/test/                  images
    <root>/<set>-annotation-{train,test}.csv     name: [18 y]: [18 x]
    <root>/<set>-pairs-{train,test}.csv          from,to (optional: without it `derived_pairs` gives the pairs)

Reading a layout checks everything but the pictures themselves; all problems of a split are reported together.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from xinggan.command import Problem
from xinggan.data.image_files import file_named, hidden_note, list_images, visible
from xinggan.data.packed import SPLITS
from xinggan.data.poses import TORSO_JOINTS
from xinggan.data.settings import DatasetSettings
from xinggan.data.tables import Annotations, ListedPair, image_name, name_trouble, read_annotations, read_pairs
from xinggan.files import user_path

KNOWN_SETS = ("market", "fasion-resize", "fasion", "fashion", "pku")  # in order of preference
SETS_OF = {"market1501": ("market",), "deepfashion": ("fasion-resize", "fasion", "fashion")}  # looked for first
ENDING = "-annotation-train.csv"

# The first group is the identity. DeepFashion: everything before the number of the view and its kind.
UP_TO_UNDERSCORE = r"(?:.*/)?([^_/]+)_"
UP_TO_VIEW = r"(?:.*/)?(.+?)_\d+_?(?:front|side|back|full|additional|flat)\.\w+$"
IDENTITY_PATTERNS = {"market1501": UP_TO_UNDERSCORE, "deepfashion": UP_TO_VIEW, "folder": UP_TO_UNDERSCORE}
GARMENT_PATTERN = r"id_?(\d{8})"  # of a DeepFashion name: one article of clothing, worn by one person or several
MARKET_DISTRACTORS = ("-1", "0000")  # beginnings of names
MARKET_TEST_PAIRS = 12_000  # sampled with seed 0, this is the published list


@dataclass(frozen=True)
class LayoutFiles:
    """The root of a data set and the names of its tables in there. Pairs files may be missing."""

    root: Path
    prefix: str  # of the tables' names: "market", "fasion-resize", ...

    def annotations(self, split: str) -> str:
        return f"{self.prefix}-annotation-{split}.csv"

    def pairs(self, split: str) -> str:
        return f"{self.prefix}-pairs-{split}.csv"


def find_files(settings: DatasetSettings) -> LayoutFiles:
    """Find the tables in the root or, where it has none, in the folder below it that has them.

    Raises ValueError when there is no root, no annotation file, or several sets of them.
    """
    if not settings.root:
        raise ValueError(f"data set {settings.name!r} needs root: the folder with train/, test/ and annotation files")
    root = user_path(settings.root)
    if not (root.is_dir() and os.access(root, os.R_OK | os.X_OK)):
        what = "is a file" if root.is_file() else "cannot be read" if root.exists() else "does not exist"
        raise ValueError(f"root {root} {what}; expected a folder with train/, test/ and <set>{ENDING}")
    own = SETS_OF.get(settings.name, ())
    order = [*own, *(known for known in KNOWN_SETS if known not in own)]
    sets, preferred = _sets_in(root), order
    if not sets:
        below = [folder for folder in visible(root) if folder.is_dir() and os.access(folder, os.R_OK)]
        sets, preferred = [files for folder in below for files in _sets_in(folder)], list(own)
    by_preference = ([files for files in sets if files.prefix == prefix] for prefix in preferred)
    chosen = next(filter(None, by_preference), sets)
    if not chosen:
        names = ", ".join(f"{prefix}{ENDING}" for prefix in order)
        raise ValueError(f"no annotations in {root} or a folder in it; looked for {names}, and any other *{ENDING}")
    if len(chosen) > 1:
        names = ", ".join(str((files.root / files.prefix).relative_to(root)) for files in chosen)
        raise ValueError(f"{root} has several sets ({names}); leave one <set>{ENDING} there, or name its own folder")
    return chosen[0]


def _sets_in(folder: Path) -> list[LayoutFiles]:
    """The sets whose annotations of training images lie directly in the folder."""
    tables = [path.name for path in visible(folder) if path.name.endswith(ENDING)]
    return [LayoutFiles(folder, name.removesuffix(ENDING)) for name in tables]


def other_tables(files: LayoutFiles, split: str, named: set[str], problems: list[Problem]) -> list[str]:
    """Notes on tables in the root that are not read. `named` are the annotated images of the split.

    A list of pairs that names one of them is a problem where the split has no list of its own, and derived pairs would
    silently take its place.
    """
    notes, own = list[str](), files.root / files.pairs(split)
    if own.is_symlink() and not own.exists():
        problems.append(Problem(own.name, None, "a link to nowhere; put the list of pairs there, or remove the link"))
    used = {table(each) for table in (files.annotations, files.pairs) for each in SPLITS}
    for path in visible(files.root):
        kind = re.search(r"(annotation|pairs).*\.csv$", path.name, re.IGNORECASE)
        if path.name in used or not kind or not path.is_file():
            continue
        if kind[1].lower() == "pairs":
            text = path.read_bytes().decode("utf-8", "replace")  # of any form, with a column of numbers or without
            meant = not named.isdisjoint(image_name(field.strip()) for field in re.split("[,;\t\n]", text))
            if meant and not own.exists():
                what = f"lists pairs of {split} images and is not read; the name that is read is {own.name}"
                problems.append(Problem(path.name, None, f"{what}: rename it, or put it elsewhere to derive pairs"))
            elif meant or split == SPLITS[-1]:
                instead = f"read from {own.name}" if own.exists() else "derived"
                notes.append(f"{path.name} is not read: the pairs of {split} are {instead}")
        elif path.name.endswith(files.annotations(split).removeprefix(files.prefix)):
            notes.append(f"{path.name} is not read: {files.annotations(split)} goes before it")
    return notes


def identity_pattern(settings: DatasetSettings) -> re.Pattern[str]:
    """The regular expression whose first group is the identity. Raises ValueError for one that cannot be used."""
    text = settings.identity_pattern or IDENTITY_PATTERNS[settings.name]
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ValueError(f"identity_pattern {text!r} is not a regular expression: {error}") from None
    if pattern.groups < 1:
        raise ValueError(f"identity_pattern {text!r} has no group; put the identity in brackets, as in '([^_]+)_'")
    return pattern


def identity_of(name: str, pattern: re.Pattern[str]) -> str | None:
    """The identity in an image's name; None: the pattern does not fit."""
    match = pattern.match(name)
    return match[1] if match and match[1] else None


def is_distractor(name: str, settings: DatasetSettings) -> bool:
    """Whether the image is one of Market-1501's distractors (0000) or junk detections (-1)."""
    return settings.name == "market1501" and name.rpartition("/")[2].startswith(MARKET_DISTRACTORS)


def derived_pairs(identities: Sequence[Any] | np.ndarray, poses: np.ndarray | None = None) -> np.ndarray:
    """identities of n images, poses [n, 18, 3] -> [p, 2] source and target rows, by the rule of the published lists.

    Every ordered pair of different images of one identity, both shoulders and both hips present in each (without poses:
    in all images); identities in the order in which they first appear, images in theirs.
    """
    usable = np.ones(len(identities)) if poses is None else (poses[:, TORSO_JOINTS, 2] > 0).all(axis=1)
    rows_of: dict[Any, list[int]] = {}
    for row in np.flatnonzero(usable).tolist():
        rows_of.setdefault(identities[row], []).append(row)
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for rows in rows_of.values():
        source, target = np.repeat(rows, len(rows)), np.tile(rows, len(rows))
        pairs.append(np.stack([source, target], axis=1)[source != target])
    return np.concatenate(pairs)


def sampled_test_pairs(pairs: np.ndarray) -> np.ndarray:
    """Market-1501's 12,000 test pairs of all derived ones, as pandas samples them with random_state 0."""
    import pandas

    count = min(MARKET_TEST_PAIRS, len(pairs))
    return pairs[pandas.Series(range(len(pairs)), dtype="int64").sample(n=count, random_state=0).to_numpy()]


def people_in_turn(pairs: np.ndarray, identities: np.ndarray) -> np.ndarray:
    """The pairs [p, 2] in a fixed order in which every person comes once before any comes twice. identities: [n]."""
    mixed = pairs[np.random.default_rng(0).permutation(len(pairs))]
    of_person = np.argsort(identities[mixed[:, 1]], kind="stable")
    _, counts = np.unique(identities[mixed[:, 1]], return_counts=True)
    turn = np.empty(len(mixed), dtype=int)
    turn[of_person] = np.concatenate([np.arange(0), *map(np.arange, counts)])
    return mixed[np.argsort(turn, kind="stable")]


@dataclass(frozen=True)
class Layout:
    """One split as its tables describe it: n images with poses in the files' own pixels, and p pairs of their rows."""

    files: LayoutFiles
    split: str
    names: list[str]  # n, inside `folder`
    rows: list[int]  # n rows of the annotation file, for messages
    poses: np.ndarray  # [n, 18, 3] float32
    identities: list[str]  # n
    pairs: np.ndarray  # [p, 2] int64
    notes: list[str]  # facts worth knowing that are no problems

    @property
    def folder(self) -> Path:
        return self.files.root / self.split

    def file(self, row: int) -> Path:
        """The file of an image."""
        return file_named(self.folder, self.names[row])


def read_layout(settings: DatasetSettings, split: str, problems: list[Problem]) -> Layout:
    """Read one split, "train" or "test". Problems are appended to `problems`. Raises ValueError without a layout."""
    found: list[Problem] = []
    files = find_files(settings)
    label, pairs_label, folder = files.annotations(split), files.pairs(split), files.root / split
    table = read_annotations(files.root / label, label, found)
    listed = read_pairs(files.root / pairs_label, pairs_label, found) if (files.root / pairs_label).exists() else None
    notes = [*table.notes, *other_tables(files, split, table.named, found)]
    # Market-1501's distractors are left out, unless a pair asks for one.
    asked_for = {name for pair in listed or () for name in (pair.source, pair.target)}
    wanted = [index for index, name in enumerate(table.names) if name in asked_for or not is_distractor(name, settings)]
    present = set[str]()  # names of the images directly in the folder
    if folder.is_dir():
        present = {image_name(path.name) for path in list_images(folder)}
        notes += hidden_note(folder)
        inside = folder.resolve()  # the folder itself may be a link, to anywhere
        for index in wanted:
            path, trouble = file_named(inside, table.names[index]), ""
            if not path.is_file():
                trouble = "no file but a folder, pipe or device" if path.exists() else "the image is missing"
            elif not path.resolve().is_relative_to(inside):
                trouble = "a link that leaves the folder of the images"
                trouble += "; put the file there, or make the whole folder a link"
            if trouble:
                found.append(Problem(label, table.rows[index], f"{split}/{table.names[index]}: {trouble}"))
    else:
        found.append(Problem(f"{split}/", None, "the folder of the images is missing"))
    kept, identities = _identified(table, wanted, settings, label, found)
    names, rows = [table.names[index] for index in kept], [table.rows[index] for index in kept]
    poses = table.poses[kept]

    if listed is not None:
        pairs = _listed_pairs(listed, split, names, table.named, present, pairs_label, found)
    else:
        pairs = derived_pairs(identities, poses)
        if settings.name == "market1501" and split == "test":
            pairs = sampled_test_pairs(pairs)
        elif settings.test_pairs and split == "test":
            pairs = people_in_turn(pairs, np.asarray(identities))
    if not len(pairs) and (kept or not found):  # else nothing could be read, which is a problem already
        what = "no usable pair: expected two images of one identity, both with shoulders and hips present"
        found.append(Problem(label if listed is None else pairs_label, None, what))
    if split == "test":
        pairs = pairs[: settings.test_pairs]
    problems.extend(found)

    people = np.unique(identities, return_inverse=True)[1]
    if different := int((people[pairs[:, 0]] != people[pairs[:, 1]]).sum()):
        notes.append(f"{pairs_label}: {different} pairs join images of different identities")
    if repeated := len(pairs) - len(np.unique(pairs, axis=0)):
        notes.append(f"{pairs_label}: {repeated} pairs are listed more than once")
    if unused := sorted(present - table.named):
        notes.append(f"{split}/: {len(unused)} images have no annotation and are left out, {unused[0]} for one")
    for what, values in (("names", names), ("identities", identities)):
        if alike := differing_in_case(values):
            notes.append(f"{split}/: {what} that differ only in case are taken as different: {' and '.join(alike)}")
    return Layout(files, split, names, rows, poses, identities, pairs, notes)


def differing_in_case(names: Sequence[str]) -> list[str]:
    """The first of `names` that are equal but for the case of letters; nothing where there are none."""
    spellings: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        spellings.setdefault(name.casefold(), []).append(name)
    return next((alike for alike in spellings.values() if len(alike) > 1), [])


def _identified(
    table: Annotations, wanted: list[int], settings: DatasetSettings, label: str, problems: list[Problem]
) -> tuple[list[int], list[str]]:
    """Indices into `table` of the `wanted` images that can be packed, and their identities."""
    pattern = identity_pattern(settings)
    found = {index: identity_of(table.names[index], pattern) for index in wanted}
    if wanted and not any(found.values()):
        what = f"{pattern.pattern!r} fits none of {len(wanted)} names, {table.names[wanted[0]]} for one"
        problems.append(Problem(label, None, f"no identities: {what}; set identity_pattern"))
        return [], []
    if any("/" in table.names[index] for index in wanted):
        names = [table.names[index] for index in wanted]
        if trouble := _trouble_of_folders(names, list(found.values()), settings):
            problems.append(Problem(label, None, trouble))
            return [], []
    kept, identities, row_of_stem = list[int](), list[str](), dict[str, int]()
    for index, identity in found.items():
        name, row = table.names[index], table.rows[index]
        first_row = row_of_stem.setdefault(PurePosixPath(name).stem, row)
        if identity is None:
            what = f"no identity in the name {name}: {pattern.pattern!r} does not fit; set identity_pattern"
            problems.append(Problem(label, row, what))
        elif first_row != row:
            what = f"{name} is named like the image of row {first_row} but for its suffix"
            problems.append(Problem(label, row, f"{what}; generated images could not be told apart"))
        else:
            kept.append(index)
            identities.append(identity)
    return kept, identities


def _trouble_of_folders(names: list[str], identities: list[str | None], settings: DatasetSettings) -> str:
    """The reason why names with folders in them cannot be used, or "".

    Generated images are named after the files alone. By default identities are, too, which would make one person of
    DeepFashion's id_00000262/02_1_front.jpg and id_00000309/02_3_back.jpg.
    """
    first_of_stem, first_of_identity = dict[str, PurePosixPath](), dict[str | None, PurePosixPath]()
    for path, identity in zip(map(PurePosixPath, names), identities, strict=True):
        alike, same = first_of_stem.setdefault(path.stem, path), first_of_identity.setdefault(identity, path)
        if alike.parent != path.parent:
            trouble = f"{alike} and {path} differ in their folders only; generated images could not be told apart:"
        elif settings.identity_pattern is None and identity and same.parent != path.parent:
            trouble = (
                f"{same} and {path} would both show {identity!r}, because identities are read from the files' names:"
            )
            trouble += f" set identity_pattern ({IDENTITY_PATTERNS[settings.name]!r} if that is right), or"
        else:
            continue
        becomes = str(path).replace("/", "_")
        return f"{trouble} put all images into one folder, there and in the tables {path} becomes {becomes}"
    return ""


def _listed_pairs(
    listed: list[ListedPair],
    split: str,
    names: list[str],
    named: set[str],
    present: set[str],
    label: str,
    problems: list[Problem],
) -> np.ndarray:
    """The pairs of a file as rows of `names` [p, 2]. Names with a bad annotation are reported there and not here."""
    pairs, row_of = list[tuple[int, int]](), {name: row for row, name in enumerate(names)}
    first: dict[tuple[str, str], int] = {}  # row of the file
    for row, source, target in listed if named else ():
        if unknown := [name for name in (source, target) if name not in named]:
            name = unknown[0]
            reason = "has no annotation" if name in present else "is unknown: neither annotated nor in the folder"
            problems.append(Problem(label, row, name_trouble(name) or f"{name} {reason}"))
        if source == target:
            problems.append(Problem(label, row, f"{source} is paired with itself"))
        if first.setdefault((source, target), row) != row and split == "test":
            what = f"the pair is listed already in row {first[source, target]}; test pairs are scored once"
            problems.append(Problem(label, row, what))
        if source in row_of and target in row_of:
            pairs.append((row_of[source], row_of[target]))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def shared_by_splits(train: Layout, test: Layout, settings: DatasetSettings, problems: list[Problem]) -> dict[str, int]:
    """Count the images, identities and, for DeepFashion, garments that both splits have.

    Shared images are problems, and so are shared people of Market-1501. DeepFashion's published splits share garments,
    worn by other people or seen in other outfits. `photographs` compares the pictures themselves.
    """
    label, train_label = test.files.annotations("test"), train.files.annotations("train")
    row_of_name = dict(zip(train.names, train.rows, strict=True))
    shared_names = [(name, row) for name, row in zip(test.names, test.rows, strict=True) if name in row_of_name]
    for name, row in shared_names:
        what = f"{name} is in train as well ({train_label}, row {row_of_name[name]}); the splits must not share images"
        problems.append(Problem(label, row, what))
    people = set(train.identities) & set(test.identities)
    for identity in sorted(people) if settings.name == "market1501" else ():
        at = test.identities.index(identity)
        if not is_distractor(test.names[at], settings):
            row = train.rows[train.identities.index(identity)]
            what = f"person {identity} is in train as well ({train_label}, row {row})"
            problems.append(Problem(label, test.rows[at], f"{what}; Market-1501's splits share nobody"))
    shared = {"images": len(shared_names), "identities": len(people)}
    if settings.name == "deepfashion":
        garments = (set(re.findall(GARMENT_PATTERN, " ".join(layout.names))) for layout in (train, test))
        shared["garments"] = len(set.intersection(*garments))
    return shared
