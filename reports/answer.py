"""The answer of a report in a few sentences: what was compared, who is best at what, by how much, how sure that is, and
what it costs.
"""

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from baselines import REFERENCES
from reports import page
from reports.comparison import Ranking, rankings
from reports.formats import interval, joined, number, p_text, plural
from reports.provenance import missing
from reports.records import Records
from reports.run_directory import STATES
from reports.timing import claim_sentence, common_circumstances, latencies, own_sampler
from xinggan.metrics import catalogue

HEADLINES = ("ssim", "perceptual_embedded", "pckh_embedded", "lpips", "l1")
HEADLINES_SHOWN = 4
COMPARE = "python -m ablations.study comparison"


def compared(records: Records) -> page.Shown:
    """What the report holds, in a sentence or two, then which records are incomplete and which runs failed.

    A report of one scored run says what that was compared with.
    """
    runs = records.methods
    states = {state: len(runs.where(state=state)) for state in STATES} if runs else {}
    told = ", ".join(f"{count} {state}" for state, count in states.items() if count)
    methods = ", ".join(sorted({record.method for record in runs})) or "no method"
    datasets = joined(sorted({record.dataset for record in records}))
    references = joined(list(dict.fromkeys(record.method for record in records.references)))
    sentence = f"{plural(len(runs), 'run')} of {methods} on {datasets}{': ' if told else ''}{told}."
    if is_single(records):
        others = f"with {references}, which are not trained" if references else "with nothing"
        told = Markup(" It is compared {}; <code>{}</code> trains other methods to compare it with.")
        sentence = escape(sentence) + told.format(others, COMPARE)
    elif references:
        sentence += f" References: {references}."
    parts = [page.paragraph(sentence, "lead")]
    if incomplete := len(missing(records)):
        where = Markup(' incomplete: see <a href="provenance.html">what is missing</a>.')
        is_or_are = "record is" if incomplete == 1 else "records are"
        parts.append(page.paragraph(Markup("{} {}").format(incomplete, is_or_are) + where, "warning"))
    failed = [f"{record.title} {record.state_sentence}" for record in runs if record.state == "failed"]
    return page.join([*parts, page.listing(failed, "warning")])


def is_single(records: Records) -> bool:
    """Whether the report is about one scored run."""
    return len(records.methods) == 1 and records.methods[0].is_scored


def headlines(records: Records) -> page.Shown:
    """The first few headline metrics of the single scored run beside the trivial references', and its latency."""
    (scored,) = records.methods
    cards: list[Markup] = []
    card = Markup('<div><dt>{}</dt><dd>{}</dd><dd class="beside">{}</dd><dd class="protocol">{}</dd></div>')
    for metric in HEADLINES:
        values = {record.run: row for record, row in records.metric(metric).found if row.value is not None}
        if scored.run not in values or len(cards) == HEADLINES_SHOWN:
            continue
        own = values[scored.run]
        beside = [
            f"{record.method.replace('_', ' ')} {values[record.run].value:.3f}"
            for record in records.references
            if record.method in REFERENCES[:2] and record.run in values and values[record.run].protocol == own.protocol
        ]
        protocol = f"{own.protocol.get('name', 'not named')}, n = {own.n}"
        cards.append(
            card.format(catalogue.heading(metric), f"{own.value:.3f}", page.join(beside, Markup("<br>")), protocol)
        )
    if len(timed := own_sampler(records.timings)):
        row = timed.sort_values("batch", kind="stable").iloc[0]
        between = Markup("p5 {}<br>p95 {}").format(number(row["p5_ms"]), number(row["p95_ms"]))
        told = f"{row['device']}, {row['precision']}, batch {row['batch']:g}"
        cards.append(card.format("Latency [ms] ↓", number(row["median_ms"]), between, told))
    return page.Shown(Markup('<dl class="cards">{}</dl>').format(page.join(cards)))


def sentences(group: Records) -> list[str]:
    """On one test set: a sentence for each question that can be answered, then what generating costs.

    Nothing is said of a metric that one method alone has.
    """
    answered, best = [], None
    for metric in group.main_metrics():
        found = max(rankings(group.metric(metric)), key=lambda one: len(one.by_variant))  # the usual protocol
        if found.best is not None and found.behind is not None:
            best = best or found
            answered.append(_quality(found))
    return [*answered, *_costs(group.methods, best), *filter(None, [claim_sentence(group.methods.timings)])]


def certainty(group: Records) -> str:
    """What the intervals and tests of `sentences` speak of."""
    names = [record.variant for record in group.methods if record.is_scored]
    if not names:
        return "Times are medians; the page Timing says whether the machine was quiet enough for them to be repeated."
    seeds = "Where a method has several training seeds, its interval is over these."
    if len(names) == len(set(names)):
        seeds = "Each method was trained once: another training seed may order close ones differently."
    return (
        "Brackets are 95 % intervals over the people of the test set; p is corrected for all comparisons of a metric "
        f"(Holm). {seeds}"
    )


def _quality(found: Ranking) -> str:
    """Who is best, and how far the closest other one is behind."""
    row, behind = found.by_variant.loc[found.best], found.behind
    assert behind is not None
    better = "higher" if catalogue.higher_is_better(found.metric) else "lower"
    value = f"{row['value']:.3f} {interval(row['low'], row['high'], '.3f')}".strip()
    first = f"{found.best} has the best {catalogue.title(found.metric)}, {value} ({better} is better)"
    closest = behind["difference"].abs().idxmin()
    other = behind.loc[closest]
    nearest, farthest = sorted((abs(other["low"]), abs(other["high"])))
    between = interval(nearest, farthest, ".3f")
    distance = f"{abs(other['difference']):.3f} {'' if other['low'] < 0 < other['high'] else between}".strip()
    if not math.isfinite(other["p_holm"]):
        return f"{first}; {closest} is {distance} behind, which one trained network of each cannot put to a test."
    p_value = p_text(other["p_holm"])
    if other["verdict"] == "worse":
        return f"{first}; the next, {closest}, is {distance} behind, more than chance explains ({p_value})."
    return f"{first}, but {closest} is only {distance} behind, which may be chance ({p_value})."


def _costs(runs: Records, best: Ranking | None) -> list[str]:
    timings = runs.timings
    taken, same, titles = latencies(timings), common_circumstances(timings), runs.titles()
    if same is None or not taken:
        return []
    order: Sequence[str] = sorted(taken, key=lambda run: taken[run])
    where = f"a batch of {same['batch']:g} on {same['device']} in {same['precision']}, {same['mode']}"
    if len(order) == 1:
        return [f"{titles[order[0]]} takes {number(taken[order[0]])} ms for {where}."]
    slowest = order[-1]
    told = f"{titles[order[0]]} is the fastest, with {number(taken[order[0]])} ms for {where}; "
    told += f"the slowest, {titles[slowest]}, takes {number(taken[slowest])} ms"
    own = next((run for run in order if best is not None and titles[run] == best.best), None)
    if best is not None and own is not None and own not in (order[0], slowest):
        told += f", {number(taken[slowest] / taken[own])} times as long as {best.best}, the best in "
        told += f"{catalogue.title(best.metric)} ({number(taken[own])} ms)"
    return [f"{told}."]
