"""A validation split: people who leave the training of a data set and are scored in place of its test people.

What is chosen by looking at scores, such as a learning rate, is chosen on these people, so that nothing of the test
split decides it. The result is a packed data set of its own: its own digest, so that no report takes its values for
those of the test split, and in `test` the pairs of the people who were held out.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xinggan.data.layout import people_in_turn
from xinggan.data.packed import PackedDataset, PackedSplit, open_packed, packed_directory
from xinggan.data.packing import Chunk, SplitContent, write_packed

RULE = 1  # part of the digest: counted up when `hold_out` chooses otherwise
SHARE = 10  # one of so many training people is held out
FEWEST = 2  # people that are held out at least
IMAGES_AT_ONCE = 1024
FACTS = ("format", "digest", "splits", "sha256")  # of a card, which `write_packed` makes anew


def validation_digest(whole: str) -> str:
    """The digest of the validation split of the data set with the digest `whole`."""
    return hashlib.sha256(json.dumps({"validation_of": whole, "rule": RULE}).encode()).hexdigest()


def packed_validation(data: PackedDataset, cache: Path | str, mask_radius: int) -> PackedDataset:
    """The data set in which `test` holds people who left the training, from the cache or packed into it.

    Raises ValueError for a data set with too few people, and as `write_packed`.
    """
    whole = validation_digest(data.digest)
    directory = packed_directory(cache, data.card["settings"]["name"], whole)
    if directory.is_dir():
        with suppress(ValueError):  # incomplete: packed again
            return open_packed(directory)
    held = hold_out(data)
    note = f"validation: {len(held.people)} of the training people, who left the training, are in place of the test"
    card = {key: value for key, value in data.card.items() if key not in FACTS}
    card |= {"notes": [*card["notes"], note], "shared": dict.fromkeys(card["shared"], 0), "validation_of": data.digest}
    splits = {
        "train": _content(data.train, held.train_pairs, ~held.rows),
        "test": _content(data.train, held.pairs, held.rows),
    }
    return write_packed(directory, whole, card, splits, mask_radius)


@dataclass(frozen=True)
class HeldOut:
    """The people who leave the training, and what becomes of the training pairs; rows are those of all images."""

    people: np.ndarray  # [k] identities
    rows: np.ndarray  # [n] bool: their images
    pairs: np.ndarray  # [v, 2]: the validation pairs
    train_pairs: np.ndarray  # [t, 2]: the pairs that remain


def hold_out(data: PackedDataset) -> HeldOut:
    """Hold out one of SHARE training people, at least FEWEST, evenly spaced over those who have training pairs.

    Nobody of the test split is chosen. The validation pairs are the training pairs between images of one held-out
    person, at most as many as the test split has, the people in turn. Pairs of a held-out person with anybody else
    leave the training too. Raises ValueError where too few people are left on either side.
    """
    train = data.train
    source, target = train.identities[train.pairs].T  # [p] each
    paired = np.unique(target[source == target])
    eligible = np.setdiff1d(paired, data.test.identities)
    count = max(FEWEST, round(len(paired) / SHARE))
    if len(eligible) < count or len(paired) <= count:
        raise ValueError(
            f"evaluation.split=validation holds {count} of the training people out, and others have to remain; there "
            f"are {len(paired)} with training pairs, {len(eligible)} of them not in the test split"
        )
    people = eligible[np.linspace(0, len(eligible) - 1, count).round().astype(int)]
    rows = np.isin(train.identities, people)
    held = rows[train.pairs]  # [p, 2]
    pairs = people_in_turn(train.pairs[held.all(axis=1) & (source == target)], train.identities)
    return HeldOut(people, rows, pairs[: len(data.test)], train.pairs[~held.any(axis=1)])


def _content(split: PackedSplit, pairs: np.ndarray, kept: np.ndarray) -> SplitContent:
    """The images of a split that are `kept`, bool [n], with those of its pairs that are given."""
    rows = np.flatnonzero(kept)
    place = np.cumsum(kept) - 1  # [n], of an image among those kept

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(rows), IMAGES_AT_ONCE):
            chunk = rows[start : start + IMAGES_AT_ONCE]
            yield split.images[chunk], split.poses[chunk]

    return SplitContent([split.names[row] for row in rows], split.identities[rows], place[pairs], chunks())
