"""The metric table says every value with its protocol, and why a value is not there; who is best is decided by the
metric's direction, bold by a test, and references take no part.
"""

import numpy as np
import pytest
import scipy.stats
from ablation_runs import change

from reports.comparison import rankings
from reports.records import load_records
from reports.scores import behind_table, metric_tables, seed_table, unavailable, with_intervals


def tables(fabricate):
    """The tables of all runs, and why metrics are unavailable."""
    records = load_records(fabricate.folder)
    ranked = [rank for metric in records.metrics() for rank in rankings(records.metric(metric))]
    values = with_intervals(records, ranked)
    return metric_tables(values, ranked, list(records.titles().values())), unavailable(values)


def column(table, place) -> list[str]:
    return [cell.splitlines()[0] for cell in table.cells.iloc[:, place]]


def test_rows_are_runs_then_references_and_columns_point_to_better(fabricate):
    fabricate.run()
    fabricate.references()
    (table,), missing = tables(fabricate)
    assert list(table.cells["run"]) == ["xinggan scale=single", "copy_source", "mean_image", "ground_truth"]
    assert list(table.cells.columns[1:]) == [
        f"{head}\nclean, n = 48" for head in ("SSIM\u00a0↑", "L1\u00a0↓", "PCKh (embedded)\u00a0↑")
    ]
    assert [column(table, place)[1] for place in (1, 2, 3)] == ["0.3100", "0.1200", "0.4200"]
    assert len(missing) == 1 and missing[0].startswith("FID: unavailable: weights-inception")
    assert "sigma px: 1.5" in table.protocols[0] and not table.bold.any()


def test_value_that_is_missing_in_one_run_has_a_footnote_with_the_reason(fabricate):
    fabricate.run("a", "a")
    change(fabricate.run("b", "b"), "ssim", value=None, unavailable_because="image smaller than the window")
    change(fabricate.run("c", "c"), "ssim", metric="psnr", value=14.0)
    (table,), _ = tables(fabricate)
    assert column(table, 1) == ["0.4100", "– [1]", "– [2]"]
    assert table.notes == ["unavailable: image smaller than the window", "not computed by this run"]


def test_different_protocols_stand_in_different_columns(fabricate):
    fabricate.run("a", "a")
    change(fabricate.run("b", "b"), "ssim", protocol={"name": "pose-transfer"}, n=12)
    (table,), _ = tables(fabricate)
    assert [head.splitlines()[1] for head in table.cells.columns[1:3]] == ["clean, n = 48", "pose-transfer, n = 12"]
    assert (column(table, 1), column(table, 2)) == (["0.4100", "– [1]"], ["– [1]", "0.4100"])


@pytest.mark.parametrize(
    ("value", "text"), [(0.41237, "0.4124"), (17.4567, "17.457"), (123.456, "123.46"), (4321.23, "4321.2")]
)
def test_decimals_follow_the_largest_value(fabricate, value, text):
    change(fabricate.run(), "l1", value=value)
    (table,), _ = tables(fabricate)
    assert column(table, 2) == [text]


def test_nothing_scored_is_no_table(fabricate):
    fabricate.run(state="failed")
    assert tables(fabricate) == ([], []) and behind_table([]).empty


def test_seeds_of_a_method_are_one_row_with_mean_interval_and_interquartile_mean(fabricate):
    values = [0.30, 0.32, 0.33, 0.40]
    for seed, ssim in enumerate(values):
        fabricate.run("patn", "patn", seed=seed, metrics=(ssim, 0.1, 0.5))
    fabricate.run("patn", "patn", seed=9, state="failed")
    table = seed_table(rankings(load_records(fabricate.folder).metric("ssim")))
    (row,) = table.to_dict("records")
    low, high = scipy.stats.t.interval(0.95, 3, np.mean(values), scipy.stats.sem(values))
    assert row["run"] == "patn" and row["mean"] == "0.3375"
    assert row["95 % interval over seeds"] == f"[{low:.4f}, {high:.4f}]" and row["seeds"] == "4"
    assert row["interquartile mean"].startswith("0.3250 [") and row["sd"] == f"{np.std(values, ddof=1):.4f}"
