"""Ablation: which component helps, by how much, how sure that is, and what it costs."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from reports import effect_answer, effect_tables, measures
from reports.contrasts import Contrast, is_ladder, ladder_steps
from reports.effect_figures import forest
from reports.effects import costs, effects, runs_of
from reports.embedded import figure, kept_table
from reports.markup import Shown, details, join, listing, paragraph
from reports.records import Records
from reports.single_settings import one_at_a_time
from reports.studies import Rows, read_studies
from reports.study_states import has_part_in, unfinished
from xinggan.files import write_atomically

NO_LADDER = (
    "None of these runs belongs to a study that adds one component after another; this trains one: "
    "python -m ablations.study components seed=0,1,2"
)
NO_PAIR = (
    "No two of these models differ in exactly one setting; this trains two that do, three times each: "
    "python -m ablations.run -m scale=multi,single seed=0,1,2"
)
NO_STEP = "No two rows that follow one another have been scored yet."
NO_VALUE = "The two sides of these comparisons have no metric in common yet."
COSTS_SAID = "Costs are differences between medians of what the runs recorded, without a test."
FOREST_SAID = "Differences with 95 % intervals: on the better side of zero, what is named first helps."


def cumulative(records: Records, output: Path | str) -> Shown:
    """Of each study what is unfinished, and of each ladder what every row adds to the row before it."""
    found = {study: rows for study, rows in _studies(records).items() if has_part_in(rows, records)}
    parts: list[Markup] = []
    for number, (study, rows) in enumerate(found.items(), start=1):
        parts += [Markup("<h3>Study {}</h3>").format(study), *_states(rows, records)]
        parts += (
            _steps(rows, records, Path(output), f"ablation-{number}") if is_ladder(rows) else [_apart(rows, records)]
        )
    if not any(map(is_ladder, found.values())):
        parts.append(paragraph(NO_LADDER, "none"))
    return Shown(join(parts))


def single_settings(records: Records, output: Path | str) -> Shown:
    """Models that differ in one setting, across all studies and single runs, by method, data set and budget."""
    parts: list[Markup] = []
    for number, (heading, contrasts) in enumerate(one_at_a_time(records).items(), start=1):
        parts.append(Markup("<h3>{}</h3>").format(heading))
        parts += _compared(contrasts, Path(output), f"single-settings-{number}", f"One setting changed: {heading}")
    return Shown(join(parts) or paragraph(NO_PAIR, "none"))


def _studies(records: Records) -> dict[str, Rows]:
    return read_studies(records[0].directory.parent)


def _states(rows: Rows, records: Records) -> list[Markup]:
    missing = unfinished(rows, records)
    if not missing:
        return []
    told = f"Not all of the {len(rows)} rows are here; the same command again runs what is not finished:"
    return [paragraph(told), listing(missing, "warning")]


def _apart(rows: Rows, records: Records) -> Markup:
    """Where a study that is no ladder is compared."""
    runs = {run for _, run in rows}
    if len({record.method for record in records.methods if record.run in runs}) > 1:
        return paragraph(Markup('Its rows are different methods: <a href="quality.html">Quality</a> compares them.'))
    return paragraph("Its rows do not add to one another: the next chapter compares those that differ in one setting.")


def _steps(rows: Rows, records: Records, output: Path, name: str) -> list[Markup]:
    parts: list[Markup] = []
    for number, (heading, group) in enumerate(records.by_dataset().items(), start=1):
        if contrasts := ladder_steps(rows, group):
            parts += _compared(contrasts, output, f"{name}-{number}", f"What each step brings on {heading}")
    return parts or [paragraph(NO_STEP, "none")]


def _compared(contrasts: Sequence[Contrast], output: Path, name: str, caption: str) -> list[Markup]:
    """The answer in words, the forest plot, the table with costs, and everything behind it to unfold."""
    found = effects(contrasts)
    if not found:
        return [paragraph(NO_VALUE, "none")]
    drawn = figure(lambda _, inches: forest(found, inches), runs_of(contrasts), output, name, FOREST_SAID)
    heads, rows = effect_tables.summary(contrasts, found, costs(contrasts))
    behind = [
        kept_table(
            output, f"{name}-{metric}", effect_tables.TEST_HEADS, tests, f"{measures.heading(metric)}: {caption}"
        )
        for metric, tests in effect_tables.tests_by_metric(found).items()
    ]
    write_atomically(output / "tables" / f"{name}-effects.csv", effect_tables.effect_frame(found).to_csv(index=False))
    unrounded = Markup('<p class="files">Unrounded: <a href="tables/{}-effects.csv">CSV</a></p>').format(name)
    return [
        listing(effect_answer.sentences(found), "answer"),
        drawn,
        kept_table(output, name, heads, rows, caption, kind="numbers close"),
        paragraph(COSTS_SAID, "dataset"),
        details(f"Intervals, people, seeds and tests of {len(found)} differences", join([*behind, unrounded])),
    ]
