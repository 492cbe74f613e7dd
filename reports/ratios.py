"""How many times faster than PIDM a method trains and samples here, with the paper's two claims beside it.

Both ratios are between medians of scenarios that differ in the method alone. Training is compared by the hours that the
published schedules would take at the measured speed, since methods are published with different numbers of steps.
"""

from typing import Any

from reports.record import Record
from reports.records import Records
from reports.timing import is_number, is_timed, number, told

REFERENCE = "pidm"
CLAIMED = {"training": 69.33, "inference": 18.04}  # of XingGAN++ over PIDM (TPAMI 2025, abstract)
CLAIMANT = "xinggan"  # the name of XingGAN++'s runs, which differ in nothing from the defaults
RATIO_HEADS = (
    "run", "precision", "mode", "training [h] ↓", "times faster to train ↑", "the paper's claim",
    "latency [ms] ↓", "network evaluations ↓", "times faster to sample ↑", "the paper's claim",
)  # fmt: skip
SCHEDULE_HEADS = ("run", "precision", "mode", "step [ms] ↓", "images/s ↑", "peak memory [MB] ↓", "published schedule",
                  "training [h] ↓")  # fmt: skip


def ratio_rows(records: Records) -> list[list[str]]:
    """Cells under RATIO_HEADS: a row for each run, precision and mode in which PIDM was timed too, at one batch."""
    reference = _reference(records)
    if reference is None:
        return []
    titles, rows = records.titles(), []
    for record in records:
        for place in places(record):
            own, (to_train, to_sample) = sampling(record, *place), times_faster(record, reference, *place)
            if own is None or to_sample is None:
                continue
            claims = CLAIMED if record.name == CLAIMANT else {}
            rows.append([
                titles[record.run], *place,
                number(hours(training(record, *place))), number(to_train), number_as_claimed(claims.get("training")),
                number(own["median_ms"]), told(own.get("evaluations")),
                number(to_sample), number_as_claimed(claims.get("inference")),
            ])  # fmt: skip
    return rows


def claim_sentence(records: Records) -> str | None:
    """How XingGAN++ compares with PIDM in the first precision and mode that both were timed in, beside the claims."""
    reference = _reference(records)
    if reference is None:
        return None
    claimants = [(record, *place) for record in records if record.name == CLAIMANT for place in places(record)]
    for record, precision, mode in claimants:
        to_train, to_sample = times_faster(record, reference, precision, mode)
        if to_sample is None:
            continue
        sampled = f"samples {number(to_sample)} times as fast as PIDM (the paper: {CLAIMED['inference']})"
        by_schedule = f"times as fast by the published schedules (the paper: {CLAIMED['training']})"
        trained = f", trains {number(to_train)} {by_schedule}" if to_train else ""
        return f"{records.titles()[record.run]} {sampled}{trained}, in {precision}, {mode}."
    return None


def _reference(records: Records) -> Record | None:
    return next((record for record in records if record.method == REFERENCE and record.scenarios), None)


def times_faster(record: Record, reference: Record, precision: str, mode: str) -> tuple[float | None, float | None]:
    """Than the reference, to train and to sample; None where one of the two was not timed so."""
    own, other = (sampling(one, precision, mode) for one in (record, reference))
    own_hours, other_hours = (hours(training(one, precision, mode)) for one in (record, reference))
    to_train = other_hours / own_hours if own_hours and other_hours else None
    return to_train, other["median_ms"] / own["median_ms"] if own and other else None


def schedule_rows(records: Records) -> list[list[str]]:
    """Cells under SCHEDULE_HEADS: what a step costs, and the hours of the published schedule at that speed."""
    titles, rows = records.titles(), []
    for record in records:
        for row in record.scenarios:
            if row.get("kind") != "training" or not is_timed(row) or not isinstance(row.get("schedule"), dict):
                continue
            schedule = row["schedule"]
            published = f"{schedule.get('steps', 0):,} steps of {schedule.get('batch')}"
            measured = [number(row.get(key)) for key in ("median_ms", "images_per_second", "peak_memory_mb")]
            place = [str(row.get("precision")), str(row.get("mode"))]
            rows.append([titles[record.run], *place, *measured, published, number(hours(row))])
    return rows


def places(record: Record) -> list[tuple[str, str]]:
    """Precisions and modes that a record has timed generating in, in its order."""
    timed = [row for row in record.scenarios if row.get("kind") == "inference" and is_timed(row)]
    return list(dict.fromkeys((str(row.get("precision")), str(row.get("mode"))) for row in timed))


def sampling(record: Record, precision: str, mode: str) -> dict[str, Any] | None:
    """Generating at batch 1 with the method's own sampler."""
    return _scenario(record, kind="inference", precision=precision, mode=mode, batch=1, sampling_steps=None)


def training(record: Record, precision: str, mode: str) -> dict[str, Any] | None:
    """A training step in the same precision and mode; None where it was not timed so."""
    return _scenario(record, kind="training", precision=precision, mode=mode)


def _scenario(record: Record, **wanted: Any) -> dict[str, Any] | None:
    fitting = (row for row in record.scenarios if all(row.get(key) == value for key, value in wanted.items()))
    return next((row for row in fitting if is_timed(row)), None)


def hours(scenario: dict[str, Any] | None) -> float | None:
    """Of the published schedule, at the speed of this training scenario."""
    schedule = (scenario or {}).get("schedule")
    found: Any = schedule.get("hours") if isinstance(schedule, dict) else None
    return found if is_number(found) and found > 0 else None


def number_as_claimed(value: float | None) -> str:
    """With the digits that the paper gives."""
    return "–" if value is None else f"{value:g}"
