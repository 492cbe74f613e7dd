"""Trainings that came apart or stopped: which run, in what step, and what happened.

A training is apart where a loss or gradient norm is not finite (the trainer then stops with `Divergence`), and has
exploded where the sum of its losses rises above EXPLODED times its own running median. A training in stages is judged
stage by stage: where losses begin or end, their sum is another one.
"""

import math
import re
from typing import Any

import pandas

from reports.figures import is_gradient, series
from reports.record import Record
from reports.records import Records
from reports.timing import count, number

HEADS = ("run", "what happened", "step", "of steps", "sum of losses", "running median before")
EXPLODED = 5.0  # times the running median
WINDOW, FEWEST = 10, 3  # lines of the history that the running median is over, and that there must be
RECOVERED = 2.0  # times the running median before: below it at the end, the training has come back
_DIVERGED = re.compile(r"Divergence: step (\d+): (\S+) is (\S+?)\.")
STOPPED = {
    "preempted": "stopped when asked to; the same command continues",
    "running": "not finished: still running, or killed; the same command continues",
    "unknown": "not finished: the record does not say why",
}


def divergence_rows(records: Records) -> list[list[str]]:
    """Cells under HEADS, a row for each event of a training: explosion, then what is not finite, then its end."""
    titles = records.titles()
    rows = []
    for record in trained(records):
        steps = count(record.status.get("steps"))
        events = [*_explosion(record), *_not_finite(record), *_end(record)]
        rows += [[titles[record.run], what, count(step), steps, *more] for what, step, *more in events]
    return rows


def trained(records: Records) -> Records:
    """Runs that train: trivial references and timed ones do not."""
    own = (record for record in records if record.config.get("training") and not record.is_timing_only)
    return Records((record for record in own if record.history or not record.is_reference), records.whole)


def _end(record: Record) -> list[tuple[Any, ...]]:
    if record.state == "failed":
        error = str(record.status.get("error") or "").strip() or "the record does not say why"
        if diverged := _DIVERGED.search(error):
            step, name, value = diverged.groups()
            return [(f"came apart: {name} became {value}", int(step), "–", "–")]
        return [(f"failed: {error.splitlines()[-1]}", record.step, "–", "–")]
    return [(STOPPED[record.state], record.step, "–", "–")] if record.state in STOPPED else []


def _not_finite(record: Record) -> list[tuple[Any, ...]]:
    """The first value in the history that is no finite number."""
    for row in record.history:
        losses = row.get("losses")
        for name, value in losses.items() if isinstance(losses, dict) else ():
            if isinstance(value, float) and not math.isfinite(value):
                return [(f"came apart: {name} became {value}", row["step"], "–", "–")]
    return []


def _explosion(record: Record) -> list[tuple[Any, ...]]:
    """The first step where the sum of the losses exceeds EXPLODED times its running median, and the loss at fault."""
    curves = {name: curve for (_, name), curve in series(Records([record]), "losses").items() if not is_gradient(name)}
    losses = pandas.DataFrame(curves).sort_index().fillna(0.0)  # [lines, losses]
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
            blamed = str((lines.loc[step] - usual.loc[step]).idxmax()).replace("_", " ")
            back = total.iloc[-FEWEST:].median() <= RECOVERED * before[step]
            told = f"exploded, most of it {blamed}; {'came back' if back else 'did not come back'}"
            return [(told, int(step), number(float(total[step])), number(float(before[step])))]
    return []
