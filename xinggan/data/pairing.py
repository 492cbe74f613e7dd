"""Who is in an image, from its name, and which pairs of images follow from that when no file lists them."""

import re
from collections.abc import Sequence

import numpy as np

from xinggan.data.poses import TORSO_JOINTS
from xinggan.data.settings import DatasetSettings

# The first group is the identity. DeepFashion: everything before the number of the view and its kind.
UP_TO_UNDERSCORE = r"(?:.*/)?([^_/]+)_"
UP_TO_VIEW = r"(?:.*/)?(.+?)_\d+_?(?:front|side|back|full|additional|flat)\.\w+$"
IDENTITY_PATTERNS = {"market1501": UP_TO_UNDERSCORE, "deepfashion": UP_TO_VIEW, "folder": UP_TO_UNDERSCORE}
GARMENT_PATTERN = r"id_?(\d{8})"  # of a DeepFashion name: one article of clothing, worn by one person or several

MARKET_DISTRACTORS = ("-1", "0000")  # beginnings of names
MARKET_TEST_PAIRS = 12_000  # sampled with seed 0, this is the published list


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
    """The identity in an image's name, None where the pattern does not fit."""
    match = pattern.match(name)
    return match[1] if match and match[1] else None


def is_distractor(name: str, settings: DatasetSettings) -> bool:
    """Whether Market-1501 counts this image as nobody in particular."""
    return settings.name == "market1501" and name.rpartition("/")[2].startswith(MARKET_DISTRACTORS)


def derived_pairs(identities: Sequence[str], poses: np.ndarray) -> np.ndarray:
    """identities of n images, poses [n, 18, 3] -> [p, 2] source and target rows, by the rule of the published lists.

    Every ordered pair of different images of one identity, both shoulders and both hips present in each; identities in
    the order in which they first appear, images in theirs.
    """
    usable = (poses[:, TORSO_JOINTS, 2] > 0).all(axis=1)
    rows_of: dict[str, list[int]] = {}
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
