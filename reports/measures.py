"""A metric as tables and figures speak of it: title, unit, where better values are, the metrics it is shown with.

All of it follows from the catalogue of `xinggan.metrics`; a metric of another version, unknown there, keeps its bare
name and has no direction.
"""

from collections.abc import Iterable
from typing import Any

from xinggan.metrics.catalogue import METRICS

GROUPS = (
    "Each generated image beside its target",
    "All generated images together",
    "Against the training images",
    "The real test images under the same metrics: what a perfect method would reach",
)


def title(name: str) -> str:
    return METRICS[name].title if name in METRICS else name


def unit(name: str) -> str:
    return METRICS[name].unit if name in METRICS else ""


def higher_is_better(name: str) -> bool | None:
    """None for a metric that the catalogue does not know."""
    return METRICS[name].higher_is_better if name in METRICS else None


def heading(name: str) -> str:
    """Title, unit and an arrow to where better values are: `PSNR [dB] ↑`."""
    arrow = {True: " ↑", False: " ↓", None: ""}[higher_is_better(name)]
    return title(name) + (f" [{unit(name)}]" if unit(name) else "") + arrow


def quantity(name: str) -> str:
    """An axis label: title and unit."""
    return title(name) + (f" in {unit(name)}" if unit(name) else "")


def direction(name: str) -> str:
    """A label for an axis under the metric's title: its unit, and where better values are."""
    measured_in = f"{unit(name)}, " if unit(name) else ""
    pointing = {True: f"{measured_in}higher is better →", False: f"← {measured_in}lower is better", None: unit(name)}
    return pointing[higher_is_better(name)]


def group(name: str) -> str:
    """One of GROUPS."""
    if name.endswith("_real"):
        return GROUPS[3]
    if name.endswith("_train"):
        return GROUPS[2]
    return GROUPS[0] if name not in METRICS or METRICS[name].per_image else GROUPS[1]


def in_order(names: Iterable[str]) -> list[str]:
    """Distinct names in the catalogue's order, unknown ones at the end."""
    places = {name: place for place, name in enumerate(METRICS)}
    return sorted(set(names), key=lambda name: (places.get(name, len(places)), name))


def as_text(value: Any) -> str:
    """A value of a configuration or a protocol as a reader writes it: true, null, 0.0002, [1, 3, 6, 8]."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(as_text(item) for item in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
