"""Timing tables name what differs and every scenario that could not be timed; only what was measured alike is compared;
the Pareto front is what no point beats, tried pair by pair.
"""

import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports import timing
from reports.figures import WIDE_INCHES, looks
from reports.formats import duration, number
from reports.plots import quality_against_time, throughput
from reports.records import load_records


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


def rows(table) -> dict[str, dict]:
    """Run -> its first row."""
    return table.drop_duplicates("run").set_index("run").to_dict("index")


def test_points_are_of_the_circumstances_that_all_runs_share(three):
    assert timing.common_circumstances(three.timings) == {
        **{"device": "cpu", "precision": "fp32", "mode": "eager", "batch": 1, "height": 64, "width": 32}
    }
    points = timing.quality_points(three).query("metric == 'ssim'")
    found = {row.title: (row.latency_ms, row.quality) for row in points.itertuples()}
    assert found == {"xinggan": (10, 0.6), "patn": (5, 0.4), "pidm": (200, 0.5)}


def test_the_front_names_who_is_best_for_which_patience_and_the_factor_at_pidm_s_quality(three):
    front = timing.front_table(three).query("metric == 'SSIM ↑'")
    assert front["run"].tolist() == ["patn", "xinggan"]
    assert front["best at latencies of"].tolist() == ["5.00 ms to 10.0 ms", "10.0 ms and more"]
    assert front["PIDM at matched quality"].tolist() == ["not reached", "20.0 times faster"]


def test_a_run_timed_otherwise_is_no_point(three, fabricate):
    other = fabricate.run("gfla", "gfla", metrics=(0.9, 0.1, 0.9))
    write(other, [scenario(median_ms=1, device="a GPU")])
    points = timing.quality_points(load_records(fabricate.folder)).query("metric == 'ssim'")
    assert set(points["title"]) == {"xinggan", "patn", "pidm"}


def test_ratios_stand_beside_the_claims_of_the_one_method_they_are_made_for(three):
    found = rows(timing.ratio_table(three.timings))
    claims = [str(claim) for claim in timing.CLAIMED.values()]
    assert list(found["xinggan"].values())[2:] == ["20.0", "30.0", claims[0], "10.0", "1", "20.0", claims[1]]
    assert found["patn"]["the paper's claim to train"] == found["patn"]["the paper's claim to sample"] == "–"
    assert found["pidm"]["times faster to train ↑"] == "1.00" and found["pidm"]["network evaluations ↓"] == "150"
    schedule = rows(timing.schedule_table(three.timings))["xinggan"]
    assert list(schedule.values())[-2:] == ["1,000 steps of 8", "20.0"]


def test_without_pidm_there_are_no_ratios(three):
    timings = three.where(method=["xinggan", "patn"]).timings
    assert timing.ratio_table(timings).empty and timing.claim_sentence(timings) is None


def test_a_sweep_has_its_steps_in_the_table_and_is_left_out_where_there_is_no_room(three):
    assert set(timing.scenario_table(three.timings)["sampling steps"]) == {"–", "1"}
    assert len(timing.samples(three.timings).drop_duplicates(["title", "scenario", "kind"])) == 15
    for record in three:
        record.timing["scenarios"] += [scenario(batch=batch) for batch in (2, 8, 16, 32, 64, 128)]
    kept = timing.samples(three.timings).drop_duplicates(["title", "kind"])
    assert len(kept) == 6 == len(timing.samples(three.timings)) / 3
    assert set(kept.loc[kept["kind"] == "inference", "scenario"]) == {"batch\u00a01"}


def test_records_say_how_noisy_the_machine_was(three):
    (quiet,) = timing.noise(three)
    assert quiet.startswith("Quiet") and quiet.endswith("within 10%, the worst differ by 3.4%: patn, pidm, xinggan")
    next(iter(three)).timing["noise"] |= {"unsteady": 1, "worst": 0.23, "too_noisy": True}
    _, noisy = timing.noise(three)
    assert noisy.startswith("Too noisy") and noisy.endswith(": patn (1 of 4 scenarios, by up to 23%)")


def test_records_without_times_or_scores_give_no_figure(fabricate):
    write(fabricate.run(metrics=None), [scenario()])
    records = load_records(fabricate.folder)
    assert throughput(records.timings, looks(records), WIDE_INCHES) is None
    assert quality_against_time(records, WIDE_INCHES) is None


def test_a_record_of_timing_alone_misses_neither_scores_nor_images(fabricate):
    directory = fabricate.run(metrics=None)
    (directory / "history.jsonl").unlink()
    status = json.loads((directory / "status.json").read_text()) | {"measures": "timing"}
    (directory / "status.json").write_text(json.dumps(status))
    config = (directory / "config.yaml").read_text().split("training:")[0] + "training: null\n"
    (directory / "config.yaml").write_text(config)
    (record,) = load_records(fabricate.folder)
    assert record.problems == []


def test_each_timed_scenario_is_a_row_and_the_others_say_why_not(fabricate):
    fabricate.run()
    timings = load_records(fabricate.folder).timings
    table = timing.scenario_table(timings)
    assert "device" not in table and table["what"].tolist() == ["inference", "inference", "training"]
    assert table["batch"].tolist() == ["1", "8", "8"] and table["samples"].tolist() == ["30"] * 3
    (failed,) = timing.failures(timings)
    assert "precision bf16" in failed and failed.endswith("no bf16 here")
    assert timing.shared(timings).startswith("device cpu, precision fp32")


def test_scenario_with_little_recorded_is_shown_with_what_it_has(fabricate):
    write(fabricate.run(), [{"kind": "inference", "median_ms": 10.0, "batch": 1}, {"kind": "training"}])
    timings = load_records(fabricate.folder).timings
    (row,) = timing.scenario_table(timings).to_dict("records")
    assert row["median [ms] ↓"] == "10.0" and row["samples"] == row["images/s ↑"] == "–"
    assert timing.failures(timings) == ["xinggan scale=single, training: unavailable: the record gives no reason"]
    assert timing.samples(timings).empty and timing.ratio_table(timings).empty


def test_cost_is_a_row_for_each_method(fabricate):
    fabricate.run()
    fabricate.references()
    (row,) = timing.cost_table(load_records(fabricate.folder)).to_numpy().tolist()
    assert row == ["xinggan scale=single", "1,234,567", "9.88", "1 min 20 s", "400 of 400", "80.0", "512"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "–"), (4.25, "4.2 s"), (59.9, "1 min 00 s"), (250, "4 min 10 s"), (7322, "2 h 02 min")]
)
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.0123"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346"), (None, "–")]
)
def test_numbers_have_three_significant_digits(value, text):
    assert number(value) == text


# Few distinct values, so that ties are frequent.
clouds = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 5)), min_size=1, max_size=12)


@settings(deadline=None)
@given(clouds, st.booleans())
def test_the_front_is_what_no_point_beats_and_names_the_best_at_each_latency(pairs, higher):
    def beats(one, other):
        better = one[1] >= other[1] if higher else one[1] <= other[1]
        return one[0] <= other[0] and better and one != other

    front = timing.pareto_front(pd.DataFrame(pairs, columns=["latency_ms", "quality"]), higher)
    expected = sorted(pair for pair in pairs if not any(beats(other, pair) for other in pairs))
    assert [(row.latency_ms, row.quality) for row in front.itertuples()] == expected
    for wait in range(1, 9):
        affordable = [quality for latency, quality in pairs if latency <= wait]
        best = front[(front["latency_ms"] <= wait) & ~(front["until_ms"] <= wait)]
        assert set(best["quality"]) == ({(max if higher else min)(affordable)} if affordable else set())
