"""Only what was measured alike is compared; the paper's claims stand beside the published networks alone; the Pareto
front is what no point beats, tried pair by pair.
"""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timed_runs import PAPER, PIDM, scenario, three, write

from reports import speed
from reports.figures import WIDE_INCHES, looks
from reports.plots import quality_against_time, throughput
from reports.records import load_records
from reports.timing import DISTRIBUTIONS, samples, scenario_table

CLAIMS = ["69.33", "18.04"]


def rows(table) -> dict[str, dict]:
    """Run -> its first row."""
    return table.drop_duplicates("run").set_index("run").to_dict("index")


def test_points_are_of_the_circumstances_that_all_runs_share(fabricate):
    records = three(fabricate)
    assert speed.common_circumstances(records.timings) == {
        **{"machine": "cpu", "precision": "fp32", "mode": "eager", "batch": 1, "height": 64, "width": 32}
    }
    write(fabricate.run("gfla", "gfla", metrics=(0.9, 0.1, 0.9)), [scenario(median_ms=1, device="a GPU")])
    points = speed.quality_points(load_records(fabricate.folder)).query("metric == 'ssim'")
    found = {row.title: (row.latency_ms, row.quality) for row in points.itertuples()}
    assert found == {"xinggan": (10, 0.6), "patn": (5, 0.4), "pidm": (200, 0.5)}


def test_times_of_another_processor_or_number_of_threads_are_not_compared(fabricate):
    for name, threads in (("xinggan", 2), ("patn", 2), ("pidm", 1)):
        facts = {"method": PIDM} if name == "pidm" else {}
        write(fabricate.run(name, name, **facts), [scenario(threads=threads, evaluations=1)])
    records = load_records(fabricate.folder)
    assert speed.common_circumstances(records.timings)["machine"] == "a processor, 2 threads"
    assert len(speed.latencies(records.timings)) == 2
    assert set(speed.ratios(records)["name"]) == {"pidm"}


def test_the_front_names_who_is_best_for_which_patience_and_the_factor_at_pidm_s_quality(fabricate):
    front = speed.front_table(three(fabricate)).query("metric == 'SSIM ↑'")
    assert front["run"].tolist() == ["patn", "xinggan"]
    assert front["best at latencies of"].tolist() == ["5.00 ms to 10.0 ms", "10.0 ms and more"]
    assert front["PIDM at matched quality"].tolist() == ["not reached", "20.0 times faster"]


@pytest.mark.parametrize("pidm", ["pidm", "pidm published=last"])
def test_claims_of_the_paper_stand_beside_the_published_networks_at_the_published_size(fabricate, pidm):
    records = three(fabricate, ("xinggan", "patn", pidm), **PAPER)
    found = rows(speed.ratio_table(records))
    claims = [f"the paper's claim to {what}" for what in ("train", "sample")]
    assert [found["xinggan"][claim] for claim in claims] == CLAIMS
    assert {found[run][claim] for run in ("patn", pidm) for claim in claims} == {"–"}
    assert found["xinggan"]["training [h] ↓"] == "20.0" and found["xinggan"]["times faster to train ↑"] == "30.0"
    sentence = speed.claim_sentence(records)
    assert "20.0 times as fast as PIDM (ddim, 50 steps × 2 branches) (the paper: 18.04)" in sentence
    assert "trains 30.0 times as fast by the published schedules (the paper: 69.33)" in sentence
    schedules = rows(speed.schedule_table(records))
    assert list(schedules["xinggan"].values())[-2:] == ["1,000 steps of 8 (deepfashion)", "20.0"]
    assert schedules["patn"]["published schedule"] == "1,000 steps of 8 (none is published: its own)"


@pytest.mark.parametrize(
    ("names", "config"),
    [
        (("xinggan", "patn", "pidm"), {**PAPER, "preset": "small"}),
        (("xinggan", "patn", "pidm"), {**PAPER, "dataset": {"name": "market1501", "height": 128, "width": 64}}),
        (("xinggan", "patn", "pidm"), {**PAPER, "dataset": {"name": "deepfashion", "height": 128, "width": 88}}),
        (("xinggan blocks=3", "patn", "pidm"), PAPER),
        (("xinggan", "patn", "pidm multipliers=[1, 2]"), PAPER),
    ],
)
def test_no_claim_stands_beside_anything_else(fabricate, names, config):
    records = three(fabricate, names, **config)
    table = speed.ratio_table(records)
    assert "times faster to sample ↑" in table and not any("claim" in head for head in table)
    assert "the paper" not in (speed.claim_sentence(records) or "")


@pytest.mark.parametrize("preset", ["smoke", "small"])
def test_hours_are_told_of_steps_of_paper_size_alone(fabricate, preset):
    records = three(fabricate, preset=preset)
    assert not any("train" in head for head in speed.ratio_table(records))
    schedules = speed.schedule_table(records)
    assert list(schedules) == ["run", "preset", "precision", "mode", "step [ms] ↓", "images/s ↑", "peak memory [MB] ↓"]
    assert "trains" not in speed.claim_sentence(records)


def test_every_sampler_precision_and_mode_that_was_timed_stands_side_by_side(fabricate):
    table = speed.ratio_table(three(fabricate))
    of_pidm = table[table["run"] == "pidm"]
    assert dict(zip(of_pidm["network evaluations"], of_pidm["times faster to sample ↑"], strict=True)) == {
        "ddim, 50 steps × 2 branches": "1.00",
        "ddim, 20 steps × 2 branches": "2.50",
        "dpmsolver++, 10 steps × 1 branch": "10.0",
    }
    places = table[["run", "precision", "mode"]].value_counts()
    assert places["xinggan", "fp32", "eager"] == places["xinggan", "bf16", "compiled"] == 1
    assert rows(table)["xinggan"]["network evaluations"] == "1"


def test_without_pidm_there_are_no_ratios(fabricate):
    records = three(fabricate).where(method=["xinggan", "patn"])
    assert speed.ratio_table(records).empty and speed.claim_sentence(records) is None


def test_a_sweep_has_its_steps_in_the_table_and_is_left_out_where_there_is_no_room(fabricate):
    records = three(fabricate)
    assert set(scenario_table(records.timings)["sampling steps"]) == {"–", "10", "20"}
    assert len(samples(records.timings).drop_duplicates(["title", "scenario", "kind"])) == 14 <= DISTRIBUTIONS
    for record in records:
        record.timing["scenarios"] += [scenario(batch=batch) for batch in (2, 8, 16, 32, 64, 128)]
    kept = samples(records.timings).drop_duplicates(["title", "kind"])
    assert len(kept) == 6 == len(samples(records.timings)) / 3
    assert set(kept.loc[kept["kind"] == "inference", "scenario"]) == {"batch\u00a01"}


def test_records_without_times_or_scores_give_no_figure(fabricate):
    write(fabricate.run(metrics=None), [scenario()])
    records = load_records(fabricate.folder)
    assert throughput(records.timings, looks(records), WIDE_INCHES) is None
    assert quality_against_time(records, WIDE_INCHES) is None


# Few distinct values, so that ties are frequent.
clouds = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 5)), min_size=1, max_size=12)


@settings(deadline=None)
@given(clouds, st.booleans())
def test_the_front_is_what_no_point_beats_and_names_the_best_at_each_latency(pairs, higher):
    def beats(one, other):
        better = one[1] >= other[1] if higher else one[1] <= other[1]
        return one[0] <= other[0] and better and one != other

    front = speed.pareto_front(pd.DataFrame(pairs, columns=["latency_ms", "quality"]), higher)
    expected = sorted(pair for pair in pairs if not any(beats(other, pair) for other in pairs))
    assert [(row.latency_ms, row.quality) for row in front.itertuples()] == expected
    for wait in range(1, 9):
        affordable = [quality for latency, quality in pairs if latency <= wait]
        best = front[(front["latency_ms"] <= wait) & ~(front["until_ms"] <= wait)]
        assert set(best["quality"]) == ({(max if higher else min)(affordable)} if affordable else set())
