"""Effects as tables: one to read, with what helps beside what it costs, and one with everything behind it."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas
from markupsafe import Markup

from reports import measures
from reports.contrasts import Contrast
from reports.effects import Cost, Effect
from reports.standings import p_text
from reports.tables import decimals_for
from reports.timing import number

COST_HEADS = ("parameters", "training images/s", "latency [ms]")
TEST_HEADS = (
    *("with", "difference", "95 % interval", "n", "seeds"),
    *("probability that a run is better", "pairs on which it is better", "test"),
)
DASH, MINUS = "–", "\u2212"
TOLD = {"not shown": "no difference shown"}


def summary(
    contrasts: Sequence[Contrast], effects: Sequence[Effect], costs: Sequence[Cost]
) -> tuple[list[str], list[list[Markup]]]:
    """Heads, rows: a contrast with its difference under each metric, bold where a test stands behind it, and costs."""
    metrics = list(dict.fromkeys(effect.metric for effect in effects))
    found = {(effect.contrast, effect.metric): effect for effect in effects}
    decimals = _decimals(effects)
    rows = []
    for contrast, cost in zip(contrasts, costs, strict=True):
        cells = [_difference(found.get((contrast, metric)), decimals[metric]) for metric in metrics]
        more = [_change(pair) for pair in (cost.parameters, cost.training_images_per_second, cost.latency_ms)]
        rows.append([_named(contrast), *cells, *more])
    return ["with", *(measures.heading(metric) for metric in metrics), *COST_HEADS], rows


def tests_by_metric(effects: Sequence[Effect]) -> dict[str, list[list[Any]]]:
    """Metric -> cells under TEST_HEADS, a row a contrast; bold where a test stands behind the difference."""
    decimals = _decimals(effects)
    tables: dict[str, list[list[Any]]] = {}
    for effect in effects:
        found, places = effect.columns, decimals[effect.metric]
        of = "people" if found["over"].startswith("identities") else "runs"
        told = [
            _bold_if_tested(effect, places),
            _interval(effect, places) or DASH,
            f"{found['n']} {of}",
            found["seeds"],
            _share(found, "better_runs", ".2f"),
            _share(found, "better_pairs", ".0%"),
            p_text(found["p_holm"]) if effect.was_tested else "not tested",
        ]
        tables.setdefault(effect.metric, []).append([_named(effect.contrast), *told])
    return tables


def effect_frame(effects: Sequence[Effect]) -> pandas.DataFrame:
    """A row an effect with its columns as `reports.comparison.differences` has them, unrounded: for other programs."""
    named = (
        {"with": effect.contrast.what, "instead_of": effect.contrast.instead_of, "metric": effect.metric}
        for effect in effects
    )
    return pandas.DataFrame([{**name, **effect.columns} for name, effect in zip(named, effects, strict=True)])


def _decimals(effects: Iterable[Effect]) -> dict[str, int]:
    """Of each metric, as its largest number needs."""
    largest: dict[str, float] = {}
    for effect in effects:
        ends = [effect.columns["difference"], *(effect.interval or ())]
        largest[effect.metric] = max(largest.get(effect.metric, 0.0), *map(abs, ends))
    return {metric: decimals_for(value) for metric, value in largest.items()}


def _difference(effect: Effect | None, decimals: int) -> Markup:
    if effect is None:
        return Markup(DASH)
    lines = [_interval(effect, decimals), TOLD.get(effect.verdict, effect.verdict)]
    small = Markup("").join(map(_small, filter(None, lines)))
    return _bold_if_tested(effect, decimals) + small


def _named(contrast: Contrast) -> Markup:
    return Markup("{}<small>instead of {}</small>").format(contrast.what, contrast.instead_of)


def _bold_if_tested(effect: Effect, decimals: int) -> Markup:
    shown = Markup("<strong>{}</strong>" if effect.verdict in ("better", "worse") else "{}")
    return shown.format(_signed(effect.columns["difference"], decimals))


def _change(pair: tuple[float, float] | None) -> Markup:
    """`+3.1` and below it `+12.0 %` of what the other side costs."""
    if pair is None:
        return Markup(DASH)
    change = pair[0] - pair[1]
    if not change:
        return Markup("same")
    told = f"{abs(change):,}" if isinstance(change, int) else number(abs(change))
    relative = f"{_signed(100 * change / pair[1], 1)} %" if pair[1] else ""
    return Markup("{}{}").format(MINUS if change < 0 else "+", told) + _small(relative)


def _interval(effect: Effect, decimals: int) -> str:
    return f"[{', '.join(_signed(end, decimals) for end in effect.interval)}]" if effect.interval else ""


def _share(found: dict, name: str, form: str) -> str:
    share, low, high = found[name], found[f"{name}_low"], found[f"{name}_high"]
    if not math.isfinite(share):  # one seed, or no values by pair
        return DASH
    return f"{share:{form}} [{low:{form}}, {high:{form}}]" if math.isfinite(low) else f"{share:{form}}"


def _signed(value: float, decimals: int) -> str:
    """`+0.012` or `−0.012`, with a minus sign; nothing is below zero that rounds to it."""
    return f"{value:+z.{decimals}f}".replace("-", MINUS)


def _small(text: str) -> Markup:
    return Markup("<small>{}</small>").format(text.replace(" ", "\u00a0"))
