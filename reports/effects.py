"""What each component of a method brings: contrasts of runs that differ in one thing, their effects and their costs.

A contrast is a row of a cumulative ablation against the row before it, or a model against its like with exactly one
setting changed, whatever study the runs belong to. An effect is the difference of the first side to the second under
one metric, so a difference towards better values is a gain. All contrasts of one call are one study: the tests of a
metric are corrected together (Holm).
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import pandas

from ablations.record import SAME_RESULT, without_seed
from reports.formats import DASH, as_text, count, decimals_for, interval, joined, number, p_text, signed
from reports.records import Record, Records
from reports.settings import OF_THE_SEED, Rows
from reports.speed import latencies
from reports.timing import training_speed
from xinggan.metrics import catalogue

ADDS = "+"  # how the title of a row begins that adds something to the row before it
SHOWN = ("better", "worse")  # the verdicts that a test stands behind
SETTING = r"[\w.]+=|without "  # how `_word` begins, which names a setting as on a command line
BUDGET = ("budget", "amount", "precision", "compile")  # beside the keys of training


@dataclass(frozen=True, eq=False)
class Contrast:
    """Runs that have something, and runs that have something else in its place; seeds aside, nothing else differs."""

    what: str
    instead_of: str
    runs: Sequence[Record]
    others: Sequence[Record]

    @property
    def title(self) -> str:
        """A component that is added needs no opponent's name."""
        return self.what if self.what.startswith(ADDS) else f"{self.what} instead of {self.instead_of}"


# Contrasts of a cumulative ablation.


def is_cumulative(rows: Rows) -> bool:
    return any(title.startswith(ADDS) for title, _ in rows)


def cumulative_contrasts(rows: Rows, records: Records) -> list[Contrast]:
    """Each row of a study that adds something against the row before it.

    The rows before the first such row are alternatives of one another: the last of them, to which the others add, is
    compared with each of the rest. Rows after the last such row are alternatives of that one. Rows of each value that
    the study goes through (`losses.l1=10`) are taken by themselves, and runs that are not among the records take no
    part.
    """
    there = {record.run: record for record in records.methods}
    by_title: dict[str, list[Record]] = {}
    for title, run in rows:
        by_title.setdefault(without_seed(title), []).extend([there[run]] if run in there else [])
    sequences: dict[str, list[str]] = {}
    for title in by_title:
        sequences.setdefault(re.sub(r"^.*?((?: [\w.]+=\S+)*)$", r"\1", title), []).append(title)
    return [
        Contrast(title, other, _one_a_seed(by_title[title]), _one_a_seed(by_title[other]))
        for titles in sequences.values()
        for title, other in _steps(titles)
        if by_title[title] and by_title[other]
    ]


def _steps(titles: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of rows of one cumulative ablation that are compared."""
    blocks = [(adds, list(block)) for adds, block in groupby(titles, key=lambda title: title.startswith(ADDS))]
    pairs: list[tuple[str, str]] = []
    for (_, before), (adds, block) in pairwise([(False, []), *blocks]):
        if adds:
            pairs += [(before[-1], other) for other in before[:-1]]
            pairs += [(later, earlier) for earlier, later in pairwise([*before[-1:], *block])]
    if len(blocks) > 1 and not blocks[-1][0]:
        pairs += [(alternative, blocks[-2][1][-1]) for alternative in blocks[-1][1]]
    return pairs


def unfinished(rows: Rows, records: Records) -> list[str]:
    """What became of each row of a study without a finished and scored run among the records; equal states together."""
    selected = {record.run: record for record in records}
    found: dict[str, list[str]] = {}
    for title, run in rows:
        directory = records[0].directory.parent / run  # runs that were not selected lie where the others do
        record = selected.get(run) or (Record(directory) if directory.is_dir() else None)
        if record is None:
            state = "never ran"
        elif record.state != "finished":
            state = record.state_sentence
        elif run not in selected:
            state = "finished, but not among the runs selected for this report"
        elif not record.is_timing_only and not record.is_scored:
            state = "finished, but not scored"
        else:
            continue
        found.setdefault(state, []).append(title)
    return [f"{'; '.join(_with_seeds(titles))}: {state}" for state, titles in found.items()]


def _with_seeds(titles: Iterable[str]) -> list[str]:
    """Rows that differ in their seed alone as one: `+ multi-scale seed=1,2`."""
    seeds: dict[tuple[str, str], list[str]] = {}
    for title in titles:
        before, found, after = title.partition(" seed=")
        seed, space, rest = after.partition(" ")
        seeds.setdefault((before, space + rest), []).append(found + seed)
    return [
        before + of_all[0] + "".join(f",{seed.removeprefix(' seed=')}" for seed in of_all[1:]) + rest
        for (before, rest), of_all in seeds.items()
    ]


# Contrasts of one setting.


def one_setting_contrasts(records: Iterable[Record]) -> dict[str, list[Contrast]]:
    """Models that differ in exactly one setting of the method, by method, data set and training budget.

    A model is the runs of one configuration of a method, which differ in nothing but their seeds. Of each setting, the
    models nearest to the full one (those with the fewest settings changed) against their like with that one setting
    changed.
    """
    families: dict[tuple, list[Record]] = {}
    for record in records:
        if record.is_scored and not record.is_reference:
            families.setdefault(_circumstances(record), []).append(record)
    found: dict[str, list[Contrast]] = {}
    for members in families.values():
        keys = dict.fromkeys(key for record in members for key in _settings(record))
        if contrasts := [contrast for key in keys for contrast in _contrasts_of(key, members)]:
            first = members[0]
            heading = f"{first.method} on {first.dataset}"
            if (steps := first.facts.get("training.steps")) is not None:
                heading += f", {count(steps)} steps of {first.facts.get('training.batch')} pairs"
            alike = sum(taken.startswith(heading) for taken in found)
            found[f"{heading} ({alike + 1})" if alike else heading] = contrasts
    return found


def _circumstances(record: Record) -> tuple:
    """The method, the data set and the training budget."""
    facts = record.facts
    training = {k: v for k, v in facts.items() if k.startswith("training.") and k.split(".")[-1] not in SAME_RESULT}
    own = [facts.get(key) for key in ("method._target_", "dataset", "dataset_digest", "training", *BUDGET)]
    return (*own, *sorted(training.items()))


def _settings(record: Record) -> dict[str, Any]:
    """The method's settings by dotted key, which begins with `method.`."""
    return {k: v for k, v in record.facts.items() if k.startswith("method.") and k not in OF_THE_SEED}


def _contrasts_of(key: str, records: Sequence[Record]) -> list[Contrast]:
    """Of the models that differ in this setting only, the fullest against each other one, nearest to the full model."""
    alike: dict[frozenset, dict[Any, list[Record]]] = {}  # all other settings -> this one's values -> runs
    for record in records:
        rest = _settings(record)
        value = rest.pop(key, "not a setting")
        alike.setdefault(frozenset(rest.items()), {}).setdefault(value, []).append(record)
    groups = [sorted(models.values(), key=lambda model: len(_changes(model[0]))) for models in alike.values()]
    groups = [models for models in groups if len(models) > 1]
    nearest = min((len(_changes(fullest[0])) for fullest, *_ in groups), default=0)
    found = []
    for fullest, *others in groups:
        for other in others if len(_changes(fullest[0])) == nearest else ():
            what, opponent = _word(fullest[0], key), _word(other[0], key)
            also = [word for word in _changes(fullest[0]) if word not in (what, opponent)]
            opponent += f" (with {' '.join(also)})" if also else ""
            found.append(Contrast(what, opponent, _one_a_seed(fullest), _one_a_seed(other)))
    return found


def _one_a_seed(runs: Iterable[Record]) -> list[Record]:
    """The run of each training seed that has the most values: scored anew in other ways, one training is two runs."""
    fullest: dict[Any, Record] = {}
    for run in runs:
        other = fullest.setdefault(run.facts.get("seed"), run)
        if _scored(run) > _scored(other):
            fullest[run.facts.get("seed")] = run
    return [*fullest.values()]


def _scored(run: Record) -> int:
    return sum(row.value is not None for row in run.measurements)


def _changes(record: Record) -> list[str]:
    """What is not as the method's preset says, such as `scale=single`; nothing for the full model."""
    return [word for word in record.name.split() if "=" in word]


def _word(record: Record, key: str) -> str:
    """A setting as on a command line: `scale=single` for `method.architecture.scale`."""
    facts, parts = record.facts, key.split(".")
    if key not in facts:
        return f"without {key.removeprefix('method.')}"
    endings = (".".join(parts[place:]) for place in range(len(parts) - 1, -1, -1))
    short = next(end for end in endings if end in facts and facts[end] == facts[key])
    return f"{short.removeprefix('method.')}={as_text(facts[key])}".replace(", ", ",")


# Effects and costs.


def effects(contrasts: Sequence[Contrast]) -> pandas.DataFrame:
    """A row for each main metric and contrast whose two sides have a value of it.

    with, instead_of, title, metric, runs and others (with a value), and DIFFERENCE_COLUMNS of reports.comparison; the
    verdict is `better`, `worse`, `not shown` or `not tested`. Values are of the protocol that most of the runs have.
    """
    records, frames = runs_of(contrasts), []
    for metric in records.main_metrics():
        values = records.metric(metric).under_usual_protocol()
        scored, rows, sides = set(values.scored["run"]), [], []
        for contrast in contrasts:
            own, others = ([run.run for run in side if run.run in scored] for side in (contrast.runs, contrast.others))
            if own and others:
                rows.append((contrast.what, contrast.instead_of, contrast.title, metric, len(own), len(others)))
                sides.append((own, others))
        if sides:
            named = pandas.DataFrame(rows, columns=["with", "instead_of", "title", "metric", "runs", "others"])
            frames.append(pandas.concat([named, values.differences(sides)], axis=1))
    if not frames:
        return pandas.DataFrame()
    found = pandas.concat(frames, ignore_index=True)
    return found.assign(verdict=found["verdict"].where(found["p_holm"].notna(), "not tested"))


def runs_of(contrasts: Sequence[Contrast]) -> Records:
    every = (record for contrast in contrasts for record in (*contrast.runs, *contrast.others))
    return Records({record.directory: record for record in every}.values())


def costs(records: Records) -> pandas.DataFrame:
    """A row a run, by its directory's name: parameters, training images/s, latency [ms]; NaN where not recorded.

    Speeds and latencies are those of the machine that most of the runs ran on.
    """
    taken, machines = latencies(records.timings), [record.machine for record in records]
    usual = max(machines, key=machines.count, default="")
    speeds = {record.run: training_speed(record) for record in records if record.machine == usual}
    rows = [(record.timing.get("parameters"), speeds.get(record.run), taken.get(record.run)) for record in records]
    heads = ["parameters", "training images/s", "latency [ms]"]
    return pandas.DataFrame(rows, [record.run for record in records], heads, dtype=float)


# Effects as tables and sentences.


def summary(contrasts: Sequence[Contrast], found: pandas.DataFrame) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """A row a contrast with its difference under each metric and what it costs, as text; and which cells are bold.

    A cost is the difference between the medians of the two sides (of an even number of runs, the upper one).
    """
    rows = [f"{contrast.what}\ninstead of {contrast.instead_of}" for contrast in contrasts]
    table, bold = pandas.DataFrame({"with": rows}), pandas.DataFrame({"with": False}, rows)
    for metric, own in found.groupby("metric", sort=False):
        head, own = catalogue.heading(str(metric)), own.set_index(own["with"] + "\ninstead of " + own["instead_of"])
        verdicts = own["verdict"].replace("not shown", "no difference shown")
        texts = ["\n".join(filter(None, cell)) for cell in zip(*_differences(own), verdicts, strict=True)]
        table[head] = pandas.Series(texts, own.index).reindex(rows, fill_value=DASH).to_numpy()
        bold[head] = own["verdict"].isin(SHOWN).reindex(rows, fill_value=False)
    cost = costs(runs_of(contrasts))
    for head in cost:
        sides = [[cost.loc[[run.run for run in side], head] for side in (c.runs, c.others)] for c in contrasts]
        medians = [[side.quantile(interpolation="higher") for side in pair] for pair in sides]
        table[head] = [_change(own, other, count if head == "parameters" else number) for own, other in medians]
        bold[head] = False
    return table, bold.reset_index(drop=True)


def evidence_table(found: pandas.DataFrame, metric: str) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Everything behind the effects under one metric, a row a contrast, as text; and which cells are bold."""
    own = found[found["metric"] == metric].reset_index(drop=True)
    differences, intervals = _differences(own)
    people = own["over"].str.startswith("identities").map({True: " people", False: " runs"})
    table = pandas.DataFrame(
        {
            "with": own["with"] + "\ninstead of " + own["instead_of"],
            "difference": differences,
            "95 % interval": [text or DASH for text in intervals],
            "n": own["n"].astype(str) + people,
            "seeds": own["seeds"],
            "probability that a run is better": _shares(own, "better_runs", ".2f"),
            "pairs on which it is better": _shares(own, "better_pairs", ".0%"),
            "test": own["p_holm"].map(p_text),
        }
    )
    return table, pandas.DataFrame(False, table.index, table.columns).assign(difference=own["verdict"].isin(SHOWN))


def _differences(own: pandas.DataFrame) -> tuple[list[str], list[str]]:
    """Texts of the differences under one metric, and of their intervals, "" where there is none."""
    numbers = own[["difference", "low", "high"]]
    form = f"+z.{decimals_for(float(numbers.abs().max(axis=None)))}f"
    differences = [signed(f"{difference:{form}}") for difference in own["difference"]]
    return differences, [signed(interval(low, high, form)) for _, low, high in numbers.to_numpy()]


def _shares(own: pandas.DataFrame, name: str, form: str) -> list[str]:
    """Texts of a share with its interval; a dash with one seed, or without values by pair."""
    shares = own[[name, f"{name}_low", f"{name}_high"]].to_numpy()
    texts = [f"{share:{form}} {interval(low, high, form)}".strip() for share, low, high in shares]
    return [text if math.isfinite(share) else DASH for text, (share, _, _) in zip(texts, shares, strict=True)]


def _change(own: float, other: float, text: Callable[[float], str]) -> str:
    """`+3.1` and below it `+12.0 %` of what the other side costs."""
    change = own - other
    if not math.isfinite(change):
        return DASH
    if not change:
        return "same"
    relative = f"\n{100 * change / other:+.1f} %" if other else ""
    return signed(f"{'-' if change < 0 else '+'}{text(abs(change))}{relative}")


def sentences(found: pandas.DataFrame) -> list[str]:
    """What improves which metric, what worsens which, what shows no difference, and whether seeds are counted."""
    told, named = [], {row.title: _in_words(row["with"], row["instead_of"]) for _, row in found.iterrows()}
    for verdict, verb in {"better": "improves", "worse": "worsens"}.items():
        for title, own in found[found["verdict"] == verdict].groupby("title", sort=False):
            changes = [f"{catalogue.title(row.metric)} by {number(abs(row.difference))}" for row in own.itertuples()]
            words = named[title] if re.match(SETTING, named[title]) else named[title][0].upper() + named[title][1:]
            told.append(f"{words} {verb} {joined(changes)}.")
    shown = found.loc[found["verdict"].isin(SHOWN), "title"]
    if silent := [words for title, words in named.items() if title not in set(shown)]:
        told.append(f"No difference is shown for {'; '.join(silent)}.")
    fewest = found[["runs", "others"]].min(axis=None)
    if fewest > 1:
        return [*told, f"Every model was trained with at least {fewest} seeds, whose variation the intervals include."]
    return [*told, "Where a side has one seed, this holds for these trainings only: another seed may turn it round."]


def _in_words(what: str, instead_of: str) -> str:
    """A contrast within a sentence: titles of rows stand in quotation marks, an added component and settings do not."""
    if what.startswith(ADDS):
        return what.removeprefix(ADDS).strip()
    return " instead of ".join(title if re.match(SETTING, title) else f"“{title}”" for title in (what, instead_of))
