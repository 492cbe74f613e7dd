"""Studies: which runs are the rows of which table, and what the rows are called, from runs/studies/<study>.json.

`ablations.study` writes the title and the run directory of every row there, rows that never ran included.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from reports.record import Record

Rows = list[tuple[str, str]]  # title and run directory's name, in the order of the table
_SEED = re.compile(r" seed=\S+")


def read_studies(runs: Path | str) -> dict[str, Rows]:
    """Study -> its rows; a file that is none, or damaged, is left out."""
    studies: dict[str, Rows] = {}
    for path in sorted((Path(runs) / "studies").glob("*.json")):
        try:
            rows = [(str(row["title"]), str(row["run"])) for row in json.loads(path.read_bytes())]
        except (OSError, ValueError, TypeError, KeyError):
            continue
        studies[path.stem] = rows
    return studies


def name_rows(records: Iterable[Record], studies: dict[str, Rows]) -> None:
    """Give runs the title and the place of their row; of several studies, in the one that holds most of these runs.

    The rows of a study stay together, those of the one that holds most first.
    """
    by_run = {record.run: record for record in records if not record.is_reference}
    held = {study: sum(run in by_run for _, run in rows) for study, rows in studies.items()}
    for rank, study in enumerate(sorted(studies, key=lambda name: (held[name], name))):
        for place, (title, run) in enumerate(studies[study]):
            if run in by_run:
                by_run[run].title, by_run[run].place = title, (-rank, place)


def without_seed(title: str) -> str:
    """What runs are called that differ in nothing but their seed."""
    return _SEED.sub("", title)
