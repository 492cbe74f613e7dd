"""Trainings that diverged or stopped: which run, in what step, and what happened.

A training has diverged where a loss or gradient norm is not finite (the trainer then stops with `Divergence`), and has
exploded where the sum of its losses rises above EXPLODED times its own running median. A training in stages is taken
stage by stage: where losses begin or end, their sum is another one.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import pandas

from reports.formats import DASH, count, number
from reports.records import Record, Records

EXPLODED = 5.0  # times the running median
WINDOW, FEWEST = 10, 3  # lines of the history that the running median is over, and that there must be
RECOVERED = 2.0  # times the running median before: below it at the end, the training has come back
COLUMNS = ["run", "what happened", "step", "of steps", "sum of losses", "running median before"]
STOPPED = {
    "preempted": "stopped when asked to; the same command continues",
    "running": "not finished: still running, or killed; the same command continues",
    "unknown": "not finished: the record does not say why",
}
_DIVERGED = re.compile(r"Divergence: step (\d+): (\S+) is (\S+?)\.")


def trained(records: Sequence[Record]) -> list[Record]:
    """Runs that train: trivial references and timed ones do not."""
    own = (record for record in records if record.config.get("training") and not record.is_timing_only)
    return [record for record in own if record.history or not record.is_reference]


def divergence_table(records: Sequence[Record]) -> pandas.DataFrame:
    """COLUMNS as text, a row for each event of a training: explosion, then what is not finite, then its end."""
    rows = []
    for record in trained(records):
        losses = Records([record]).history.query("entry == 'losses'")
        for what, step, *sums in [*_explosion(losses), *_not_finite(losses), *_end(record)]:
            rows.append([record.title, what, count(step), count(record.status.get("steps")), *(sums or (DASH, DASH))])
    return pandas.DataFrame(rows, columns=COLUMNS)


def _end(record: Record) -> list[tuple[Any, ...]]:
    if record.state != "failed":
        return [(STOPPED[record.state], record.step)] if record.state in STOPPED else []
    error = str(record.status.get("error") or "").strip() or "the record does not say why"
    if diverged := _DIVERGED.search(error):
        step, name, value = diverged.groups()
        return [(f"diverged: {name} became {value}", int(step))]
    return [(f"failed: {error.splitlines()[-1]}", record.step)]


def _not_finite(losses: pandas.DataFrame) -> list[tuple[Any, ...]]:
    """The first value in the history that is no finite number."""
    rows = losses[~losses["value"].map(math.isfinite).astype(bool)].head(1)
    return [(f"diverged: {row.name} became {row.value}", row.step) for row in rows.itertuples(index=False)]


def _explosion(losses: pandas.DataFrame) -> list[tuple[Any, ...]]:
    """The first step where the sum of the losses exceeds EXPLODED times its running median, and the loss at fault."""
    losses = losses[~losses["name"].str.startswith("gradient_").astype(bool)]
    lines = losses.pivot(index="step", columns="name", values="value").replace([math.inf, -math.inf], math.nan)
    lines = lines.fillna(0.0)  # [lines, losses]
    at_work = lines != 0
    stages = (at_work != at_work.shift(fill_value=False)).any(axis=1).cumsum()
    for _, stage in lines.groupby(stages):
        total, usual = stage.sum(axis=1), stage.rolling(WINDOW, min_periods=FEWEST).median().shift(1)
        before = total.rolling(WINDOW, min_periods=FEWEST).median().shift(1)
        exploded = total[(before > 0) & (total > EXPLODED * before)]
        if len(exploded):
            step = exploded.index[0]
            largest = str((stage.loc[step] - usual.loc[step]).idxmax()).replace("_", " ")
            back = "came back" if total.iloc[-FEWEST:].median() <= RECOVERED * before[step] else "did not come back"
            sums = number(float(total[step])), number(float(before[step]))
            return [(f"exploded, most of it {largest}; {back}", int(step), *sums)]
    return []
