"""Run a report notebook in a fresh process of this interpreter and turn it into one HTML page that needs nothing else.

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
from pathlib import Path
from typing import Any

KERNEL = "report"
TEMPLATES = Path(__file__).parent
ROOT = Path(__file__).parents[1]  # where `reports` and `xinggan` are imported from
START_TIMEOUT_S, CELL_TIMEOUT_S = 300, 600  # generous: a busy machine starts a process slowly


class NotebookFailed(RuntimeError):
    """A cell of the notebook raised; the message names the cell and the error."""


def run_notebook(notebook: Path, parameters: dict[str, Any], progress: bool) -> Any:
    """Execute `notebook` by papermill with `parameters` and return it with its outputs. Raises NotebookFailed."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.WARNING)
    options = {
        "kernel_name": KERNEL,
        "start_timeout": START_TIMEOUT_S,
        "execution_timeout": CELL_TIMEOUT_S,
        "progress_bar": progress,
        "log_output": False,
    }
    with _own_kernel():
        try:
            return papermill.execute_notebook(str(notebook), None, parameters=parameters, **options)
        except PapermillExecutionError as error:
            message = f"{notebook.name}, cell {error.exec_count}: {error.ename}: {error.evalue}\n\n{error.source}"
            raise NotebookFailed(message) from error


def to_html(notebook: Any, title: str, subtitle: str, show_code: bool = False) -> str:
    """One self-contained page: style, figures and tables inside, no script."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="template",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_input=not show_code,
        anchor_link_text="#",
    )
    page, _ = exporter.from_notebook_node(notebook, resources={"report_title": title, "report_subtitle": subtitle})
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
                "--log-level=ERROR",
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
