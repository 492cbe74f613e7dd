"""The ablation page answers in words, keeps its files, and says what is missing and which command makes it."""

import csv
import json
import re

import numpy as np
import pandas as pd
import pytest
from ablation_runs import list_study, scored

from reports.pages import ablation
from reports.records import load_records

LADDER = {"base": {"scale": "single", "fusion": "concat"}, "+ fusion": {"scale": "single"}, "+ multi-scale": {}}
GAINS = {"base": 0.0, "+ fusion": 0.1, "+ multi-scale": 0.1}


@pytest.fixture
def ladder(fabricate):
    """Three rows of a study: fusion helps, multi-scale does not."""
    rng = np.random.default_rng(5)
    rows = []
    for title, switches in LADDER.items():
        ssim = 0.4 + GAINS[title] + 0.01 * rng.standard_normal(40)
        rows.append((title, scored(fabricate, {"ssim": ssim}, people=10, **switches).name))
    list_study(fabricate.folder, "components", rows)
    return rows


def shown(chapter, folder, output) -> str:
    return chapter(load_records(folder), output)._repr_html_()


def test_first_sentences_say_which_component_helps_and_which_does_not(fabricate, ladder, tmp_path):
    told = shown(ablation.cumulative, fabricate.folder, tmp_path)
    assert re.search(r"<li>\+ fusion improves SSIM by 0\.[01]\d+\.</li><li>No difference is shown for \+ multi-", told)
    assert "One seed: this holds for these trainings only" in told
    assert "Not all of the" not in told and ablation.NO_LADDER not in told
    alone = shown(ablation.single_settings, fabricate.folder, tmp_path)
    assert "No difference is shown for scale=multi instead of scale=single." in alone
    assert "fusion=dense instead of fusion=concat (with scale=single) improves SSIM" in alone


def test_figures_and_tables_are_kept(fabricate, ladder, tmp_path):
    shown(ablation.cumulative, fabricate.folder, tmp_path)
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {"ablation-1-1.svg", "ablation-1-1.pdf"}
    stems = ("ablation-1-1", "ablation-1-1-ssim")
    kept = {f"{stem}.{kind}" for stem in stems for kind in ("csv", "md", "tex")} | {"ablation-1-1-effects.csv"}
    assert {file.name for file in (tmp_path / "tables").iterdir()} == kept
    with (tmp_path / "tables" / "ablation-1-1-ssim.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["with"] for row in rows] == ["+ fusion instead of base", "+ multi-scale instead of + fusion"]
    effects = pd.read_csv(tmp_path / "tables" / "ablation-1-1-effects.csv")
    paired = [pd.read_parquet(fabricate.folder / run / "per_image.parquet")["value"] for _, run in ladder]
    expected = [(paired[1] - paired[0]).mean(), (paired[2] - paired[1]).mean()]
    assert effects["verdict"].tolist() == ["better", "not shown"]
    assert effects["difference"].tolist() == pytest.approx(expected, rel=1e-9)
    assert ((effects["low"] < effects["difference"]) & (effects["difference"] < effects["high"])).all()


def test_rows_that_are_not_done_are_named_with_their_state(fabricate, ladder, tmp_path):
    failed = fabricate.run("failed", "xinggan blocks=1", state="failed")
    unscored = fabricate.run("unscored", "xinggan blocks=2", metrics=None)
    running = fabricate.run("running", "xinggan blocks=3", state="running")
    further = {"+ a": failed.name, "+ b": unscored.name, "+ c": running.name}
    gone = {"+ d": "gone-0", "+ e": "..", "+ f": "../runs/gone"}
    list_study(fabricate.folder, "components", [*ladder, *(further | gone).items()])
    told = shown(ablation.cumulative, fabricate.folder, tmp_path)
    assert "Not all of the 9 rows are here; the same command again" in told
    for words in (
        "+ a: failed at step 120 of 400: FloatingPointError: &lt;b&gt;loss&lt;/b&gt; is nan",
        "+ b: finished, but not scored",
        "+ c: running at step 120 of 400",
        "+ d; + e; + f: never ran",
    ):
        assert words in told
    assert "+ fusion improves SSIM" in told


def test_rows_left_out_of_a_report_are_told_from_those_that_never_ran(fabricate, ladder, tmp_path):
    selected = load_records(fabricate.folder, [run for _, run in ladder[:2]])
    told = ablation.cumulative(selected, tmp_path)._repr_html_()
    assert "+ multi-scale: finished, but not among the runs selected for this report" in told
    assert "+ fusion improves SSIM" in told


def test_single_run_without_a_study_is_told_the_commands(fabricate, tmp_path):
    fabricate.run()
    assert "python -m ablations.study components" in shown(ablation.cumulative, fabricate.folder, tmp_path)
    assert "python -m ablations.run -m scale=multi,single" in shown(
        ablation.single_settings, fabricate.folder, tmp_path
    )
    assert not list(tmp_path.glob("figures"))


def test_references_alone_and_studies_of_other_runs_make_no_ablation(fabricate, ladder, tmp_path):
    other = fabricate.run("patn", "patn")
    told = ablation.cumulative(load_records(fabricate.folder, [other.name]), tmp_path)._repr_html_()
    assert "components</h3>" not in told and "python -m ablations.study" in told


def test_study_of_different_methods_leads_to_the_page_that_compares_them(fabricate, tmp_path):
    rows = [(name, fabricate.run(name, name).name) for name in ("patn", "pg2")]
    list_study(fabricate.folder, "comparison", rows)
    told = shown(ablation.cumulative, fabricate.folder, tmp_path)
    assert "Its rows are different methods" in told and 'href="quality.html"' in told


def test_ladder_whose_rows_share_no_metric_says_so(fabricate, ladder, tmp_path):
    metrics = fabricate.folder / ladder[1][1] / "metrics.json"
    rows = json.loads(metrics.read_text())
    metrics.write_text(json.dumps([row | {"metric": "l1"} for row in rows]))
    assert ablation.NO_VALUE in shown(ablation.cumulative, fabricate.folder, tmp_path)


def test_damaged_study_is_left_out_and_titles_are_text(fabricate, ladder, tmp_path):
    (fabricate.folder / "studies" / "broken.json").write_text("[{]")
    rows = [(title.replace("+ fusion", "+ <i>fusion</i>"), run) for title, run in ladder]
    list_study(fabricate.folder, "components", rows)
    told = shown(ablation.cumulative, fabricate.folder, tmp_path)
    assert "<i>" not in told and "+ &lt;i&gt;fusion&lt;/i&gt; improves SSIM" in told
