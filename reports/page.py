"""The chapters of the report, one function each, as the notebook shows them.

Each takes the records (and the folder for the figures, grids and tables that are kept beside the page) and gives markup
that a notebook displays. A chapter about something that no record holds says so.
"""

import base64
import io
from collections.abc import Callable
from pathlib import Path

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from reports import figures, measures, provenance, quality_time, ratios, tables, timing_figures
from reports import timing as costs
from reports.grids import NARROW, WIDE, sample_grid
from reports.markup import Shown, details, join, listing, paragraph, table
from reports.record import STATES, Record
from reports.records import Records
from reports.style import NARROW_INCHES, SETTINGS, WIDE_INCHES
from xinggan.files import write_atomically

HEADLINES = ("ssim", "perceptual_embedded", "pckh_embedded", "lpips", "l1")
HEADLINES_SHOWN = 4
NARROW_PAGE_PX = 640


def overview(records: Records) -> Shown:
    """What was compared, in a sentence, and the headline numbers when there is one scored run."""
    runs = records.methods
    states = {state: len(runs.where(state=state)) for state in (*STATES, "unknown")}
    told = ", ".join(f"{count} {state}" for state, count in states.items() if count)
    of = ", ".join(sorted({record.method for record in runs})) or "no method"
    on = " and ".join(sorted({record.dataset for record in records}))
    sentence = f"{_plural(len(runs), 'run')} of {of} on {on}{': ' if told else ''}{told}."
    if records.references:
        sentence += f" References: {', '.join(dict.fromkeys(record.method for record in records.references))}."
    parts = [paragraph(sentence, "lead")]
    if incomplete := len(provenance.missing(records)):
        warning = Markup('<p class="warning">{} incomplete: see <a href="#What-is-missing">what is missing</a>.</p>')
        parts.append(warning.format(_plural(incomplete, "record is", "records are")))
    scored = [record for record in runs if any(row.value is not None for row in record.measurements)]
    return Shown(join([*parts, _headline_cards(records, scored[0]) if len(scored) == 1 else ""]))


def samples(records: Records, output: Path) -> Shown:
    """A sample grid for each test set."""
    parts = []
    for number, (heading, group) in enumerate(records.by_dataset().items(), start=1):
        wide, narrow = sample_grid(group, look=WIDE), sample_grid(group, look=NARROW)
        if wide is None or narrow is None:
            continue
        wide_png, narrow_png = _png(wide), _png(narrow)
        write_atomically(output / "figures" / f"samples-{number}.png", wide_png)
        images = _image("image/png", wide_png, wide.size), _image("image/png", narrow_png, narrow.size)
        caption = f"Test pairs of {heading}: what a method is given, the true target, then what each run generated."
        framed = Markup('<figure><div class="scroll" tabindex="0">{}</div><figcaption>{}</figcaption></figure>')
        parts.append(framed.format(_picture(*images, f"Sample grid, {heading}"), caption))
    return Shown(join(parts) if parts else paragraph("No run has kept example images.", "none"))


def metrics(records: Records, output: Path) -> Shown:
    """Metric dots and tables for each test set, and the tables' files."""
    parts: list[Markup] = []
    markdown: list[str] = []
    for number, (heading, group) in enumerate(records.by_dataset().items(), start=1):
        of_group, unavailable = tables.metric_tables(group)
        if not of_group and not unavailable:
            continue
        caption = f"Values on {heading}; a ground truth far outside is named at the edge."
        parts.append(_figure(figures.metric_dots, group, output, f"metrics-{number}", caption))
        parts += [one.as_html() for one in of_group]
        if unavailable:
            parts.append(details("Unavailable metrics", listing(unavailable), is_open=True))
        written = [one.as_markdown() for one in of_group]
        markdown.append("\n".join([f"## {heading}\n", *written, *(f"- {line}" for line in unavailable)]))
    if not parts:
        return Shown(paragraph("No run has been scored.", "none"))
    write_atomically(output / "tables" / "metrics.csv", tables.metric_frame(records).to_csv(index=False))
    write_atomically(output / "tables" / "metrics.md", "\n".join(markdown) + "\n")
    links = '<a href="tables/metrics.csv">CSV</a>, <a href="tables/metrics.md">Markdown</a>'
    files = Markup('<p class="files">All values with their protocols: {}.</p>').format(Markup(links))
    return Shown(join([*parts, files]))


def training(records: Records, output: Path) -> Shown:
    """Learning curves, metrics during training, and what training took."""
    faint = "Losses during training; long curves are drawn faintly, with their running median on top."
    losses = _figure(figures.learning_curves, records, output, "learning-curves", faint)
    measured = "Metrics measured during training."
    evaluations = _figure(figures.evaluation_curves, records, output, "evaluations", measured)
    none = "" if losses else paragraph("No run has a history of losses.", "none")
    rows = costs.cost_rows(records)
    cost = table(costs.COST_HEADS, rows, "Size and training", kind="numbers") if rows else ""
    return Shown(join([losses, none, evaluations, cost]))


def timing(records: Records, output: Path) -> Shown:
    """Latencies, throughput, quality against time, training hours, ratios; trivial references cost nothing."""
    records = records.methods
    heads, rows, failed = costs.timing_table(records)
    if not rows:
        return Shown(join([paragraph("No run has been timed.", "none"), listing(failed)]))
    caption = (
        "Samples as dots, 5th to 95th percentile as a line, the median as a bar. The first call is not among them."
    )
    parts = [listing(costs.noise(records)), _figure(figures.timing_distributions, records, output, "timing", caption)]
    caption = "Images a second by batch, from the median of each batch; a line ends where memory or patience did."
    parts.append(_figure(timing_figures.throughput, records, output, "throughput", caption))
    for number, group in enumerate(records.by_dataset().values(), start=1):
        caption = "Quality against time; the line is the best that can be had for each latency."
        parts.append(_figure(timing_figures.quality_against_time, group, output, f"quality-time-{number}", caption))
        if front := quality_time.front_rows(group):
            parts.append(table(quality_time.FRONT_HEADS, front, "Pareto front of quality and time", kind="numbers"))
        if hours := ratios.schedule_rows(group):
            presets = " and ".join(sorted({str(record.facts.get("preset", "not recorded")) for record in group}))
            caption = f"Hours of the published schedules at the images a second of networks of preset {presets}"
            parts.append(table(ratios.SCHEDULE_HEADS, hours, caption, kind="numbers"))
        if beside := ratios.ratio_rows(group):
            caption = "Ratios to PIDM, measured here at batch 1, beside the claims of the paper of XingGAN++"
            parts.append(table(ratios.RATIO_HEADS, beside, caption, kind="numbers"))
    scenarios = table(heads, rows, f"Timing scenarios: {costs.common_circumstances(records)}", kind="numbers")
    if len(rows) > costs.DISTRIBUTIONS:
        scenarios = details(f"All {len(rows)} timing scenarios", scenarios)
    return Shown(join([*parts, scenarios, listing(failed) if failed else ""]))


def configuration(records: Records) -> Shown:
    """What differs between the runs, then every setting of each."""
    runs, titles = records.methods or records, records.titles()
    heads, rows = provenance.differences(runs)
    every = []
    for record in runs:
        settings = table(["key", "value"], provenance.configuration(record), f"Configuration of {record.run}")
        every.append(details(titles[record.run], settings))
    caption = "What differs between the runs" if runs.differing() else "Switches"
    return Shown(join([table(heads, rows, caption), *every]))


def origins(records: Records) -> Shown:
    """The record directories and the environments they were made in."""
    parts = [table(provenance.RECORD_HEADS, provenance.record_rows(records), "Run records", kind="oneline")]
    for told, runs in provenance.environments(records).items():
        parts.append(details(f"Environment of {', '.join(runs)}", Markup("<pre>{}</pre>").format(told)))
    return Shown(join(parts))


def missing(records: Records) -> Shown:
    """What is unfinished, absent or unreadable, a paragraph a run, with the traceback of those that failed."""
    titles = records.titles()
    errors = {titles[record.run]: str(record.status["error"]) for record in records if record.status.get("error")}
    parts = []
    for run, sentences in provenance.missing(records).items():
        parts.append(Markup("<h3>{}</h3>{}").format(run, listing(sentences)))
        if run in errors:
            parts.append(details("Traceback", Markup("<pre>{}</pre>").format(errors[run])))
    return Shown(join(parts) if parts else paragraph("Nothing: every run is finished and its record complete.", "none"))


def _figure(
    draw: Callable[[Records, float], Figure | None], records: Records, output: Path, name: str, caption: str
) -> Markup:
    """The figure drawn for a wide and for a narrow page; the wide one is kept as <output>/figures/<name>.svg."""
    wide, narrow = draw(records, WIDE_INCHES), draw(records, NARROW_INCHES)
    if wide is None or narrow is None:
        return Markup("")
    drawn = _svg(wide)
    write_atomically(output / "figures" / f"{name}.svg", drawn)
    picture = _picture(_image("image/svg+xml", drawn), _image("image/svg+xml", _svg(narrow)), caption)
    return Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(picture, caption)


def _headline_cards(records: Records, scored: Record) -> Markup:
    """The run's first few headline metrics beside the trivial references', each with its protocol, and its latency."""
    cards: list[Markup] = []
    card = Markup('<div><dt>{}</dt><dd>{}</dd><dd class="beside">{}</dd><dd class="protocol">{}</dd></div>')
    floors = [record for record in records.references if record.method != "ground_truth"]
    for metric in HEADLINES:
        values = {record.run: row for record, row in records.metric(metric).found if row.value is not None}
        if scored.run not in values or len(cards) == HEADLINES_SHOWN:
            continue
        own = values[scored.run]
        beside = [
            f"{record.method.replace('_', ' ')} {values[record.run].value:.3f}"
            for record in floors
            if record.run in values and values[record.run].protocol_key == own.protocol_key
        ]
        told = f"{tables.protocol_name(own.protocol_key)}, n = {own.n}"
        cards.append(card.format(measures.heading(metric), f"{own.value:.3f}", join(beside, "<br>"), told))
    if latency := costs.latency(scored):
        between = f"p5 {costs.number(latency.get('p5_ms'))}<br>p95 {costs.number(latency.get('p95_ms'))}"
        told = f"{latency.get('device')}, {latency.get('precision')}, batch {latency.get('batch')}"
        cards.append(card.format("Latency [ms] ↓", costs.number(latency["median_ms"]), Markup(between), told))
    return Markup('<dl class="cards">{}</dl>').format(join(cards))


def _picture(wide: Markup, narrow: Markup, alternative: str) -> Markup:
    """One image of two; `wide` and `narrow` are attributes that name the image and its size on the page."""
    return Markup('<picture><source media="(max-width: {}px)" srcset={}><img alt="{}" src={}></picture>').format(
        NARROW_PAGE_PX, narrow, alternative, wide
    )


def _image(kind: str, content: bytes, size: tuple[int, int] | None = None) -> Markup:
    """The value of src or srcset, then width and height in pixels of the page when they are not the image's own."""
    dimensions = Markup(' width="{}" height="{}"').format(*(side // WIDE.density for side in size)) if size else ""
    return Markup('"data:{};base64,{}"{}').format(kind, base64.b64encode(content).decode(), dimensions)


def _svg(figure: Figure) -> bytes:
    """The same figure gives the same bytes: no date, and identifiers from a fixed salt."""
    drawn = io.BytesIO()
    with rc_context(SETTINGS):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()


def _png(image: Image.Image) -> bytes:
    drawn = io.BytesIO()
    image.save(drawn, format="png", optimize=True)
    return drawn.getvalue()


def _plural(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
