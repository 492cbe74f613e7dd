"""Run the report's notebooks in a fresh process of this interpreter and turn each into an HTML page.

The kernel is described in a temporary folder, so that neither an installed kernelspec nor a writable home is needed,
and nobody's start-up files take part.
"""

import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KERNEL = "report"
TEMPLATES = Path(__file__).parent
ROOT = Path(__file__).parents[1]  # where `reports` and `xinggan` are imported from
START_TIMEOUT_S, CELL_TIMEOUT_S = 300, 600  # generous: a busy machine starts a process slowly


class NotebookFailed(RuntimeError):
    """A cell of the notebook raised; the message names the cell and the error."""


def run_notebooks(notebooks: list[Path], parameters: dict[str, Any], progress: bool) -> list[Any]:
    """Execute notebooks by papermill with `parameters`, one after another in one kernel; each with its outputs.

    A kernel takes seconds to start, so the cells of all are run as one notebook and parted again. Raises
    NotebookFailed.
    """
    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from papermill.parameterize import parameterize_notebook

    logging.getLogger("papermill").setLevel(logging.ERROR)
    options = {
        "kernel_name": KERNEL,
        "start_timeout": START_TIMEOUT_S,
        "execution_timeout": CELL_TIMEOUT_S,
        "progress_bar": progress,
        "log_output": False,
    }
    with _own_kernel():
        parted = []
        for path in notebooks:
            notebook = papermill.iorw.load_notebook_node(str(path))
            parted.append(parameterize_notebook(notebook, parameters, kernel_name=KERNEL, language="python"))
        joined = nbformat.from_dict({**parted[0], "cells": [cell for notebook in parted for cell in notebook.cells]})
        try:
            done = papermill.execute_notebook(joined, None, **options)
        except PapermillExecutionError as error:
            name = _notebook_of(error.cell_index, notebooks, [len(notebook.cells) for notebook in parted])
            message = f"{name}: {error.ename}: {error.evalue}\n\n{error.source}"
            raise NotebookFailed(message) from error
    cells = iter(done.cells)
    return [nbformat.from_dict({**part, "cells": [next(cells) for _ in part.cells]}) for part in parted]


def _notebook_of(cell: int, notebooks: list[Path], lengths: list[int]) -> str:
    """`quality.ipynb, cell 3` of a cell of the joined notebook, both counted from 0."""
    for path, length in zip(notebooks, lengths, strict=True):
        if cell < length:
            return f"{path.name}, cell {cell}"
        cell -= length
    return notebooks[-1].name


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
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_input=not show_code,
        anchor_link_text="#",
    )
    page, _ = exporter.from_notebook_node(notebook, resources={"head": head})
    return page


@contextmanager
def _own_kernel() -> Iterator[None]:
    """Make this interpreter known as the kernel KERNEL for as long as the context lasts."""
    with tempfile.TemporaryDirectory(prefix="report-kernel-") as folder:
        kernel = Path(folder, "kernels", KERNEL)
        kernel.mkdir(parents=True)
        specification = {
            "argv": [
                sys.executable,
                "-Xfrozen_modules=off",
                "-m",
                "ipykernel_launcher",
                "-f",
                "{connection_file}",
                "--log-level=CRITICAL",
            ],
            "display_name": "report",
            "language": "python",
            "env": {
                "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
                "IPYTHONDIR": str(Path(folder, "ipython")),
                "MPLBACKEND": "agg",
                "PYTHONWARNINGS": "ignore",
            },
        }
        (kernel / "kernel.json").write_text(json.dumps(specification))
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
