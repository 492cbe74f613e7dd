"""Effects, their intervals and tests equal slow computations from the per-image files, and are told in plain words."""

import math
import re
from itertools import product

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from ablation_runs import scored

from reports import effect_answer, effect_tables
from reports.effect_figures import forest
from reports.effects import costs, effects
from reports.records import load_records
from reports.single_settings import one_at_a_time
from reports.style import NARROW_INCHES, WIDE_INCHES

PEOPLE = 5  # fewer than are resampled: the interval is Student's, which scipy has too
VARIANTS = {"full": {}, "single": {"scale": "single"}, "plain": {"attention": "plain"}}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture
def one_seed(fabricate, rng):
    """A full model, one that is much worse than it and one that is as good; SSIM and L1 by pair, FD of the set."""
    bases = {"full": (0.50, 0.10, 2.0), "single": (0.40, 0.20, 3.0), "plain": (0.50, 0.10, 2.1)}
    common = 0.02 * rng.standard_normal(6 * PEOPLE)
    folders = {}
    for variant, (ssim, l1, fd) in bases.items():
        noise = 0.004 * rng.standard_normal((2, 6 * PEOPLE))
        values = {"ssim": ssim + common + noise[0], "perceptual_embedded": l1 + common + noise[1]}
        folders[variant] = scored(fabricate, {**values, "fd_embedded": np.float64(fd)}, **VARIANTS[variant])
    return load_records(fabricate.folder), folders


def contrasts_of(records):
    (contrasts,) = one_at_a_time(records.methods).values()
    return contrasts


def slow_values(folder, metric) -> dict[int, tuple[int, float]]:
    """pair -> identity and value, row by row."""
    frame = pd.read_parquet(folder / "per_image.parquet")
    rows = frame[frame.metric == metric].to_dict("records")
    return {row["pair"]: (row["identity"], row["value"]) for row in rows}


def slow_difference(first, second, metric) -> list[list[float]]:
    """Differences pair by pair, a list a person."""
    of_first, of_second = slow_values(first, metric), slow_values(second, metric)
    people: dict[int, list[float]] = {}
    for pair, (identity, value) in of_first.items():
        people.setdefault(identity, []).append(value - of_second[pair][1])
    return list(people.values())


def slow_holm(p_values: list[float]) -> list[float]:
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = {}
    for rank, place in enumerate(order):
        before = [adjusted[earlier] for earlier in order[:rank]]
        adjusted[place] = min(1.0, max([p_values[place] * (len(p_values) - rank), *before]))
    return [adjusted[place] for place in range(len(p_values))]


@pytest.mark.parametrize("metric", ["ssim", "perceptual_embedded"])
def test_effects_equal_a_slow_computation_from_the_files_of_single_images(one_seed, metric):
    records, folders = one_seed
    found = [effect for effect in effects(contrasts_of(records)) if effect.metric == metric]
    expected = []
    for effect, other in zip(found, ("single", "plain"), strict=True):
        people = slow_difference(folders["full"], folders[other], metric)
        means = [sum(own) / len(own) for own in people]
        assert effect.columns["difference"] == pytest.approx(sum(map(sum, people)) / sum(map(len, people)))
        test = scipy.stats.ttest_1samp(means, 0)
        assert effect.interval == pytest.approx(tuple(test.confidence_interval(0.95)))
        assert (effect.columns["n"], effect.columns["over"]) == (PEOPLE, "identities")
        better = [gain > 0 if metric == "ssim" else gain < 0 for own in people for gain in own]
        assert effect.columns["better_pairs"] == pytest.approx(sum(better) / len(better))
        expected.append(test.pvalue)
    assert [effect.columns["p_holm"] for effect in found] == pytest.approx(slow_holm(expected))
    assert [effect.verdict for effect in found] == ["better", "not shown"]


def test_metric_of_a_whole_set_is_not_tested_with_one_seed(one_seed):
    records, _ = one_seed
    of_set = [effect for effect in effects(contrasts_of(records)) if effect.metric == "fd_embedded"]
    assert [effect.verdict for effect in of_set] == ["not tested"] * 2
    assert [effect.columns["difference"] for effect in of_set] == pytest.approx([-1.0, -0.1])
    assert all(effect.interval is None for effect in of_set)


def test_with_several_seeds_the_test_of_a_whole_set_is_welchs_and_runs_are_compared_one_with_another(fabricate, rng):
    fds = {"full": [2.0, 2.1, 2.3], "single": [2.2, 3.0, 3.4]}
    for variant, seed in product(fds, range(3)):
        pairs = 0.5 + 0.01 * rng.standard_normal(6 * PEOPLE)
        values = {"ssim": pairs, "fd_embedded": np.float64(fds[variant][seed])}
        scored(fabricate, values, seed=seed, **VARIANTS[variant])
    found = {effect.metric: effect for effect in effects(contrasts_of(load_records(fabricate.folder)))}
    of_set = found["fd_embedded"]
    test = scipy.stats.ttest_ind(fds["full"], fds["single"], equal_var=False)
    assert of_set.interval == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert of_set.columns["p_holm"] == pytest.approx(test.pvalue)
    lower = [one < other for one, other in product(fds["full"], fds["single"])]
    assert of_set.columns["better_runs"] == pytest.approx(sum(lower) / 9)
    assert found["ssim"].columns["over"] == "identities and seeds" and (found["ssim"].runs, found["ssim"].others) == (
        3,
        3,
    )
    assert "3 seeds or more" in " ".join(effect_answer.sentences(list(found.values())))


def test_sentences_say_what_helps_what_does_not_and_that_one_seed_is_one_seed(one_seed):
    records, folders = one_seed
    told = effect_answer.sentences(effects(contrasts_of(records)))
    gains = [slow_difference(folders["full"], folders["single"], of) for of in ("ssim", "perceptual_embedded")]
    ssim, perceptual = (f"{abs(sum(map(sum, people)) / (6 * PEOPLE)):#.3g}" for people in gains)
    improved = f"SSIM by {ssim} and Perceptual distance (embedded) by {perceptual}."
    assert told[0] == f"scale=multi instead of scale=single improves {improved}"
    assert told[1] == "No difference is shown for attention=enhanced instead of attention=plain."
    assert told[2].startswith("One seed: this holds for these trainings only")
    assert told[3] == "The intervals of single images are over 5 people of the test set."
    assert told[4] == "FD (embedded) cannot be tested with one seed."


def test_a_component_that_makes_things_worse_is_said_to(fabricate, rng):
    pairs = 0.5 + 0.01 * rng.standard_normal(6 * PEOPLE)
    scored(fabricate, {"ssim": pairs})
    scored(fabricate, {"ssim": pairs + 0.1 + 0.001 * rng.standard_normal(6 * PEOPLE)}, scale="single")
    told = effect_answer.sentences(effects(contrasts_of(load_records(fabricate.folder))))
    assert told[0] == "Nothing here is shown to improve SSIM."
    assert re.fullmatch(r"scale=multi instead of scale=single worsens SSIM by 0\.(099|100|101)\d?\.", told[1])


def test_runs_without_a_common_metric_have_no_effect(fabricate):
    scored(fabricate, {"ssim": np.linspace(0.4, 0.6, 10)})
    scored(fabricate, {"l1": np.linspace(0.1, 0.2, 10)}, scale="single")
    contrasts = contrasts_of(load_records(fabricate.folder))
    assert len(contrasts) == 1 and effects(contrasts) == [] and forest([]) is None


def test_costs_are_those_of_the_records_and_unknown_where_one_side_recorded_none(one_seed):
    records, folders = one_seed
    contrasts = contrasts_of(records)
    (cost, _) = costs(contrasts)
    full, single = (next(record for record in records if record.run == folders[v].name) for v in ("full", "single"))
    assert cost.parameters == (1_234_567, 1_234_567) and cost.training_images_per_second == (80.0, 80.0)
    medians = tuple(record.scenarios[0]["median_ms"] for record in (full, single))
    assert cost.latency_ms == pytest.approx(medians)
    (folders["single"] / "timing.json").unlink()
    again = contrasts_of(load_records(folders["single"].parent))
    assert costs(again)[0].parameters is None and costs(again)[0].latency_ms is None


def test_tables_are_bold_only_with_a_test_and_hold_every_effect(one_seed):
    records, _ = one_seed
    contrasts = contrasts_of(records)
    found = effects(contrasts)
    heads, rows = effect_tables.summary(contrasts, found, costs(contrasts))
    assert heads[1] == "SSIM ↑" and len(rows) == 2 and all(len(row) == len(heads) for row in rows)
    assert ["<strong>" in cell for cell in rows[0][1:4]] == [True, True, False]
    assert not any("<strong>" in cell for cell in rows[1])
    tables = effect_tables.tests_by_metric(found)
    assert list(tables) == ["ssim", "perceptual_embedded", "fd_embedded"]
    assert sum(map(len, tables.values())) == len(found)
    assert all(len(row) == len(effect_tables.TEST_HEADS) for tests in tables.values() for row in tests)
    (row, _), ssim = tables["ssim"], next(effect for effect in found if effect.metric == "ssim")
    shown = float(row[1].striptags().replace("\u2212", "-"))
    assert row[1].startswith("<strong>") and shown == pytest.approx(ssim.columns["difference"], abs=5e-5)
    assert row[3:6] == ["5 people", "1, 1", "–"] and row[6].startswith("100%")
    frame = effect_tables.effect_frame(found)
    assert frame["difference"].tolist() == [effect.columns["difference"] for effect in found]


@pytest.mark.parametrize("inches", [WIDE_INCHES, NARROW_INCHES])
def test_forest_shows_every_interval_beside_zero_with_the_direction_of_better(one_seed, inches):
    records, _ = one_seed
    found = effects(contrasts_of(records))
    figure = forest(found, inches)
    panels = [axes for axes in figure.axes if axes.get_title("left")]
    assert [axes.get_title("left")[-1] for axes in panels] == ["↑", "↓", "↓"]
    for axes in panels:
        assert "better" in axes.get_xlabel()
        low, high = axes.get_xlim()
        assert low < 0 < high
    drawn = [line.get_xdata() for line in panels[0].get_lines()[1:]]
    ssim = [effect for effect in found if effect.metric == "ssim"]
    expected = [part for effect in ssim for part in (effect.interval, [effect.columns["difference"]])]
    assert all(np.allclose(one, other) for one, other in zip(drawn, expected, strict=True))
    assert all(math.isfinite(end) for line in drawn for end in line)
    meanings = [text.get_text() for text in figure.legends[0].get_texts()]
    assert meanings == ["better (p < 0.05, Holm)", "no difference shown", "not tested: one seed"]
