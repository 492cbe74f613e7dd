"""Quality beside time, ratios beside claims: only what was measured alike is compared, and nothing is made up."""

import json

import pytest

from reports.pages import timing
from reports.quality_time import circumstances, front_rows, quality_points
from reports.ratios import CLAIMED, RATIO_HEADS, SCHEDULE_HEADS, ratio_rows, schedule_rows
from reports.records import load_records
from reports.timing import distributions, noise, timing_table
from reports.timing_figures import quality_against_time, throughput


def scenario(kind="inference", median_ms=10.0, batch=1, **others):
    samples = [median_ms * factor for factor in (0.9, 1.0, 1.1)]
    percentiles = {"median_ms": median_ms, "p5_ms": samples[0], "p95_ms": samples[2], "p99_ms": samples[2]}
    place = {"device": "cpu", "precision": "fp32", "mode": "eager", "height": 64, "width": 32, "batch": batch}
    speed = {"images_per_second": 1000 * batch / median_ms, "samples_ms": samples, "sampling_steps": None}
    return {"kind": kind, **place, **percentiles, **speed, "unavailable_because": None, **others}


def write(directory, scenarios, **facts):
    (directory / "timing.json").write_text(json.dumps({"scenarios": scenarios, **facts}))


@pytest.fixture
def three(fabricate):
    """XingGAN++ fast and good, PATN faster and worse, PIDM slow and in between."""
    for name, quality, ms, hours in (("xinggan", 0.6, 10, 20), ("patn", 0.4, 5, 10), ("pidm", 0.5, 200, 600)):
        directory = fabricate.run(name, name, metrics=(quality, 1 - quality, quality))
        schedule = {"preset": "paper", "steps": 1000, "batch": 8, "hours": hours}
        write(
            directory,
            [
                scenario(median_ms=ms, evaluations=150 if name == "pidm" else 1),
                scenario(median_ms=3 * ms, batch=4),
                scenario(median_ms=ms / 2, precision="bf16"),
                scenario(median_ms=ms / 100, sampler="ddim", sampling_steps=1),
                scenario("training", median_ms=2 * ms, batch=8, schedule=schedule),
            ],
            noise={"limit": 0.1, "judged": 4, "unsteady": 0, "worst": 0.034, "too_noisy": False},
        )
    return load_records(fabricate.folder)


def test_points_are_of_the_circumstances_that_all_runs_share(three):
    assert circumstances(three) == {
        "device": "cpu", "precision": "fp32", "mode": "eager", "batch": 1, "height": 64, "width": 32,
    }  # fmt: skip
    found = {point.name.split("-")[0]: (point.latency_ms, point.quality) for point in quality_points(three)["ssim"]}
    assert found == {"xinggan": (10, 0.6), "patn": (5, 0.4), "pidm": (200, 0.5)}


def test_the_front_names_who_is_best_for_which_patience_and_the_factor_at_pidm_s_quality(three):
    rows = [row for row in front_rows(three) if row[0].startswith("SSIM")]
    assert [row[1] for row in rows] == ["patn", "xinggan"]
    assert rows[0][4] == "5.00 ms to 10.0 ms" and rows[0][5] == "not reached"
    assert rows[1][4] == "10.0 ms and more" and rows[1][5] == "20.0 times faster"


def test_a_run_timed_otherwise_is_no_point(three, fabricate):
    other = fabricate.run("gfla", "gfla", metrics=(0.9, 0.1, 0.9))
    write(other, [scenario(median_ms=1, device="a GPU")])
    names = {point.name for point in quality_points(load_records(fabricate.folder))["ssim"]}
    assert other.name not in names and len(names) == 3


def test_ratios_stand_beside_the_claims_of_the_one_method_they_are_made_for(three):
    rows = {row[0]: row for row in ratio_rows(three) if row[1] == "fp32"}
    assert len(RATIO_HEADS) == len(rows["xinggan"])
    assert rows["xinggan"][3:] == ["20.0", "30.0", f"{CLAIMED['training']}", "10.0", "1", "20.0", "18.04"]
    assert rows["patn"][5] == rows["patn"][9] == "–"
    assert rows["pidm"][4] == rows["pidm"][8] == "1.00" and rows["pidm"][7] == "150"
    (schedule,) = (row for row in schedule_rows(three) if row[0] == "xinggan")
    assert len(schedule) == len(SCHEDULE_HEADS) and schedule[-2:] == ["1,000 steps of 8", "20.0"]


def test_without_pidm_there_are_no_ratios(three):
    assert ratio_rows(three.where(method=["xinggan", "patn"])) == []


def test_a_sweep_has_its_steps_in_the_table_and_is_left_out_where_there_is_no_room(three):
    heads, rows, _ = timing_table(three)
    assert {row[heads.index("sampling steps")] for row in rows} == {"–", "1"}
    assert len(distributions(three)) == 15
    for record in three:
        record.timing["scenarios"] += [scenario(batch=batch) for batch in (2, 8, 16, 32, 64, 128)]
    kept = distributions(three)
    assert len(kept) == 6 and {row["precision"] for _, row in kept} == {"fp32"}
    assert {row["batch"] for _, row in kept if row["kind"] == "inference"} == {1}


def test_the_timing_chapter_shows_figures_tables_and_how_noisy_it_was(three, tmp_path):
    chapters = (timing.latencies, timing.quality_against_time, timing.schedules)
    html = "".join(str(chapter(three, tmp_path).markup) for chapter in chapters)
    for told in ("Quiet", "Pareto front", "69.33", "18.04", "1,000 steps of 8"):
        assert told in html
    (quiet,) = noise(three)
    assert quiet.startswith("Quiet") and quiet.endswith("within 10%, the worst differ by 3.4%: patn, pidm, xinggan")
    next(iter(three)).timing["noise"] |= {"unsteady": 1, "worst": 0.23, "too_noisy": True}
    _, noisy = noise(three)
    assert noisy.startswith("Too noisy") and noisy.endswith(": patn (1 of 4 scenarios, by up to 23%)")
    assert {"timing.svg", "throughput.svg", "quality-time-1.svg"} <= {f.name for f in (tmp_path / "figures").iterdir()}


def test_records_without_times_or_scores_give_no_figure(fabricate):
    directory = fabricate.run(metrics=None)
    write(directory, [scenario()])
    records = load_records(fabricate.folder)
    assert throughput(records) is None and quality_against_time(records) is None


def test_a_record_of_timing_alone_misses_neither_scores_nor_images(fabricate):
    directory = fabricate.run(metrics=None)
    (directory / "history.jsonl").unlink()
    status = json.loads((directory / "status.json").read_text()) | {"measures": "timing"}
    (directory / "status.json").write_text(json.dumps(status))
    config = (directory / "config.yaml").read_text().split("training:")[0] + "training: null\n"
    (directory / "config.yaml").write_text(config)
    (record,) = load_records(fabricate.folder)
    assert record.problems == []
