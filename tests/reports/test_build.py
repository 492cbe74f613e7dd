"""The built pages are whole, safe, offline and says what is missing; mistakes answer with exit status 2."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from reports.build import NOTEBOOKS, PAGES, build_report, file_of, main
from reports.notebook import NotebookFailed, PageHead, run_notebooks, to_html
from reports.pages import gallery, overview, quality, timing, training
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
    texts = {name: (path.parent / file_of(name)).read_text(encoding="utf-8") for name in PAGES}
    return SimpleNamespace(path=path, folder=folder / "report", texts=texts, pages={n: Page(texts[n]) for n in PAGES})


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_well_formed_and_leads_to_every_other(built, name):
    assert built.path == built.folder / "index.html"
    page = built.pages[name]
    assert page.open == []
    links = [attributes["href"] for attributes in page.all("a")]
    assert [file_of(other) for other in PAGES] == links[: len(PAGES)]
    current = [attributes["href"] for attributes in page.all("a") if attributes.get("aria-current") == "page"]
    assert current == [file_of(name)]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) and {link[1:] for link in links if link.startswith("#")} <= set(ids)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("overview", ("3 runs of xinggan on synthetic 64x32", "copy_source", "records are incomplete")),
        ("quality", ("xinggan scale=single", "0.4100", "copy_source", "clean", "n = 48", "weights-inception")),
        ("training", ("Size and training", "1,234,567")),
        ("timing", ("Timing scenarios: device cpu", "no bf16 here")),
        ("gallery", ("Test pairs of synthetic 64x32",)),
        ("data", ("people_test", "is not on this machine")),
        ("provenance", ("0123456789", "a processor", "learning_rate")),
    ],
)
def test_every_page_tells_what_the_records_hold(built, name, told):
    for words in told:
        assert words in built.pages[name].text


@pytest.mark.parametrize("name", PAGES)
def test_pages_load_nothing_and_run_nothing(built, name):
    page = built.pages[name]
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
        assert len(sources) == len(images)
        for uri in [source["srcset"] for source in sources] + [image["src"] for image in images]:
            kind, content = uri.removeprefix("data:").split(";base64,")
            assert base64.b64decode(content).startswith({"image/png": b"\x89PNG", "image/svg+xml": b"<?xml"}[kind])
        assert all(image["alt"] for image in images)
    kept = {path.name for path in (built.folder / "figures").iterdir()}
    drawn = {"metrics-1", "learning-curves", "evaluations", "timing", "throughput"}
    assert {f"{name}.{kind}" for name in drawn for kind in ("svg", "pdf")} | {"samples-1.png"} <= kept
    assert all((built.folder / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF") for name in drawn)
    assert not list(built.folder.rglob("*.part"))


def test_what_is_missing_is_told(built):
    missing = built.pages["provenance"].text
    assert "failed at step 120 of 400: FloatingPointError" in missing
    assert "metrics.json: not there" in missing


def test_single_scored_run_shows_its_headlines_beside_the_references(fabricate):
    fabricate.run()
    fabricate.references()
    shown = Page(overview.compared(load_records(fabricate.folder))._repr_html_())
    assert "1 run of xinggan on synthetic 64x32: 1 finished. References: copy_source" in shown.text
    assert "0.410copy source 0.310mean image 0.340clean, n = 48" in shown.text


def test_chapters_about_nothing_say_so(fabricate):
    directory = fabricate.run(state="failed")
    (directory / "history.jsonl").unlink()
    records, output = load_records(directory), directory / "report"
    for chapter in (gallery.samples, quality.metrics, training.curves, timing.latencies):
        assert re.search(r"No run has (kept|been|a)", chapter(records, output)._repr_html_())


def test_figures_of_the_same_records_are_the_same_bytes(fabricate, tmp_path):
    fabricate.run(steps=50)
    records = load_records(fabricate.folder)
    drawn = [training.curves(records, tmp_path / name)._repr_html_() for name in ("first", "second")]
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


def test_first_page_names_what_failed_and_why(fabricate):
    failed = fabricate.run(state="failed")
    fabricate.run("patn", "patn")
    records = load_records(fabricate.folder)
    shown = overview.compared(records)._repr_html_()
    (title,) = (title for run, title in records.titles().items() if run == failed.name)
    assert f"{title} failed at step 120 of 400: FloatingPointError: &lt;b&gt;loss&lt;/b&gt; is nan" in shown
    assert "patn failed" not in shown


def test_latent_methods_autoencoder_is_a_reference_and_wins_nothing(fabricate):
    for name in ("patn", "vae_roundtrip"):
        fabricate.run(name, name)
    records = load_records(fabricate.folder)
    assert [record.method for record in records.methods] == ["patn"]
    assert [record.method for record in records.references] == ["vae_roundtrip"]


def test_failing_cell_is_named_with_its_error(tmp_path):
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": None, "outputs": [], "source": "1 / 0"}
    notebook = tmp_path / "broken.ipynb"
    notebook.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    with pytest.raises(NotebookFailed, match=r"broken\.ipynb.*ZeroDivisionError"):
        run_notebooks([notebook], {}, progress=False)


@pytest.mark.parametrize("name", PAGES)
def test_notebooks_are_kept_without_outputs_and_without_logic(name):
    cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code[0]["metadata"]["tags"] == ["parameters"]
    for cell in code:
        assert not cell["outputs"] and cell["execution_count"] is None and len(cell["source"]) <= 8
        assert not re.search(r"^\s*(def|for|if|while|class)\b", "".join(cell["source"]), re.MULTILINE)


def test_code_is_hidden_unless_asked_for():
    import nbformat

    notebook = nbformat.read(NOTEBOOKS / "overview.ipynb", as_version=4)
    head = PageHead("<t>", "s & s", "index.html", (("index.html", "<t>"),))
    assert "opened(" not in Page(to_html(notebook, head)).text
    shown = Page(to_html(notebook, head, show_code=True)).text
    assert "opened(" in shown and "<t>" in shown and "s & s" in shown
