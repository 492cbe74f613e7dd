"""Single images: every value is in its run's violin, and the cases shown are the pairs with the extreme values."""

import numpy as np
import pytest
from ablation_runs import write_values
from study_runs import COLOURS, painted_runs

from reports.image_values import CASES, cases, distributions
from reports.records import load_records

PAIRS = 40


def test_each_run_has_a_violin_with_its_median_and_constant_values_have_none(fabricate):
    rng = np.random.default_rng(0)
    written = {name: rng.uniform(0.2, 0.6, PAIRS) for name in ("patn", "pidm")}
    for name, values in written.items():
        write_values(fabricate.run(name, name), {"ssim": values, "pckh": np.zeros(PAIRS), "l1": values}, people=8)
    figure = distributions(load_records(fabricate.folder))
    (axes,) = (axes for axes in figure.axes if axes.axison)
    assert axes.get_title("left") == "SSIM ↑" and axes.get_xlabel() == "higher is better →"
    assert [label.get_text() for label in axes.get_yticklabels()] == list(written)
    assert [line.get_xdata()[0] for line in axes.get_lines()] == pytest.approx([*map(np.median, written.values())])
    for violin, values in zip(axes.collections, written.values(), strict=True):
        drawn = violin.get_paths()[0].vertices[:, 0]
        assert (drawn.min(), drawn.max()) == pytest.approx((values.min(), values.max()))


def test_nothing_by_pair_is_no_figure(fabricate):
    (fabricate.run() / "per_image.parquet").unlink()
    assert distributions(load_records(fabricate.folder)) is None


@pytest.fixture
def painted(tmp_path, fabricator):
    """Runs whose generated image of pair p is their own colour with p added to the blue; alder is the better one."""
    runs = painted_runs(tmp_path, fabricator)
    rng = np.random.default_rng(0)
    values = {run.name: rng.permutation(np.linspace(0.3, 0.4, PAIRS)) for run in runs}
    return runs, values


def shown_pairs(picture, colour) -> set[int]:
    """Pairs whose image in this colour is in the picture."""
    pixels = np.asarray(picture).reshape(-1, 3)
    blue = pixels[(pixels[:, :2] == colour[:2]).all(axis=1), 2].astype(int)
    pairs, counts = np.unique(blue - colour[2], return_counts=True)
    painted = (pairs >= 0) & (pairs < PAIRS) & (counts >= 100)  # neither the skeletons nor stray pixels of a person
    return set(pairs[painted].tolist())


@pytest.mark.parametrize(("metric", "sign"), [("ssim", 1), ("perceptual_embedded", -1)])
def test_cases_are_the_best_runs_extreme_pairs(painted, metric, sign):
    runs, values = painted
    for run, ahead in zip(runs, (0.2, 0.0), strict=True):
        write_values(run, {metric: 0.5 + sign * (values[run.name] + ahead - 0.5)}, people=12)
    records = load_records(runs[0].parent)
    best_first = np.argsort(-values[runs[0].name])
    for kind, expected in (("best", best_first), ("worst", best_first[::-1])):
        found = cases(records, kind)
        assert "alder" in found.caption and kind in found.caption
        for colour in COLOURS.values():
            assert shown_pairs(found.wide, colour) == set(expected[:CASES])
        assert shown_pairs(found.narrow, COLOURS["alder"]) == set(expected[:CASES])


def test_image_that_is_not_the_one_scored_is_not_shown(painted):
    runs, values = painted
    for run in runs:
        write_values(run, {"ssim": values[run.name]}, people=12)
    records = load_records(runs[0].parent)
    assert cases(records, "best") is not None
    for path in (runs[1] / "generated").glob("*.png"):
        path.write_bytes(path.read_bytes() + b"\0")
    assert cases(records, "best") is None


def test_runs_without_pictures_or_scores_have_no_cases(fabricate):
    fabricate.run()
    assert cases(load_records(fabricate.folder), "best") is None
