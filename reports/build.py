"""`python -m reports.build`: run records in, a site of HTML pages out that needs no server and no network.

Heavy libraries are imported only once there is something to build, so that help and mistakes answer at once.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

NOTEBOOKS = Path(__file__).parent / "notebooks"
PAGES = ("overview", "quality", "ablation", "training", "timing", "gallery", "data", "provenance")  # notebooks


def build_report(
    runs: Path,
    out: Path,
    select: list[str] | None = None,
    show_code: bool = False,
    answers: Sequence[Path] = (),
    key: Path | None = None,
) -> Path:
    """Write <out>/index.html and the other pages from the run records in `runs` (`reports.records.load_records`).

    Figures and tables are kept beside the pages in <out>/figures and <out>/tables. `answers` are those of a human study
    with its `key`. Pages appear whole or not at all, index.html last. Raises reports.records.NothingFound and
    ValueError before any work when there is nothing to report, and reports.notebook.NotebookFailed when a notebook
    stops.
    """
    from reports.notebook import PageHead, run_notebooks, to_html
    from reports.records import load_records
    from reports.user_study.preferences import read_key
    from xinggan.files import write_atomically

    runs, out = Path(runs).resolve(), Path(out).resolve()
    records = load_records(runs, select)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"the report's folder {out} is a file; name another by --out")
    if key is not None:
        read_key(key)
    out.mkdir(parents=True, exist_ok=True)
    study = {"answers": [str(Path(file).resolve()) for file in answers], "key": str(key.resolve()) if key else None}
    parameters = {"runs": str(runs), "select": select, "output": str(out), **study}
    notebooks = [NOTEBOOKS / f"{name}.ipynb" for name in PAGES]
    done = dict(zip(PAGES, run_notebooks(notebooks, parameters, progress=sys.stderr.isatty()), strict=True))
    made = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    subtitle = f"Pose-guided person image generation: {len(records)} run records, report made {made}"
    navigation = tuple((file_of(name), name.capitalize()) for name in PAGES)
    for name in reversed(PAGES):
        head = PageHead(name.capitalize(), subtitle, file_of(name), navigation)
        write_atomically(out / file_of(name), to_html(done[name], head, show_code))
    return out / file_of(PAGES[0])


def file_of(page: str) -> str:
    return "index.html" if page == PAGES[0] else f"{page}.html"


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 with the first page's path on standard output, 2 when there is nothing to report, 1 on failure."""
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
    parser.add_argument("--answers", nargs="+", type=Path, default=[], metavar="FILE", help="of a human study")
    parser.add_argument("--key", type=Path, help="the study's key, which reports.user_study.page wrote")
    parser.add_argument("--show-code", action="store_true", help="keep the notebooks' code in the pages, folded")
    options = parser.parse_args(arguments)
    if bool(options.answers) != bool(options.key):
        print("--answers and --key belong together: the files of participants and the study's key", file=sys.stderr)
        return 2
    if not options.runs.is_dir():
        print(
            f"no such folder: {options.runs}. `python -m ablations.run` writes runs; name their folder.",
            file=sys.stderr,
        )
        return 2

    from reports.notebook import NotebookFailed

    print(f"building the report from {options.runs} ...", file=sys.stderr, flush=True)
    try:
        page = build_report(options.runs, options.out, options.select, options.show_code, options.answers, options.key)
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
