"""Gallery: the same test pairs for all methods, beside what each was given and the true target."""

from pathlib import Path

from reports.embedded import grid
from reports.grids import NARROW, WIDE, sample_grid
from reports.markup import Shown, join, paragraph
from reports.records import Records


def samples(records: Records, output: Path | str) -> Shown:
    """A sample grid for each test set."""
    parts = []
    for number, (heading, group) in enumerate(records.by_dataset().items(), start=1):
        wide, narrow = sample_grid(group, look=WIDE), sample_grid(group, look=NARROW)
        if wide is None or narrow is None:
            continue
        caption = f"Test pairs of {heading}: what a method is given, the true target, then what each run generated."
        parts.append(grid(wide, narrow, Path(output), f"samples-{number}", caption))
    return Shown(join(parts) if parts else paragraph("No run has kept example images.", "none"))
