"""The study of costs: every method a record that reports read, nothing measured twice, mistakes refused first."""

import json

import pytest

from ablations.study import STUDIES, main, selection
from reports.records import load_records

QUICK = [
    "preset=smoke", "dataset.height=32", "dataset.width=16", "dataset.mask_radius=1", "device=cpu",
    "only=pix2pix,xinggan:scale=single:blocks=1", "timing.kinds=inference",
    "timing.precisions=fp32", "timing.modes=eager,cudagraph", "timing.batches=1",
    "timing.samplers=", "timing.rounds=2", "timing.seconds=0.01", "timing.calls=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The place of a finished study."""
    folder = tmp_path_factory.mktemp("efficiency")
    place = [f"runs={folder / 'runs'}", f"cache={folder / 'data'}"]
    assert main(["efficiency", "--no-report", *QUICK, *place]) == 0
    return folder, place


def test_each_method_has_a_record_with_its_scenarios_and_what_could_not_be_measured(measured):
    records = load_records(measured[0] / "runs")
    assert {record.name for record in records} == {"pix2pix", "xinggan blocks=1 scale=single"}
    for record in records:
        assert record.problems == [] and record.state == "finished" and record.is_timing_only
        eager, graph = record.scenarios
        assert len(eager["samples_ms"]) == sum(eager["rounds"]) and eager["evaluations"] == 1
        assert eager["control_ms"] > 0 and graph["control_ms"] is None
        assert eager["first_call_ms"] > 0 and eager["memory_of"] == "process" and eager["peak_memory_mb"] > 0
        assert (graph["median_ms"], "NVIDIA" in graph["unavailable_because"]) == (None, True)
        assert record.timing["parameters"] > 0 and record.timing["macs_per_image"] > 0
        assert "rounds" in record.timing["noise"]["says"]


def test_the_same_command_again_measures_only_what_is_new(measured):
    folder, place = measured
    before = {path: json.loads(path.read_text()) for path in (folder / "runs").glob("*/timing.json")}
    assert main(["efficiency", "--no-report", *QUICK, *place, "timing.samplers="]) == 0
    assert {path: json.loads(path.read_text()) for path in before} == before


def test_a_study_that_is_run_some_rows_at_a_time_lists_them_all(measured):
    folder, place = measured
    others = [word for word in QUICK if not word.startswith("only=")]
    assert main(["efficiency", "--no-report", *others, "only=pix2pix", *place]) == 0
    rows = json.loads((folder / "runs" / "studies" / "efficiency.json").read_text())
    assert [row["title"] for row in rows] == ["pix2pix", "xinggan scale=single blocks=1"]


@pytest.mark.parametrize(
    ("words", "titles"),
    [
        ([], [title for title, _ in STUDIES["efficiency"]]),
        (["only=xinggan,pidm"], ["XingGAN++", "XingGAN", "PIDM"]),
        (["timing.methods=xinggan,pidm"], ["XingGAN++", "XingGAN", "PIDM"]),  # the word of earlier versions
        (["only=pidm,X-MDPT,pidm"], ["PIDM", "X-MDPT"]),
        (['only="PIDM in a few steps, adversarial",PATN'], ["PIDM in a few steps, adversarial", "PATN"]),
        (["only=xinggan:blocks=3,copy_source"], ["xinggan blocks=3", "copy_source"]),
    ],
)
def test_only_lists_titles_and_methods_of_the_study_or_rows_with_settings_of_their_own(words, titles):
    chosen, left, _ = selection("efficiency", [*words, "preset=smoke"])
    assert ([title for title, _ in chosen], left) == (titles, ["preset=smoke"])
    assert dict(chosen).get("xinggan blocks=3") in (None, ["method=xinggan", "blocks=3"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["timing.colour=red"], "timing.colour=red: accepted are"),
        (["only=pixel"], "pixel"),
        (["precision=bf16"], "precision: not a setting of this study"),
        (["colour=red"], "colour"),
        (["only="], "only=: accepted are XingGAN++"),
        (["preset=smoke", "only=pix2pix:training.batch=4,pix2pix:training.batch=8"], "same name"),
    ],
)
def test_mistakes_are_refused_before_any_work(words, said, tmp_path, capsys):
    assert main(["efficiency", f"runs={tmp_path / 'runs'}", f"cache={tmp_path / 'data'}", *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
