"""Words of the command line such as `losses.l1=1`: read one by one, and comma lists expanded to grids; no torch.

Hydra's grammar, but for the keys of PATHS: a folder may be called what it likes.
"""

import csv
import difflib
import itertools
import json
import os
from collections.abc import Iterable
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

# Keys of paths, whatever characters these have.
PATHS = (
    *("runs", "cache", "dataset.root", "evaluation.estimator_weights", "published"),
    *("vae", "unet", "swin", "dino_pose", "dino_image"),
)
# Keys that are not set by themselves, and what they follow from.
FOLLOWING = {"method_name": "method", "method.seed": "seed", "code_size": "dataset.height"}


def read_words(words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Key -> value of words such as `scale=single`, and the reasons why the other words are refused."""
    given: dict[str, Any] = {}
    reasons = []
    for word in words:
        key, _, text = word.partition("=")
        if key.removeprefix("method.") in PATHS:
            paths = _paths(text)
            path = paths[0] if len(paths) == 1 else text  # where one is wanted, a comma is a part of its name
            given[key] = None if path == "null" else os.path.expanduser(path).replace("${", "\\${")  # noqa: PTH111
            continue
        try:
            override = _parsed(word)
        except ValueError as error:
            reasons.append(str(error))
            continue
        key = override.get_key_element()
        if override.is_add() or override.is_delete():
            reasons.append(f"{word}: keys are neither added nor removed; accepted is key=value")
        elif override.is_sweep_override():
            reasons.append(f"{word}: one value is accepted here; a list of values is a grid of runs (-m)")
        elif key in FOLLOWING:
            reasons.append(f"{word}: follows from {FOLLOWING[key]}=, set that")
        elif key == "training" and not isinstance(override.value(), dict):
            reasons.append(f"{word}: accepted are the keys of training, such as training.steps=100")
        else:
            given[key] = override.value()
    return given, reasons


def expand(words: list[str]) -> list[list[str]]:
    """Every combination of the comma lists in `words`, in order; without a list, the words themselves.

    Raises ValueError for words that cannot be read.
    """
    return [list(combination) for combination in itertools.product(*map(_listed, words))]


def _listed(word: str) -> list[str]:
    """A word for each value of a comma list; the word itself without one. Raises ValueError."""
    key, _, text = word.partition("=")
    if key.removeprefix("method.") in PATHS:
        values = _paths(text)
        return [f"{key}={path}" for path in values] if len(values) > 1 else [word]
    override = _parsed(word)
    if not override.is_sweep_override():
        return [word]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def _parsed(word: str) -> Override:
    """The word as Hydra reads it. Raises ValueError."""
    try:
        return OverridesParser.create().parse_overrides([word])[0]
    except HydraException as error:
        said = " ".join(str(error.__cause__ or error).split()).split(" See https")[0]
        raise ValueError(f"cannot read {word!r} as key=value: {said}") from error


def _paths(text: str) -> list[str]:
    """The paths of a comma list, in which those with a comma are quoted; all other characters stand for themselves."""
    return next(csv.reader([text], quotechar='"' if text.startswith('"') else "'"), [""])


def key_of(word: str) -> str:
    """The key that a word such as `losses.l1=1` sets; `method.blocks=3` says the same as `blocks=3`."""
    return word.lstrip("+~").split("=")[0].strip().removeprefix("method.")


def chosen_rows(rows: list[tuple[str, list[str]]], only: str) -> list[tuple[str, list[str]]]:
    """The rows (title, overrides) of a study that `only` lists: titles, and methods, which stand for all their rows.

    `xinggan:scale=single:blocks=3` is a row of its own, as is a method that the study has not. A title with a comma is
    quoted. Raises ValueError for what is neither, where the study's rows are no methods.
    """
    chosen: list[tuple[str, list[str]]] = []
    for name in next(csv.reader([only]), []):
        method, *settings = name.split(":")
        known = [row for row in rows if row[0] == name or (f"method={method}" in row[1] and not settings)]
        if not known and not any(key_of(word) == "method" for _, own in rows for word in own):
            titles = [title for title, _ in rows]
            raise ValueError(f"only={name}: accepted are {'; '.join(titles)}{suggestion(name, titles)}")
        known = known or [(" ".join([method, *settings]), [f"method={method}", *settings])]
        chosen += [row for row in known if row not in chosen]
    if not chosen:
        raise ValueError(f"only=: accepted are {'; '.join(title for title, _ in rows)}, or methods")
    return chosen


def as_word(value: Any) -> str:
    """A value as it would be written on the command line."""
    if value is None or isinstance(value, (bool, list)):
        return json.dumps(value, separators=(",", ":"))
    return f"{value:g}" if isinstance(value, float) else str(value)


def suggestion(word: Any, names: Iterable[Any]) -> str:
    """`. Did you mean NAME?` for the names close to the word, or nothing."""
    close = difflib.get_close_matches(str(word), [str(name) for name in names], cutoff=0.7)
    return f". Did you mean {' or '.join(close)}?" if close else ""
