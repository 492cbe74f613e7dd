"""Figures draw what the records hold, with units, directions and one look for each run."""

import json

import numpy as np
import pytest

from reports import figures
from reports.records import load_records
from reports.style import METHOD_COLOURS, NARROW_INCHES, WIDE_INCHES, looks
from reports.timing_figures import throughput


@pytest.fixture
def records(fabricate):
    fabricate.run()
    fabricate.run("xinggan", "xinggan", metrics=(0.44, 0.08, 0.76), steps=1200)
    fabricate.run("patn", "patn", state="failed")
    fabricate.references()
    return load_records(fabricate.folder)


def test_learning_curves_hold_every_recorded_loss(records):
    figure = figures.learning_curves(records)
    drawn = {axes.get_title("left"): axes.get_lines() for axes in figure.axes if axes.get_title("left")}
    assert list(drawn) == ["l1", "adversarial appearance", "adversarial shape", "perceptual"]
    short = next(record for record in records if record.state == "failed")
    expected = [(row["step"], row["losses"]["l1"]) for row in short.history if "losses" in row]
    assert any(np.array_equal(line.get_xydata(), expected) for line in drawn["l1"])
    assert {len(line.get_xdata()) for line in drawn["l1"]} == {12, 40, 120}
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["patn", "xinggan", "xinggan scale=single"]


def test_step_recorded_again_after_a_resume_replaces_the_first(fabricate):
    directory = fabricate.run(steps=20)
    with (directory / "history.jsonl").open("a") as file:
        file.write(json.dumps({"step": 20, "losses": {"l1": 0.125}}) + "\n")
    found = figures.series(load_records(fabricate.folder), "losses")
    assert list(found[directory.name, "l1"]) == [10, 20]
    assert found[directory.name, "l1"][20] == 0.125


def test_timing_figure_marks_the_percentiles_of_the_samples(records):
    figure = figures.timing_distributions(records)
    inference = figure.axes[0]
    samples = [row["samples_ms"] for record in records for row in record.scenarios if row["kind"] == "inference"]
    expected = [np.percentile(timed, [5, 50, 95]) for timed in samples if timed]
    lines = [line.get_xdata() for line in inference.get_lines()]
    assert len(lines) == 2 * len(expected)
    for place, (low, median, high) in enumerate(expected):
        assert lines[2 * place] == pytest.approx([low, high])
        assert lines[2 * place + 1] == pytest.approx([median, median])
    assert sum(len(dots.get_offsets()) for dots in inference.collections) == sum(map(len, samples))


@pytest.mark.parametrize("inches", [WIDE_INCHES, NARROW_INCHES])
def test_every_axis_has_its_quantity_and_metrics_their_direction(records, inches):
    for draw in (figures.learning_curves, figures.evaluation_curves, figures.metric_dots, figures.timing_distributions):
        figure = draw(records, inches)
        assert figure.get_figwidth() == inches
        for axes in figure.axes:
            assert not axes.axison or (axes.get_xlabel() and axes.get_title("left"))
    dots = {axes.get_title("left"): axes.get_xlabel() for axes in figures.metric_dots(records, inches).axes}
    assert dots == {
        "SSIM ↑": "higher is better →",
        "L1 ↓": "← lower is better",
        "PCKh (embedded) ↑": "higher is better →",
    }
    assert "ms" in figures.timing_distributions(records, inches).axes[0].get_xlabel()


def test_metric_dots_stand_at_the_values_and_a_far_ground_truth_at_the_edge(records):
    ssim = figures.metric_dots(records).axes[0]
    assert sorted(line.get_xdata()[0] for line in ssim.get_lines()) == [0.31, 0.34, 0.41, 0.44]
    assert [text.get_text() for text in ssim.texts] == ["1 →"]
    assert ssim.get_xlim()[1] < 0.6
    labels = [label.get_text() for label in ssim.get_yticklabels()]
    assert labels == ["xinggan", "xinggan scale=single", "copy_source", "mean_image", "ground_truth"]


def test_method_has_the_same_colour_in_every_report_and_runs_of_one_report_differ(fabricate, records):
    assert looks(records.where(method="patn"))[records[0].run].colour == METHOD_COLOURS["patn"]
    assert looks(records)[records[0].run].colour == METHOD_COLOURS["patn"]
    for seed in range(30):
        fabricate.run(seed=seed, steps=10)
    many = looks(load_records(fabricate.folder))
    assert len({(look.colour, look.marker, look.dashes) for look in many.values()}) == len(many)


@pytest.mark.parametrize("inches", [WIDE_INCHES, NARROW_INCHES])
def test_panels_keep_their_size_however_many_runs_the_legend_names(fabricate, inches):
    def panel_inches() -> float:
        figure = throughput(load_records(fabricate.folder), inches)
        figure.draw_without_rendering()
        return figure.axes[0].get_window_extent().height / figure.dpi

    fabricate.run(steps=10)
    alone = panel_inches()
    for seed in range(1, 20):
        fabricate.run(seed=seed, steps=10)
    assert panel_inches() > 0.9 * alone


def test_nothing_recorded_gives_no_figure(fabricate):
    for file in ("history.jsonl", "metrics.json", "timing.json"):
        (fabricate.run() / file).unlink()
    directory = fabricate.run(state="failed", metrics=None)
    (directory / "history.jsonl").unlink()
    nothing = load_records(directory)
    for draw in (figures.learning_curves, figures.evaluation_curves, figures.metric_dots, figures.timing_distributions):
        assert draw(nothing) is None
