"""The tables of README.md and docs/results.md, computed from the run records that are committed in reports/results.

    python -m reports.results            # which tables are not those of the records; exit status 1 where there are any
    python -m reports.results --write    # writes them, and the figures of reports/gallery

A document marks the place of a table by `<!-- results: components-fp32 means -->` and `<!-- end -->`: a folder of
reports/results and a key of `reports.result_tables.TABLES`. What is not measured, or not all of it, is said there.
"""

import difflib
import io
import re
import sys
from pathlib import Path

from reports import learning
from reports.figures import WIDE_INCHES, looks
from reports.grids import sample_grid
from reports.records import Records
from reports.result_tables import TABLES, Study, compute
from xinggan.command import exit_status, parser_of, run_command
from xinggan.files import write_atomically

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
DOCUMENTS = ("README.md", "docs/results.md")
PLACE = re.compile(r"(<!-- results: (?P<study>\S+) (?P<table>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
FIGURE_METRICS = ("perceptual_embedded", "pckh_embedded")  # of the learning curves in README.md
PICTURED_STUDIES = ("components-fp32", "comparison")
# Methods in the pictures of the comparison.
PICTURED = ("xinggan", "patn", "bigraph", "gfla", "nted", "deform", "pidm", "cfld", "xmdpt")
FIGURE_DPI = 110


def computed(text: str, results: Path = RESULTS) -> str:
    """The document `text` with every table as the records give it. Raises ValueError for a table that is none."""
    studies: dict[str, Study] = {}

    def table(place: re.Match[str]) -> str:
        name, kind = place["study"], place["table"]
        if (name, kind) != ("all", "compute") and kind not in TABLES:
            raise ValueError(f"results: {name} {kind}: no such table; there are {', '.join(TABLES)}, and `all compute`")
        if kind == "compute":
            told, state = compute(results), ""
        else:
            state = "" if name in studies else Study(results / name).state  # said once, above the first table
            study = studies.setdefault(name, Study(results / name))
            told = TABLES[kind](study) if study.records else ""
        return "\n".join(
            [place[1].rstrip("\n"), *filter(None, [state.strip() and f"*{state.strip()}*\n", told]), place[4]]
        )

    return PLACE.sub(table, text)


def draw(results: Path, gallery: Path) -> list[Path]:
    """Write README.md's figures into `gallery`: pictures of two studies and learning curves, of seed 0; those drawn."""
    components, comparison = (Study(results / name).records.where(seed=0) for name in PICTURED_STUDIES)
    some = Records(record for record in comparison if record.method in PICTURED)
    curves = learning.learning_curves(comparison)
    figures = {
        "components": sample_grid(components, WIDE_INCHES, rows=4),
        "comparison": sample_grid(some, WIDE_INCHES, rows=4),
        "learning": learning.curves(
            curves[curves["metric"].isin(FIGURE_METRICS)], looks(comparison), inches=WIDE_INCHES
        ),
    }
    written = []
    for name, figure in figures.items():
        if figure is not None:
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=FIGURE_DPI, metadata={"Software": None})
            write_atomically(gallery / f"{name}.png", file.getvalue())
            written.append(gallery / f"{name}.png")
    return written


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 where the documents hold what the records give, 1 where they do not, 2 for what cannot be read."""
    parser = parser_of("reports.results", "Tables of the documents from the records.")
    parser.add_argument("--write", action="store_true", help="write tables and figures instead of saying what differs")
    options = parser.parse_args(arguments)
    return exit_status("reports.results", lambda: update(ROOT, options.write))


def update(root: Path, write: bool) -> int:
    """Compare the documents below `root` with its records, or write them; the exit status of `main`."""
    results, status = root / "reports" / "results", 0
    for name in DOCUMENTS:
        before = (root / name).read_text(encoding="utf-8")
        after = computed(before, results)
        if after == before:
            print(f"{name}: as the records say")
        elif write:
            write_atomically(root / name, after)
            print(f"{name}: written")
        else:
            told = difflib.unified_diff(before.splitlines(), after.splitlines(), name, "the records", lineterm="", n=0)
            print("\n".join(told))
            status = 1
    for path in draw(results, root / "reports" / "gallery") if write else ():
        print(f"{path.relative_to(root)}: drawn")
    if status:
        print("python -m reports.results --write brings them up to date", file=sys.stderr)
    return status


if __name__ == "__main__":
    run_command(main)
