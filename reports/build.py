"""`python -m reports.build`: run records in, a site of HTML pages out that needs no server and no network.

Papermill runs each notebook of reports/notebooks in a process of its own, several at once; nbconvert makes a page of
it. Heavy libraries are imported only once there is something to build, so that help and mistakes answer at once.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xinggan.command import exit_status, run_command
from xinggan.progress import Progress

NOTEBOOKS = Path(__file__).parent / "notebooks"
# Notebooks, in the order of their pages.
PAGES = ("overview", "quality", "ablation", "learning", "training", "timing", "gallery", "data", "provenance")
KERNEL = "report"
JUPYTER_FOLDERS = ("JUPYTER_PATH", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
ROOT = Path(__file__).parents[1]  # where `reports` and `xinggan` are imported from
START_TIMEOUT_S, CELL_TIMEOUT_S = 300, 600  # generous: a busy machine starts a process slowly


class NotebookFailed(RuntimeError):
    """A cell of a notebook raised; the message names the cell and the error."""


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
    with its `key`. A page about nothing is left out. Pages appear whole or not at all, index.html last. The same
    records give the same files, on whatever day. Raises reports.records.NothingFound and ValueError before any work
    when there is nothing to report, and NotebookFailed when a notebook stops.
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
    return out / file_of(PAGES[0])


def file_of(page: str) -> str:
    """The page's file name in the report."""
    return "index.html" if page == PAGES[0] else f"{page}.html"


@contextmanager
def own_jupyter() -> Iterator[None]:
    """Jupyter as it was installed, with this interpreter as its kernel KERNEL, for as long as the context lasts.

    All folders of Jupyter and IPython are a temporary one, so that neither an installed kernelspec nor a writable home
    is needed. Nothing of the user's takes part: no start-up file, no configuration, no template, no matplotlibrc.
    """
    with tempfile.TemporaryDirectory(prefix="report-kernel-") as folder:
        launch = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        environment = {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "PYTHONSAFEPATH": "",  # else ipykernel's launcher removes ROOT from the path where it is the working folder
            "PYTHONSTARTUP": "",
            "PYTHONHASHSEED": "0",  # the same records give the same files
            "PYTHONWARNINGS": "ignore",
            "MATPLOTLIBRC": os.devnull,
            "MPLBACKEND": "agg",
        }
        kernel = Path(folder, "kernels", KERNEL, "kernel.json")
        kernel.parent.mkdir(parents=True)
        described = {"argv": [*launch, "--log-level=CRITICAL"], "display_name": KERNEL, "language": "python"}
        kernel.write_text(json.dumps(described | {"env": environment}))
        before = {name: os.environ.get(name) for name in JUPYTER_FOLDERS}
        os.environ.update(dict.fromkeys(JUPYTER_FOLDERS, folder))
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


@own_jupyter()
def run_notebooks(notebooks: Sequence[Path], parameters: dict[str, Any]) -> list[Any]:
    """Execute notebooks by papermill with `parameters`, as many at once as there are processors; returns them executed.

    Raises NotebookFailed.
    """
    logging.getLogger("papermill").setLevel(logging.ERROR)
    import papermill  # noqa: F401  its first import is no business of several threads

    with (
        Progress("building the report", len(notebooks), "pages") as progress,
        ThreadPoolExecutor(max_workers=min(len(notebooks), os.cpu_count() or 1)) as pool,
    ):

        def execute(path: Path) -> Any:
            page = run_notebook(path, parameters)
            progress.update()
            return page

        return list(pool.map(execute, notebooks))


def run_notebook(path: Path, parameters: dict[str, Any]) -> Any:
    import papermill
    from papermill.exceptions import PapermillExecutionError

    try:
        return papermill.execute_notebook(
            str(path),
            None,
            parameters,
            kernel_name=KERNEL,
            language="python",
            start_timeout=START_TIMEOUT_S,
            execution_timeout=CELL_TIMEOUT_S,
            progress_bar=False,
            log_output=False,
        )
    except PapermillExecutionError as error:
        message = f"{path.name}, cell {error.cell_index}: {error.ename}: {error.evalue}\n\n{error.source}"
        raise NotebookFailed(message) from error


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


@own_jupyter()
def to_html(notebook: Any, head: dict[str, Any], show_code: bool = False) -> str:
    """One page: style, figures and tables inside, no script; links to the site's other pages beside it.

    head: `title` and `subtitle` above the chapters, this page's `file`, and the site's `pages` as (file, title).
    """
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="template",
        extra_template_basedirs=[str(Path(__file__).parent)],
        exclude_input=not show_code,
        anchor_link_text="#",
    )
    page, _ = exporter.from_notebook_node(notebook, resources={"head": head})
    return page


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
    parser.add_argument("--answers", nargs="+", type=Path, default=[], metavar="FILE", help="of a user study")
    parser.add_argument("--key", type=Path, help="the user study's key, which reports.user_study.page wrote")
    parser.add_argument("--show-code", action="store_true", help="keep the notebooks' code in the pages, folded")
    options = vars(parser.parse_args(arguments))
    print(f"reading the records in {options['runs']} ...", file=sys.stderr, flush=True)
    try:
        return exit_status("reports.build", lambda: print(build_report(**options)))
    except NotebookFailed as error:
        print(f"the report could not be built: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    run_command(main)
