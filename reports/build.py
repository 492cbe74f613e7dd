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
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from xinggan.command import run_command

NOTEBOOKS = Path(__file__).parent / "notebooks"
PAGES = ("overview", "quality", "ablation", "training", "timing", "gallery", "data", "provenance")  # notebooks
KERNEL = "report"
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
    with its `key`. A page about nothing is left out. Pages appear whole or not at all, index.html last. Raises
    reports.records.NothingFound and ValueError before any work when there is nothing to report, and NotebookFailed when
    a notebook stops.
    """
    from reports.records import load_records
    from reports.user_study.preferences import preference_table
    from xinggan.files import write_atomically

    runs, out = Path(runs).resolve(), Path(out).resolve()
    records = load_records(runs, select)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"the report's folder {out} is a file; name another by --out")
    if answers and key and (rates := preference_table(answers, key)).empty:
        raise ValueError("\n".join([*rates.attrs["notes"], "no answers to count"]))
    out.mkdir(parents=True, exist_ok=True)
    study = {"answers": [str(Path(file).resolve()) for file in answers], "key": str(key.resolve()) if key else None}
    parameters = {"runs": str(runs), "select": select, "output": str(out), **study}
    notebooks = run_notebooks([NOTEBOOKS / f"{name}.ipynb" for name in PAGES], parameters)
    done = dict(zip(PAGES, map(without_empty_chapters, notebooks), strict=True))
    pages = [name for name in PAGES if name == PAGES[0] or any(cell.get("outputs") for cell in done[name].cells)]
    made = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    subtitle = f"Pose-guided person image generation: {len(records)} run records, report made {made}"
    navigation = tuple((file_of(name), name.capitalize()) for name in pages)
    for name in reversed(PAGES):
        if name in pages:
            head = PageHead(name.capitalize(), subtitle, file_of(name), navigation)
            write_atomically(out / file_of(name), to_html(done[name], head, show_code))
        else:
            (out / file_of(name)).unlink(missing_ok=True)  # of an earlier report
    return out / file_of(PAGES[0])


def file_of(page: str) -> str:
    """The page's file name in the report."""
    return "index.html" if page == PAGES[0] else f"{page}.html"


def run_notebooks(notebooks: Sequence[Path], parameters: dict[str, Any]) -> list[Any]:
    """Execute notebooks by papermill with `parameters`, as many at once as there are processors; returns them executed.

    Raises NotebookFailed.
    """
    logging.getLogger("papermill").setLevel(logging.ERROR)
    import papermill  # noqa: F401  its first import is no business of several threads

    with own_kernel(), ThreadPoolExecutor(max_workers=min(len(notebooks), os.cpu_count() or 1)) as pool:
        return list(pool.map(partial(run_notebook, parameters=parameters), notebooks))


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


@dataclass(frozen=True)
class PageHead:
    """What stands above a page's chapters; `pages` are (file, title) of the whole site and `file` is this one's."""

    title: str
    subtitle: str
    file: str
    pages: tuple[tuple[str, str], ...]


def to_html(notebook: Any, head: PageHead, show_code: bool = False) -> str:
    """One page: style, figures and tables inside, no script; links to the site's other pages beside it."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="template",
        extra_template_basedirs=[str(Path(__file__).parent)],
        exclude_input=not show_code,
        anchor_link_text="#",
    )
    page, _ = exporter.from_notebook_node(notebook, resources={"head": head})
    return page


@contextmanager
def own_kernel() -> Iterator[None]:
    """Make this interpreter known as the kernel KERNEL for as long as the context lasts.

    The kernel is described in a temporary folder, so that neither an installed kernelspec nor a writable home is
    needed, and nobody's start-up files take part.
    """
    with tempfile.TemporaryDirectory(prefix="report-kernel-") as folder:
        kernel = Path(folder, "kernels", KERNEL)
        kernel.mkdir(parents=True)
        launch = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        environment = {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "PYTHONSAFEPATH": "",  # else ipykernel's launcher removes ROOT from the path where it is the working folder
            "IPYTHONDIR": str(Path(folder, "ipython")),
            "MPLBACKEND": "agg",
            "PYTHONWARNINGS": "ignore",
        }
        described = {"argv": [*launch, "--log-level=CRITICAL"], "display_name": KERNEL, "language": "python"}
        (kernel / "kernel.json").write_text(json.dumps(described | {"env": environment}))
        settings = {
            "JUPYTER_PATH": os.pathsep.join(filter(None, [folder, os.environ.get("JUPYTER_PATH")])),
            "JUPYTER_RUNTIME_DIR": str(Path(folder, "runtime")),
        }
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


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
    options = parser.parse_args(arguments)
    if bool(options.answers) != bool(options.key):
        print("--answers and --key belong together: the files of participants and the study's key", file=sys.stderr)
        return 2
    if not options.runs.is_dir():
        told = f"no such folder: {options.runs}. `python -m ablations.run` writes runs; name their folder."
        print(told, file=sys.stderr)
        return 2
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
    run_command(main)
