"""The built pages are whole, safe, offline and say what is missing; mistakes answer with exit status 2."""

import base64
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from ablation_runs import list_study

from reports.build import NOTEBOOKS, PAGES, build_report, file_of, main
from reports.jupyter import ROOT, NotebookFailed, run_notebooks, to_html

EVIL = "xinggan <script>alert(1)</script> & \"quoted\" '<b>'"
SHOWN = [name for name in PAGES if name != "learning"]  # a page about runs that were scored on the way
VOID = {"meta", "img", "br", "source", "link", "hr", "input"}


class Page(HTMLParser):
    """Tags with their attributes, text by enclosing tag, and whether every tag is closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in VOID:  # written as <meta ... />
            return
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def pages_of(report: Path) -> dict[str, str]:
    """Page -> its HTML, of those that are there."""
    files = {name: report / file_of(name) for name in PAGES}
    return {name: file.read_text(encoding="utf-8") for name, file in files.items() if file.is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory, fabricator):
    """A sweep in the middle: runs with different metrics, one without, a failed one with markup in its name, one in
    training, one stopped, one that has not begun, and the references.
    """
    folder = tmp_path_factory.mktemp("site")
    fabricate = fabricator(folder / "runs")
    titled = {
        "xinggan scale=single": fabricate.run(),
        "second": fabricate.run("pidm", "pidm"),
        "unscored": fabricate.run("xinggan", "xinggan", metrics=None, scale="multi"),
        EVIL: fabricate.run("evil", EVIL, state="failed"),
        "in training": fabricate.run("gfla", "gfla", state="running"),
        "stopped": fabricate.run("cfld", "cfld", state="preempted"),
    }
    (titled["in training"] / "environment.json").unlink()
    metrics = titled["second"] / "metrics.json"
    others = [row for row in json.loads(metrics.read_text()) if row["metric"] == "l1"]
    others.append({**others[0], "metric": "psnr", "value": 14.0, "protocol": {"name": "gfla"}})
    metrics.write_text(json.dumps(others))
    (titled["second"] / "per_image.parquet").unlink()
    timing = json.loads((titled["second"] / "timing.json").read_text())
    timing["scenarios"].append(timing["scenarios"][0] | {"mode": "cudagraph"})
    (titled["second"] / "timing.json").write_text(json.dumps(timing))
    fabricate.references()
    rows = [(title, run.name) for title, run in titled.items()] + [("not begun", "pg2-0123456789ab")]
    list_study(folder / "runs", "comparison", rows)
    (folder / "report").mkdir()
    path = build_report(folder / "runs", folder / "report")
    texts = pages_of(path.parent)
    return SimpleNamespace(path=path, folder=folder / "report", texts=texts, pages={n: Page(texts[n]) for n in texts})


def test_every_page_is_well_formed_and_leads_to_every_other(built):
    assert built.path == built.folder / "index.html" and list(built.pages) == SHOWN
    for name, page in built.pages.items():
        assert page.open == []
        links = [attributes["href"] for attributes in page.all("a")]
        assert [file_of(other) for other in SHOWN] == links[: len(SHOWN)]
        current = [attributes["href"] for attributes in page.all("a") if attributes.get("aria-current") == "page"]
        assert current == [file_of(name)]
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(ids) == len(set(ids)) and {link[1:] for link in links if link.startswith("#")} <= set(ids)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "overview",
            ("6 runs of cfld, gfla, pidm, xinggan on synthetic 64x32: 1 running, 3 finished, 1 failed, 1 pre",),
        ),
        ("overview", ("copy_source", "records are incomplete", "failed at step 120 of 400")),
        ("quality", ("xinggan scale=single", "0.4100", "copy_source", "clean, n = 48")),
        ("quality", ("not computed by this run", "14.000", "FID: unavailable: weights-inception")),
        ("ablation", ("not begun: never ran", "unscored: finished, but not scored")),
        ("training", ("Size and training", "1,234,567", "failed: FloatingPointError: <b>loss</b> is nan")),
        ("timing", ("Timing scenarios: machine cpu", "no bf16 here")),
        ("timing", ("a CUDA graph holds one evaluation of a diffusion model's network, and the whole call of a GAN",)),
        ("gallery", ("Test pairs of synthetic 64x32",)),
        ("data", ("people_test", "is not on this machine")),
        ("provenance", ("0123456789", "a processor", "learning_rate", "metrics.json: not there")),
        ("provenance", ("running at step 120 of 400", "preempted at step 120 of 400", "environment.json: not there")),
    ],
)
def test_every_page_tells_what_the_records_hold(built, name, told):
    for words in told:
        assert words in built.pages[name].text


def test_pages_load_nothing_and_run_nothing(built):
    for name, page in built.pages.items():
        assert not page.all("script") and not page.all("link") and not page.all("iframe")
        for _, attributes in page.tags:
            for source in ("src", "srcset"):
                assert attributes.get(source, "data:").startswith("data:")
            assert not any(attribute.startswith("on") for attribute in attributes)
        for attributes in page.all("a"):
            file = attributes["href"].split("#")[0]
            assert not file.startswith("/") and (not file or (built.folder / file).is_file())
        assert not re.search(r"url\(|@import", built.texts[name])
        policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
        assert policy.startswith("default-src 'none'")


def test_names_and_errors_with_markup_are_text(built):
    assert EVIL in built.pages["quality"].text + built.pages["provenance"].text
    assert "<b>loss</b> is nan" in built.pages["provenance"].text
    assert not any("<script" in text for text in built.texts.values())


def test_pictures_are_whole_and_drawn_for_wide_and_narrow_pages(built):
    for page in built.pages.values():
        sources, images = page.all("source"), page.all("img")
        assert len(sources) == len(images) and all(image["alt"] for image in images)
        for uri in [source["srcset"] for source in sources] + [image["src"] for image in images]:
            kind, content = uri.removeprefix("data:").split(";base64,")
            assert base64.b64decode(content).startswith({"image/png": b"\x89PNG", "image/svg+xml": b"<?xml"}[kind])
    kept = {path.name for path in (built.folder / "figures").iterdir()}
    drawn = {"metrics-1", "learning-curves", "evaluations", "timing", "throughput", "samples-1"}
    assert {f"{name}.{kind}" for name in drawn for kind in ("svg", "pdf")} <= kept
    assert all((built.folder / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF") for name in drawn)
    assert not list(built.folder.rglob("*.part"))


def test_two_reports_of_the_same_records_are_the_same_files(built, tmp_path):
    again = build_report(built.folder.parent / "runs", tmp_path).parent
    files = [path.relative_to(again) for path in again.rglob("*") if path.is_file()]
    assert len(files) > 40
    assert [path for path in files if (again / path).read_bytes() != (built.folder / path).read_bytes()] == []


def test_settings_and_start_up_files_of_the_user_take_no_part(built, tmp_path):
    """Each of these would end the kernel, or change every figure."""
    home, here = tmp_path / "home", tmp_path / "here"
    ends, colours = "import os\nos._exit(3)\n", "axes.facecolor: pink\nlines.linewidth: 9\nfont.size: 30\n"
    kernel = json.dumps({"argv": ["false"], "display_name": "another", "language": "python"})
    for path, text in {
        home / "startup.py": ends,
        home / ".ipython/profile_default/startup/00-first.py": ends,
        home / ".ipython/profile_default/ipython_kernel_config.py": ends,
        home / ".jupyter/kernels/report/kernel.json": kernel,
        home / ".config/matplotlib/matplotlibrc": colours,
        home / "matplotlibrc": colours,
        here / "matplotlibrc": colours,
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    variables = {"HOME": home, "PYTHONSTARTUP": home / "startup.py", "MATPLOTLIBRC": home / "matplotlibrc"}
    variables |= {"IPYTHONDIR": home / ".ipython", "JUPYTER_PATH": home / ".jupyter", "PYTHONPATH": ROOT}
    variables |= {"XDG_CONFIG_HOME": home / ".config", "PYTHONHASHSEED": 7}
    parameters = {"runs": str(built.folder.parent / "runs"), "select": None, "output": str(tmp_path / "report")}
    notebook = NOTEBOOKS / "timing.ipynb"
    script = f"from reports.jupyter import *; run_notebooks([Path({str(notebook)!r})], {parameters})"
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    subprocess.run([sys.executable, "-c", script], cwd=here, env=environment, check=True)
    figures = list((tmp_path / "report" / "figures").iterdir())
    assert len(figures) >= 4
    assert all(path.read_bytes() == (built.folder / "figures" / path.name).read_bytes() for path in figures)


def test_single_run_opens_with_its_pictures_and_says_once_that_nothing_is_compared(fabricate, tmp_path):
    run = fabricate.run()
    fabricate.run("patn", "patn")
    stale = tmp_path / "report" / "ablation.html"
    stale.parent.joinpath("tables").mkdir(parents=True)
    stale.write_text('of an earlier report: <a href="tables/old.csv">CSV</a> <a href="tables/..">..</a>')
    for name in ("old.csv", "own.csv"):
        (stale.parent / "tables" / name).touch()
    assert main(["--runs", str(run), "--out", str(stale.parent)]) == 0
    texts = pages_of(stale.parent)
    first = Page(texts["overview"])
    body = texts["overview"].split("<main>")[1]
    assert body.index("<img") < body.index('<p class="lead"')
    assert first.text.count("ompared with") == 1 and "It is compared with nothing" in first.text
    assert "patn" not in " ".join(Page(text).text for text in texts.values())
    assert "ablation" not in texts, "a page about nothing is left out"
    assert [path.name for path in (stale.parent / "tables").glob("o*.csv")] == ["own.csv"], "what nobody linked stays"
    assert "ablation.html" not in {link["href"] for link in first.all("a")}
    assert "Comparisons" not in Page(texts["quality"]).text and "User study" not in Page(texts["quality"]).text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--runs", "nowhere"], "no such folder: nowhere"),
        (["--runs", "empty"], "no run in"),
        (["--runs", "runs", "--select", "pidm*"], "none of the 1 runs"),
        (["--runs", "runs", "--select", "sclae=single"], "'sclae' is in no record; keys like it: scale"),
        (["--runs", "runs", "--out", "file"], "is a file"),
        (["--answers", "a.json"], "--answers and --key belong together"),
        (["--key", "k.json"], "--answers and --key belong together"),
        (["--runs", "runs", "--answers", "a.json", "--key", "file"], "is not the key of a study"),
    ],
)
def test_nothing_to_report_is_said_before_any_work_and_exits_2(fabricate, monkeypatch, capsys, arguments, told):
    fabricate.run()
    monkeypatch.chdir(fabricate.folder.parent)
    Path("empty").mkdir()
    Path("file").touch()
    assert main(arguments) == 2
    assert told in capsys.readouterr().err and not Path("report").exists()


@pytest.mark.parametrize("records", ["damaged", "almost empty", "references alone", "failed"])
def test_every_notebook_runs_whatever_state_the_records_are_in(fabricate, tmp_path, capsys, records):
    if records == "references alone":
        fabricate.references()
    else:
        run = fabricate.run(state="failed" if records == "failed" else "finished")
        for file in [path for path in run.iterdir() if path.is_file() and path.name != "status.json"]:
            file.write_bytes(b"{") if records == "damaged" else file.unlink()
    for name in PAGES:
        first, *others = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]
        names: dict = {}
        exec("".join(first["source"]), names)
        names |= {"runs": str(fabricate.folder), "output": str(tmp_path / "report")}
        for cell in others:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)


def notebook_of(path, source):
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": None, "outputs": [], "source": source}
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


def test_failing_cell_is_named_with_its_error(tmp_path):
    with pytest.raises(NotebookFailed, match=r"broken\.ipynb.*ZeroDivisionError"):
        run_notebooks([notebook_of(tmp_path / "broken.ipynb", "1 / 0")], {})


def test_a_notebook_sees_no_name_of_the_one_before_it_in_the_same_kernel(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    first = notebook_of(tmp_path / "first.ipynb", "import os\nof_the_first = 1\nprint(os.getpid())")
    second = notebook_of(tmp_path / "second.ipynb", "import os\nassert 'of_the_first' not in dir()\nprint(os.getpid())")
    cells = [notebook.cells[-1] for notebook in run_notebooks([first, second], {})]
    assert len({cell.outputs[0].text for cell in cells}) == 1, "one process for both"
    assert [cell.execution_count for cell in cells] == [1, 1]


def test_example_notebook_runs_and_writes_its_figure(fabricate, tmp_path):
    for scale in ("single", "multi"):
        fabricate.run(name=f"xinggan scale={scale}", scale=scale)
    parameters = {"runs": str(fabricate.folder), "keys": ["scale"], "output": str(tmp_path)}
    (notebook,) = run_notebooks([NOTEBOOKS / "your_own_figure.ipynb"], parameters)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"ssim-by-scale.pdf", "ssim-by-scale.svg"}
    kinds = [kind for cell in notebook.cells for output in cell.get("outputs", []) for kind in output.get("data", {})]
    assert kinds.count("image/png") == 2 and kinds.count("text/html") == 2


def test_notebooks_are_kept_without_outputs_and_begin_with_their_parameters():
    for path in NOTEBOOKS.glob("*.ipynb"):
        code = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        assert code[0]["metadata"]["tags"] == ["parameters"]
        assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


def test_code_is_hidden_unless_asked_for():
    import nbformat

    notebook = nbformat.read(NOTEBOOKS / "overview.ipynb", as_version=4)
    head = {"title": "<t>", "subtitle": "s & s", "file": "index.html", "pages": [("index.html", "<t>")]}
    assert "load_records(" not in Page(to_html(notebook, head)).text
    shown = Page(to_html(notebook, head, show_code=True)).text
    assert "load_records(" in shown and "<t>" in shown and "s & s" in shown
