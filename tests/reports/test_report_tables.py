"""The metric table says every value with its protocol, and why a value is not there."""

import io
import json

import pandas as pd
import pytest

from reports.records import load_records
from reports.tables import metric_frame, metric_tables


def change(directory, of, /, **changes):
    path = directory / "metrics.json"
    rows = [row | changes if row["metric"] == of else row for row in json.loads(path.read_text())]
    path.write_text(json.dumps(rows))


def test_rows_are_runs_then_references_and_columns_point_to_better(fabricate):
    fabricate.run()
    fabricate.references()
    (table,), unavailable = metric_tables(load_records(fabricate.folder))
    assert list(table.rows) == ["xinggan scale=single", "copy_source", "mean_image", "ground_truth"]
    assert table.headings == ["SSIM ↑", "L1 ↓", "PCKh (embedded) ↑"]
    assert table.samples == ["48", "48", "48"]
    assert [text for text, _ in table.cells("copy_source")] == ["0.3100", "0.1200", "0.4200"]
    assert len(unavailable) == 1 and unavailable[0].startswith("FID: unavailable: weights-inception")


def test_value_that_is_missing_in_one_run_has_a_footnote_with_the_reason(fabricate):
    fabricate.run("a", "a")
    change(fabricate.run("b", "b"), "ssim", value=None, unavailable_because="image smaller than the window")
    change(fabricate.run("c", "c"), "ssim", metric="psnr", value=14.0)
    (table,), _ = metric_tables(load_records(fabricate.folder))
    assert table.cells("b")[0] == ("–", 1)
    assert ("–", 2) in table.cells("c")
    assert table.notes == ["unavailable: image smaller than the window", "not computed by this run"]
    assert "[1] unavailable: image smaller than the window" in table.as_markdown()


def test_different_protocols_stand_in_different_columns(fabricate):
    fabricate.run("a", "a")
    change(fabricate.run("b", "b"), "ssim", protocol={"name": "pose-transfer"}, n=12)
    (table,), _ = metric_tables(load_records(fabricate.folder))
    assert table.headings[:2] == ["SSIM ↑", "SSIM ↑"]
    assert {table.cells("a")[0][0], table.cells("a")[1][0]} == {"0.4100", "–"}
    assert "pose-transfer, n = 12" in table.as_markdown()


@pytest.mark.parametrize(
    ("value", "text"), [(0.41237, "0.4124"), (17.4567, "17.457"), (123.456, "123.46"), (4321.23, "4321.2")]
)
def test_decimals_follow_the_largest_value(fabricate, value, text):
    change(fabricate.run(), "l1", value=value)
    (table,), _ = metric_tables(load_records(fabricate.folder))
    assert table.cells("xinggan scale=single")[1][0] == text


def test_markup_in_names_reasons_and_protocols_is_escaped(fabricate):
    evil = "<img src=x onerror=alert(1)>|"
    directory = fabricate.run(name=f"xinggan {evil}")
    change(directory, "ssim", protocol={"name": evil, "note": evil})
    change(directory, "fid", unavailable_because=evil)
    (table,), _ = metric_tables(load_records(fabricate.folder))
    assert "<img" not in table.as_html() and "&lt;img" in table.as_html()
    assert "<img" not in table.as_markdown() and "\\|" in table.as_markdown()


def test_nothing_is_bold_without_a_test(fabricate):
    fabricate.run()
    fabricate.references()
    (table,), _ = metric_tables(load_records(fabricate.folder))
    cells = table.as_html().split("<tbody>")[1].split("</tbody>")[0]
    assert "<b>" not in cells and "<strong>" not in cells and "**" not in table.as_markdown()


def test_csv_holds_every_value_with_its_protocol(fabricate):
    fabricate.run()
    fabricate.references()
    records = load_records(fabricate.folder)
    read = pd.read_csv(io.StringIO(metric_frame(records).to_csv(index=False)))
    assert len(read) == sum(len(record.measurements) for record in records)
    own = read[(read.run == records[0].run) & (read.metric == "ssim")].iloc[0]
    assert own.value == 0.41 and own.n == 48 and own.better == "higher"
    assert json.loads(own.protocol)["name"] == "clean"
    assert read[read.metric == "fid"].unavailable_because.str.contains("inception").all()
