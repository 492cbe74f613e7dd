"""Published numbers beside measured ones: reports/literature.csv, a row a number with its protocol, status and source.

Two numbers of one name are comparable only on the same data set, at the same resolution, under the same protocol. Such
a row may stand in a ranking with measured ones; any other is listed apart, with the reason. `fid_imagenet` is what the
tables of GFLA, PIDM and CFLD call FID.
"""

import csv
import re
from pathlib import Path

import pandas

from reports.formats import DASH, Columns, interval, or_dash, text_table
from reports.records import Records
from xinggan.metrics import catalogue
from xinggan.metrics.protocol import PROTOCOLS

LITERATURE = Path(__file__).with_name("literature.csv")
COLUMNS = ["method", "dataset", "resolution", "metric", "value", "protocol", "status", "source"]
DATASETS = ("market1501", "deepfashion")
STATUSES = ("claimed", "quoted", "paper as quoted", "rerun by a user", "retrained by a user")
# What has no protocol of the suite: its `protocol` says on which device, or with respect to what.
COSTS = ("inference_seconds", "training_gpu_days", "inference_speedup_over_pidm", "training_speedup_over_pidm")
COST_REASON = "the source does not say everything that a time depends on (device, batch, precision, steps)"


def read_literature(path: Path | str = LITERATURE) -> pandas.DataFrame:
    """All published numbers of a file (COLUMNS). Raises ValueError with every mistake and what is accepted."""
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
        raise ValueError(f"{path} has {len(problems)} mistakes:\n  " + "\n  ".join(problems))
    return pandas.DataFrame(rows, columns=COLUMNS).astype({"value": float})


def _problems(cells: list[str]) -> list[str]:
    if len(cells) != len(COLUMNS):
        return [f"{len(cells)} fields where {len(COLUMNS)} are expected"]
    row = dict(zip(COLUMNS, cells, strict=True))
    problems = [
        f"no {key}, or a space around it: {text!r}" for key, text in row.items() if not text or text != text.strip()
    ]
    choices = {"dataset": DATASETS, "metric": (*catalogue.METRICS, *COSTS), "status": STATUSES}
    choices |= {} if row["metric"] in COSTS else {"protocol": PROTOCOLS}
    problems += [f"{key} {row[key]!r} is none of {', '.join(of)}" for key, of in choices.items() if row[key] not in of]
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", row["resolution"]):
        problems.append(f"resolution {row['resolution']!r} is not height x width, such as 256x176")
    if not re.fullmatch(r"\d*\.?\d+", row["value"]) or not float(row["value"]):
        problems.append(f"value {row['value']!r} is not a positive number")
    return problems


def beside(records: Records, published: pandas.DataFrame) -> tuple[list[pandas.DataFrame], pandas.DataFrame]:
    """Rankings of comparable numbers, and the published rows that are in none of them with the reason `apart_because`.

    A ranking is a frame of one data set, resolution, metric and protocol (in its `attrs`), best first: name, value,
    low, high, n, status, source. Measured rows have the status "measured here", an interval over seeds where there are
    several, and their n; published ones have none, so none of them passes a test.
    """
    reasons = [why_apart(row, records) for row in published.itertuples()]
    published = published.assign(apart_because=reasons)
    ranked = published[published["apart_because"].isna()]
    place = {metric: place for place, metric in enumerate(catalogue.in_order(ranked["metric"]))}
    ranked = ranked.assign(dataset=ranked["dataset"] + " " + ranked["resolution"], place=ranked["metric"].map(place))
    rankings = []
    for (dataset, _, metric, protocol), quoted in ranked.groupby(["dataset", "place", "metric", "protocol"]):
        measured = _measured(records, dataset, metric, protocol)
        frame = pandas.concat([measured, quoted.rename(columns={"method": "name"})], ignore_index=True)
        frame = frame[["name", "value", "low", "high", "n", "status", "source"]]
        lowest_first = catalogue.higher_is_better(metric) is False
        frame = frame.sort_values("value", ascending=lowest_first, kind="stable", ignore_index=True)
        frame.attrs = {"dataset": dataset, "metric": metric, "protocol": protocol}
        rankings.append(frame)
    return rankings, published.dropna(subset=["apart_because"])


def why_apart(row, records: Records) -> str | None:
    """Why no measured value may stand in a ranking with a published one; None where one may."""
    if row.metric in COSTS:
        return COST_REASON
    dataset = f"{row.dataset} {row.resolution}"
    there = [record for record in records if record.dataset == dataset]
    if not there:
        sizes = sorted({record.dataset for record in records if record.dataset.split()[0] == row.dataset})
        return f"no run on {dataset}" + (f", only on {', '.join(sizes)}" if sizes else "")
    measured = [m for record in there for m in record.measurements if m.metric == row.metric and m.value is not None]
    if not measured:
        return f"no run on {dataset} has a value of {row.metric}"
    protocols = sorted({str(measurement.protocol.get("name")) for measurement in measured})
    if row.protocol not in protocols:
        return f"published under the protocol {row.protocol}, measured under {', '.join(protocols)}"
    return None


def _measured(records: Records, dataset: str, metric: str, protocol: str) -> pandas.DataFrame:
    """A row for each name of runs and test set: two test sets of one size stay two rows."""
    here = Records(record for record in records if record.dataset == dataset)
    answer = here.metric(metric, protocol=protocol).by("name", "dataset_digest", over="seeds")
    answer = answer.dropna(subset=["value"]).reset_index()
    source = [f"runs of this report on data {str(digest)[:8]}" for digest in answer["dataset_digest"]]
    return answer.assign(status="measured here", source=source)


def ranking_table(ranking: pandas.DataFrame) -> pandas.DataFrame:
    """A ranking as text."""
    between = [interval(row.low, row.high, ".4f") or DASH for row in ranking.itertuples()]
    columns: Columns = {"name": ("name", str), "value": ("value", "{:.4g}".format), "95 % interval": ("between", str)}
    others: Columns = {key: (key, or_dash) for key in ("n", "status", "source")}
    return text_table(ranking.assign(between=between), {**columns, **others})
