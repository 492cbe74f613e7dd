"""A report of selected runs with the answers of people, built by the command; names with markup in a browser."""

import json
import re
import shutil
from types import SimpleNamespace

import pytest
from make_miniature import RUNS
from study_runs import answer_file, answered, key_of, right, write
from test_build import Page

from reports.build import PAGES, file_of, main

EVIL = '<img src=x onerror="document.title=`owned`">'


def pages_of(report) -> dict[str, str]:
    """The text of each page, as a reader sees it."""
    files = {name: report / file_of(name) for name in PAGES}
    return {name: Page(file.read_text(encoding="utf-8")).text for name, file in files.items() if file.is_file()}


@pytest.fixture(scope="module")
def selected(tmp_path_factory):
    """Real records, one of them renamed to something with markup, selected by pattern; and answers to a study."""
    folder = tmp_path_factory.mktemp("selected")
    shutil.copytree(RUNS, folder / "runs")
    (run,) = (folder / "runs").glob("pix2pix-*")
    evil = run.rename(run.with_name(f"evil-{run.name[-12:]}"))
    config = evil / "config.yaml"
    config.write_text(re.sub("^name: .*", f"name: {json.dumps('pix2pix ' + EVIL)}", config.read_text(), flags=re.M))
    shutil.rmtree(folder / "runs" / "studies")
    key = key_of("real-or-generated")
    (folder / "key.json").write_text(json.dumps(key))
    (answers,) = write(folder, answer_file(key, answered(key, right)))
    report = folder / "report"
    words = ["--runs", str(folder / "runs"), "--out", str(report), "--select", "evil*", "pidm*", "seed=0"]
    assert main([*words, "--answers", str(answers), "--key", str(folder / "key.json")]) == 0
    return SimpleNamespace(report=report, pages=pages_of(report), key=key)


def test_selection_holds_the_selected_runs_and_the_references_of_their_test_set(selected):
    assert "2 runs of pidm, pix2pix on synthetic 64x32: 2 finished" in selected.pages["overview"]
    assert "References: copy_source, mean_image and ground_truth" in selected.pages["overview"]
    assert not any("patn" in text or "co-attention" in text for text in selected.pages.values())


def test_answers_of_people_are_rates_on_the_quality_page(selected):
    chapter = selected.pages["quality"].split("What people answered")[1]
    rows = re.findall(r"(R2G|G2R)(.*?)(\d+\.\d)%", chapter, re.DOTALL)
    assert {(measure, rate) for measure, _, rate in rows} == {("R2G", "0.0"), ("G2R", "0.0")}
    assert all(name in chapter for name in selected.key["runs"].values())
    assert (selected.report / "tables" / "people.csv").is_file()


def test_name_with_markup_is_text_in_the_browser(browser, selected):
    page = browser.new_context(offline=True).new_page()
    page.set_default_timeout(240_000)
    for name in selected.pages:
        page.goto((selected.report / file_of(name)).as_uri())
        assert page.title() != "owned" and not page.query_selector_all("img[src=x]"), name
        if name in ("quality", "timing", "provenance"):
            assert f"pix2pix {EVIL}" in page.inner_text("main"), name
    page.context.close()
