"""Figures draw what the records hold, with units, directions and one look for each run."""

import json

import numpy as np
import pandas
import pytest
from ablation_runs import write_values

from reports import plots, timing
from reports.comparison import with_intervals
from reports.figures import METHOD_COLOURS, NARROW_INCHES, WIDE_INCHES, looks
from reports.records import load_records


@pytest.fixture
def records(fabricate):
    fabricate.run()
    fabricate.run("xinggan", "xinggan", metrics=(0.44, 0.08, 0.76), steps=1200)
    fabricate.run("patn", "patn", state="failed")
    fabricate.references()
    return load_records(fabricate.folder)


def dots(records, inches=WIDE_INCHES):
    values = with_intervals([records.metric(name) for name in records.metrics()]).dropna(subset=["value"])
    return plots.metric_dots(values, looks(records), inches)


def titled(figure):
    return [axes for axes in figure.axes if axes.axison]


def test_curves_hold_every_recorded_loss(records):
    losses = records.history.query("entry == 'losses'")
    figure = plots.curves(losses, looks(records), WIDE_INCHES)
    panels = {axes.get_title("left"): axes for axes in titled(figure)}
    assert list(panels) == ["l1", "adversarial appearance", "adversarial shape", "perceptual"]
    assert "lower is better" in panels["l1"].get_ylabel() and panels["adversarial shape"].get_ylabel() == "loss"
    short = next(record for record in records if record.state == "failed")
    expected = [(row["step"], row["losses"]["l1"]) for row in short.history if "losses" in row]
    lines = panels["l1"].get_lines()
    assert any(np.array_equal(line.get_xydata(), expected) for line in lines)
    assert {len(line.get_xdata()) for line in lines} == {12, 40, 120}
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["patn", "xinggan", "xinggan scale=single"]


def test_latencies_mark_the_percentiles_of_the_samples(records):
    inference = plots.latencies(timing.samples(records.timings), looks(records), WIDE_INCHES).axes[0]
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
    style, timings = looks(records), records.timings
    latencies = plots.latencies(timing.samples(timings), style, inches)
    for figure in (dots(records, inches), latencies, plots.throughput(timings, style, inches)):
        assert figure.get_figwidth() == inches
        assert all(axes.get_xlabel() and axes.get_title("left") for axes in titled(figure))
    assert {axes.get_title("left"): axes.get_xlabel() for axes in titled(dots(records, inches))} == {
        "SSIM ↑": "higher is better →",
        "L1 ↓": "← lower is better",
        "PCKh (embedded) ↑": "higher is better →",
    }
    assert "ms" in latencies.axes[0].get_xlabel()


def test_panels_of_a_metric_under_several_protocols_name_them(records):
    values = with_intervals([records.metric("ssim")])
    other = values.assign(protocol=json.dumps({"name": "gfla"}))
    figure = plots.metric_dots(pandas.concat([values, other]), looks(records), WIDE_INCHES)
    titles = [axes.get_title(loc="left") for axes in titled(figure)]
    assert titles == ["SSIM ↑\nclean", "SSIM ↑\ngfla"]


def test_metric_dots_stand_at_the_values_and_a_far_ground_truth_at_the_edge(records):
    ssim = dots(records).axes[0]
    shown = [line.get_xdata()[0] for line in ssim.get_lines() if line.get_marker() != "None"]
    assert sorted(shown) == [0.31, 0.34, 0.41, 0.44]
    assert [text.get_text() for text in ssim.texts] == ["1 →"]
    assert ssim.get_xlim()[1] < 0.6
    labels = [label.get_text() for label in ssim.get_yticklabels()]
    assert labels == ["xinggan", "xinggan scale=single", "copy_source", "mean_image", "ground_truth"]


def test_method_has_the_same_colour_in_every_report_and_runs_of_one_report_differ(fabricate, records):
    for group in (records, records.where(method="patn")):
        assert looks(group)["palette"]["patn"] == METHOD_COLOURS["patn"]
    for seed in range(30):
        fabricate.run(seed=seed, steps=10)
    many = looks(load_records(fabricate.folder))
    assert len(set(zip(*(look.values() for look in many.values()), strict=True))) == len(many["palette"]) == 36


@pytest.mark.parametrize("inches", [WIDE_INCHES, NARROW_INCHES])
def test_panels_keep_their_size_however_many_runs_the_legend_names(fabricate, inches):
    def panel_inches() -> float:
        records = load_records(fabricate.folder)
        figure = plots.throughput(records.timings, looks(records), inches)
        figure.draw_without_rendering()
        return figure.axes[0].get_window_extent().height / figure.dpi

    fabricate.run(steps=10)
    alone = panel_inches()
    for seed in range(1, 20):
        fabricate.run(seed=seed, steps=10)
    assert panel_inches() > 0.9 * alone


def test_each_run_has_a_violin_with_its_median_and_constant_values_have_none(fabricate):
    rng = np.random.default_rng(0)
    written = {name: rng.uniform(0.2, 0.6, 40) for name in ("patn", "pidm")}
    for name, values in written.items():
        write_values(fabricate.run(name, name), {"ssim": values, "pckh": np.zeros(40)}, people=8)
    records = load_records(fabricate.folder)
    (axes,) = titled(plots.violins(records.per_image("ssim", "pckh"), looks(records), WIDE_INCHES))
    assert axes.get_title("left") == "SSIM ↑" and axes.get_xlabel() == "higher is better →"
    assert [label.get_text() for label in axes.get_yticklabels()] == list(written)
    quartiles = [np.percentile(values, share) for values in written.values() for share in (25, 50, 75)]
    assert [line.get_xdata()[0] for line in axes.get_lines()] == pytest.approx(quartiles)
    for violin, values in zip(axes.collections, written.values(), strict=True):
        drawn = violin.get_paths()[0].vertices[:, 0]
        assert (drawn.min(), drawn.max()) == pytest.approx((values.min(), values.max()))


def test_nothing_recorded_gives_no_figure(fabricate):
    directory = fabricate.run(state="failed", metrics=None)
    records = load_records(directory)
    style, timings = looks(records), records.timings
    assert plots.metric_dots(with_intervals([]), style, WIDE_INCHES) is None
    assert plots.violins(records.per_image("ssim"), style, WIDE_INCHES) is None
    assert plots.latencies(timing.samples(timings), style, WIDE_INCHES) is None
    assert plots.throughput(timings, style, WIDE_INCHES) is None
