"""The built page is whole, safe, offline and says what is missing; mistakes answer with exit status 2."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from reports import page
from reports.build import NOTEBOOK, build_report, main
from reports.notebook import NotebookFailed, run_notebook, to_html
from reports.records import load_records

EVIL = "xinggan <script>alert(1)</script> & \"quoted\" '<b>'"
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


@pytest.fixture(scope="module")
def built(tmp_path_factory, fabricator):
    """A report over a good run, one without metrics, a failed one with markup in its name, and the references."""
    folder = tmp_path_factory.mktemp("site")
    fabricate = fabricator(folder / "runs")
    fabricate.run()
    fabricate.run("xinggan", "xinggan", metrics=None, scale="multi")
    fabricate.run("evil", EVIL, state="failed")
    fabricate.references()
    path = build_report(folder / "runs", folder / "report")
    text = path.read_text(encoding="utf-8")
    return SimpleNamespace(path=path, folder=folder / "report", text=text, page=Page(text))


def test_page_is_well_formed_and_shows_every_chapter(built):
    assert built.path == built.folder / "index.html"
    assert built.page.open == []
    chapters = [attributes["href"] for attributes in built.page.all("a") if attributes["href"].startswith("#")]
    ids = {attributes["id"] for _, attributes in built.page.tags if "id" in attributes}
    assert {"#Samples", "#Metrics", "#Training", "#Timing", "#Configuration", "#Records"} <= set(chapters)
    assert {chapter[1:] for chapter in chapters} <= ids
    for told in ("xinggan scale=single", "0.4100", "copy_source", "clean", "n = 48", "weights-inception", "0123456789"):
        assert told in built.page.text


def test_page_loads_nothing_and_runs_nothing(built):
    assert not built.page.all("script") and not built.page.all("link") and not built.page.all("iframe")
    for _, attributes in built.page.tags:
        for name in ("src", "srcset"):
            assert attributes.get(name, "data:").startswith("data:")
        assert not any(name.startswith("on") for name in attributes)
    for attributes in built.page.all("a"):
        assert attributes["href"].startswith("#") or (built.folder / attributes["href"]).is_file()
    assert not re.search(r"url\(|@import", built.text)
    policy = next(meta["content"] for meta in built.page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'")


def test_names_and_errors_with_markup_are_text(built):
    assert EVIL in built.page.text
    assert "<b>loss</b> is nan" in built.page.text
    assert "<script" not in built.text


def test_pictures_are_whole_and_drawn_for_wide_and_narrow_pages(built):
    sources, images = built.page.all("source"), built.page.all("img")
    assert len(sources) == len(images) == 5  # samples, metrics, losses, evaluations, timing
    for uri in [source["srcset"] for source in sources] + [image["src"] for image in images]:
        kind, content = uri.removeprefix("data:").split(";base64,")
        assert base64.b64decode(content).startswith({"image/png": b"\x89PNG", "image/svg+xml": b"<?xml"}[kind])
    assert all(image["alt"] for image in images)
    assert len(list((built.folder / "figures").iterdir())) == 5
    assert not list(built.folder.rglob("*.part"))


def test_what_is_missing_is_told(built):
    missing = built.page.text.split("What is missing")[-1]
    assert "failed at step 120 of 400: FloatingPointError" in missing
    assert "metrics.json: not there" in missing


def test_single_scored_run_shows_its_headlines_beside_the_references(fabricate):
    fabricate.run()
    fabricate.references()
    shown = Page(page.overview(load_records(fabricate.folder))._repr_html_())
    assert "1 run of xinggan on synthetic 64x32: 1 finished. References: copy_source" in shown.text
    assert "0.410copy source 0.310mean image 0.340clean, n = 48" in shown.text


def test_chapters_about_nothing_say_so(fabricate):
    directory = fabricate.run(state="failed")
    (directory / "history.jsonl").unlink()
    records, output = load_records(directory), directory / "report"
    for chapter in (page.samples, page.metrics, page.training, page.timing):
        assert re.search(r"No run has (kept|been|a)", chapter(records, output)._repr_html_())


def test_figures_of_the_same_records_are_the_same_bytes(fabricate, tmp_path):
    fabricate.run(steps=50)
    records = load_records(fabricate.folder)
    drawn = [page.training(records, tmp_path / name)._repr_html_() for name in ("first", "second")]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--runs", "nowhere"], "no such folder: nowhere"),
        (["--runs", "empty"], "no run in"),
        (["--runs", "runs", "--select", "pidm*"], "none of the 1 runs"),
        (["--runs", "runs", "--select", "sclae=single"], "'sclae' is in no record; keys like it: scale"),
        (["--runs", "runs", "--out", "file"], "is a file"),
    ],
)
def test_nothing_to_report_is_said_and_exits_2(fabricate, monkeypatch, capsys, arguments, told):
    fabricate.run()
    monkeypatch.chdir(fabricate.folder.parent)
    Path("empty").mkdir()
    Path("file").touch()
    assert main(arguments) == 2
    assert told in capsys.readouterr().err


def test_failing_cell_is_named_with_its_error(tmp_path):
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": None, "outputs": [], "source": "1 / 0"}
    notebook = tmp_path / "broken.ipynb"
    notebook.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    with pytest.raises(NotebookFailed, match=r"broken\.ipynb.*ZeroDivisionError"):
        run_notebook(notebook, {}, progress=False)


def test_notebook_is_kept_without_outputs_and_without_logic():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code[0]["metadata"]["tags"] == ["parameters"]
    for cell in code:
        assert not cell["outputs"] and cell["execution_count"] is None and len(cell["source"]) <= 8
        assert not re.search(r"^\s*(def|for|if|while|class)\b", "".join(cell["source"]), re.MULTILINE)


def test_code_is_hidden_unless_asked_for():
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert "load_records" not in Page(to_html(notebook, "t", "s")).text
    shown = Page(to_html(notebook, "<t>", "s & s", show_code=True)).text
    assert "load_records" in shown and "<t>" in shown and "s & s" in shown
