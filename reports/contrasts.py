"""What an ablation compares, and the ladders of studies: each row against the row before it.

A ladder is a study in which the title of a row that adds something to the row before it begins with "+".
"""

from dataclasses import dataclass

from reports.record import Record
from reports.records import Records
from reports.studies import Rows, without_seed

ADDS = "+"  # how the title of such a row begins


@dataclass(frozen=True, eq=False)
class Contrast:
    """Runs that have something, and runs that have something else in its place; seeds aside, nothing else differs."""

    what: str
    instead_of: str
    runs: tuple[Record, ...]
    others: tuple[Record, ...]

    @property
    def title(self) -> str:
        return f"{self.what}, instead of {self.instead_of}"


def ladder_steps(rows: Rows, records: Records) -> list[Contrast]:
    """Each row that adds something against the row before it.

    What stands before the first such row are alternatives of one another: the last of them, the ladder's foot, is
    compared with each of the others. Runs that are not among the records take no part.
    """
    there = {record.run: record for record in records.methods}
    of_title: dict[str, list[Record]] = {}
    for title, run in rows:
        of_title.setdefault(without_seed(title), []).extend([there[run]] if run in there else [])
    pairs = []
    for ladder in _ladders(list(of_title)):
        foot = sum(not title.startswith(ADDS) for title in ladder) - 1
        pairs += [(ladder[foot], other) for other in ladder[: max(foot, 0)]]
        pairs += list(zip(ladder[max(foot, 0) + 1 :], ladder[max(foot, 0) :], strict=False))
    return [
        Contrast(title, other, tuple(of_title[title]), tuple(of_title[other]))
        for title, other in pairs
        if of_title[title] and of_title[other]
    ]


def is_ladder(rows: Rows) -> bool:
    return any(title.startswith(ADDS) for title, _ in rows)


def _ladders(titles: list[str]) -> list[list[str]]:
    """Titles parted before each row that adds nothing to the row before it although that one added something."""
    found: list[list[str]] = []
    for before, title in zip(["", *titles], titles, strict=False):
        if not found or (before.startswith(ADDS) and not title.startswith(ADDS)):
            found.append([])
        found[-1].append(title)
    return [ladder for ladder in found if any(title.startswith(ADDS) for title in ladder)]
