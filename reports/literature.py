"""Published numbers: what reports/literature.csv says, where sources differ, and which may stand beside measured ones.

A row of the file is a number as one source prints it, with the status that it has there. Rows of one method, data set,
resolution, metric and protocol are one number (NUMBER): tables show the range over its sources, and `numbers` says
which value stands for it in a ranking. Two numbers of one metric are comparable only on the same data set, at the same
resolution, under the same protocol; any other is listed apart, with the reason.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pandas

from reports.formats import DASH, Columns, interval, joined, or_dash, plural, share, text_table
from reports.records import Records
from xinggan.metrics import catalogue
from xinggan.metrics.protocol import PROTOCOLS

LITERATURE = Path(__file__).with_name("literature.csv")
COLUMNS = ["method", "dataset", "resolution", "metric", "value", "protocol", "status", "source", "note"]
NUMBER = ["method", "dataset", "resolution", "metric", "protocol"]  # rows that agree in these are one number
DATASETS = ("market1501", "deepfashion")
# From the authors outwards: said by themselves; repeated by others; measured anew by others (with the authors' weights,
# where the note says nothing else); trained and measured anew by others.
STATUSES = ("claimed", "quoted", "rerun", "retrained")
OWN_WAY, USER_STUDY = "paper", "user study"  # no protocols of the suite
PLACES = {OWN_WAY: "each paper in its own way", USER_STUDY: "user studies"}

# What only papers measure, with the titles of their columns.
OTHER_METRICS = {
    "ssim_256": "SSIM (Gaussian) ↑",
    "ds": "Detection score ↑",
    "face_similarity_source": "Face similarity to source ↑",
    "face_similarity_target": "Face similarity to target ↑",
}
RATES = {"r2g_percent": "R2G [%] ↑", "g2r_percent": "G2R [%] ↑", "jab_percent": "JAB [%] ↑"}  # of user studies
SIZES = {
    "parameters_millions": "Parameters [millions] ↓",
    "trained_parameters_millions": "Trained parameters [millions] ↓",
}
TIMES = {
    "training_speedup_over_pidm": "Training, times faster than PIDM ↑",
    "training_gpu_days": "Training [GPU days] ↓",
    "training_days": "Training [days] ↓",
    "training_hours": "Training [h] ↓",
    "training_seconds_per_epoch": "Training [s an epoch] ↓",
    "inference_speedup_over_pidm": "Inference, times faster than PIDM ↑",
    "inference_speedup_over_cfld": "Inference, times faster than CFLD ↑",
    "inference_speedup_over_pocold": "Inference, times faster than PoCoLD ↑",
    "inference_speedup_over_xmdpt": "Inference, times faster than X-MDPT ↑",
    "inference_seconds": "Inference [s] ↓",
    "frames_per_second": "Inference [images/s] ↑",
    "test_set_hours": "Inference of the test set [h] ↓",
    "inference_memory_gb": "Inference memory [GB] ↓",
    "memory_reduction_over_pidm": "Memory, times less than PIDM ↑",
}
COSTS = SIZES | TIMES
COST_REASONS = {
    **dict.fromkeys(SIZES, "sources count different things as parameters (frozen networks, the optimiser's moments)"),
    **dict.fromkeys(TIMES, "no source says all that a cost depends on (device, batch, precision, steps)"),
}
ESTIMATOR_REASON = "the sources name no pose estimator, and each finds other joints"
# PATN's 0.2821 in these tables is what reruns with the Gaussian window of `pose-transfer` give: 0.281 and 0.282.
WINDOW_REASON = "the sources do not say which window, and PATN's value is that of the Gaussian one"
FRACTIONS = ("ssim", "ssim_window51", "ssim_256", "mask_ssim", "pckh", "lpips", "ds", "precision", "recall")
# The tables of GFLA, PIDM and CFLD call "fid" and "ssim" what the suite's protocol `gfla` has under names of its own.
NAMES_HERE = {("gfla", "fid"): "fid_imagenet", ("gfla", "ssim"): "ssim_window51"}


# The file.


def read_literature(path: Path | str = LITERATURE) -> pandas.DataFrame:
    """Every row of a file: COLUMNS, the metric by its name in the suite, and `printed`, the value's text.

    Raises ValueError with every mistake and what is accepted.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            heads, *rows = list(csv.reader(file, strict=True)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not readable as CSV ({error})") from error
    if heads != COLUMNS:
        raise ValueError(f"{path}: the columns are {', '.join(heads) or 'none'}; expected {', '.join(COLUMNS)}")
    problems = [f"row {number}: {wrong}" for number, row in enumerate(rows, start=2) for wrong in _problems(row)]
    firsts = [rows.index(row) + 2 for row in rows]
    same = [(number, first) for number, first in enumerate(firsts, start=2) if first != number]
    problems += [f"row {number}: says the same as row {first}" for number, first in same]
    if problems:
        raise ValueError(f"{path} has {plural(len(problems), 'mistake')}:\n  " + "\n  ".join(problems))
    frame = pandas.DataFrame(rows, columns=COLUMNS)
    named = [NAMES_HERE.get(place, place[1]) for place in zip(frame["protocol"], frame["metric"], strict=True)]
    return frame.assign(metric=named, printed=frame["value"]).astype({"value": float})


def _problems(cells: list[str]) -> list[str]:
    if len(cells) != len(COLUMNS):
        return [f"{len(cells)} fields where {len(COLUMNS)} are expected"]
    row = dict(zip(COLUMNS, cells, strict=True))
    problems = [f"no {key}" for key, text in row.items() if not text and key != "note"]
    problems += [f"space around the {key} {text!r}" for key, text in row.items() if text != text.strip()]
    metric = row["metric"]
    choices: dict[str, Sequence[str]] = {"dataset": DATASETS, "status": STATUSES}
    choices["metric"] = (*catalogue.METRICS, *OTHER_METRICS, *RATES, *COSTS)
    choices["protocol"] = [OWN_WAY] if metric in COSTS else [USER_STUDY] if metric in RATES else [*PROTOCOLS, OWN_WAY]
    told = {"protocol": f" (of {metric})"}
    problems += [
        f"{key} {row[key]!r} is none of {', '.join(of)}{told.get(key, '')}"
        for key, of in choices.items()
        if row[key] not in of
    ]
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", row["resolution"]):
        problems.append(f"resolution {row['resolution']!r} is not height x width, such as 256x176")
    if not re.fullmatch(r"\d*\.?\d+", row["value"], re.ASCII) or not float(row["value"]):
        problems.append(f"value {row['value']!r} is not a positive number")
    elif float(row["value"]) > 1 and (metric in FRACTIONS or metric.startswith("face_similarity")):
        problems.append(f"value {row['value']} of {metric} is above 1: a fraction is expected, not a percentage")
    elif float(row["value"]) > 100 and metric in RATES:
        problems.append(f"value {row['value']} of {metric} is above 100 %")
    return problems


class Claim(NamedTuple):
    """A number as the authors of a method give it."""

    value: float
    source: str
    note: str = ""


def claim(
    method: str, metric: str, dataset: str = "deepfashion", resolution: str = "256x176", protocol: str | None = None
) -> Claim:
    """What a method's authors claim: `claim("XingGAN++", "training_speedup_over_pidm").value` is 69.33.

    Only rows of the status "claimed" count. `protocol` is needed where a metric has claims under several. Raises
    ValueError where no claim, or more than one, is in reports/literature.csv.
    """
    wanted = {"method": method, "metric": metric, "dataset": dataset, "resolution": resolution}
    wanted |= {"protocol": protocol} if protocol else {}
    rows = read_literature()
    rows = rows[rows["status"] == "claimed"]
    for key, value in wanted.items():
        rows = rows[rows[key] == value]
    if len(rows) != 1:
        found = "; ".join(f"{row.printed} under {row.protocol} ({row.source})" for row in rows.itertuples())
        asked = ", ".join(wanted.values())
        raise ValueError(f"{LITERATURE.name} has {plural(len(rows), 'claim')} of {asked}" + (found and f": {found}"))
    (row,) = rows.itertuples()
    return Claim(float(row.value), row.source, row.note)


# One number of several sources.


def numbers(published: pandas.DataFrame) -> pandas.DataFrame:
    """A row a number: NUMBER, value, status, source, low, high, n, statuses, differs, printed.

    `value` is what stands for the number in a ranking: the authors' claim; where none is at hand what others quote,
    else a rerun, else a retrained model, always under that status. Of several rows of that status it is the median.
    `low` and `high` are the ends of the range over all n rows, `statuses` says how many of each there are; `printed` is
    the range as text, and `differs` whether it is one: 8.07 and 8.0667 are the same number.
    """
    sources: dict[tuple[str, ...], list[Any]] = {}
    for row in published.itertuples():
        sources.setdefault(tuple(getattr(row, key) for key in NUMBER), []).append(row)
    rows: list[dict[str, Any]] = []
    for key, own in sources.items():
        ordered = sorted(own, key=lambda row: row.value)
        many = {status: count for status in STATUSES if (count := sum(row.status == status for row in own))}
        nearest = next(iter(many))
        taken = [row for row in own if row.status == nearest]
        lowest, highest = ordered[0], ordered[-1]
        finest = max((row.printed for row in ordered), key=_decimals)
        differs = not all(_is_rounded(row.printed, finest) for row in own)
        rows.append(
            {
                **dict(zip(NUMBER, key, strict=True)),
                **{"value": median(row.value for row in taken), "low": lowest.value, "high": highest.value},
                "status": nearest + (f", median of {len(taken)}" if len({row.value for row in taken}) > 1 else ""),
                "source": "; ".join(dict.fromkeys(row.source for row in taken)),
                "n": len(own),
                "statuses": ", ".join(f"{count} {status}" for status, count in many.items()),
                **{"differs": differs, "printed": f"{lowest.printed}–{highest.printed}" if differs else finest},
            }
        )
    return pandas.DataFrame(rows)


def _decimals(text: str) -> int:
    return len(text.partition(".")[2])


def _is_rounded(text: str, finer: str) -> bool:
    """Whether a printed number may be another one, rounded to fewer decimals."""
    return abs(Decimal(text) - Decimal(finer)) <= (Decimal(1).scaleb(-_decimals(text)) / 2 if text != finer else 0)


# Beside measured values.


def beside(records: Records, published: pandas.DataFrame) -> tuple[list[pandas.DataFrame], pandas.DataFrame]:
    """Rankings of comparable numbers, and the numbers that are in none of them with the reason `apart_because`.

    published: of `numbers`. A ranking is a frame of one data set, resolution, metric and protocol (in its `attrs`),
    best first: name, value, low, high, n, status, source, range. Measured rows have the status "measured here", an
    interval over seeds (low, high) where there are several, and their n; published ones have the range of what their
    sources print, and none of them passes a test.
    """
    reasons = [why_apart(row, records) for row in published.itertuples()]
    published = published.assign(apart_because=reasons)
    ranked = published[published["apart_because"].isna()].drop(columns=["low", "high", "n"])
    place = {metric: place for place, metric in enumerate(catalogue.in_order(ranked["metric"]))}
    ranges = [f"{row.printed}\n{row.statuses}" if row.differs else "" for row in ranked.itertuples()]
    ranked = ranked.assign(dataset=ranked["dataset"] + " " + ranked["resolution"], place=ranked["metric"].map(place))
    ranked = ranked.assign(range=ranges).rename(columns={"method": "name"})
    rankings = []
    for (dataset, _, metric, protocol), own in ranked.groupby(["dataset", "place", "metric", "protocol"]):
        frame = pandas.concat([_measured(records, dataset, metric, protocol), own], ignore_index=True)
        frame = frame[["name", "value", "low", "high", "n", "status", "source", "range"]]
        lowest_first = catalogue.higher_is_better(metric) is False
        frame = frame.sort_values("value", ascending=lowest_first, kind="stable", ignore_index=True)
        frame.attrs = {"dataset": dataset, "metric": metric, "protocol": protocol}
        rankings.append(frame)
    return rankings, published.dropna(subset=["apart_because"])


def why_apart(row: Any, records: Records) -> str | None:
    """Why no measured value may stand in a ranking with a published one; None where one may."""
    if row.metric in COSTS:
        return COST_REASONS[row.metric]
    if row.protocol == OWN_WAY:
        return "measured in a way of the paper's own, which is not known to be one of the suite's protocols"
    if row.protocol == USER_STUDY:
        return "what other people answered about other images"
    if row.metric == "pckh":
        return ESTIMATOR_REASON
    if row.metric == "ssim_window51" and row.dataset == "market1501":
        return WINDOW_REASON
    dataset = f"{row.dataset} {row.resolution}"
    there = [record for record in records if record.dataset == dataset]
    if not there:
        sizes = sorted({record.dataset for record in records if record.dataset.split()[0] == row.dataset})
        return f"no run on {dataset}" + (f", only on {', '.join(sizes)}" if sizes else "")
    measured = [m for record in there for m in record.measurements if m.metric == row.metric and m.value is not None]
    if not measured:
        return f"no run on {dataset} has a value of {_title(row.metric)}"
    protocols = sorted({str(measurement.protocol.get("name")) for measurement in measured})
    if row.protocol not in protocols:
        return f"published under the protocol {row.protocol}, measured under {', '.join(protocols)}"
    return None


def _measured(records: Records, dataset: str, metric: str, protocol: str) -> pandas.DataFrame:
    """A row for each name of runs, test set and way to measure: two test sets of one size stay two rows."""
    here = Records(record for record in records if record.dataset == dataset).metric(metric, protocol=protocol)
    ways = [replace(here, values=own) for _, own in here.scored.groupby("protocol", sort=False)]
    answer = pandas.concat([way.by("name", "dataset_digest", over="seeds") for way in ways])
    answer = answer.dropna(subset=["value"]).reset_index()
    source = [f"runs of this report on data {str(digest)[:8]}" for digest in answer["dataset_digest"]]
    return answer.assign(status="measured here", source=source, range="")


def ranking_table(ranking: pandas.DataFrame) -> pandas.DataFrame:
    """A ranking as text."""
    between = [interval(row.low, row.high, ".4f") or DASH for row in ranking.itertuples()]
    columns: Columns = {"name": ("name", str), "value": ("value", "{:.4g}".format), "95 % interval": ("between", str)}
    columns = {**columns, "n": ("n", or_dash), "range over sources": ("range", lambda text: text or DASH)}
    others: Columns = {key: (key, or_dash) for key in ("status", "source")}
    return text_table(ranking.assign(between=between), {**columns, **others})


# Tables of what is published.


class PublishedTable(NamedTuple):
    """Numbers on one data set, at one resolution, under one protocol: methods are rows, metrics columns."""

    name: str  # of its files, "market1501-128x64-gfla"
    place: str  # "market1501 128x64, protocol gfla"
    cells: pandas.DataFrame  # text: the value or its range, then the number of each status and of its notes
    notes: list[str]  # sources with what they say about their number
    reasons: list[str]  # why which metrics stand in no ranking with measured values


def published_tables(published: pandas.DataFrame, apart: pandas.DataFrame) -> list[PublishedTable]:
    """A table for each data set, resolution and protocol, without costs. apart: of `beside`."""
    tables = []
    order = {protocol: place for place, protocol in enumerate((*PROTOCOLS, OWN_WAY, USER_STUDY))}
    qualities = published[~published["metric"].isin(COSTS)]
    printed = numbers(qualities).set_index(NUMBER)["printed"]
    keys = ["dataset", "resolution", "order"]
    for (dataset, resolution, _), own in qualities.assign(order=qualities["protocol"].map(order)).groupby(keys):
        protocol = own["protocol"].iloc[0]
        notes = list(dict.fromkeys(map(_source_and_note, own.itertuples())))
        metrics = catalogue.in_order(own["metric"])
        cells = {key: _cell(list(rows.itertuples()), printed, notes) for key, rows in own.groupby(["method", "metric"])}
        methods = sorted(set(own["method"]), key=str.casefold)
        rows = [[method, *(cells.get((method, metric), DASH) for metric in metrics)] for method in methods]
        mine = apart[(apart[["dataset", "resolution", "protocol"]] == [dataset, resolution, protocol]).all(axis=1)]
        mine = mine[~mine["metric"].isin(COSTS)]
        reasons = [
            f"{joined([_title(metric) for metric in catalogue.in_order(of['metric'])])}: {why}"
            for why, of in mine.groupby("apart_because", sort=False)
        ]
        place = f"{dataset} {resolution}, {PLACES.get(protocol, f'protocol {protocol}')}"
        table = pandas.DataFrame(rows, columns=["method", *map(_heading, metrics)])
        name = "-".join([dataset, resolution, protocol]).replace(" ", "-")
        tables.append(PublishedTable(name, place, table, notes, reasons))
    return tables


def _cell(rows: Sequence[Any], printed: pandas.Series, notes: list[str]) -> str:
    """What the sources print of one number, and in small print how many there are of each status with their notes."""
    lines = []
    for status in STATUSES:
        if own := [row for row in rows if row.status == status]:
            places = sorted({notes.index(_source_and_note(row)) + 1 for row in own})
            many = f"{len(own)} " if len(rows) > 1 else ""
            lines.append(f"{many}{status} " + "".join(f"[{place}]" for place in places))
    return "\n".join([printed[tuple(getattr(rows[0], key) for key in NUMBER)], *lines])


def _source_and_note(row: Any) -> str:
    return f"{row.source}: {row.note}" if row.note else row.source


def _heading(metric: str) -> str:
    return {**OTHER_METRICS, **RATES, **COSTS}.get(metric) or catalogue.heading(metric)


def _title(metric: str) -> str:
    return _heading(metric).rstrip(" ↑↓")


def cost_table(published: pandas.DataFrame) -> pandas.DataFrame:
    """Parameters, memory and times as the sources print them, a row a source, as text."""
    rows = published[published["metric"].isin(COSTS)]
    order = rows["metric"].map(list(COSTS).index)
    rows = rows.assign(order=order, place=rows["dataset"] + " " + rows["resolution"])
    rows = rows.sort_values(["order", "value"], kind="stable")
    rows = rows.assign(source=list(map(_source_and_note, rows.itertuples())))
    columns: Columns = {"cost": ("metric", _heading), "method": ("method", str), "value": ("printed", str)}
    others: Columns = {"status": ("status", str), "data set": ("place", str), "source": ("source", str)}
    return text_table(rows, {**columns, **others})


def conflict_table(published: pandas.DataFrame) -> pandas.DataFrame:
    """Every number whose sources differ, the widest range first: what each source prints, its status and note, as text.

    Ranges are wide relative to their lower end.
    """
    found = numbers(published)
    found = found[found["differs"]]
    found = found.assign(spread=(found["high"] - found["low"]) / found["low"])
    rows = []
    for told in found.sort_values("spread", ascending=False, kind="stable").itertuples():
        own = published[(published[NUMBER] == [getattr(told, key) for key in NUMBER]).all(axis=1)]
        own = own.sort_values(["status", "value"], key=lambda of: of.map(STATUSES.index) if of.name == "status" else of)
        printed = [f"{row.printed} {row.status}: {_source_and_note(row)}" for row in own.itertuples()]
        place = f"{told.dataset} {told.resolution}, {PLACES.get(told.protocol, f'protocol {told.protocol}')}"
        parted = f"{told.printed}, {share(told.spread)} apart"
        rows.append([told.method, _heading(told.metric), place, "\n".join([parted, *printed])])
    return pandas.DataFrame(rows, columns=["method", "metric", "where", "range and sources"])
