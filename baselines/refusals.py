"""Settings that a baseline cannot use, refused before any work and all of them in one message."""

from math import inf
from typing import Any

from xinggan.model.switches import TransferSettings


def refuse(reasons: list[str], **shared: Any) -> None:
    """Raise ValueError naming `reasons`, if there are any, and every shared setting that is out of range."""
    try:
        TransferSettings(**shared)  # the same ranges
    except ValueError as error:
        reasons = [str(error), *reasons]
    if reasons:
        raise ValueError("; ".join(reasons))


def is_number(value: object, least: float) -> bool:
    """Whether a setting that any word can be given for is a finite number from `least`."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value < inf
