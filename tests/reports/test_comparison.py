"""Answers to queries give value, interval and n of runs written by hand, and refuse what has no common mean."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from ablation_runs import change

from reports import statistics
from reports.records import load_records


def write_pairs(directory, gain=0.0, people=10, seed=0):
    """per_image.parquet of 4 pairs a person; metrics.json gets their mean. Returns the values."""
    rng = np.random.default_rng(seed)
    values = 0.4 + gain + 0.02 * rng.standard_normal(4 * people)
    frame = pd.DataFrame({"pair": range(len(values)), "identity": np.arange(len(values)) // 4, "value": values})
    frame = frame.assign(pair_id=[f"{pair}_a___{pair}_b" for pair in frame.pair])
    both = pd.concat([frame.assign(metric="ssim"), frame.assign(metric="l1", value=0.1)])
    both.to_parquet(directory / "per_image.parquet")
    change(directory, "ssim", value=values.mean())
    return values


def test_runs_of_several_seeds_have_an_interval_over_seeds(fabricate):
    values = [0.41, 0.43, 0.44]
    for seed, value in enumerate(values):
        fabricate.run(seed=seed, metrics=(value, 0.1, 0.7))
    fabricate.run(seed=3, state="running")
    row = load_records(fabricate.folder).metric("ssim").by("scale").loc["single"]
    low, high = scipy.stats.t.interval(0.95, 2, np.mean(values), scipy.stats.sem(values))
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert (row["n"], row["missing"], row["over"]) == (3, 1, "seeds")


def test_single_runs_have_an_interval_over_the_people_of_the_test_set(fabricate):
    values = write_pairs(fabricate.run())
    answer = load_records(fabricate.folder).metric("ssim").by("scale", "seed")
    expected = statistics.mean_by_identity(values, np.arange(40) // 4)
    row = answer.loc[("single", 0)]
    assert (row["value"], row["low"], row["high"]) == pytest.approx((expected.estimate, expected.low, expected.high))
    assert row["over"] == "identities" and row["n"] == 1


def test_runs_that_differ_in_more_than_the_seed_have_no_interval_over_seeds(fabricate):
    for scale in ("single", "multi"):
        fabricate.run(scale=scale)
    with pytest.warns(UserWarning, match="scale"):
        row = load_records(fabricate.folder).metric("ssim").by().iloc[0]
    assert row["n"] == 2 and np.isnan(row["low"])


def test_values_of_different_data_have_no_common_mean(fabricate):
    fabricate.run()
    fabricate.run(digest="e2" * 32, seed=1)
    values = load_records(fabricate.folder).metric("ssim")
    with pytest.raises(ValueError, match=r"2 different data sets.*dataset_digest"):
        values.by("scale")
    assert list(values.by("dataset_digest")["n"]) == [1, 1]


def test_unknown_metric_and_protocol_are_refused_with_those_that_are_there(fabricate):
    fabricate.run()
    records = load_records(fabricate.folder)
    assert records.metrics() == {"ssim": 1, "l1": 1, "pckh_embedded": 1}
    with pytest.raises(ValueError, match=r"'sssim'; like it: ssim.*These runs have: ssim, l1"):
        records.metric("sssim")
    with pytest.raises(ValueError, match="there are: clean"):
        records.metric("ssim", protocol="gfla")
    with pytest.raises(ValueError, match="in no record"):
        records.metric("ssim").by("scales")
    with pytest.raises(ValueError, match="seeds or identities"):
        records.metric("ssim").by("scale", over="people")


def test_metric_that_no_run_has_yet_is_an_empty_answer(fabricate):
    fabricate.run(state="running")
    row = load_records(fabricate.folder).metric("lpips").by("scale").loc["single"]
    assert row["n"] == 0 and row["missing"] == 1 and np.isnan(row["value"])


def test_values_by_pair_are_those_of_the_metric_alone(fabricate):
    written = {fabricate.run(seed=seed).name: seed for seed in (0, 1)}
    values = {run: write_pairs(fabricate.folder / run, seed=seed) for run, seed in written.items()}
    frame = load_records(fabricate.folder).metric("ssim").per_image()
    for run, group in frame.groupby("run"):
        assert group["value"].to_list() == pytest.approx(values[run])


def test_differences_are_paired_corrected_and_have_a_verdict(fabricate):
    runs = {"multi": 0.0, "single": -0.1, "other": 0.0001}
    values = {}
    for number, (scale, gain) in enumerate(runs.items()):
        directory = fabricate.run(name=f"xinggan scale={scale}", scale=scale)
        values[scale] = write_pairs(directory, gain, seed=number)
    table = load_records(fabricate.folder).metric("ssim").against(scale="multi")
    expected = statistics.difference(values["single"], values["multi"], np.arange(40) // 4)
    single, other = table.loc["single"], table.loc["other"]
    assert (single["difference"], single["low"]) == pytest.approx((expected.estimate, expected.low))
    assert single["p_holm"] == pytest.approx(2 * expected.p_value) and single["verdict"] == "worse"
    assert other["verdict"] == "not shown" and set(table.index) == {"single", "other"}
    assert single["better_pairs"] < 0.1 and np.isnan(single["better_runs"])


def test_several_seeds_are_compared_over_people_and_seeds_and_lower_may_be_better(fabricate):
    for scale, l1 in (("multi", 0.08), ("single", 0.11)):
        for seed in range(3):
            directory = fabricate.run(scale=scale, seed=seed, metrics=(0.4, l1 + 0.001 * seed, 0.7))
            write_pairs(directory, gain=0.1 * (scale == "multi"), seed=seed)
            (directory / "per_image.parquet").rename(directory / "kept") if scale == "multi" else None
    records = load_records(fabricate.folder)
    l1 = records.metric("l1").against(scale="single").loc["multi"]
    assert l1["over"] == "seeds" and l1["verdict"] == "better" and l1["better_runs"] == 1 and l1["seeds"] == "3, 3"
    for kept in fabricate.folder.glob("*/kept"):
        kept.rename(kept.parent / "per_image.parquet")
    ssim = load_records(fabricate.folder).metric("ssim").against(scale="single").loc["multi"]
    assert ssim["over"] == "identities and seeds" and ssim["verdict"] == "better"


def test_comparison_refuses_mixtures_other_protocols_and_absent_baselines(fabricate):
    fabricate.run(scale="multi")
    other = fabricate.run(scale="single")
    values = load_records(fabricate.folder).metric("ssim")
    with pytest.raises(ValueError, match="no run of scale=none"):
        values.against(scale="none")
    with pytest.raises(ValueError, match="more than their seed"):
        values.against(seed=0)
    change(other, "ssim", protocol={"name": "gfla"})
    with warnings.catch_warnings(), pytest.raises(ValueError, match="different protocols"):
        load_records(fabricate.folder).metric("ssim").against(scale="multi")
