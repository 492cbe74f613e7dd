"""What generating and training cost: tables of timing scenarios, quality against time, and ratios to PIDM beside the
claims of the paper. Everything starts from the tidy table `Records.timings`, a row a scenario.

Two latencies are compared only when their scenarios differ in the method alone; two qualities only under one protocol.
"""

import math
from collections.abc import Sequence
from typing import Any

import pandas

from reports.formats import DASH, as_text, count, duration, is_number, number
from reports.records import Record, Records
from xinggan.metrics import catalogue

# What must agree for two latencies to be compared; and what a table has a column for only where it differs.
SAME = ["device", "precision", "mode", "batch", "height", "width"]
CIRCUMSTANCES = ["device", "precision", "mode", "height", "width", "sampler", "sampling_steps", "evaluations"]
MEASURED = {
    **{"median_ms": "median [ms] ↓", "p5_ms": "p5 [ms]", "p95_ms": "p95 [ms]", "p99_ms": "p99 [ms]"},
    **{"first_call_ms": "first call [ms]", "images_per_second": "images/s ↑", "peak_memory_mb": "peak memory [MB] ↓"},
}
MEASURED_ON_SOME = {"device_median_ms": "device median [ms] ↓", "joules_per_image": "energy [J/image] ↓"}
DISTRIBUTIONS = 24  # scenarios that a figure of distributions has room for
QUALITIES = ("ssim", "lpips", "perceptual_embedded", "fid", "fd_embedded", "pckh_embedded")
REFERENCE = "pidm"
CLAIMANT = "xinggan"  # the name of XingGAN++'s runs, which differ in nothing from the defaults
CLAIMED = {"training": 69.33, "inference": 18.04}  # of XingGAN++ over PIDM (TPAMI 2025, abstract)


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
    return ", ".join(
        f"{key} {as_text(row[key])}" for key in CIRCUMSTANCES if pandas.notna(row[key]) and key not in apart
    )


def scenario_table(timings: pandas.DataFrame) -> pandas.DataFrame:
    """A row of text for each timed scenario; a circumstance has a column only where it differs."""
    rows = timings[timings["timed"]]
    named = {"title": "run", "kind": "what"} | {key: key.replace("_", " ") for key in ("batch", *varying(timings))}
    table = pandas.DataFrame({head: [_told(value) for value in rows[key]] for key, head in named.items()})
    for key, head in MEASURED.items():
        table[head] = [number(value) for value in rows[key]]
    table["samples"] = [str(len(samples)) if isinstance(samples, list) else DASH for samples in rows["samples_ms"]]
    table["halves differ by"] = [f"{value:.1%}" if is_number(value) else DASH for value in rows["halves_differ_by"]]
    for key, head in MEASURED_ON_SOME.items():
        if any(map(is_number, rows[key])):
            table[head] = [number(value) for value in rows[key]]
    return table


def failures(timings: pandas.DataFrame) -> list[str]:
    """A sentence for each reason and circumstances in which something was not timed, with the runs it holds for."""
    runs: dict[tuple[str, str], list[str]] = {}
    keys = ("batch", "device", "precision", "mode", "sampler", "sampling_steps")
    for row in timings[~timings["timed"]].to_dict("records"):
        where = [f"{key.replace('_', ' ')} {as_text(row[key])}" for key in keys if pandas.notna(row[key])]
        reason = row["unavailable_because"]
        reason = reason if isinstance(reason, str) and reason else "the record gives no reason"
        runs.setdefault((", ".join([str(row["kind"]), *where]), reason), []).append(row["title"])
    return [f"{', '.join(names)}, {place}: unavailable: {reason}" for (place, reason), names in runs.items()]


def noise(records: Sequence[Record]) -> list[str]:
    """What the records say about how noisy the machine was: a sentence each for quiet, noisy and untested runs."""
    told: dict[str, list[str]] = {"quiet": [], "noisy": [], "untested": []}
    worst, limit = 0.0, 0.0
    for record in records:
        verdict = record.timing.get("noise")
        if not isinstance(verdict, dict) or not all(is_number(verdict.get(key)) for key in ("limit", "judged")):
            continue
        limit, own, reasons = verdict["limit"], verdict.get("worst"), []
        if is_number(own) and verdict.get("too_noisy"):
            if many := verdict.get("unsteady"):
                reasons.append(f"{many} of {verdict['judged']} scenarios, by up to {own:.0%}")
            if is_number(drift := verdict.get("machine_differs_by")) and drift > limit:
                reasons.append(f"the machine itself was {drift:.0%} slower at times")
            told["noisy"].append(f"{record.title} ({'; '.join(reasons)})")
        elif is_number(own):
            told["quiet"].append(record.title)
            worst = max(worst, own)
        else:
            told["untested"].append(record.title)
    rounds = "the medians of the earlier and the later rounds"
    says = {
        "quiet": f"Quiet, in all scenarios {rounds} agree within {limit:.0%}, the worst differ by {worst:.1%}",
        "noisy": f"Too noisy for medians that repeat within {limit:.0%}, by {rounds} or by a fixed computation",
        "untested": "Not tested, since nothing was measured in two rounds",
    }
    return [f"{says[verdict]}: {', '.join(names)}" for verdict, names in told.items() if names]


def samples(timings: pandas.DataFrame) -> pandas.DataFrame:
    """A row a raw sample: title, kind, scenario in words, ms.

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
        ", ".join([f"batch\u00a0{_told(row['batch'])}", *(as_text(row[k]) for k in telling if pandas.notna(row[k]))])
        for row in rows.to_dict("records")
    ]
    rows = rows.assign(scenario=words, ms=rows["samples_ms"]).explode("ms", ignore_index=True)
    rows = rows[rows["ms"].map(is_number).astype(bool)]
    return rows[["run", "title", "kind", "scenario", "ms"]].astype({"ms": float})


def _told(value: Any) -> str:
    return as_text(value) if isinstance(value, (list, tuple)) or pandas.notna(value) else DASH


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
                "GMACs an image": number(macs / 1e9) if is_number(macs) else DASH,
                "training time": duration(training_seconds(record)) if trained else "not trained",
                "steps": f"{count(record.step)} of {count(record.status.get('steps'))}" if trained else DASH,
                "images/s while training ↑": number(training_speed(record)),
                "peak memory of training [MB] ↓": number(training_memory_mb(record)) if trained else DASH,
            }
        )
    return pandas.DataFrame(rows)


def training_seconds(record: Record) -> float | None:
    """Time spent in training, without the generating and scoring that follow; what was interrupted adds up."""
    return next((row["seconds"] for row in reversed(record.history) if is_number(row.get("seconds"))), None)


def training_speed(record: Record) -> float | None:
    """Images a second while training, the median of what the history tells."""
    speeds = sorted(row["images_per_second"] for row in record.history if is_number(row.get("images_per_second")))
    return speeds[len(speeds) // 2] if speeds else None


def training_memory_mb(record: Record) -> float | None:
    """Peak memory of the run's own training: the device's, or on a CPU the process's."""
    training = (row for row in record.scenarios if row.get("kind") == "training" and is_number(row.get("median_ms")))
    return max((row["peak_memory_mb"] for row in training if is_number(row.get("peak_memory_mb"))), default=None)


# Quality against time.


def common_circumstances(timings: pandas.DataFrame) -> dict[str, Any] | None:
    """What most of the runs were timed under (the keys SAME); of equals the smallest batch, eager, and fp32."""
    plain = own_sampler(timings)
    if plain.empty:
        return None
    found = plain.groupby(SAME, dropna=False)["run"].nunique().rename("runs").reset_index()
    found = found.assign(compiled=found["mode"] != "eager", reduced=found["precision"] != "fp32")
    order = ["runs", "batch", "compiled", "reduced", "device", "height"]
    first = found.sort_values(order, ascending=[False, *[True] * 5], kind="stable").iloc[0]
    return {key: first[key] for key in SAME}


def latencies(timings: pandas.DataFrame) -> dict[str, float]:
    """Run -> median milliseconds of a call, of the runs timed under `common_circumstances`."""
    same = common_circumstances(timings)
    if same is None:
        return {}
    rows = own_sampler(timings).merge(pandas.DataFrame([same]), on=SAME)
    return dict(zip(rows["run"], rows["median_ms"], strict=True))


def quality_points(records: Records) -> pandas.DataFrame:
    """metric, run, title, method, latency_ms, quality: a row a run, for each of QUALITIES that two runs or more have.

    Where values stand under several protocols, those of the protocol that most runs have.
    """
    taken, methods = latencies(records.timings), {record.run: record.method for record in records}
    values = records.values.dropna(subset=["value"]).rename(columns={"value": "quality"})
    values = values.assign(latency_ms=values["run"].map(taken), method=values["run"].map(methods))
    parts = [values.head(0)]
    for metric in QUALITIES:
        points = values[values["metric"] == metric].dropna(subset=["latency_ms"])
        points = points[points["protocol"].isin(points["protocol"].value_counts().index[:1])]
        if len(points) > 1:
            parts.append(points)
    return pandas.concat(parts)[["metric", "run", "title", "method", "latency_ms", "quality"]]


def pareto_front(points: pandas.DataFrame, higher_is_better: bool) -> pandas.DataFrame:
    """The points that no other is at least as fast and as good as, and better in one; from the fastest to the best.

    points: latency_ms, quality. Points that are equal in both stand on the front together. The new column `until_ms` is
    the latency from which on another one is better (NaN: any).
    """
    gain = points["quality"] if higher_is_better else -points["quality"]
    ordered = points.assign(gain=gain).sort_values(["latency_ms", "gain"], ascending=[True, False], kind="stable")
    distinct = ordered.drop_duplicates(["latency_ms", "gain"])
    front = distinct[distinct["gain"] > distinct["gain"].cummax().shift(fill_value=-math.inf)]
    front = front.assign(until_ms=front["latency_ms"].shift(-1))[["latency_ms", "gain", "until_ms"]]
    return ordered.merge(front, on=["latency_ms", "gain"]).drop(columns="gain")


def front_table(records: Records) -> pandas.DataFrame:
    """For each metric its front as text, with the speed-up over PIDM's run at PIDM's quality."""
    rows = []
    for metric, points in quality_points(records).groupby("metric", sort=False):
        higher = bool(catalogue.higher_is_better(str(metric)))
        reference = points[points["method"] == REFERENCE].head(1)
        for point in pareto_front(points, higher).itertuples():
            matched = DASH
            if len(reference) and point.method != REFERENCE:
                quality, factor = reference["quality"].iloc[0], reference["latency_ms"].iloc[0] / point.latency_ms
                reached = point.quality >= quality if higher else point.quality <= quality
                faster = f"{number(factor)} times faster" if factor >= 1 else f"{number(1 / factor)} times slower"
                matched = faster if reached else "not reached"
            latency = number(point.latency_ms)
            until = f" to {number(point.until_ms)} ms" if is_number(point.until_ms) else " and more"
            told = [point.title, latency, f"{point.quality:.4f}", f"{latency} ms{until}", matched]
            rows.append([catalogue.heading(str(metric)), *told])
    heads = ["metric", "run", "latency [ms] ↓", "value", "best at latencies of", "PIDM at matched quality"]
    return pandas.DataFrame(rows, columns=heads)


# Published schedules and ratios to PIDM.


def ratios(timings: pandas.DataFrame) -> pandas.DataFrame:
    """How many times faster than PIDM each run trains and samples, for each precision and mode that both were timed in.

    title, name, precision, mode, hours, to_train, median_ms, evaluations, to_sample; NaN where training was not timed.
    Sampling is compared at batch 1 with each method's own sampler; training by the hours that the published schedules
    would take at the measured speed, since methods are published with different numbers of steps.
    """
    key = ["run", "precision", "mode"]
    sampling = own_sampler(timings)
    sampling = sampling[sampling["batch"] == 1].drop_duplicates(key)
    training = timed(timings, "training").drop_duplicates(key)
    training = training.assign(hours=[_hours(schedule) for schedule in training["schedule"]])[[*key, "hours"]]
    rows = sampling.merge(training, on=key, how="left")
    reference = timings.loc[timings["method"] == REFERENCE, "run"].head(1)
    reference = rows.loc[rows["run"].isin(reference), ["precision", "mode", "hours", "median_ms"]]
    rows = rows.merge(reference, on=["precision", "mode"], suffixes=("", "_of_reference"))
    return rows.assign(
        to_train=rows["hours_of_reference"] / rows["hours"],
        to_sample=rows["median_ms_of_reference"] / rows["median_ms"],
    )


def ratio_table(timings: pandas.DataFrame) -> pandas.DataFrame:
    """`ratios` as text, with the paper's claims beside the runs they are made for."""
    rows = ratios(timings)
    claim = {kind: rows["name"].map({CLAIMANT: f"{value:g}"}).fillna(DASH) for kind, value in CLAIMED.items()}
    texts = {
        "run": rows["title"],
        "precision": rows["precision"],
        "mode": rows["mode"],
        "training [h] ↓": rows["hours"].map(number),
        "times faster to train ↑": rows["to_train"].map(number),
        "the paper's claim to train": claim["training"],
        "latency [ms] ↓": rows["median_ms"].map(number),
        "network evaluations ↓": rows["evaluations"].map(_told),
        "times faster to sample ↑": rows["to_sample"].map(number),
        "the paper's claim to sample": claim["inference"],
    }
    return pandas.DataFrame(texts)


def claim_sentence(timings: pandas.DataFrame) -> str | None:
    """How XingGAN++ compares with PIDM in the first precision and mode that both were timed in, beside the claims."""
    found = ratios(timings)
    found = found[found["name"] == CLAIMANT]
    if found.empty:
        return None
    row = found.iloc[0]
    told = f"{row['title']} samples {number(row['to_sample'])} times as fast as PIDM"
    told += f" (the paper: {CLAIMED['inference']})"
    if is_number(row["to_train"]):
        told += f", trains {number(row['to_train'])} times as fast by the published schedules"
        told += f" (the paper: {CLAIMED['training']})"
    return f"{told}, in {row['precision']}, {row['mode']}."


def schedule_table(timings: pandas.DataFrame) -> pandas.DataFrame:
    """What a training step costs, and the hours of the published schedule at that speed, as text."""
    rows = timed(timings, "training")
    rows = rows[rows["schedule"].map(lambda schedule: isinstance(schedule, dict)).astype(bool)]
    published = [f"{schedule.get('steps', 0):,} steps of {schedule.get('batch')}" for schedule in rows["schedule"]]
    texts = {
        "run": rows["title"],
        "precision": rows["precision"],
        "mode": rows["mode"],
        "step [ms] ↓": rows["median_ms"].map(number),
        "images/s ↑": rows["images_per_second"].map(number),
        "peak memory [MB] ↓": rows["peak_memory_mb"].map(number),
        "published schedule": published,
        "training [h] ↓": [number(_hours(schedule)) for schedule in rows["schedule"]],
    }
    return pandas.DataFrame(texts)


def _hours(schedule: Any) -> float:
    """Hours of the published schedule at the speed of a training scenario; NaN where the record has none."""
    hours = schedule.get("hours") if isinstance(schedule, dict) else None
    return hours if is_number(hours) and hours > 0 else math.nan
