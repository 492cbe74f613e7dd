"""How fast methods are beside one another: quality against time, hours of the published schedules, and ratios to PIDM
beside the claims of the paper of XingGAN++.

Two latencies are compared only when their scenarios differ in the method alone; two qualities only under one protocol.
"""

import math
from typing import Any

import pandas

from reports.formats import DASH, Columns, is_number, number, or_dash, text_table
from reports.literature import claim
from reports.records import Records
from reports.timing import own_sampler, timed
from xinggan.metrics import catalogue

SAME = ["machine", "precision", "mode", "batch", "height", "width"]  # must agree for two latencies to be compared
QUALITIES = ("ssim", "lpips", "perceptual_embedded", "fid", "fd_embedded", "pckh_embedded")
REFERENCE = "pidm"
CLAIMANT = "xinggan"  # the name of XingGAN++'s runs, which differ in nothing from the defaults
CLAIMS_ARE_OF = {
    "preset": "paper",
    "dataset": "deepfashion 256x176",
}  # for which the paper claims how much faster it is
GRAPHS = (
    "In the mode cudagraph, a CUDA graph holds one evaluation of a diffusion model's network, and the whole call of a "
    "GAN: a sampler's loop stays outside."
)


# Quality against time.


def common_circumstances(timings: pandas.DataFrame) -> dict[str, Any] | None:
    """What most of the runs were timed under (the keys SAME); of equals the smallest batch, eager, and fp32."""
    plain = own_sampler(timings)
    if plain.empty:
        return None
    found = plain.groupby(SAME, dropna=False)["run"].nunique().rename("runs").reset_index()
    found = found.assign(compiled=found["mode"] != "eager", reduced=found["precision"] != "fp32")
    order = ["runs", "batch", "compiled", "reduced", "machine", "height"]
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


def with_settings(records: Records) -> pandas.DataFrame:
    """`Records.timings` with preset, data set, own sampler and steps of each run, and the schedule of its training.

    schedule_hours, schedule_steps: hours at the speed of a training scenario, and `37,500 steps of 32 (deepfashion)`;
    NaN and None but for steps of paper size.
    """
    timings, facts = records.timings, {record.run: record.facts for record in records}
    for key in ("dataset", "preset", "method.sampler", "method.steps"):
        timings[key] = [facts[run].get(key) for run in timings["run"]]
    rows = timings[["preset", "schedule"]].itertuples(index=False)
    found = [_schedule(row.schedule if row.preset == CLAIMS_ARE_OF["preset"] else None) for row in rows]
    return timings.assign(schedule_hours=[hours for hours, _ in found], schedule_steps=[steps for _, steps in found])


def _schedule(schedule: Any) -> tuple[float, str | None]:
    """Hours, steps and data of what timing.json has of a published schedule, or of a method's own for want of one."""
    if not isinstance(schedule, dict) or not is_number(hours := schedule.get("hours")) or hours <= 0:
        return math.nan, None
    note = schedule.get("dataset", "–") if schedule.get("published", True) else "none is published: its own"
    return hours, f"{schedule.get('steps', 0):,} steps of {schedule.get('batch')} ({note})"


def schedule_table(records: Records) -> pandas.DataFrame:
    """What a training step costs, and for steps of paper size the hours of the published schedule, as text."""
    rows = timed(with_settings(records), "training")
    rows = rows[rows["schedule"].map(lambda schedule: isinstance(schedule, dict)).astype(bool)]
    columns: Columns = {
        "run": ("title", str),
        "preset": ("preset", or_dash),
        "precision": ("precision", or_dash),
        "mode": ("mode", or_dash),
        "step [ms] ↓": ("median_ms", number),
        "images/s ↑": ("images_per_second", number),
        "peak memory [MB] ↓": ("peak_memory_mb", number),
        "published schedule": ("schedule_steps", or_dash),
        "training [h] ↓": ("schedule_hours", number),
    }
    return text_table(rows, columns, on_some=list(columns)[-2:])


def ratios(records: Records) -> pandas.DataFrame:
    """How many times faster than PIDM each run trains, and samples with each of its samplers.

    A row a run, precision, mode and sampler that was timed at batch 1, where PIDM was timed with its own sampler on the
    same machine, in that precision and mode, at the same preset. New columns: trained_per_second (images), work,
    to_train, to_sample, claim_to_train, claim_to_sample (the paper's, NaN but for what it is made of: the published
    networks at the published size).
    Training is compared by the hours of the published schedules, since methods are published with different numbers of
    steps; NaN where training was not timed.
    """
    timings, same = with_settings(records), ["preset", "machine", "precision", "mode"]
    sampling = timed(timings, "inference").drop(columns="schedule_hours")
    sampling = sampling[sampling["batch"] == 1].drop_duplicates(["run", *same, "sampler", "sampling_steps"])
    training = timed(timings, "training").drop_duplicates(["run", *same])
    training = training.rename(columns={"images_per_second": "trained_per_second"})
    trained = ["schedule_hours", "trained_per_second"]
    rows = sampling.merge(training[["run", *same, *trained]], on=["run", *same], how="left")
    reference = rows[(rows["method"] == REFERENCE) & rows["sampling_steps"].isna()]
    reference = reference.sort_values("name", key=lambda names: names != REFERENCE, kind="stable").drop_duplicates(same)
    rows = rows.merge(
        reference[[*same, "name", "schedule_hours", "median_ms"]], on=same, suffixes=("", "_of_reference")
    )
    claimed = (rows["name"] == CLAIMANT) & rows["sampling_steps"].isna()
    claimed &= rows["name_of_reference"].str.fullmatch(
        rf"{REFERENCE}( published=\S+)?"
    )  # its own weights or the authors'
    for key, value in CLAIMS_ARE_OF.items():
        claimed &= rows[key] == value
    return rows.assign(
        work=[_work(row) for row in rows.to_dict("records")],
        to_train=rows["schedule_hours_of_reference"] / rows["schedule_hours"],
        to_sample=rows["median_ms_of_reference"] / rows["median_ms"],
        claim_to_train=claimed.map({True: claim("XingGAN++", "training_speedup_over_pidm").value}),
        claim_to_sample=claimed.map({True: claim("XingGAN++", "inference_speedup_over_pidm").value}),
    )


def _work(row: dict[str, Any]) -> str:
    """Network evaluations of an image, as `ddim, 50 steps × 2 branches` where a sampler takes steps."""
    swept = is_number(row["sampling_steps"])
    sampler, steps = (row["sampler"], row["sampling_steps"]) if swept else (row["method.sampler"], row["method.steps"])
    branches = row["evaluations"] / steps if is_number(row["evaluations"]) and is_number(steps) and steps else 0
    if not branches or branches % 1:
        return or_dash(row["evaluations"])
    named = f"{sampler}, " if isinstance(sampler, str) else ""
    many = f"{steps:g} step{'s' * (steps != 1)}", f"{branches:g} branch{'es' * (branches != 1)}"
    return named + " × ".join(many)


def ratio_table(records: Records) -> pandas.DataFrame:
    """`ratios` as text, with the paper's claims beside the runs that they are made of."""
    columns: Columns = {
        "run": ("title", str),
        "network evaluations": ("work", str),
        "precision": ("precision", or_dash),
        "mode": ("mode", or_dash),
        "training [h] ↓": ("schedule_hours", number),
        "times faster to train ↑": ("to_train", number),
        "the paper's claim to train": ("claim_to_train", or_dash),
        "latency [ms] ↓": ("median_ms", number),
        "times faster to sample ↑": ("to_sample", number),
        "the paper's claim to sample": ("claim_to_sample", or_dash),
    }
    unless_measured = [head for head in columns if "train" in head or "claim" in head]
    return text_table(ratios(records), columns, on_some=unless_measured)


def claim_sentence(records: Records) -> str | None:
    """How XingGAN++ compares with PIDM in the first precision and mode that both were timed in, beside the claims."""
    found = ratios(records)
    own, others = found[found["name"] == CLAIMANT], found[(found["method"] == REFERENCE) & (found["to_sample"] == 1)]
    if own.empty:
        return None
    row, works = own.iloc[0], [work for work in others["work"] if work != DASH]
    claim = {key: f" (the paper: {row[key]:g})" if is_number(row[key]) else "" for key in row.index if "claim" in key}
    work = f" ({works[0]})" if works else ""
    told = f"{row['title']} samples {number(row['to_sample'])} times as fast as PIDM{work}{claim['claim_to_sample']}"
    if is_number(row["to_train"]):
        trains = f"trains {number(row['to_train'])} times as fast by the published schedules"
        told += f", {trains}{claim['claim_to_train']}"
    return f"{told}, in {row['precision']}, {row['mode']}."
