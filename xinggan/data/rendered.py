"""The synthetic data set as `write_packed` takes it: people split by identity, their views rendered in chunks, pairs.

People 0 ... people_train - 1 are the training split and the next people_test the test split, each seen in all views.
"""

from collections.abc import Iterator

import numpy as np

from xinggan.data.packed import SPLITS
from xinggan.data.packing import Chunk, SplitContent
from xinggan.data.settings import DatasetSettings, rendered_size
from xinggan.progress import Progress

IMAGES_AT_ONCE = 64
PAIR_ORDER_SEED = 20200823  # fixed: which test pairs a given number of them means never changes


def render_splits(settings: DatasetSettings, progress: bool = True) -> dict[str, SplitContent]:
    """What to pack. Images are rendered while they are written. Raises ValueError for numbers that make no pairs."""
    for name, least in {"people_train": 1, "people_test": 1, "views": 2}.items():
        if getattr(settings, name) < least:
            raise ValueError(f"{name} is {getattr(settings, name)}; synthetic people need at least {least}")
    return {split: _split(settings, split, progress) for split in SPLITS}


def _split(settings: DatasetSettings, split: str, progress: bool) -> SplitContent:
    first, count = {"train": (0, settings.people_train), "test": (settings.people_train, settings.people_test)}[split]
    people = np.repeat(np.arange(first, first + count), settings.views)  # [n]
    views = np.tile(np.arange(settings.views), count)
    pairs = training_pairs(count, settings.views)
    if split == "test":
        pairs = scored_pairs(count, settings.views)[: settings.test_pairs]
    names = [f"{person:06d}_{view:03d}.png" for person, view in zip(people.tolist(), views.tolist(), strict=True)]

    def chunks() -> Iterator[Chunk]:
        from xinggan.data.synthetic import render

        with Progress(f"rendering the {split} split", len(names), "images", enabled=progress) as display:
            for start in range(0, len(names), IMAGES_AT_ONCE):
                chunk = slice(start, start + IMAGES_AT_ONCE)
                rendering = render(settings.seed, people[chunk], views[chunk], *rendered_size(settings))
                yield rendering.images, rendering.poses
                display.update(len(rendering.images))

    return SplitContent(names, people, pairs, chunks())


def training_pairs(people: int, views: int) -> np.ndarray:
    """[people * views * (views - 1), 2] rows: every ordered pair of different images of one person."""
    source, target = np.nonzero(~np.eye(views, dtype=bool))
    offsets = np.arange(people)[:, None] * views
    return np.stack([(offsets + source).ravel(), (offsets + target).ravel()], axis=1)


def scored_pairs(people: int, views: int) -> np.ndarray:
    """The same pairs shuffled so that every person comes once before any comes twice: a prefix covers all people."""
    rng = np.random.default_rng(PAIR_ORDER_SEED)
    pairs = training_pairs(people, views).reshape(people, -1, 2)
    shuffled = np.stack([person[rng.permutation(len(person))] for person in pairs], axis=1)  # [rounds, people, 2]
    return np.concatenate([round_of_pairs[rng.permutation(people)] for round_of_pairs in shuffled])
