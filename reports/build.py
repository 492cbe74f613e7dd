"""`python -m reports.build`: run records in, a site of HTML pages out that needs no server and no network.

Papermill runs the notebooks of reports/notebooks, one for each page, and nbconvert makes pages of them
(`reports.jupyter`). Heavy libraries are imported once there is something to build: help and mistakes answer at once.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xinggan.command import exit_status, parser_of, run_command

NOTEBOOKS = Path(__file__).parent / "notebooks"
KEPT = re.compile(r'href="((?:tables|figures)/[\w-]+\.(?:csv|md|tex|svg|pdf))"')  # beside the pages, as they link to it
# Notebooks, in the order of their pages.
PAGES = ("overview", "quality", "ablation", "learning", "training", "timing", "gallery", "data", "provenance")


def build_report(
    runs: Path,
    out: Path,
    select: list[str] | None = None,
    show_code: bool = False,
    answers: Sequence[Path] = (),
    key: Path | None = None,
) -> Path:
    """Write <out>/index.html and the other pages from the run records in `runs` (`reports.records.load_records`).

    Figures and tables are kept beside the pages in <out>/figures and <out>/tables. `answers` are those of a user study
    with its `key`. A page about nothing is left out. Pages appear whole or not at all, index.html last; what only the
    pages of an earlier report in `out` linked to goes. The same records give the same files, on whatever day. Raises
    reports.records.NothingFound and ValueError before any work when there is nothing to report, and
    reports.jupyter.NotebookFailed when a notebook stops.
    """
    from reports.records import load_records
    from reports.user_study.preferences import preference_table
    from xinggan.files import write_atomically

    if bool(answers) != bool(key):
        raise ValueError("--answers and --key belong together: the files of participants and the study's key")
    records = load_records(runs, select)
    runs, out = Path(runs).resolve(), Path(out).resolve()
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"the report's folder {out} is a file; name another by --out")
    if key and (rates := preference_table(answers, key)).empty:
        raise ValueError("\n".join([*rates.attrs["notes"], "no answers to count"]))
    out.mkdir(parents=True, exist_ok=True)
    study = {"answers": [str(Path(file).resolve()) for file in answers], "key": str(key.resolve()) if key else None}
    parameters = {"runs": str(runs), "select": select, "output": str(out), **study}
    from reports.jupyter import run_notebooks, to_html

    earlier = linked_files(out)
    notebooks = run_notebooks([NOTEBOOKS / f"{name}.ipynb" for name in PAGES], parameters)
    done = dict(zip(PAGES, map(without_empty_chapters, notebooks), strict=True))
    pages = [name for name in PAGES if name == PAGES[0] or any(cell.get("outputs") for cell in done[name].cells)]
    last = max(str(record.status.get("ended") or record.status.get("started") or "") for record in records)
    subtitle = f"Pose-guided person image generation: {len(records)} run records"
    subtitle += f", the last of {last[:16].replace('T', ' ')}" if last else ""
    head = {"subtitle": subtitle, "pages": [(file_of(name), name.capitalize()) for name in pages]}
    for name in reversed(PAGES):
        if name in pages:
            own = {"title": name.capitalize(), "file": file_of(name)}
            write_atomically(out / file_of(name), to_html(done[name], head | own, show_code))
        else:
            (out / file_of(name)).unlink(missing_ok=True)  # of an earlier report
    for file in earlier - linked_files(out):
        file.unlink(missing_ok=True)
    return out / file_of(PAGES[0])


def linked_files(out: Path) -> set[Path]:
    """Tables and figures that the pages of the report in `out` link to."""
    pages = [page for name in PAGES if (page := out / file_of(name)).is_file()]
    return {out / link for page in pages for link in KEPT.findall(page.read_text(encoding="utf-8", errors="replace"))}


def file_of(page: str) -> str:
    """The page's file name in the report."""
    return "index.html" if page == PAGES[0] else f"{page}.html"


def without_empty_chapters(notebook: Any) -> Any:
    """The notebook without the headings (`## ...`) after which no cell shows anything."""
    kept, chapter = [], None
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            chapter = cell
        else:
            if chapter is not None and cell.get("outputs"):
                kept.append(chapter)
                chapter = None
            kept.append(cell)
    notebook.cells = kept
    return notebook


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 with the first page's path on standard output, 2 when there is nothing to report, 1 on failure."""
    parser = parser_of("reports.build", "Build the report from run records.")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="run records, or one of them (default: runs)")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder for the report (default: report)")
    parser.add_argument(
        "--select",
        nargs="+",
        action="extend",
        metavar="WORD",
        help="only these runs: names, patterns such as 'xinggan*', beginnings of run ids, conditions (scale=single)",
    )
    parser.add_argument("--answers", nargs="+", type=Path, default=[], metavar="FILE", help="of a user study")
    parser.add_argument("--key", type=Path, help="the user study's key, which reports.user_study.page wrote")
    parser.add_argument("--show-code", action="store_true", help="keep the notebooks' code in the pages, folded")
    options = vars(parser.parse_args(arguments))
    print(f"reading the records in {options['runs']} ...", file=sys.stderr, flush=True)
    return exit_status("reports.build", lambda: print(build_report(**options)))


if __name__ == "__main__":
    run_command(main)
