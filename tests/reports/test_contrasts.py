"""An ablation compares each row of a ladder with the row before it, and models that differ in exactly one setting."""

from itertools import combinations
from pathlib import Path

import pytest
from ablation_runs import configuration, name
from hypothesis import given
from hypothesis import strategies as st

from ablations.study import STUDIES
from reports.contrasts import ladder_steps
from reports.record import Measurement, Record
from reports.records import Records
from reports.single_settings import one_at_a_time

CHOICES = {"scale": ("multi", "single"), "attention": ("enhanced", "plain", "none"), "fusion": ("dense", "concat")}
MODELS = st.fixed_dictionaries({key: st.sampled_from(choices) for key, choices in CHOICES.items()})


def model(seed=0, digest="d1", training=None, measured=True, **switches) -> Record:
    """A scored run in memory."""
    config = {"name": name(**switches), "seed": seed, **configuration(seed, **switches)}
    config["training"] = {"steps": 100, "batch": 8, "log_every": 10} | (training or {})
    label = "-".join([*map(str, switches.values()), str(seed), digest, *map(str, (training or {}).values())])
    record = Record(Path(f"runs/{label}"), config, {"state": "finished", "dataset_digest": digest})
    record.__dict__["measurements"] = [Measurement("ssim", 0.5, {"name": "clean"}, 10, None)] if measured else []
    return record


def told(contrasts) -> list[tuple[str, str]]:
    return [(contrast.what, contrast.instead_of) for contrast in contrasts]


def study_of(titles: list[str], absent: tuple[str, ...] = ()) -> tuple[list[tuple[str, str]], Records]:
    """Rows of a study, and a record for each row that is not absent."""
    records = {title: model(scale=str(place)) for place, title in enumerate(titles)}
    rows = [(title, record.run) for title, record in records.items()]
    return rows, Records(record for title, record in records.items() if title not in absent)


COMPONENTS = [title for title, _ in STUDIES["components"]]
CODES = "both branches, concatenated"


def test_each_row_of_the_component_ladder_stands_against_the_row_before_it():
    one_branch = [(CODES, "appearance branch only"), (CODES, "shape branch only")]
    expected = one_branch + list(zip(COMPONENTS[3:], COMPONENTS[2:], strict=False))
    assert told(ladder_steps(*study_of(COMPONENTS))) == expected and len(expected) == 6


def test_a_row_that_never_ran_takes_its_steps_with_it_and_none_is_bridged():
    rows, records = study_of(COMPONENTS, absent=("+ multi-scale",))
    steps = told(ladder_steps(rows, records))
    assert len(steps) == 4 and not any("+ multi-scale" in step for step in steps)
    assert not any(step[0] == "+ enhanced attention" for step in steps)


def test_a_study_over_several_values_has_a_ladder_for_each():
    titles = [f"{title} losses.l1={weight}" for weight in (10, 50) for title in ("L1", "+ shape", "+ perceptual")]
    steps = told(ladder_steps(*study_of([*titles, "copy_source"])))
    assert len(steps) == 4
    assert all(what.split()[-1] == instead_of.split()[-1] for what, instead_of in steps)


def test_seeds_of_a_row_are_one_side_of_its_step():
    rows, records = study_of(["base seed=0", "+ more seed=0", "base seed=1", "+ more seed=1"])
    (step,) = ladder_steps(rows, records)
    assert (step.what, step.instead_of, len(step.runs), len(step.others)) == ("+ more", "base", 2, 2)


def test_a_study_without_additions_is_no_ladder():
    assert ladder_steps(*study_of(["1 block", "2 blocks"])) == []
    assert ladder_steps(*study_of(["+ only"])) == [] and ladder_steps([], Records([])) == []


@given(st.lists(MODELS, max_size=8, unique_by=lambda switches: tuple(switches.values())))
def test_exactly_the_models_that_differ_in_one_setting_are_compared(models):
    """Against all pairs, looked at one by one."""
    apart: dict[str, set[frozenset]] = {}
    for one, other in combinations(models, 2):
        keys = [key for key in CHOICES if one[key] != other[key]]
        if len(keys) == 1:
            apart.setdefault(keys[0], set()).add(frozenset({name(**one), name(**other)}))
    families = one_at_a_time(model(**switches) for switches in models)
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
    records = [model(), model(fusion="concat"), model(scale="single", fusion="concat")]
    (contrasts,) = one_at_a_time(records).values()
    assert ("fusion=dense", "fusion=concat") in told(contrasts)
    assert ("scale=multi", "scale=single (with fusion=concat)") in told(contrasts)


@pytest.mark.parametrize(
    "other",
    [
        {"digest": "e2"},
        {"training": {"steps": 200}},
        {"measured": False},
    ],
)
def test_models_of_other_data_or_budgets_or_without_scores_are_not_compared(other):
    assert one_at_a_time([model(), model(scale="single", **other)]) == {}


def test_how_often_training_is_looked_at_and_seeds_do_not_part_models():
    records = [model(), model(seed=1), model(scale="single", training={"log_every": 5})]
    (contrasts,) = one_at_a_time(records).values()
    (contrast,) = contrasts
    assert len(contrast.runs) == 2 and contrast.runs[0].name == "xinggan"


def test_families_that_differ_in_the_data_have_headings_of_their_own():
    records = [model(digest=digest, scale=scale) for digest in ("d1", "e2") for scale in ("multi", "single")]
    headings = list(one_at_a_time(records))
    assert len(headings) == 2 and headings[1] == f"{headings[0]} (2)"
