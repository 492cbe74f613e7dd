"""Models that differ in exactly one setting of the method are found, and no others are compared."""

from itertools import combinations

import pytest
from ablation_runs import name, recorded
from hypothesis import given
from hypothesis import strategies as st

from reports.single_settings import one_at_a_time

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
    families = one_at_a_time(recorded(**switches) for switches in models)
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
    (contrasts,) = one_at_a_time(records).values()
    assert ("fusion=dense", "fusion=concat") in [(c.what, c.instead_of) for c in contrasts]
    assert ("scale=multi", "scale=single (with fusion=concat)") in [(c.what, c.instead_of) for c in contrasts]


@pytest.mark.parametrize(
    "other",
    [
        {"digest": "e2"},
        {"training": {"steps": 200}},
        {"measured": False},
    ],
)
def test_models_of_other_data_or_budgets_or_without_scores_are_not_compared(other):
    assert one_at_a_time([recorded(), recorded(scale="single", **other)]) == {}


def test_how_often_training_is_looked_at_and_seeds_do_not_part_models():
    records = [recorded(), recorded(seed=1), recorded(scale="single", training={"log_every": 5})]
    (contrasts,) = one_at_a_time(records).values()
    (contrast,) = contrasts
    assert len(contrast.runs) == 2 and contrast.runs[0].name == "xinggan"


def test_families_that_differ_in_the_data_have_headings_of_their_own():
    records = [recorded(digest=digest, scale=scale) for digest in ("d1", "e2") for scale in ("multi", "single")]
    headings = list(one_at_a_time(records))
    assert len(headings) == 2 and headings[1] == f"{headings[0]} (2)"
