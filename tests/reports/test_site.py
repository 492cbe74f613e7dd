"""Reports of what there happens to be, built by the command: a selection with answers of people, an unfinished sweep
whose runs have different metrics, and names with markup in a browser.
"""

import json
import re
import shutil
from types import SimpleNamespace

import pytest
from make_miniature import RUNS
from study_runs import answer_file, answered, key_of, right, write
from test_build import Page

from reports.build import PAGES, file_of, main
from reports.records import load_records

EVIL = '<img src=x onerror="document.title=`owned`">'


def pages_of(report) -> dict[str, str]:
    """The text of each page, as a reader sees it."""
    return {name: Page((report / file_of(name)).read_text(encoding="utf-8")).text for name in PAGES}


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
    assert "References: copy_source, mean_image, ground_truth" in selected.pages["overview"]
    assert not any("patn" in text or "co-attention" in text for text in selected.pages.values())


def test_answers_of_people_are_rates_on_the_quality_page(selected):
    rows = re.findall(r"(R2G|G2R)(.*?)(\d+\.\d)%", selected.pages["quality"])
    assert {(measure, rate) for measure, _, rate in rows} == {("R2G", "0.0"), ("G2R", "0.0")}
    assert all(name in selected.pages["quality"] for name in selected.key["runs"].values())
    assert (selected.report / "tables" / "people.csv").is_file()


def test_name_with_markup_is_text_in_the_browser(browser, selected):
    page = browser.new_context(offline=True).new_page()
    page.set_default_timeout(240_000)
    for name in PAGES:
        page.goto((selected.report / file_of(name)).as_uri())
        assert page.title() != "owned" and not page.query_selector_all("img[src=x]"), name
        if name in ("quality", "timing", "provenance"):
            assert f"pix2pix {EVIL}" in page.inner_text("main"), name
    page.context.close()


@pytest.mark.parametrize("given", [["--answers", "a.json"], ["--key", "k.json"]])
def test_answers_without_their_key_are_refused(given, capsys):
    assert main(given) == 2
    assert "--answers and --key belong together" in capsys.readouterr().err


def test_key_that_is_none_is_refused_before_any_work(fabricate, tmp_path, capsys):
    fabricate.run()
    (tmp_path / "key.json").write_text("{}")
    words = ["--runs", str(fabricate.folder), "--out", str(tmp_path / "report")]
    assert main([*words, "--answers", "a.json", "--key", str(tmp_path / "key.json")]) == 2
    assert "is not the key of a study" in capsys.readouterr().err and not (tmp_path / "report").exists()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, fabricator):
    """A sweep in the middle: two runs with different metrics, one in training, one stopped, one that has not begun."""
    folder = tmp_path_factory.mktemp("sweep")
    fabricate = fabricator(folder / "runs")
    titled = {
        "first": fabricate.run("patn", "patn"),
        "second": fabricate.run("pidm", "pidm"),
        "in training": fabricate.run("gfla", "gfla", state="running"),
        "stopped": fabricate.run("cfld", "cfld", state="preempted"),
    }
    (titled["in training"] / "environment.json").unlink()
    metrics = titled["second"] / "metrics.json"
    others = [row for row in json.loads(metrics.read_text()) if row["metric"] == "l1"]
    metrics.write_text(
        json.dumps([*others, {**others[0], "metric": "psnr", "value": 14.0, "protocol": {"name": "gfla"}}])
    )
    (titled["second"] / "per_image.parquet").unlink()
    listing = [{"title": title, "run": run.name} for title, run in titled.items()]
    listing.append({"title": "not begun", "run": "pg2-0123456789ab"})
    (folder / "runs" / "studies").mkdir()
    (folder / "runs" / "studies" / "comparison.json").write_text(json.dumps(listing))
    assert main(["--runs", str(folder / "runs"), "--out", str(folder / "report")]) == 0
    return pages_of(folder / "report")


def test_unfinished_sweep_says_what_is_missing_on_every_page_that_misses_it(sweep):
    assert (
        "4 runs of cfld, gfla, patn, pidm on synthetic 64x32: 1 running, 2 finished, 1 preempted" in sweep["overview"]
    )
    for told in ("running at step 120 of 400", "preempted at step 120 of 400", "environment.json: not there"):
        assert told in sweep["provenance"]
    assert re.search(r"not begun.*never ran", sweep["ablation"])
    assert "No answers were given" in sweep["quality"] and "is not on this machine" in sweep["data"]


def test_runs_with_different_metrics_stand_in_one_table_with_the_reason_for_each_gap(sweep):
    assert "not computed by this run" in sweep["quality"] and "14.000" in sweep["quality"]
    assert "FID: unavailable: weights-inception" in sweep["quality"]


def test_single_run_makes_a_report_without_anything_to_compare_it_with(fabricate, tmp_path):
    run = fabricate.run()
    fabricate.run("patn", "patn")
    assert main(["--runs", str(run), "--out", str(tmp_path / "report")]) == 0
    told = pages_of(tmp_path / "report")
    assert (
        "1 run of xinggan" in told["overview"] and "no other method has a value to compare it with" in told["overview"]
    )
    assert "No two methods have values of one metric" in told["quality"] and "patn" not in told["provenance"]


def test_runs_are_called_and_ordered_as_the_rows_of_their_study(fabricate):
    first, second = fabricate.run("b", "xinggan scale=multi"), fabricate.run("a", "xinggan")
    timed = fabricate.run("c", "patn")
    (fabricate.folder / "studies").mkdir()
    for study, rows in {
        "components": [("both branches", first), ("+ fusion", second)],
        "efficiency": [("PATN", timed)],
    }.items():
        listing = [{"title": title, "run": run.name} for title, run in rows]
        (fabricate.folder / "studies" / f"{study}.json").write_text(json.dumps(listing))
    (fabricate.folder / "studies" / "damaged.json").write_text("{")
    assert list(load_records(fabricate.folder).titles().values()) == ["both branches", "+ fusion", "PATN"]
