"""Jupyter as reports use it: papermill executes notebooks, nbconvert makes pages; no setting of the user's takes part.

Each processor has one kernel, which runs one notebook after another, each in an empty namespace: to start a kernel and
to import pandas and seaborn takes longer than most pages do.
"""

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

import papermill
from jupyter_client.client import KernelClient
from jupyter_client.manager import KernelManager, start_new_async_kernel
from jupyter_core.utils import run_sync
from nbconvert import HTMLExporter
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines
from papermill.exceptions import PapermillExecutionError

from xinggan.command import Failed
from xinggan.progress import Progress

KERNEL = "report"
JUPYTER_FOLDERS = ("JUPYTER_PATH", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
ROOT = Path(__file__).parents[1]  # where `reports` and `xinggan` are imported from
START_TIMEOUT_S, CELL_TIMEOUT_S = 300, 600  # generous: a busy machine starts a process slowly


class NotebookFailed(Failed):
    """A cell of a notebook raised; the message names the cell and the error."""


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
    """Execute notebooks with `parameters`, in as many kernels as there are processors; returns them executed.

    Raises NotebookFailed.
    """
    logging.getLogger("papermill").setLevel(logging.ERROR)
    kernels = min(len(notebooks), os.cpu_count() or 1)
    waiting, executed = iter(notebooks), dict[Path, Any]()

    def run_in_one_kernel() -> None:
        with running_kernel() as (manager, client):
            for path in waiting:  # of all threads: each notebook goes to the first kernel that is free
                executed[path] = run_notebook(path, parameters, manager, client)
                progress.update()

    with (
        Progress("building the report", len(notebooks), "pages") as progress,
        ThreadPoolExecutor(max_workers=kernels) as pool,
    ):
        for done in [pool.submit(run_in_one_kernel) for _ in range(kernels)]:
            done.result()
    return [executed[path] for path in notebooks]


@contextmanager
def running_kernel() -> Iterator[tuple[KernelManager, KernelClient]]:
    """A kernel of `own_jupyter` and its client. They belong to one thread, which has an event loop of its own."""
    manager, client = run_sync(start_new_async_kernel)(START_TIMEOUT_S, KERNEL)
    client.allow_stdin = False
    try:
        yield manager, client
    finally:
        client.stop_channels()
        run_sync(manager.shutdown_kernel)(now=True)


class RunningKernel(Engine):
    """Papermill's engine for a kernel that runs already."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> None:
        """Forget the names of the notebook before, then execute. options: the kernel's `manager` and `client`."""
        notebook = PapermillNotebookClient(nb_man, km=options["manager"], timeout=CELL_TIMEOUT_S)
        notebook.kc = options["client"]
        notebook.kc.execute("get_ipython().reset()", silent=True)
        notebook.execute()


papermill_engines.register("running kernel", RunningKernel)


def run_notebook(path: Path, parameters: dict[str, Any], manager: KernelManager, client: KernelClient) -> Any:
    names = {"engine_name": "running kernel", "kernel_name": KERNEL, "language": "python"}
    kernel = {"manager": manager, "client": client}
    try:
        return papermill.execute_notebook(str(path), None, parameters, progress_bar=False, **names, **kernel)
    except PapermillExecutionError as error:
        message = f"{path.name}, cell {error.cell_index}: {error.ename}: {error.evalue}\n\n{error.source}"
        raise NotebookFailed(message) from error


@own_jupyter()
def to_html(notebook: Any, head: dict[str, Any], show_code: bool = False) -> str:
    """One page: style, figures and tables inside, no script; links to the site's other pages beside it.

    head: `title` and `subtitle` above the chapters, this page's `file`, and the site's `pages` as (file, title).
    """
    exporter = HTMLExporter(
        template_name="template",
        extra_template_basedirs=[str(Path(__file__).parent)],
        exclude_input=not show_code,
        anchor_link_text="#",
    )
    page, _ = exporter.from_notebook_node(notebook, resources={"head": head})
    return page
