"""What the two splits share. An image of both is an error; so is a person of both where the data set promises none.

Pictures are compared where they are decoded (`photographs`); here are names, identities and DeepFashion's garments.
"""

import re

from xinggan.data.layout import Layout
from xinggan.data.packed import SPLITS
from xinggan.data.pairing import GARMENT_PATTERN, is_distractor
from xinggan.data.problems import Problem
from xinggan.data.settings import DatasetSettings


def shared_by_splits(layouts: dict[str, Layout], settings: DatasetSettings, problems: list[Problem]) -> dict[str, int]:
    """How many images, identities and, for DeepFashion, garments are in train and test; what must not be is reported.

    DeepFashion's published splits share garments, worn by other people or seen in other outfits: they are counted only.
    """
    train, test = (layouts[split] for split in SPLITS)
    label, train_label = test.files.annotations("test"), train.files.annotations("train")
    row_of_name = dict(zip(train.names, train.rows, strict=True))
    shared_names = [(name, row) for name, row in zip(test.names, test.rows, strict=True) if name in row_of_name]
    for name, row in shared_names:
        what = f"{name} is in train as well ({train_label}, row {row_of_name[name]}); the splits must not share images"
        problems.append(Problem(label, row, what))
    people = set(train.identities) & set(test.identities)
    if settings.name == "market1501":
        for identity in sorted(people):
            at = test.identities.index(identity)
            if not is_distractor(test.names[at], settings):
                row = train.rows[train.identities.index(identity)]
                what = f"person {identity} is in train as well ({train_label}, row {row})"
                problems.append(Problem(label, test.rows[at], f"{what}; Market-1501's splits share nobody"))
    shared = {"images": len(shared_names), "identities": len(people)}
    if settings.name == "deepfashion":
        shared["garments"] = len(_garments(train) & _garments(test))
    return shared


def _garments(layout: Layout) -> set[str]:
    return {found[1] for name in layout.names if (found := re.search(GARMENT_PATTERN, name))}
