"""What generating and training cost: tables of timing scenarios and of training, from the tidy table
`Records.timings`, a row a scenario. `reports.speed` compares methods by them.
"""

from collections.abc import Sequence

import numpy as np
import pandas

from reports.formats import DASH, Columns, as_text, count, duration, is_number, number, or_dash, share, text_table
from reports.records import Record, Records
from xinggan.timing.scenario import noise_verdict

# What a table has a column for only where it differs.
CIRCUMSTANCES = ("machine", "precision", "mode", "height", "width", "sampler", "sampling_steps", "evaluations")
MEASURED: Columns = {
    "median [ms] ↓": ("median_ms", number),
    "p5 [ms]": ("p5_ms", number),
    "p95 [ms]": ("p95_ms", number),
    "p99 [ms]": ("p99_ms", number),
    "first call [ms]": ("first_call_ms", number),
    "images/s ↑": ("images_per_second", number),
    "peak memory [MB] ↓": ("peak_memory_mb", number),
    "samples": ("samples", or_dash),
    "halves differ by": ("halves_differ_by", share),
}
MEASURED_ON_SOME: Columns = {
    "device median [ms] ↓": ("device_median_ms", number),
    "energy [J/image] ↓": ("joules_per_image", number),
}
DISTRIBUTIONS = 24  # scenarios that a figure of distributions has room for


def timed(timings: pandas.DataFrame, kind: str) -> pandas.DataFrame:
    """The rows of one kind (inference, training) that have a time."""
    return timings[timings["timed"] & (timings["kind"] == kind)]


def own_sampler(timings: pandas.DataFrame) -> pandas.DataFrame:
    """Timed inference scenarios with the method's own sampler and steps, as its scores were made."""
    inference = timed(timings, "inference")
    return inference[inference["sampling_steps"].isna()]


# Scenarios.


def varying(timings: pandas.DataFrame) -> list[str]:
    """Those CIRCUMSTANCES that are not the same in all timed scenarios."""
    rows = timings[timings["timed"]]
    differ = [key for key in CIRCUMSTANCES if rows[key].dropna().astype(str).nunique() > 1]
    partly = [key for key in ("sampler", "sampling_steps") if rows[key].notna().any() and rows[key].isna().any()]
    return [key for key in CIRCUMSTANCES if key in differ or key in partly]


def shared(timings: pandas.DataFrame) -> str:
    """What is the same in all timed scenarios, such as `device cpu, precision fp32, mode eager`."""
    row, apart = timings[timings["timed"]].iloc[0], varying(timings)
    same = [key for key in CIRCUMSTANCES if pandas.notna(row[key]) and key not in apart]
    return ", ".join(f"{key} {as_text(row[key])}" for key in same)


def scenario_table(timings: pandas.DataFrame) -> pandas.DataFrame:
    """A row of text for each timed scenario; a circumstance has a column only where it differs."""
    rows = timings[timings["timed"]]
    rows = rows.assign(samples=[len(samples) if isinstance(samples, list) else None for samples in rows["samples_ms"]])
    differing = {key.replace("_", " "): (key, or_dash) for key in ("batch", *varying(timings))}
    columns: Columns = {"run": ("title", str), "what": ("kind", str), **differing, **MEASURED, **MEASURED_ON_SOME}
    return text_table(rows, columns, on_some=MEASURED_ON_SOME)


def failures(timings: pandas.DataFrame) -> list[str]:
    """A sentence for each reason and circumstances in which something was not timed, with the runs it holds for."""
    runs: dict[tuple[str, str], list[str]] = {}
    keys = ("batch", "machine", "precision", "mode", "sampler", "sampling_steps")
    for row in timings[~timings["timed"]].to_dict("records"):
        where = [f"{key.replace('_', ' ')} {as_text(row[key])}" for key in keys if pandas.notna(row[key])]
        reason = row["unavailable_because"]
        reason = reason if isinstance(reason, str) and reason else "the record gives no reason"
        runs.setdefault((", ".join([str(row["kind"]), *where]), reason), []).append(row["title"])
    return [f"{', '.join(names)}, {place}: unavailable: {reason}" for (place, reason), names in runs.items()]


def noise(records: Sequence[Record]) -> str:
    """How noisy the machine was, in a sentence about the timed scenarios of all records."""
    keys = ("halves_differ_by", "control_ms")
    scenarios = [scenario for record in records for scenario in record.scenarios]
    says = noise_verdict([{key: row[key] for key in keys if is_number(row.get(key))} for row in scenarios])["says"]
    return f"{says[0].upper()}{says[1:]}."


def samples(timings: pandas.DataFrame) -> pandas.DataFrame:
    """A row a raw sample: run, title, kind, scenario in words, ms.

    All scenarios, or where that is more than DISTRIBUTIONS, those of the first precision and mode (fp32 and eager where
    they were timed), at each run's smallest batch and with its own sampler.
    """
    rows = timings[timings["samples_ms"].map(lambda ms: isinstance(ms, list) and bool(ms)).astype(bool)]
    if len(rows) > DISTRIBUTIONS:
        plain = rows[rows["sampling_steps"].isna()]
        usual = plain[(plain["mode"] == "eager") & (plain["precision"] == "fp32")]
        first = (usual if len(usual) else rows).iloc[0]
        same = plain[(plain["precision"] == first["precision"]) & (plain["mode"] == first["mode"])]
        rows = same.loc[sorted(same.sort_values("batch", kind="stable").drop_duplicates(["run", "kind"]).index)]
    telling = [key for key in varying(rows) if key not in ("height", "width", "evaluations")]
    words = [
        ", ".join([f"batch\u00a0{or_dash(row['batch'])}", *(as_text(row[k]) for k in telling if pandas.notna(row[k]))])
        for row in rows.to_dict("records")
    ]
    rows = rows.assign(scenario=words, ms=rows["samples_ms"]).explode("ms", ignore_index=True)
    rows = rows[rows["ms"].map(is_number).astype(bool)]
    return rows[["run", "title", "kind", "scenario", "ms"]].astype({"ms": float})


# What training cost.


def cost_table(records: Records) -> pandas.DataFrame:
    """The size of each network and what its training took, as text."""
    rows = []
    for record in records.methods:
        trained, macs = not record.is_timing_only, record.timing.get("macs_per_image")
        rows.append(
            {
                "run": record.title,
                "parameters": count(record.timing.get("parameters")),
                "GMACs per image": number(macs / 1e9) if is_number(macs) else DASH,
                "training time": duration(training_seconds(record)) if trained else "not trained",
                "steps": f"{count(record.step)} of {count(record.status.get('steps'))}" if trained else DASH,
                "images/s while training ↑": number(training_speed(record)),
                "slowest tenth": share(slowest_tenth(record)),
                "peak memory of training [MB] ↓": number(training_memory_mb(record)) if trained else DASH,
            }
        )
    return pandas.DataFrame(rows)


def training_seconds(record: Record) -> float | None:
    """Time spent in training, without the generating and scoring that follow; what was interrupted adds up."""
    return next((row["seconds"] for row in reversed(record.history) if is_number(row.get("seconds"))), None)


def training_speed(record: Record) -> float | None:
    """Images a second while training: the median of what the history tells, stage by stage where there are several."""
    stages = _stages(record)
    times = [len(speeds) / middle for speeds in stages if (middle := np.median(speeds))]
    return sum(map(len, stages)) / sum(times) if times else None


def slowest_tenth(record: Record) -> float | None:
    """The 10th percentile of the speeds that the history tells, each over the median of its stage: 1 where the machine
    was as busy all the time. What was beside a run from its beginning to its end is not seen by it.
    """
    shares = [np.divide(speeds, middle) for speeds in _stages(record) if (middle := np.median(speeds))]
    return float(np.percentile(np.concatenate(shares), 10)) if shares else None


def _stages(record: Record) -> list[list[float]]:
    """Images a second at each line of the history, by the stages of training, which the losses' names tell apart."""
    stages: dict[tuple[str, ...], list[float]] = {}
    for row in record.history:
        if is_number(row.get("images_per_second")):
            stages.setdefault(tuple(row.get("losses", ())), []).append(row["images_per_second"])
    return [*stages.values()]


def training_memory_mb(record: Record) -> float | None:
    """Peak memory of the run's own training: the device's, or on a CPU the process's."""
    training = (row for row in record.scenarios if row.get("kind") == "training" and is_number(row.get("median_ms")))
    return max((row["peak_memory_mb"] for row in training if is_number(row.get("peak_memory_mb"))), default=None)
