"""Contrasts are found by study rows and configurations; their effects, intervals and tests equal slow computations from
the per-image files, and are told in plain words.
"""

import math
import re
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from ablation_runs import list_study, name, recorded, scored
from hypothesis import given
from hypothesis import strategies as st

from ablations.study import STUDIES
from reports.effects import (
    costs,
    cumulative_contrasts,
    effects,
    evidence_table,
    one_setting_contrasts,
    sentences,
    summary,
    unfinished,
)
from reports.figures import NARROW_INCHES, WIDE_INCHES
from reports.plots import forest
from reports.records import Records, load_records
from reports.settings import read_studies
from xinggan.metrics.values import MetricValue


def told(contrasts) -> list[tuple[str, str]]:
    return [(contrast.what, contrast.instead_of) for contrast in contrasts]


def study_of(titles: list[str], absent: tuple[str, ...] = ()) -> tuple[list[tuple[str, str]], Records]:
    """Rows of a study, and a record for each row that is not absent."""
    seeds = [int("".join(re.findall(r" seed=(\d+)", title)) or 0) for title in titles]
    records = {title: recorded(seed, scale=str(n)) for n, (title, seed) in enumerate(zip(titles, seeds, strict=True))}
    rows = [(title, record.run) for title, record in records.items()]
    return rows, Records(record for title, record in records.items() if title not in absent)


CODES = "both branches, concatenated"
ADDED = [title for title, _ in STUDIES["components"] if title.startswith("+")]
COMPONENTS = ["appearance branch only", "shape branch only", CODES, *ADDED]


def test_each_row_of_the_cumulative_ablation_stands_against_the_row_before_it():
    one_branch = [(CODES, "appearance branch only"), (CODES, "shape branch only")]
    expected = one_branch + list(zip(ADDED, COMPONENTS[2:], strict=False))
    assert told(cumulative_contrasts(*study_of(COMPONENTS))) == expected and len(expected) == 6


def test_rows_after_the_last_that_adds_something_are_alternatives_of_it():
    rows, records = study_of([*COMPONENTS, "another attention", "a third"])
    last = told(cumulative_contrasts(rows, records))[-2:]
    assert last == [("another attention", ADDED[-1]), ("a third", ADDED[-1])]


def test_a_row_that_never_ran_takes_its_steps_with_it_and_none_is_bridged():
    rows, records = study_of(COMPONENTS, absent=("+ multi-scale",))
    steps = told(cumulative_contrasts(rows, records))
    assert len(steps) == 4 and not any("+ multi-scale" in step for step in steps)
    assert not any(step[0] == "+ enhanced attention" for step in steps)


def test_a_study_over_several_values_has_a_sequence_for_each():
    titles = [f"{title} losses.l1={weight}" for weight in (10, 50) for title in ("L1", "+ shape", "+ perceptual")]
    titles[3:3] = ["another losses.l1=10"]
    steps = told(cumulative_contrasts(*study_of([*titles, "copy_source"])))
    assert len(steps) == 5 and ("another losses.l1=10", "+ perceptual losses.l1=10") in steps
    assert all(what.split()[-1] == instead_of.split()[-1] for what, instead_of in steps)


def test_seeds_of_a_row_are_one_side_of_its_step():
    rows, records = study_of(["base seed=0", "+ more seed=0", "base seed=1", "+ more seed=1"])
    (step,) = cumulative_contrasts(rows, records)
    assert (step.what, step.instead_of, len(step.runs), len(step.others)) == ("+ more", "base", 2, 2)


def test_a_study_without_additions_is_no_cumulative_ablation():
    assert cumulative_contrasts(*study_of(["1 block", "2 blocks"])) == []
    assert cumulative_contrasts(*study_of(["+ only"])) == [] and cumulative_contrasts([], Records([])) == []


CHOICES = {"scale": ("multi", "single"), "attention": ("enhanced", "plain", "none"), "fusion": ("dense", "concat")}
MODELS = st.fixed_dictionaries({key: st.sampled_from(choices) for key, choices in CHOICES.items()})


@given(st.lists(MODELS, max_size=8, unique_by=lambda switches: tuple(switches.values())))
def test_exactly_the_models_that_differ_in_one_setting_are_compared(models):
    """Against all pairs, looked at one by one."""
    apart: dict[str, set[frozenset]] = {}
    for one, other in combinations(models, 2):
        keys = [key for key in CHOICES if one[key] != other[key]]
        if len(keys) == 1:
            apart.setdefault(keys[0], set()).add(frozenset({name(**one), name(**other)}))
    families = one_setting_contrasts(recorded(**switches) for switches in models)
    found: dict[str, set[frozenset]] = {}
    for contrast in [contrast for contrasts in families.values() for contrast in contrasts]:
        first, second = contrast.runs[0].name, contrast.others[0].name
        assert first.count("=") <= second.count("=")
        found.setdefault(contrast.what.split("=")[0], set()).add(frozenset({first, second}))
    assert found.keys() == apart.keys()
    for key, pairs in found.items():
        fewest = min(min(model.count("=") for model in pair) for pair in apart[key])
        assert pairs <= apart[key]
        assert all(min(model.count("=") for model in pair) == fewest for pair in pairs)
        assert pairs >= {pair for pair in apart[key] if "xinggan" in pair}  # the full model, nothing changed


def test_settings_are_called_as_on_a_command_line_with_the_rest_that_is_not_usual():
    records = [recorded(), recorded(fusion="concat"), recorded(scale="single", fusion="concat")]
    (contrasts,) = one_setting_contrasts(records).values()
    assert ("fusion=dense", "fusion=concat") in [(c.what, c.instead_of) for c in contrasts]
    assert ("scale=multi", "scale=single (with fusion=concat)") in [(c.what, c.instead_of) for c in contrasts]


@pytest.mark.parametrize("other", [{"digest": "e2"}, {"training": {"steps": 200}}, {"measured": False}])
def test_models_of_other_data_or_budgets_or_without_scores_are_not_compared(other):
    assert one_setting_contrasts([recorded(), recorded(scale="single", **other)]) == {}


def test_how_often_training_is_looked_at_and_seeds_do_not_part_models():
    records = [recorded(), recorded(seed=1), recorded(scale="single", training={"log_every": 5})]
    (contrasts,) = one_setting_contrasts(records).values()
    (contrast,) = contrasts
    assert len(contrast.runs) == 2 and contrast.runs[0].name == "xinggan"


def test_a_training_that_was_scored_twice_is_one_seed():
    again = recorded()
    again.measurements.append(MetricValue("l1", 0.1, {"name": "clean"}, 10))
    records = Records([recorded(), again, recorded(scale="single"), recorded(seed=1, scale="single")])
    ((contrast,),) = one_setting_contrasts(records).values()
    assert contrast.runs == [again] and len(contrast.others) == 2
    rows = [("both", "a"), ("both", "b"), ("+ scale", "c"), ("+ scale", "d")]
    for record, (_, run) in zip(records, rows, strict=True):
        record.run = run
    (contrast,) = cumulative_contrasts(rows, records)
    assert contrast.others == [again] and len(contrast.runs) == 2


def test_families_that_differ_in_the_data_have_headings_of_their_own():
    records = [recorded(digest=digest, scale=scale) for digest in ("d1", "e2") for scale in ("multi", "single")]
    headings = list(one_setting_contrasts(records))
    assert len(headings) == 2 and headings[1] == f"{headings[0]} (2)"


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
    (contrasts,) = one_setting_contrasts(records.methods).values()
    return contrasts


def slow_difference(first, second, metric) -> list[list[float]]:
    """Differences pair by pair from the files of single images, a list a person."""
    rows, others = (pd.read_parquet(folder / "per_image.parquet").to_dict("records") for folder in (first, second))
    of_second = {row["pair"]: row["value"] for row in others if row["metric"] == metric}
    people: dict[int, list[float]] = {}
    for row in rows:
        if row["metric"] == metric:
            people.setdefault(row["identity"], []).append(row["value"] - of_second[row["pair"]])
    return list(people.values())


def slow_holm(p_values: list[float]) -> list[float]:
    order = np.argsort(p_values)
    stepped = [min(1.0, p_values[place] * (len(order) - rank)) for rank, place in enumerate(order)]
    return [max(stepped[: list(order).index(place) + 1]) for place in range(len(order))]


@pytest.mark.parametrize("metric", ["ssim", "perceptual_embedded"])
def test_effects_equal_a_slow_computation_from_the_files_of_single_images(one_seed, metric):
    records, folders = one_seed
    found = effects(contrasts_of(records)).query("metric == @metric").to_dict("records")
    expected = []
    for effect, other in zip(found, ("single", "plain"), strict=True):
        people = slow_difference(folders["full"], folders[other], metric)
        means = [sum(own) / len(own) for own in people]
        assert effect["difference"] == pytest.approx(sum(map(sum, people)) / sum(map(len, people)))
        test = scipy.stats.ttest_1samp(means, 0)
        assert (effect["low"], effect["high"]) == pytest.approx(tuple(test.confidence_interval(0.95)))
        assert (effect["n"], effect["over"]) == (PEOPLE, "identities")
        better = [gain > 0 if metric == "ssim" else gain < 0 for own in people for gain in own]
        assert effect["better_pairs"] == pytest.approx(sum(better) / len(better))
        expected.append(test.pvalue)
    assert [effect["p_holm"] for effect in found] == pytest.approx(slow_holm(expected))
    assert [effect["verdict"] for effect in found] == ["better", "not shown"]


def test_metric_of_a_whole_set_is_not_tested_with_one_seed(one_seed):
    records, _ = one_seed
    found = effects(contrasts_of(records)).query("metric == 'fd_embedded'")
    assert found["verdict"].tolist() == ["not tested"] * 2 and found[["low", "p_holm"]].isna().all(axis=None)
    assert found["difference"].tolist() == pytest.approx([-1.0, -0.1])


def test_with_several_seeds_the_test_of_a_whole_set_is_welchs_and_runs_are_compared_one_with_another(fabricate, rng):
    fds = {"full": [2.0, 2.1, 2.3], "single": [2.2, 3.0, 3.4]}
    for variant, seed in product(fds, range(3)):
        pairs = 0.5 + 0.01 * rng.standard_normal(6 * PEOPLE)
        values = {"ssim": pairs, "fd_embedded": np.float64(fds[variant][seed])}
        scored(fabricate, values, seed=seed, **VARIANTS[variant])
    every = effects(contrasts_of(load_records(fabricate.folder)))
    found = {effect["metric"]: effect for effect in every.to_dict("records")}
    of_set = found["fd_embedded"]
    test = scipy.stats.ttest_ind(fds["full"], fds["single"], equal_var=False)
    assert (of_set["low"], of_set["high"]) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert of_set["p_holm"] == pytest.approx(test.pvalue)
    lower = [one < other for one, other in product(fds["full"], fds["single"])]
    assert of_set["better_runs"] == pytest.approx(sum(lower) / 9)
    ssim = found["ssim"]
    assert ssim["over"] == "identities and seeds" and (ssim["runs"], ssim["others"]) == (3, 3)
    assert "at least 3 seeds" in " ".join(sentences(every))


def test_sentences_say_what_helps_what_does_not_and_that_one_seed_is_one_seed(one_seed):
    records, folders = one_seed
    found = effects(contrasts_of(records))
    told = sentences(found)
    gains = [slow_difference(folders["full"], folders["single"], of) for of in ("ssim", "perceptual_embedded")]
    ssim, perceptual = (f"{abs(sum(map(sum, people)) / (6 * PEOPLE)):#.3g}" for people in gains)
    improved = f"SSIM by {ssim} and Perceptual distance (embedded) by {perceptual}."
    assert told == [
        f"scale=multi instead of scale=single improves {improved}",
        "No difference is shown for attention=enhanced instead of attention=plain.",
        "Where a side has one seed, this holds for these trainings only: another seed may turn it round.",
    ]
    worse = found.assign(verdict=found["verdict"].replace("better", "worse"))
    assert sentences(worse)[0] == told[0].replace("improves", "worsens")


def test_runs_without_a_common_metric_have_no_effect(fabricate):
    scored(fabricate, {"ssim": np.linspace(0.4, 0.6, 10)})
    scored(fabricate, {"l1": np.linspace(0.1, 0.2, 10)}, scale="single")
    contrasts = contrasts_of(load_records(fabricate.folder))
    assert len(contrasts) == 1 and effects(contrasts).empty and forest(effects(contrasts), WIDE_INCHES) is None


def test_costs_are_those_of_the_records_and_unknown_where_none_were_recorded(one_seed):
    records, folders = one_seed
    recorded_ms = {record.run: record.scenarios[0]["median_ms"] for record in records}
    for run, row in costs(records).iterrows():
        assert row.tolist() == [1_234_567, 80.0, pytest.approx(recorded_ms[run])]
    (folders["single"] / "timing.json").unlink()
    contrasts = contrasts_of(load_records(folders["single"].parent))
    table, _ = summary(contrasts, effects(contrasts))
    assert table["parameters"].tolist() == ["–", "same"] and table["training images/s"].tolist() == ["same", "same"]


def test_tables_are_bold_only_with_a_test_and_hold_every_effect(one_seed):
    records, _ = one_seed
    contrasts = contrasts_of(records)
    found = effects(contrasts)
    table, bold = summary(contrasts, found)
    assert table.columns[1] == "SSIM ↑" and len(table) == 2
    assert bold.iloc[:, 1:4].to_numpy().tolist() == [[True, True, False], [False, False, False]]
    for metric in ("ssim", "perceptual_embedded", "fd_embedded"):
        tests, shown = evidence_table(found, metric)
        own = found[found["metric"] == metric]
        told = [float(cell.replace("\u2212", "-")) for cell in tests["difference"]]
        assert told == pytest.approx(own["difference"].tolist(), abs=5e-4)
        assert shown["difference"].tolist() == own["verdict"].isin(["better", "worse"]).tolist()
    first = evidence_table(found, "ssim")[0].iloc[0]
    assert [first["n"], first["seeds"], first["probability that a run is better"]] == ["5 people", "1, 1", "–"]
    assert first["pairs on which it is better"].startswith("100%")


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
    ssim = found[found["metric"] == "ssim"].to_dict("records")
    expected = [part for row in ssim for part in ([row["low"], row["high"]], [row["difference"]])]
    assert all(np.allclose(one, other) for one, other in zip(drawn, expected, strict=True))
    assert all(math.isfinite(end) for line in drawn for end in line)
    meanings = [text.get_text() for text in figure.legends[0].get_texts()]
    assert meanings == ["better (p < 0.05, Holm)", "no difference shown", "not tested: one seed"]


@pytest.fixture
def study(fabricate, rng):
    """Three rows of a study: fusion helps, multi-scale does not."""
    components = {"base": {"scale": "single", "fusion": "concat"}, "+ fusion": {"scale": "single"}, "+ multi-scale": {}}
    ssim = {title: 0.4 + 0.1 * (title != "base") + 0.01 * rng.standard_normal(40) for title in components}
    return [(title, scored(fabricate, {"ssim": ssim[title]}, 0, 10, **components[title]).name) for title in components]


def test_first_sentences_of_a_study_say_which_component_helps_and_which_does_not(fabricate, study):
    list_study(fabricate.folder, "components", study)
    (fabricate.folder / "studies" / "broken.json").write_text("[{]")
    records = load_records(fabricate.folder)
    (rows,) = read_studies(fabricate.folder).values()
    told = sentences(effects(cumulative_contrasts(rows, records)))
    assert re.fullmatch(r"Fusion improves SSIM by 0\.[01]\d+\.", told[0])
    assert told[1] == "No difference is shown for multi-scale." and not unfinished(rows, records)
    alone = " ".join(sentences(effects(contrasts_of(records))))
    assert "fusion=dense instead of fusion=concat (with scale=single) improves SSIM" in alone


def test_alternative_rows_are_told_by_their_titles_in_quotation_marks(fabricate):
    means = {"a, b": ("multi", 0.5), "+ more": ("single", 0.4), "another": ("none", 0.3)}
    rows = [
        (title, scored(fabricate, {"ssim": np.full(40, ssim)}, 0, 10, scale=scale).name)
        for title, (scale, ssim) in means.items()
    ]
    found = effects(cumulative_contrasts(rows, load_records(fabricate.folder)))
    assert sentences(found)[:2] == [
        "More worsens SSIM by 0.100.",
        "“another” instead of “+ more” worsens SSIM by 0.100.",
    ]


def test_rows_that_are_not_done_are_named_with_their_state(fabricate, study):
    failed = fabricate.run("failed", "xinggan blocks=1", state="failed")
    unscored = fabricate.run("unscored", "xinggan blocks=2", metrics=None)
    running = fabricate.run("running", "xinggan blocks=3", state="running")
    further = {"+ a": failed.name, "+ b": unscored.name, "+ c": running.name}
    rows = [*study, *further.items(), ("+ d", "gone-0"), ("+ e", "gone-1")]
    assert unfinished(rows, load_records(fabricate.folder)) == [
        "+ a: failed at step 120 of 400: FloatingPointError: <b>loss</b> is nan",
        "+ b: finished, but not scored",
        "+ c: running at step 120 of 400",
        "+ d; + e: never ran",
    ]
    selected = load_records(fabricate.folder, [run for _, run in study[:2]])
    assert unfinished(study, selected) == ["+ multi-scale: finished, but not among the runs selected for this report"]


def test_rows_without_a_run_are_named_once_with_their_seeds(fabricate):
    run = fabricate.run()
    rows = [(f"{title} seed={seed} losses.l1=1", f"x-{seed}") for seed in (1, 2) for title in ("a", "b")]
    told = unfinished([("a seed=0 losses.l1=1", run.name), *rows, ("c", "c-0")], load_records(fabricate.folder))
    assert told == ["a seed=1,2 losses.l1=1; b seed=1,2 losses.l1=1; c: never ran"]
