"""Overview: what was compared and how it came out."""

from pathlib import Path

from markupsafe import Markup

from reports import measures, provenance, tables
from reports import timing as costs
from reports.answer import how_sure, sentences
from reports.markup import Shown, join, listing, paragraph
from reports.pages.timing import front_figure
from reports.record import FLOORS, STATES, Record
from reports.records import Records

HEADLINES = ("ssim", "perceptual_embedded", "pckh_embedded", "lpips", "l1")
HEADLINES_SHOWN = 4


def compared(records: Records) -> Shown:
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
        told_where = '<p class="warning">{} incomplete: see <a href="provenance.html">what is missing</a>.</p>'
        parts.append(Markup(told_where).format(_plural(incomplete, "record is", "records are")))
    failed = {records.titles()[record.run]: provenance.state_sentence(record) for record in runs.where(state="failed")}
    parts.append(listing([f"{title} {told}" for title, told in failed.items()], "warning"))
    scored = [record for record in runs if any(row.value is not None for row in record.measurements)]
    return Shown(join([*parts, _headline_cards(records, scored[0]) if len(scored) == 1 else ""]))


def answer(records: Records) -> Shown:
    """The answer in a few sentences for each test set, and how sure it is."""
    parts: list[Markup] = []
    groups = records.by_dataset()
    for heading, group in groups.items():
        if told := sentences(group):
            parts += [Markup("<h3>{}</h3>").format(heading)] if len(groups) > 1 else []
            parts += [listing(told, "answer"), paragraph(how_sure(group), "dataset")]
    return Shown(join(parts) or paragraph("No run has been scored or timed yet.", "none"))


def pareto(records: Records, output: Path | str) -> Shown:
    """Quality against time on each test set."""
    groups = records.methods.by_dataset().values()
    shown = join(front_figure(group, Path(output), number) for number, group in enumerate(groups, start=1))
    return Shown(shown or paragraph("No two runs have both a quality and a latency.", "none"))


def _headline_cards(records: Records, scored: Record) -> Markup:
    """The run's first few headline metrics beside the trivial references', each with its protocol, and its latency."""
    cards: list[Markup] = []
    card = Markup('<div><dt>{}</dt><dd>{}</dd><dd class="beside">{}</dd><dd class="protocol">{}</dd></div>')
    floors = [record for record in records.references if record.method in FLOORS]
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


def _plural(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
