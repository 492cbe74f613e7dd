"""Effects as tables: one to read, with what helps beside what it costs, and one with everything behind it."""

from collections.abc import Sequence

from markupsafe import Markup

from reports import measures
from reports.contrasts import Contrast
from reports.effects import Cost, Effect
from reports.standings import interval, p_text
from reports.timing import number

COST_HEADS = ("parameters", "images/s while training", "latency [ms]")
EFFECT_HEADS = (
    *("with", "instead of", "metric", "difference", "95 % interval", "n", "seeds"),
    *("probability that a run is better", "pairs on which it is better", "test", "verdict"),
)
DASH = "–"
MINUS = "\u2212"
TOLD = {"not shown": "no difference shown"}


def summary(
    contrasts: Sequence[Contrast], effects: Sequence[Effect], costs: Sequence[Cost]
) -> tuple[list[str], list[list[Markup]]]:
    """Heads, rows: a contrast with its difference under each metric, bold where a test stands behind it, and costs."""
    metrics = list(dict.fromkeys(effect.metric for effect in effects))
    found = {(effect.contrast, effect.metric): effect for effect in effects}
    rows = []
    for contrast, cost in zip(contrasts, costs, strict=True):
        cells = [_difference(found.get((contrast, metric))) for metric in metrics]
        more = [
            _change(cost.parameters),
            _change(cost.training_images_per_second),
            _change(cost.latency_ms),
        ]
        named = Markup("{}<small>instead of {}</small>").format(contrast.what, contrast.instead_of)
        rows.append([named, *cells, *more])
    return ["with", *(measures.heading(metric) for metric in metrics), *COST_HEADS], rows


def effect_rows(effects: Sequence[Effect]) -> list[list[str]]:
    """Cells under EFFECT_HEADS, metric by metric."""
    rows = []
    for effect in effects:
        found = effect.columns
        told = [
            signed(f"{found['difference']:+.4f}"),
            _interval(found["low"], found["high"], "+.4f"),
            f"{found['n']} {found['over']}",
            found["seeds"],
            _share(found, "better_runs", ".2f"),
            _share(found, "better_pairs", ".0%"),
            p_text(found["p_holm"]) if effect.was_tested else "not tested",
            TOLD.get(effect.verdict, effect.verdict),
        ]
        rows.append([effect.contrast.what, effect.contrast.instead_of, measures.heading(effect.metric), *told])
    return rows


def _difference(effect: Effect | None) -> Markup:
    if effect is None:
        return Markup(DASH)
    shown = Markup("<strong>{}</strong>" if effect.verdict in ("better", "worse") else "{}")
    cell = shown.format(signed(f"{effect.columns['difference']:+.4f}"))
    if effect.interval:
        cell += _small(_interval(*effect.interval, "+.4f"))
    return cell + _small(TOLD.get(effect.verdict, effect.verdict))


def _change(pair: tuple[float, float] | None) -> Markup:
    """`+3.1` and below it `+12.0 %` of what the other side costs."""
    if pair is None:
        return Markup(DASH)
    change = pair[0] - pair[1]
    if not change:
        return Markup("same")
    told = f"{abs(change):,}" if isinstance(change, int) else number(abs(change))
    relative = f"{100 * change / pair[1]:+.1f} %" if pair[1] else ""
    return Markup("{}{}").format(MINUS if change < 0 else "+", told) + _small(signed(relative))


def _interval(low: float, high: float, form: str) -> str:
    """As `reports.standings.interval`, with signs."""
    return signed(f"[{low:{form}}, {high:{form}}]") if interval(low, high, 0) else DASH


def _share(found: dict, name: str, form: str) -> str:
    share, low, high = found[name], found[f"{name}_low"], found[f"{name}_high"]
    if share != share:  # NaN: one seed, or no values by pair
        return DASH
    return f"{share:{form}} [{low:{form}}, {high:{form}}]" if interval(low, high, 0) else f"{share:{form}}"


def signed(text: str) -> str:
    """With a minus sign, not a hyphen."""
    return text.replace("-", MINUS)


def _small(text: str) -> Markup:
    return Markup("<small>{}</small>").format(text.replace(" ", "\u00a0"))
