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
from reports.records import Records
from reports.run_directory import Record

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
        for what, step, *sums in [*_explosion(record), *_not_finite(record), *_end(record)]:
            told = [count(step), count(record.status.get("steps")), *(sums or (DASH, DASH))]
            rows.append([record.title, what, *told])
    return pandas.DataFrame(rows, columns=COLUMNS)


def _end(record: Record) -> list[tuple[Any, ...]]:
    if record.state == "failed":
        error = str(record.status.get("error") or "").strip() or "the record does not say why"
        if diverged := _DIVERGED.search(error):
            step, name, value = diverged.groups()
            return [(f"diverged: {name} became {value}", int(step))]
        return [(f"failed: {error.splitlines()[-1]}", record.step)]
    return [(STOPPED[record.state], record.step)] if record.state in STOPPED else []


def _not_finite(record: Record) -> list[tuple[Any, ...]]:
    """The first value in the history that is no finite number."""
    history = Records([record]).history
    for row in history[history["entry"] == "losses"].itertuples():
        if not math.isfinite(row.value):
            return [(f"diverged: {row.name} became {row.value}", row.step)]
    return []


def _explosion(record: Record) -> list[tuple[Any, ...]]:
    """The first step where the sum of the losses exceeds EXPLODED times its running median, and the loss at fault."""
    history = Records([record]).history
    history = history[(history["entry"] == "losses") & ~history["name"].str.startswith("gradient_")]
    losses = history.pivot(index="step", columns="name", values="value").replace([math.inf, -math.inf], math.nan)
    losses = losses.fillna(0.0)  # [lines, losses]
    if losses.empty:
        return []
    at_work = losses != 0
    stage = (at_work != at_work.shift(fill_value=False)).any(axis=1).cumsum()
    for _, lines in losses.groupby(stage):
        total, usual = lines.sum(axis=1), lines.rolling(WINDOW, min_periods=FEWEST).median().shift(1)
        before = total.rolling(WINDOW, min_periods=FEWEST).median().shift(1)
        exploded = total[(before > 0) & (total > EXPLODED * before)]
        if len(exploded):
            step = exploded.index[0]
            largest = str((lines.loc[step] - usual.loc[step]).idxmax()).replace("_", " ")
            back = total.iloc[-FEWEST:].median() <= RECOVERED * before[step]
            told = f"exploded, most of it {largest}; {'came back' if back else 'did not come back'}"
            return [(told, int(step), number(float(total[step])), number(float(before[step])))]
    return []
