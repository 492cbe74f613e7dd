"""Who is best is decided by the metric's direction, bold by a test, and references take no part."""

import numpy as np
import pytest
from ablation_runs import write_values

from reports.comparison import rankings
from reports.formats import interval, p_text
from reports.records import load_records
from reports.scores import metric_tables, with_intervals

PEOPLE, PAIRS = 10, 40


def around(mean: float, seed: int = 0) -> np.ndarray:
    """[PAIRS] of exactly this mean."""
    noise = 0.02 * np.random.default_rng(seed).standard_normal(PAIRS)
    return mean + noise - noise.mean()


def scored(fabricate, name, seed=0, **means):
    """A run whose values of every pair have these means; the same noise for all, plus a little of the run's own."""
    own = sum(map(ord, name)) + seed
    values = {metric: around(mean) + 0.1 * around(0, own) for metric, mean in means.items()}
    directory = fabricate.run(name.split()[0], name, seed=seed)
    write_values(directory, values, PEOPLE)
    return directory


def by_metric(records):
    return {rank.metric: rank for metric in records.metrics() for rank in rankings(records.metric(metric))}


def test_best_is_the_highest_or_the_lowest_as_the_metric_says(fabricate):
    scored(fabricate, "patn", ssim=0.5, l1=0.2)
    scored(fabricate, "pidm", ssim=0.4, l1=0.1)
    found = by_metric(load_records(fabricate.folder))
    assert (found["ssim"].best, found["l1"].best) == ("patn", "pidm")
    assert list(found["ssim"].behind.index) == ["pidm"] and list(found["l1"].behind.index) == ["patn"]


def test_references_are_neither_best_nor_compared(fabricate):
    scored(fabricate, "patn", ssim=0.5)
    for name in ("ground_truth", "copy_source"):
        scored(fabricate, name, ssim=0.9)
    found = by_metric(load_records(fabricate.folder))["ssim"]
    assert found.best == "patn" and found.behind is None and not found.is_clear
    assert len(found.by_run) == 3


@pytest.mark.parametrize(("second", "clear"), [(0.4, True), (0.4999, False)])
def test_bold_is_who_is_better_than_every_other_by_a_test(fabricate, second, clear):
    for name, ssim in (("patn", 0.5), ("pidm", second), ("gfla", 0.2)):
        scored(fabricate, name, ssim=ssim)
    records = load_records(fabricate.folder)
    found = by_metric(records)["ssim"]
    assert found.best == "patn" and found.is_clear is clear
    (table,) = metric_tables(with_intervals(records, [found]), [found], list(records.titles().values()))
    bold = {(row, column) for row, column in zip(*table.bold.nonzero(), strict=True)}
    assert bold == ({(list(table.cells["run"]).index("patn"), 1)} if clear else set())


def test_runs_that_differ_in_more_than_the_seed_are_rows_of_their_own(fabricate):
    for steps in (100, 200):
        write_values(fabricate.run("patn", "patn", steps=steps), {"ssim": around(0.4)}, PEOPLE)
    assert len(by_metric(load_records(fabricate.folder))["ssim"].by_variant) == 2


def test_protocols_stand_apart(fabricate):
    for name in ("patn", "pidm"):
        directory = scored(fabricate, name, ssim=0.5)
        if name == "pidm":
            (directory / "metrics.json").write_text((directory / "metrics.json").read_text().replace("clean", "gfla"))
    found = rankings(load_records(fabricate.folder).metric("ssim"))
    assert [(one.best, len(one.by_variant)) for one in found] == [("patn", 1), ("pidm", 1)]
    assert all(one.behind is None for one in found)


def test_metric_without_a_direction_has_no_best(fabricate):
    for name in ("patn", "pidm"):
        scored(fabricate, name, novelty=0.5)
    (found,) = rankings(load_records(fabricate.folder).metric("novelty"))
    assert found.best is None and found.behind is None and len(found.by_run) == 2


def test_p_values_and_intervals_read_as_people_write_them():
    texts = [p_text(p_value) for p_value in (0.0004, 0.0234, float("nan"))]
    assert texts == ["p < 0.001", "p = 0.023", "not tested"]
    assert interval(0.51249, 0.6, ".3f") == "[0.512, 0.600]"
    assert interval(float("nan"), 0.6, ".3f") == ""
