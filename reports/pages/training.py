"""Training: how losses and metrics went, what came apart, and what it took."""

from pathlib import Path

from reports import divergence as events
from reports import figures
from reports import timing as costs
from reports.embedded import figure, kept_table
from reports.markup import Shown, join, paragraph
from reports.records import Records


def curves(records: Records, output: Path | str) -> Shown:
    """Learning curves, then the metrics that were measured during training."""
    faint = "Losses during training; long curves are drawn faintly, with their running median on top."
    losses = figure(figures.learning_curves, records, Path(output), "learning-curves", faint)
    measured = "Metrics measured during training."
    evaluations = figure(figures.evaluation_curves, records, Path(output), "evaluations", measured)
    none = "" if losses else paragraph("No run has a history of losses.", "none")
    return Shown(join([losses, none, evaluations]))


def divergence(records: Records, output: Path | str) -> Shown:
    """Trainings that came apart or stopped, and in what step; else that none did."""
    looked_at = len(events.trained(records))
    if not looked_at:
        return Shown(paragraph("No run has been trained.", "none"))
    rows = events.divergence_rows(records)
    if rows:
        return Shown(kept_table(Path(output), "divergence", events.HEADS, rows, "What came apart or stopped", ""))
    told = (
        f"None of {looked_at} trainings came apart or stopped: every loss and gradient norm is finite, and no sum of "
        f"losses rose above {events.EXPLODED:g} times its running median."
    )
    return Shown(paragraph(told))


def cost(records: Records, output: Path | str) -> Shown:
    """Size of each network and what its training took."""
    rows = costs.cost_rows(records)
    if not rows:
        return Shown(paragraph("No run has been trained.", "none"))
    return Shown(kept_table(Path(output), "cost", costs.COST_HEADS, rows, "Size and training"))
