"""What each component of a method brings: contrasts of runs that differ in one thing, their effects and their costs.

A contrast is a row of a cumulative ablation against the row before it, or a model against its like with exactly one
setting changed, whatever study the runs belong to. An effect is the difference of the first side to the second under
one metric, so a difference towards better values is a gain. All contrasts of one call are one study: the tests of a
metric are corrected together (Holm).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas

from ablations.record import SAME_RESULT
from reports.comparison import OF_THE_SEED, Group, tested_differences
from reports.formats import DASH, as_text, count, decimals_for, interval, is_number, joined, number, p_text, signed
from reports.records import Records, Rows, without_seed
from reports.run_directory import Record, read_record
from reports.timing import latencies, training_speed
from xinggan.metrics import catalogue

ADDS = "+"  # how the title of a row begins that adds something to the row before it
BUDGET = ("budget", "amount", "precision", "compile")  # beside the keys of training
COSTS = ("parameters", "training images/s", "latency [ms]")


@dataclass(frozen=True, eq=False)
class Contrast:
    """Runs that have something, and runs that have something else in its place; seeds aside, nothing else differs."""

    what: str
    instead_of: str
    runs: tuple[Record, ...]
    others: tuple[Record, ...]

    @property
    def title(self) -> str:
        """A component that is added needs no opponent's name."""
        return self.what if self.what.startswith(ADDS) else f"{self.what}, instead of {self.instead_of}"


# Contrasts of a cumulative ablation.


def is_cumulative(rows: Rows) -> bool:
    return any(title.startswith(ADDS) for title, _ in rows)


def cumulative_contrasts(rows: Rows, records: Records) -> list[Contrast]:
    """Each row of a study that adds something against the row before it.

    The rows before the first such row are alternatives of one another: the last of them, to which the others add, is
    compared with each of the rest. Runs that are not among the records take no part.
    """
    there = {record.run: record for record in records.methods}
    by_title: dict[str, list[Record]] = {}
    for title, run in rows:
        by_title.setdefault(without_seed(title), []).extend([there[run]] if run in there else [])
    sequences: list[list[str]] = []  # parted before each row that adds nothing although the row before it does
    for before, title in zip(["", *by_title], by_title, strict=False):
        if not sequences or (before.startswith(ADDS) and not title.startswith(ADDS)):
            sequences.append([])
        sequences[-1].append(title)
    pairs = []
    for sequence in sequences:
        base = max(0, sum(not title.startswith(ADDS) for title in sequence) - 1)
        if sequence[base + 1 :]:
            pairs += [(sequence[base], other) for other in sequence[:base]]
            pairs += list(zip(sequence[base + 1 :], sequence[base:], strict=False))
    return [
        Contrast(title, other, tuple(by_title[title]), tuple(by_title[other]))
        for title, other in pairs
        if by_title[title] and by_title[other]
    ]


def unfinished(rows: Rows, records: Records) -> list[str]:
    """What became of each row of a study without a finished and scored run among the records; equal states together."""
    found: dict[str, list[str]] = {}
    for title, run in rows:
        if state := _state(run, records):
            found.setdefault(state, []).append(title)
    return [f"{'; '.join(titles)}: {state}" for state, titles in found.items()]


def _state(run: str, records: Records) -> str | None:
    """None for a row that is done. Runs that were not selected for the report are looked up where the others lie."""
    record = next((record for record in records if record.run == run), None)
    selected = record is not None
    if record is None:
        directory = records[0].directory.parent / run
        if not run.strip(".") or directory.name != run or not directory.is_dir():  # a run lies in the runs' folder
            return "never ran"
        record = read_record(directory)
    if record.state != "finished":
        return record.state_sentence
    if not selected:
        return "finished, but not among the runs selected for this report"
    return None if record.is_timing_only or record.is_scored else "finished, but not scored"


# Contrasts of one setting.


@dataclass(frozen=True)
class Model:
    """Runs of one configuration of a method, which differ in nothing but their seeds."""

    settings: dict[str, Any]  # of the method, dotted keys without `method.`
    runs: tuple[Record, ...]

    @property
    def changes(self) -> list[str]:
        """What is not as the method's preset says, such as `scale=single`; nothing for the full model."""
        return [word for word in self.runs[0].name.split() if "=" in word]

    def word(self, key: str) -> str:
        """A setting as on a command line: `method.scale` is `scale=single`."""
        if key not in self.settings:
            return f"without {key}"
        facts, parts = self.runs[0].facts, f"method.{key}".split(".")
        endings = (".".join(parts[place:]) for place in range(len(parts) - 1, -1, -1))
        short = next((end for end in endings if end in facts and facts[end] == self.settings[key]), key)
        return f"{short.removeprefix('method.')}={as_text(self.settings[key])}".replace(", ", ",")


def one_setting_contrasts(records: Iterable[Record]) -> dict[str, list[Contrast]]:
    """Models that differ in exactly one setting of the method, by method, data set and training budget.

    Of each setting, the models nearest to the full one (those with the fewest settings changed) against their like with
    that one setting changed.
    """
    families: dict[tuple, list[Record]] = {}
    for record in records:
        if record.is_scored and not record.is_reference:
            families.setdefault(_circumstances(record), []).append(record)
    found: dict[str, list[Contrast]] = {}
    for members in families.values():
        models = _models(members)
        keys = dict.fromkeys(key for model in models for key in model.settings)
        if contrasts := [contrast for key in keys for contrast in _contrasts_of(key, models)]:
            heading = f"{members[0].method} on {members[0].dataset}"
            if (steps := members[0].facts.get("training.steps")) is not None:
                heading += f", {count(steps)} steps of {members[0].facts.get('training.batch')} pairs"
            alike = sum(taken.startswith(heading) for taken in found)
            found[f"{heading} ({alike + 1})" if alike else heading] = contrasts
    return found


def _circumstances(record: Record) -> tuple:
    """The method, the data set and the training budget."""
    facts = record.facts
    training = {k: v for k, v in facts.items() if k.startswith("training.") and k.split(".")[-1] not in SAME_RESULT}
    own = [facts.get("method._target_"), record.dataset, record.dataset_digest, facts.get("training")]
    return (*own, *sorted(training.items()), *((key, facts.get(key)) for key in BUDGET))


def _models(records: list[Record]) -> list[Model]:
    found: dict[frozenset, Model] = {}
    for record in records:
        settings = {
            key.removeprefix("method."): value
            for key, value in record.facts.items()
            if key.startswith("method.") and key not in OF_THE_SEED
        }
        same = frozenset(settings.items())
        found[same] = Model(settings, (*(found[same].runs if same in found else ()), record))
    return list(found.values())


def _contrasts_of(key: str, models: list[Model]) -> list[Contrast]:
    """Of the models that differ in this setting only, the fullest against each other one, nearest to the full model."""
    alike: dict[frozenset, list[Model]] = {}
    for model in models:
        alike.setdefault(frozenset((k, v) for k, v in model.settings.items() if k != key), []).append(model)
    groups = [sorted(group, key=lambda model: len(model.changes)) for group in alike.values() if len(group) > 1]
    nearest = min((len(group[0].changes) for group in groups), default=0)
    found = []
    for fullest, *others in groups:
        for other in others if len(fullest.changes) == nearest else ():
            also = [word for word in fullest.changes if word not in {fullest.word(key), other.word(key)}]
            opponent = f"{other.word(key)} (with {' '.join(also)})" if also else other.word(key)
            found.append(Contrast(fullest.word(key), opponent, fullest.runs, other.runs))
    return found


# Effects and costs.


def effects(contrasts: Sequence[Contrast]) -> pandas.DataFrame:
    """A row for each main metric and contrast whose two sides have a value of it.

    with, instead_of, title, metric, runs and others (with a value), and DIFFERENCE_COLUMNS of reports.comparison; the
    verdict is `better`, `worse`, `not shown` or `not tested`. Values are of the protocol that most of the runs have.
    """
    runs, rows = runs_of(contrasts), []
    for metric in runs.main_metrics():
        measured = {record.run: row for record, row in runs.metric(metric).found if row.value is not None}
        protocols = [row.protocol_key for row in measured.values()]
        usual = max(protocols, key=protocols.count)
        values = {run: row for run, row in measured.items() if row.protocol_key == usual}

        def side(records: Sequence[Record], values: dict = values) -> Group:
            return Group([(record, values[record.run]) for record in records if record.run in values])

        sides = [(contrast, side(contrast.runs), side(contrast.others)) for contrast in contrasts]
        there = [(contrast, own, other) for contrast, own, other in sides if own.values and other.values]
        found = tested_differences(metric, [(own, other) for _, own, other in there])
        for (contrast, own, other), row in zip(there, found, strict=True):
            named = {"with": contrast.what, "instead_of": contrast.instead_of, "title": contrast.title}
            rows.append(named | {"metric": metric, "runs": len(own.values), "others": len(other.values)} | row)
    frame = pandas.DataFrame(rows)
    return frame.assign(verdict=frame["verdict"].where(frame["p_holm"].notna(), "not tested")) if rows else frame


def runs_of(contrasts: Sequence[Contrast]) -> Records:
    every = (record for contrast in contrasts for record in (*contrast.runs, *contrast.others))
    return Records({record.directory: record for record in every}.values())


def costs(contrasts: Sequence[Contrast]) -> list[dict[str, tuple[float, float] | None]]:
    """What the two sides of each contrast cost (COSTS), each the median of its runs; None where it is not recorded."""
    taken = latencies(runs_of(contrasts).timings)
    sources: tuple[Callable[[Record], Any], ...] = (
        lambda record: record.timing.get("parameters"),
        training_speed,
        lambda record: taken.get(record.run),
    )

    def both(contrast: Contrast, cost: Callable[[Record], Any]) -> tuple[float, float] | None:
        sides = [sorted(v for v in map(cost, side) if is_number(v)) for side in (contrast.runs, contrast.others)]
        return (sides[0][len(sides[0]) // 2], sides[1][len(sides[1]) // 2]) if all(sides) else None

    return [{name: both(contrast, cost) for name, cost in zip(COSTS, sources, strict=True)} for contrast in contrasts]


# Effects as tables and sentences.


def summary(contrasts: Sequence[Contrast], found: pandas.DataFrame) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """A row a contrast with its difference under each metric and what it costs, as text; and which cells are bold."""
    metrics, rows, bold = list(found["metric"].unique()), [], []
    for contrast, cost in zip(contrasts, costs(contrasts), strict=True):
        own = found[(found["with"] == contrast.what) & (found["instead_of"] == contrast.instead_of)]
        row, shown = {"with": f"{contrast.what}\ninstead of {contrast.instead_of}"}, {"with": False}
        for metric in metrics:
            cell = next(own[own["metric"] == metric].itertuples(), None)
            row[catalogue.heading(metric)] = DASH if cell is None else _difference(cell, _decimals(found, metric))
            shown[catalogue.heading(metric)] = cell is not None and cell.verdict in ("better", "worse")
        rows.append(row | {name: _change(pair) for name, pair in cost.items()})
        bold.append(shown | dict.fromkeys(cost, False))
    return pandas.DataFrame(rows), pandas.DataFrame(bold)


def evidence_table(found: pandas.DataFrame, metric: str) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Everything behind the effects under one metric, a row a contrast, as text; and which cells are bold."""
    own, decimals = found[found["metric"] == metric], _decimals(found, metric)
    rows = [
        {
            "with": f"{row['with']}\ninstead of {row['instead_of']}",
            "difference": signed(f"{row['difference']:+z.{decimals}f}"),
            "95 % interval": signed(interval(row["low"], row["high"], f"+z.{decimals}f")) or DASH,
            "n": f"{row['n']} {'people' if row['over'].startswith('identities') else 'runs'}",
            "seeds": row["seeds"],
            "probability that a run is better": _share(row, "better_runs", ".2f"),
            "pairs on which it is better": _share(row, "better_pairs", ".0%"),
            "test": p_text(row["p_holm"]),
        }
        for row in own.to_dict("records")
    ]
    table = pandas.DataFrame(rows)
    shown = own["verdict"].isin(["better", "worse"]).tolist()
    return table, pandas.DataFrame({head: shown if head == "difference" else False for head in table})


def _decimals(found: pandas.DataFrame, metric: str) -> int:
    numbers = found.loc[found["metric"] == metric, ["difference", "low", "high"]]
    return decimals_for(float(numbers.abs().max(axis=None)))


def _difference(effect: Any, decimals: int) -> str:
    verdict = "no difference shown" if effect.verdict == "not shown" else effect.verdict
    between = signed(interval(effect.low, effect.high, f"+z.{decimals}f"))
    return "\n".join(filter(None, [signed(f"{effect.difference:+z.{decimals}f}"), between, verdict]))


def _change(pair: tuple[float, float] | None) -> str:
    """`+3.1` and below it `+12.0 %` of what the other side costs."""
    if pair is None:
        return DASH
    change = pair[0] - pair[1]
    if not change:
        return "same"
    told = f"{abs(change):,}" if isinstance(change, int) else number(abs(change))
    relative = f"\n{100 * change / pair[1]:+.1f} %" if pair[1] else ""
    return signed(f"{'-' if change < 0 else '+'}{told}{relative}")


def _share(row: dict[Any, Any], name: str, form: str) -> str:
    if not math.isfinite(row[name]):  # one seed, or no values by pair
        return DASH
    return f"{row[name]:{form}} {interval(row[f'{name}_low'], row[f'{name}_high'], form)}".strip()


def sentences(found: pandas.DataFrame) -> list[str]:
    """What improves which metric, what worsens which, what shows no difference, and for what that holds."""
    metrics = [catalogue.title(metric) for metric in found["metric"].unique()]
    told = [_changing("improves", found, "better") or f"Nothing here is shown to improve {joined(metrics, 'or')}."]
    told.append(_changing("worsens", found, "worse"))
    silent = found.groupby(["with", "instead_of"], sort=False).filter(
        lambda own: set(own["verdict"]) <= {"not shown", "not tested"}
    )
    was_tested = silent.groupby(["with", "instead_of"], sort=False)["p_holm"].transform("count") > 0
    for says, rows in {"No difference is shown for": silent[was_tested], "Not tested:": silent[~was_tested]}.items():
        told.append(f"{says} {joined(contrast_names(rows))}." if len(rows) else "")
    return [sentence for sentence in [*told, *_scope(found)] if sentence]


def _changing(verb: str, found: pandas.DataFrame, verdict: str) -> str:
    told = []
    for _, own in found[found["verdict"] == verdict].groupby(["with", "instead_of"], sort=False):
        changes = [f"{catalogue.title(row.metric)} by {number(abs(row.difference))}" for row in own.itertuples()]
        told.append(f"{contrast_names(own)[0]} {verb} {joined(changes)}")
    return f"{'; '.join(told)}." if told else ""


def _scope(found: pandas.DataFrame) -> list[str]:
    """For what the effects hold: a trained network is one draw of its seed."""
    fewest = found[["runs", "others"]].min(axis=1)
    single, told = found[fewest == 1], []
    if len(single) == len(found):
        told.append("One seed: this holds for these trainings only, another seed may turn it round.")
    elif len(single):
        told.append(f"One seed: {joined(contrast_names(single))} holds for these trainings only.")
    else:
        told.append(f"Every model was trained with {fewest.min()} seeds or more, and the intervals count them.")
    people = found.loc[found["over"].str.startswith("identities"), "n"]
    if len(people):
        told.append(f"The intervals of single images are over {people.max()} people of the test set.")
    if whole := [catalogue.title(metric) for metric in single.loc[single["p_holm"].isna(), "metric"].unique()]:
        told.append(f"{joined(whole)} cannot be tested with one seed.")
    return told


def contrast_names(found: pandas.DataFrame) -> list[str]:
    """`+ multi-scale`, or `blocks=4 instead of blocks=1 or blocks=2`: what has several opponents is named once."""
    named = found.drop_duplicates(["with", "instead_of"]).groupby("with", sort=False)["instead_of"]
    return [
        str(what) if str(what).startswith(ADDS) else f"{what} instead of {joined(list(others), 'or')}"
        for what, others in named
    ]
