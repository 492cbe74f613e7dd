"""The answer's sentences hold the numbers and say no more than the tests behind them."""

import json
import re

import numpy as np
import pytest
import scipy.stats
from ablation_runs import write_values

from reports.answer import behind_table, certainty, compared, headlines, is_single, seed_table, sentences
from reports.comparison import rankings
from reports.records import load_records

PEOPLE, PAIRS = 10, 40


def scored(fabricate, name, seed=0, median_ms=None, **means):
    """A run with these means and, of single pairs, noise of its own; timed at batch 1, or not at all."""
    rng = np.random.default_rng([seed, sum(map(ord, name))])
    noise = 0.01 * rng.standard_normal(PAIRS)
    directory = fabricate.run(name, name, seed=seed)
    write_values(directory, {metric: mean + noise - noise.mean() for metric, mean in means.items()}, PEOPLE)
    timing = directory / "timing.json"
    if median_ms is None:
        timing.unlink()
        return directory
    same = {"kind": "inference", "device": "cpu", "precision": "fp32", "mode": "eager", "batch": 1}
    row = {**same, "median_ms": median_ms, "samples_ms": [median_ms], "unavailable_because": None}
    timing.write_text(json.dumps({"scenarios": [row]}))
    return directory


def answer(fabricate):
    return sentences(load_records(fabricate.folder))


def test_clear_winner_is_told_with_its_distance_to_the_next_and_the_test(fabricate):
    for name, ssim in (("patn", 0.5), ("pidm", 0.25), ("gfla", 0.375)):
        scored(fabricate, name, ssim=ssim)
    (told,) = answer(fabricate)
    pattern = (
        r"patn has the best SSIM, 0\.500 \[0\.4\d\d, 0\.50\d\] \(higher is better\); the next, gfla, is "
        r"0\.125 \[0\.1[12]\d, 0\.1[23]\d\] behind: more than chance explains \(p < 0\.001\)\."
    )
    assert re.fullmatch(pattern, told), told


@pytest.mark.parametrize("metric", ["perceptual_embedded", "lpips"])
def test_tie_is_called_chance_and_lower_wins_where_lower_is_better(fabricate, metric):
    scored(fabricate, "patn", **{metric: 0.4})
    scored(fabricate, "pidm", **{metric: 0.3999})
    (told,) = answer(fabricate)
    assert told.startswith("pidm has the best") and "(lower is better)" in told
    assert re.search(r"the next, patn, is 0\.000 behind: it may be chance \(p = \d\.\d{3}\)\.$", told), told


def test_nothing_is_said_of_a_metric_that_one_method_alone_has(fabricate):
    scored(fabricate, "patn", ssim=0.5)
    scored(fabricate, "ground_truth", ssim=1.0)
    assert answer(fabricate) == []


def test_single_scored_run_is_told_what_it_is_compared_with_and_shows_its_headlines(fabricate):
    fabricate.run()
    alone = compared(load_records(fabricate.folder))
    assert "1 run of xinggan on synthetic 64x32: 1 finished. It is compared with nothing; <code>python -m" in alone
    fabricate.references()
    records = load_records(fabricate.folder)
    assert is_single(records)
    assert "with copy_source, mean_image and ground_truth, which are not trained; <code>python -m" in compared(records)
    shown = headlines(records).striptags()
    assert "0.410copy source 0.310mean image 0.340clean, n = 48" in shown and "Latency [ms] ↓" in shown


def test_what_failed_is_named_with_the_reason_as_text(fabricate):
    fabricate.run(state="failed")
    fabricate.run("patn", "patn")
    shown = compared(load_records(fabricate.folder))
    assert "xinggan scale=single failed at step 120 of 400: FloatingPointError: &lt;b&gt;loss&lt;/b&gt; is nan" in shown
    assert "patn failed" not in shown and "1 record is incomplete" in shown


def test_metric_of_a_whole_set_with_one_network_each_is_not_put_to_a_test(fabricate):
    for name, value in (("patn", 20.0), ("pidm", 30.0)):
        write_values(fabricate.run(name, name), {"fid": value, "ssim": np.full(4, 0.4)}, people=2)
    told = next(sentence for sentence in answer(fabricate) if "FID" in sentence)
    assert "the next, pidm, is 10.000 behind: one trained network of each cannot be put to a test (not tested)" in told


def test_cost_is_told_of_the_fastest_the_slowest_and_the_best(fabricate):
    for name, ssim, ms in (("patn", 0.4, 5.0), ("pidm", 0.3, 200.0), ("gfla", 0.5, 20.0)):
        scored(fabricate, name, median_ms=ms, ssim=ssim)
    assert answer(fabricate)[-1] == (
        "patn takes 5.00 ms, gfla takes 20.0 ms and pidm takes 200 ms for a batch of 1 on cpu in fp32, eager."
    )


def test_cost_of_several_seeds_is_their_median(fabricate):
    for name, ssim, times in (("patn", 0.4, (5.0, 6.0, 90.0)), ("gfla", 0.5, (20.0, 30.0, 21.0))):
        for seed, ms in enumerate(times):
            scored(fabricate, name, seed, median_ms=ms, ssim=ssim)
    told = "patn takes 6.00 ms and gfla takes 21.0 ms for a batch of 1 on cpu in fp32, eager, median over seeds."
    assert answer(fabricate)[-1] == told


def test_speed_against_pidm_stands_beside_the_papers_claim(fabricate):
    scored(fabricate, "pidm", median_ms=100.0, ssim=0.3)
    assert not any("the paper" in sentence for sentence in answer(fabricate))
    scored(fabricate, "xinggan", median_ms=20.0, ssim=0.4)
    assert answer(fabricate)[-1] == "xinggan samples 5.00 times as fast as PIDM, in fp32, eager."


def test_runs_that_were_only_timed_are_not_called_trained(fabricate):
    (scored(fabricate, "patn", median_ms=5.0, ssim=0.3) / "metrics.json").write_text("[]")
    assert certainty(load_records(fabricate.folder)).startswith("Times are medians")


def test_nothing_scored_is_no_answer(fabricate):
    fabricate.run(state="running", metrics=None)
    assert answer(fabricate) == []


def test_trained_once_is_said(fabricate):
    scored(fabricate, "patn", ssim=0.5)
    assert "trained once" in certainty(load_records(fabricate.folder))
    scored(fabricate, "patn", seed=1, ssim=0.5)
    assert "interval is over these" in certainty(load_records(fabricate.folder))


def test_seeds_of_a_method_are_one_row_with_mean_interval_and_interquartile_mean(fabricate):
    values = [0.30, 0.32, 0.33, 0.40]
    for seed, ssim in enumerate(values):
        fabricate.run("patn", "patn", seed=seed, metrics=(ssim, 0.1, 0.5))
    fabricate.run("patn", "patn", seed=9, state="failed")
    ranked = rankings(load_records(fabricate.folder).metric("ssim"))
    (row,) = seed_table(ranked).to_dict("records")
    low, high = scipy.stats.t.interval(0.95, 3, np.mean(values), scipy.stats.sem(values))
    assert row["run"] == "patn" and row["mean"] == "0.3375"
    assert row["95 % interval over seeds"] == f"[{low:.4f}, {high:.4f}]" and row["seeds"] == "4"
    assert row["interquartile mean"].startswith("0.3250 [") and row["sd"] == f"{np.std(values, ddof=1):.4f}"
    assert behind_table(ranked).empty
