"""Synthetic people: an embedded data set of persons seen again in other poses, from other sides, by other cameras.

`render(seed, people, views)` gives images with exact joints, part labels and identities, `describe(seed,
people)` the attributes of the same people. In the order of the computation: `people` draws a person, `posture` poses
the skeleton, `figure` builds the body of solids, `raycast` finds the solid that each sample of the image shows, `paint`
colours body and backdrop, `scene` puts everything together and marks the joints.

As a data set, people 0 ... people_train - 1 are the training split and the next people_test the test split, each seen
in all views.
"""

from collections.abc import Iterator

import numpy as np

from xinggan.data.layout import derived_pairs
from xinggan.data.packing import Chunk, SplitContent
from xinggan.data.settings import DatasetSettings, rendered_size
from xinggan.data.synthetic.figure import PARTS
from xinggan.data.synthetic.people import ATTRIBUTES
from xinggan.data.synthetic.scene import Rendering, describe, render
from xinggan.progress import Progress

GENERATOR_VERSION = "2"  # changed whenever a pixel, a joint or an attribute changes
IMAGES_AT_ONCE = 64
PAIR_ORDER_SEED = 20200823  # fixed: which test pairs a given number of them means never changes

__all__ = ["ATTRIBUTES", "GENERATOR_VERSION", "PARTS", "Rendering", "describe", "render", "render_splits"]


def render_splits(settings: DatasetSettings, progress: bool = True) -> dict[str, SplitContent]:
    """The content of both splits, rendered while it is written. Raises ValueError for numbers that make no pairs."""
    for name, least in {"people_train": 1, "people_test": 1, "views": 2}.items():
        if getattr(settings, name) < least:
            raise ValueError(f"{name} is {getattr(settings, name)}; synthetic people need at least {least}")
    train, test, views = settings.people_train, settings.people_test, settings.views
    content = {}
    for split, people in (("train", range(train)), ("test", range(train, train + test))):
        who, which = np.repeat(people, views), np.tile(np.arange(views), len(people))  # [n] person, view
        pairs = derived_pairs(who)
        if split == "test":
            pairs = scored_pairs(pairs, test)[: settings.test_pairs]
        names = [f"{person:06d}_{view:03d}.png" for person in people for view in range(views)]
        display = Progress(f"rendering the {split} split", len(names), "images", enabled=progress)
        content[split] = SplitContent(names, who, pairs, _chunks(settings, who, which, display))
    return content


def _chunks(settings: DatasetSettings, people: np.ndarray, views: np.ndarray, display: Progress) -> Iterator[Chunk]:
    """Images and poses of the people [n] in the views [n], in their order."""
    with display:
        for start in range(0, len(people), IMAGES_AT_ONCE):
            chunk = slice(start, start + IMAGES_AT_ONCE)
            rendering = render(settings.seed, people[chunk], views[chunk], *rendered_size(settings))
            yield rendering.images, rendering.poses
            display.update(len(rendering.images))


def scored_pairs(pairs: np.ndarray, people: int) -> np.ndarray:
    """The pairs [p, 2] of `people` people, equally many of each, in a fixed order that takes the people in turn.

    Every person comes once before any comes twice, so the first pairs of the list cover all people.
    """
    rng = np.random.default_rng(PAIR_ORDER_SEED)
    pairs_of_people = pairs.reshape(people, -1, 2)
    rounds = np.stack([some[rng.permutation(len(some))] for some in pairs_of_people], axis=1)  # [rounds, people, 2]
    return np.concatenate([one_round[rng.permutation(people)] for one_round in rounds])
