"""The pages of the report, a file for each notebook: every function takes run records and gives what a cell shows."""

from collections.abc import Sequence
from functools import lru_cache

from reports.records import Records, load_records


def opened(runs: str, select: Sequence[str] | None = None) -> Records:
    """The run records, the same ones for all notebooks of a report, so that every file is read once."""
    return _opened(runs, tuple(select or ()))


@lru_cache(maxsize=2)
def _opened(runs: str, select: tuple[str, ...]) -> Records:
    return load_records(runs, select)
