"""Published numbers beside measured ones: reports/literature.csv, a row a number with its protocol, status and source.

Two numbers of one name are comparable only on the same data set, at the same resolution, under the same protocol. Such
a row may stand in a ranking with measured ones; any other is listed apart, with the reason. `fid_imagenet` is what the
tables of GFLA, PIDM and CFLD call FID.
"""

import csv
import math
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.measures import higher_is_better, in_order
from xinggan.metrics.catalogue import METRICS
from xinggan.metrics.protocol import PROTOCOLS

if TYPE_CHECKING:
    import pandas

    from reports.query import MetricValues
    from reports.records import Records

LITERATURE = Path(__file__).with_name("literature.csv")
DATASETS = ("market1501", "deepfashion")
STATUSES = ("claimed", "quoted", "paper as quoted", "rerun by a user", "retrained by a user")
# What has no protocol of the suite: its `protocol` says on which device, or with respect to what.
COSTS = ("inference_seconds", "training_gpu_days", "inference_speedup_over_pidm", "training_speedup_over_pidm")
COST_REASON = "the source does not say everything that a time depends on (device, batch, precision, steps)"


class LiteratureError(ValueError):
    """The file of published numbers has mistakes; the message lists all of them with their rows."""


@dataclass(frozen=True)
class Published:
    """One published number."""

    method: str
    dataset: str
    resolution: str  # height x width in pixels
    metric: str  # as in the suite's catalogue, or one of COSTS
    value: float
    protocol: str
    status: str  # one of STATUSES: who obtained the number, and how we know it
    source: str


def read_literature(path: Path | str = LITERATURE) -> list[Published]:
    """All published numbers of a file. Raises LiteratureError with every mistake in it and what is accepted."""
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            rows, heads = list(reader), list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LiteratureError(f"{path}: not readable as CSV ({error})") from error
    expected = [field.name for field in fields(Published)]
    if heads != expected:
        raise LiteratureError(f"{path}: the columns are {', '.join(heads) or 'none'}; expected {', '.join(expected)}")
    problems: list[str] = []
    seen: dict[tuple[str, ...], int] = {}
    for number, row in enumerate(rows, start=2):
        wrong = _problems(row)
        earlier = seen.setdefault(tuple(map(str, row.values())), number)
        if earlier != number:
            wrong.append(f"says the same as row {earlier}")
        problems += [f"row {number}: {problem}" for problem in wrong]
    if problems:
        raise LiteratureError(f"{path} has {len(problems)} mistakes:\n  " + "\n  ".join(problems))
    typed: list[dict[str, Any]] = [row | {"value": float(row["value"])} for row in rows]
    return [Published(**row) for row in typed]


def _problems(row: dict[str, Any]) -> list[str]:
    if None in row or None in row.values():
        return [f"{len([v for v in row.values() if isinstance(v, str)])} fields where 8 are expected"]
    problems = [f"no {key}" for key, text in row.items() if not text.strip()]
    problems += [f"a space around {key} {text!r}" for key, text in row.items() if text.strip() and text != text.strip()]
    choices = {"dataset": DATASETS, "metric": (*METRICS, *COSTS), "status": STATUSES}
    if row["metric"] not in COSTS:
        choices["protocol"] = PROTOCOLS
    problems += [
        f"{key} {row[key]!r} is none of {', '.join(known)}"
        for key, known in choices.items()
        if row[key].strip() and row[key] not in known
    ]
    if row["resolution"] and not re.fullmatch(r"[1-9]\d*x[1-9]\d*", row["resolution"]):
        problems.append(f"resolution {row['resolution']!r} is not height x width, such as 256x176")
    try:
        value = float(row["value"] or 1)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value <= 0:
        problems.append(f"value {row['value']!r} is not a positive number")
    return problems


def beside(records: "Records", published: list[Published]) -> "tuple[list[pandas.DataFrame], pandas.DataFrame]":
    """Rankings of comparable numbers, and the published rows that are in none of them with the reason.

    A ranking is a frame of one data set, resolution, metric and protocol (in its `attrs`), best first: name, value,
    low, high, n, status, source. Measured rows have the status "measured here", an interval over seeds where there are
    several, and their n; published ones have none, so none of them passes a test.
    """
    import pandas

    shelves: dict[tuple[str, str, str], list[Published]] = {}
    apart: list[dict[str, Any]] = []
    for row in published:
        reason = why_apart(row, records)
        if reason is None:
            shelves.setdefault((f"{row.dataset} {row.resolution}", row.metric, row.protocol), []).append(row)
        else:
            apart.append({**vars(row), "apart_because": reason})
    order = in_order(metric for _, metric, _ in shelves)
    rankings = [
        ranking(records, dataset, metric, protocol, shelves[dataset, metric, protocol])
        for dataset, metric, protocol in sorted(shelves, key=lambda key: (key[0], order.index(key[1]), key[2]))
    ]
    return rankings, pandas.DataFrame(apart, columns=[*(field.name for field in fields(Published)), "apart_because"])


def why_apart(row: Published, records: "Records") -> str | None:
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


def ranking(
    records: "Records", dataset: str, metric: str, protocol: str, published: list[Published]
) -> "pandas.DataFrame":
    """Measured values of one metric on one data set (`market1501 128x64`) under one protocol with published ones."""
    import pandas

    from reports.records import Records

    here = Records([record for record in records if record.dataset == dataset], records.whole)
    measured = _measured(here.metric(metric, protocol=protocol))
    quoted = [{"name": p.method, "value": p.value, "status": p.status, "source": p.source} for p in published]
    columns = ["name", "value", "low", "high", "n", "status", "source"]
    frame = pandas.DataFrame([*measured, *quoted], columns=columns)
    frame = frame.sort_values("value", ascending=higher_is_better(metric) is False, kind="stable", ignore_index=True)
    frame.attrs = {"dataset": dataset, "metric": metric, "protocol": protocol}
    return frame


def _measured(values: "MetricValues") -> list[dict[str, Any]]:
    """A row for each name of runs and data set: two test sets of one size stay two rows."""
    answer = values.by("name", "dataset_digest", over="seeds").dropna(subset=["value"]).reset_index()
    return [
        {key: row[key] for key in ("name", "value", "low", "high", "n")}
        | {"status": "measured here", "source": f"runs of this report on data {str(row['dataset_digest'])[:8]}"}
        for row in answer.to_dict("records")
    ]
