"""Timing: what generating an image and training a network cost, and what quality that buys."""

from pathlib import Path

from markupsafe import Markup

from reports import figures, quality_time, ratios, timing_figures
from reports import timing as costs
from reports.embedded import figure, kept_table
from reports.markup import Shown, details, join, listing, paragraph
from reports.records import Records


def latencies(records: Records, output: Path | str) -> Shown:
    """Distributions of the samples and throughput; trivial references cost nothing."""
    records, output = records.methods, Path(output)
    _, rows, failed = costs.timing_table(records)
    if not rows:
        return Shown(join([paragraph("No run has been timed.", "none"), listing(failed)]))
    caption = (
        "Samples as dots, 5th to 95th percentile as a line, the median as a bar. The first call is not among them."
    )
    parts = [listing(costs.noise(records)), figure(figures.timing_distributions, records, output, "timing", caption)]
    caption = "Images a second by batch, from the median of each batch; a line ends where memory or patience did."
    parts.append(figure(timing_figures.throughput, records, output, "throughput", caption))
    return Shown(join(parts))


def quality_against_time(records: Records, output: Path | str) -> Shown:
    """The Pareto front of each test set."""
    output, parts = Path(output), []
    for number, group in enumerate(records.methods.by_dataset().values(), start=1):
        parts.append(front_figure(group, output, number))
        front = quality_time.front_rows(group)
        caption = "Pareto front of quality and time"
        parts.append(kept_table(output, f"quality-time-{number}", quality_time.FRONT_HEADS, front, caption))
    shown = join(parts)
    return Shown(shown or paragraph("No two runs have both a quality and a latency.", "none"))


def front_figure(group: Records, output: Path, number: int) -> Markup:
    """Quality against time of the methods on one test set."""
    caption = "Quality against time; the line is the best that can be had for each latency."
    return figure(timing_figures.quality_against_time, group, output, f"quality-time-{number}", caption)


def schedules(records: Records, output: Path | str) -> Shown:
    """Hours that the published schedules would take here, and the ratios to PIDM beside the paper's."""
    output, parts = Path(output), []
    for number, group in enumerate(records.methods.by_dataset().values(), start=1):
        presets = " and ".join(sorted({str(record.facts.get("preset", "not recorded")) for record in group}))
        caption = f"Hours of the published schedules at the images a second of networks of preset {presets}"
        hours = ratios.schedule_rows(group)
        parts.append(kept_table(output, f"schedules-{number}", ratios.SCHEDULE_HEADS, hours, caption))
        caption = "Ratios to PIDM, measured here at batch 1, beside the claims of the paper of XingGAN++"
        beside = ratios.ratio_rows(group)
        parts.append(kept_table(output, f"ratios-{number}", ratios.RATIO_HEADS, beside, caption))
    return Shown(join(parts) or paragraph("No training was timed with a published schedule, nor PIDM.", "none"))


def scenarios(records: Records, output: Path | str) -> Shown:
    """Every timed scenario, and why others could not be timed."""
    records = records.methods
    heads, rows, failed = costs.timing_table(records)
    if not rows:
        return Shown(paragraph("No run has been timed.", "none"))
    caption = f"Timing scenarios: {costs.common_circumstances(records)}"
    shown = kept_table(Path(output), "scenarios", heads, rows, caption)
    if len(rows) > costs.DISTRIBUTIONS:
        shown = details(f"All {len(rows)} timing scenarios", shown)
    return Shown(join([shown, listing(failed)]))
