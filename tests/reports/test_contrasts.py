"""An ablation compares each row of a ladder with the row before it."""

from ablation_runs import recorded

from ablations.study import STUDIES
from reports.contrasts import ladder_steps
from reports.records import Records


def told(contrasts) -> list[tuple[str, str]]:
    return [(contrast.what, contrast.instead_of) for contrast in contrasts]


def study_of(titles: list[str], absent: tuple[str, ...] = ()) -> tuple[list[tuple[str, str]], Records]:
    """Rows of a study, and a record for each row that is not absent."""
    records = {title: recorded(scale=str(place)) for place, title in enumerate(titles)}
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
