"""Training: how losses and metrics went, and what it took."""

from pathlib import Path

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


def cost(records: Records, output: Path | str) -> Shown:
    """Size of each network and what its training took."""
    rows = costs.cost_rows(records)
    if not rows:
        return Shown(paragraph("No run has been trained.", "none"))
    return Shown(kept_table(Path(output), "cost", costs.COST_HEADS, rows, "Size and training"))
