"""`python -m reports.build`: run records in, one self-contained HTML page out.

Heavy libraries are imported only once there is something to build, so that help and mistakes answer at once.
"""

import argparse
import sys
from datetime import datetime
from pathlib import Path

NOTEBOOK = Path(__file__).parent / "notebooks" / "run.ipynb"


def build_report(runs: Path, out: Path, select: list[str] | None = None, show_code: bool = False) -> Path:
    """Write <out>/index.html from the run records in `runs` (see `reports.records.load_records` for `select`).

    Figures and tables are kept beside the page in <out>/figures and <out>/tables. The page is written last and appears
    whole or not at all. Raises reports.records.NothingFound before any work when there is nothing to report, and
    reports.notebook.NotebookFailed when the notebook stops.
    """
    from reports.notebook import run_notebook, to_html
    from reports.records import load_records
    from xinggan.files import write_atomically

    runs, out = Path(runs).resolve(), Path(out).resolve()
    records = load_records(runs, select)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"the report's folder {out} is a file; name another by --out")
    out.mkdir(parents=True, exist_ok=True)
    parameters = {"runs": str(runs), "select": select, "output": str(out)}
    notebook = run_notebook(NOTEBOOK, parameters, progress=sys.stderr.isatty())
    made = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    subtitle = f"{len(records)} run records, report made {made}"
    page = out / "index.html"
    write_atomically(page, to_html(notebook, "Pose-guided person image generation", subtitle, show_code))
    return page


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 with the page's path on standard output, 2 when there is nothing to report, 1 when it failed."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="python -m reports.build", description="Build the report from run records."
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="run records, or one of them (default: runs)")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder for the report (default: report)")
    parser.add_argument(
        "--select",
        nargs="+",
        action="extend",
        metavar="WORD",
        help="only these runs: names, patterns such as 'xinggan*', beginnings of run ids, conditions (scale=single)",
    )
    parser.add_argument("--show-code", action="store_true", help="keep the notebook's code in the page, folded")
    options = parser.parse_args(arguments)
    if not options.runs.is_dir():
        print(
            f"no such folder: {options.runs}. `python -m ablations.run` writes runs; name their folder.",
            file=sys.stderr,
        )
        return 2

    from reports.notebook import NotebookFailed

    print(f"building the report from {options.runs} ...", file=sys.stderr, flush=True)
    try:
        page = build_report(options.runs, options.out, options.select, options.show_code)
    except (ValueError, NotADirectoryError) as error:
        print(error, file=sys.stderr)
        return 2
    except (NotebookFailed, OSError) as error:
        print(f"the report could not be built: {error}", file=sys.stderr)
        return 1
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
