"""The forest plot of an ablation: one panel a metric, one line a contrast, its interval beside the zero line."""

from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import measures
from reports.contrasts import ADDS, Contrast
from reports.effects import Effect
from reports.panels import legend, panels, title_of, wrap
from reports.style import SETTINGS, WIDE_INCHES, Look

VERDICTS = {  # colour and marker say the same, so that nothing depends on seeing colour
    "better": Look("#0072B2", "o", "solid"),
    "worse": Look("#D55E00", "s", "solid"),
    "not shown": Look("#7a7a7a", "D", "solid"),
    "not tested": Look("#7a7a7a", "x", "none"),
}
MEANINGS = {
    "better": "better (p < 0.05, Holm)",
    "worse": "worse (p < 0.05, Holm)",
    "not shown": "no difference shown",
    "not tested": "not tested: one seed",
}


@rc_context(SETTINGS)
def forest(effects: Sequence[Effect], inches: float = WIDE_INCHES) -> Figure | None:
    """Difference and 95 % interval of each contrast under each metric; nothing where there is no effect."""
    contrasts = list(dict.fromkeys(effect.contrast for effect in effects))
    metrics = list(dict.fromkeys(effect.metric for effect in effects))
    if not contrasts:
        return None
    labels = [wrap(_label(contrast), inches, wide=30, narrow=19) for contrast in contrasts]
    lines = max(label.count("\n") + 1 for label in labels)
    height = 0.8 + max(0.34, 0.18 * lines) * len(contrasts)
    figure, every = panels([height] * len(metrics), inches, per_row=2, sharey=True)
    for metric, axes in zip(metrics, every, strict=True):
        axes.axvline(0, color="#1a1a1a", linewidth=1, zorder=1)
        for effect in effects:
            if effect.metric == metric:
                _draw(axes, effect, contrasts.index(effect.contrast))
        axes.set(title=title_of(measures.heading(metric)))
        axes.set_xlabel(f"difference: {measures.direction(metric)}", loc="right" if _grows(metric) else "left")
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.locator_params(axis="x", nbins=5)
        _show_zero(axes)
    present = {effect.verdict for effect in effects}
    drawn = {verdict: look for verdict, look in VERDICTS.items() if verdict in present}
    legend(figure, MEANINGS, drawn, inches)
    return figure


def _draw(axes: Axes, effect: Effect, row: int) -> None:
    look = VERDICTS[effect.verdict]
    if effect.interval:
        axes.plot(effect.interval, [row, row], color=look.colour, linewidth=2, solid_capstyle="butt")
    axes.plot(effect.columns["difference"], row, look.marker, color=look.colour, markersize=7)


def _grows(metric: str) -> bool:
    return measures.higher_is_better(metric) is not False


def _show_zero(axes: Axes) -> None:
    """Zero with some room on either side, wherever the intervals lie."""
    low, high = axes.get_xlim()
    reach = max(abs(low), abs(high))
    axes.set_xlim(min(low, -0.12 * reach), max(high, 0.12 * reach))


def _label(contrast: Contrast) -> str:
    return contrast.what if contrast.what.startswith(ADDS) else contrast.title
