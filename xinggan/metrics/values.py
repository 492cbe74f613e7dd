"""Results of scoring a set of images: values that carry their protocol, and reasons where there is no value."""

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xinggan.files import write_atomically
from xinggan.metrics.catalogue import title
from xinggan.metrics.protocol import Protocol, plain
from xinggan.weights_files import MetricUnavailable

if TYPE_CHECKING:
    import pandas as pd

    from xinggan.data.packed import PackedSplit


@dataclass(frozen=True)
class MetricValue:
    """One metric of one set: a finite value, or None and the reason. An entry of metrics.json."""

    metric: str  # a name of the catalogue
    value: float | None
    protocol: dict[str, Any]  # everything the value depends on besides the images
    n: int | None  # images that the value comes from; None in a record that does not say
    unavailable_because: str | None = None

    @property
    def protocol_key(self) -> str:
        return protocol_key(self.protocol)


def protocol_key(protocol: dict[str, Any]) -> str:
    """A value's protocol as text: two values are comparable only when these are equal.

    What the images decide does not count (which pairs have no value), nor do patch releases of torch.
    """
    shared = {key: value for key, value in protocol.items() if key != "left_out"}
    if "library" in shared:
        shared["library"] = re.sub(r"^(torch \d+\.\d+)\.\d+", r"\1", str(shared["library"]))
    return json.dumps(shared, sort_keys=True, default=str)


@dataclass
class Scores:
    """All metrics of one set under one protocol, in the order they were computed, and the per-image ones for each pair.

    Metrics that the protocol does not define are left out.
    """

    protocol: Protocol
    values: list[MetricValue] = field(default_factory=list)
    per_image: dict[str, NDArray[np.float64]] = field(default_factory=dict)  # [n] each; NaN where a pair has none

    def wanted(self, *metrics: str) -> list[str]:
        """The part of `metrics` that the protocol defines."""
        return [metric for metric in metrics if metric in self.protocol.metrics]

    def described(self, *groups: Any, **more: Any) -> dict[str, Any]:
        """A value's protocol: its name, the groups of settings the value used, and what else there is to say."""
        stated: dict[str, Any] = {"name": self.protocol.name, "quantisation": self.protocol.quantisation}
        for group in groups:
            stated |= plain(group)
        return stated | more

    def add(self, metric: str, value: float, protocol: dict[str, Any], n: int) -> None:
        """Record a value. Raises ValueError if it is not finite: such a number means a defect, not a result."""
        if not math.isfinite(value):
            raise ValueError(f"{title(metric)} ({metric}) came out as {value} over {n} images; it is not recorded")
        if self.wanted(metric):
            self.values.append(MetricValue(metric, float(value), protocol, n))

    def add_per_image(
        self,
        metric: str,
        per_image: NDArray[np.float64],
        protocol: dict[str, Any],
        nan_means: str | None = None,
        value: float | None = None,
    ) -> None:
        """Record one value a pair [n], and as the set's value their mean (or `value`).

        NaN is an error unless `nan_means` says what it stands for; such pairs are left out and not counted in n.
        """
        counted = per_image if nan_means is None else per_image[~np.isnan(per_image)]
        if not len(counted):
            self.add_unavailable([metric], f"{nan_means} in all {len(per_image)} pairs", protocol)
            return
        left_out = {} if nan_means is None else {"left_out": f"{len(per_image) - len(counted)} pairs: {nan_means}"}
        self.add(metric, float(counted.mean()) if value is None else value, {**protocol, **left_out}, len(counted))
        self.per_image[metric] = per_image

    def add_unavailable(self, metrics: Iterable[str], reason: str, protocol: dict[str, Any], n: int = 0) -> None:
        """Record that these metrics have no value, and why."""
        self.values.extend(MetricValue(metric, None, protocol, n, reason) for metric in self.wanted(*metrics))

    def attempt(self, metrics: list[str], compute: Callable[[], Any], protocol: dict[str, Any], n: int) -> None:
        """Record what `compute` gives, a number or one for each of `metrics`, or the reason why it cannot. Nothing is
        computed unless the protocol defines one of them."""
        if not self.wanted(*metrics):
            return
        try:
            values = compute()
        except MetricUnavailable as reason:
            self.add_unavailable(metrics, str(reason), protocol, n)
            return
        for metric, value in zip(metrics, values if isinstance(values, tuple) else (values,), strict=True):
            self.add(metric, value, protocol, n)


def write_scores(folder: Path, scores: Sequence[Scores], split: "PackedSplit", pairs: NDArray[np.integer]) -> None:
    """Write metrics.json, a line for each value, and per_image.parquet of a run's record. pairs: rows of the split's
    pairs."""
    lines = ",\n".join(json.dumps(asdict(value)) for under in scores for value in under.values)
    table = per_image_table(scores, split, pairs)
    write_atomically(folder / "per_image.parquet", table.to_parquet(index=False, compression="zstd"))
    write_atomically(folder / "metrics.json", f"[\n{lines}\n]\n")


def per_image_table(
    scores: Iterable[Scores], split: "PackedSplit", pairs: NDArray[np.integer] | None = None
) -> "pd.DataFrame":
    """The content of per_image.parquet: one row a protocol, metric and test pair.

    Columns: pair, pair_id, the source's identity, protocol (its name), metric, value, NaN where a pair has none.
    scores: of `pairs`, rows of the split's pairs (None: all).
    """
    import pandas as pd

    rows = np.arange(len(split)) if pairs is None else pairs
    about = {
        "pair": rows,
        "pair_id": [split.pair_id(int(row)) for row in rows],
        "identity": split.identities[split.pairs[rows, 0]],
    }
    tables = [
        pd.DataFrame({**about, "protocol": under.protocol.name, "metric": metric, "value": values})
        for under in scores
        for metric, values in under.per_image.items()
    ]
    return pd.concat(tables) if tables else pd.DataFrame()
