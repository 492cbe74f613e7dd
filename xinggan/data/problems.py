"""Problems of the files of a data set, collected so that a person can repair everything in one go."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROWS_SHOWN = 20  # by default


@dataclass(frozen=True)
class Problem:
    """One thing to repair: the file (relative to the root), its row (the header is row 1; None: the file), and what."""

    file: str
    row: int | None
    what: str


class LayoutProblems(ValueError):
    """Every problem of a folder's files, and the consequence. As text: a table of the first `ROWS_SHOWN`."""

    def __init__(self, root: Path, problems: Sequence[Problem], consequence: str = "nothing was prepared"):
        super().__init__(root, problems, consequence)
        self.root, self.problems, self.consequence = root, list(problems), consequence

    def __str__(self) -> str:
        return self.table(ROWS_SHOWN)

    def table(self, rows_shown: int) -> str:
        """The problems as text, at most `rows_shown` of them and the number of the others."""
        shown, count = self.problems[:rows_shown], len(self.problems)
        cells = [("file", "row", "problem"), *((p.file, "" if p.row is None else str(p.row), p.what) for p in shown)]
        file_width, row_width, _ = (max(map(len, column)) for column in zip(*cells, strict=True))
        lines = [f"{count} problem{'' if count == 1 else 's'} in {self.root}; {self.consequence}.", ""]
        lines += [f"  {file:<{file_width}}  {row:>{row_width}}  {what}" for file, row, what in cells]
        if count > len(shown):
            lines.append(f"  ... and {count - len(shown)} more")
        return "\n".join(lines)
