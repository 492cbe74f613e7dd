"""The answer of a report in a few sentences: what was compared, who is best at what, by how much, how sure that is, and
what it costs. The tables behind it say the same of every metric and variant.
"""

import json
import math
from collections.abc import Sequence
from statistics import median_high

import numpy as np
import pandas
from markupsafe import Markup, escape

from baselines import REFERENCES
from reports import page
from reports.comparison import REAL_IMAGES, Ranking, rankings
from reports.formats import DASH, interval, joined, number, p_text, plural
from reports.provenance import missing
from reports.records import STATES, Records
from reports.speed import claim_sentence, common_circumstances, latencies
from reports.timing import own_sampler
from xinggan.metrics import catalogue

HEADLINES = ("ssim", "perceptual_embedded", "lpips", "pckh", "pckh_embedded", "l1")
HEADLINES_SHOWN = 4
TO_BEAT = [name for name in REFERENCES if name != "ground_truth"]
COMPARE = "python -m ablations.study comparison"


def compared(records: Records) -> Markup:
    """What the report holds, in a sentence or two, then which records are incomplete and which runs failed.

    A report of one scored run says what that was compared with.
    """
    runs = records.methods
    counts = [f"{many} {state}" for state in STATES if (many := sum(record.state == state for record in runs))]
    methods = ", ".join(sorted({record.method for record in runs})) or "no method"
    datasets = joined(sorted({record.dataset for record in records}))
    references = joined(list(dict.fromkeys(record.method for record in records.references)))
    states = f": {', '.join(counts)}" if counts else ""
    sentence = escape(f"{plural(len(runs), 'run')} of {methods} on {datasets}{states}.")
    if is_single(records):
        others = f"with {references}, which are not trained" if references else "with nothing"
        told = Markup(" It is compared {}; <code>{}</code> trains other methods to compare it with.")
        sentence += told.format(others, COMPARE)
    elif references:
        sentence += f" References: {references}."
    parts = [page.paragraph(sentence, "lead")]
    if incomplete := len(missing(records)):
        where = Markup('{} {} incomplete: see <a href="provenance.html">what is missing</a>.')
        are = "is" if incomplete == 1 else "are"
        parts.append(page.paragraph(where.format(plural(incomplete, "record"), are), "warning"))
    failed = [f"{record.title} {record.state_sentence}" for record in runs if record.state == "failed"]
    return page.join([*parts, page.listing(failed, "warning")])


def is_single(records: Records) -> bool:
    """Whether the report is about one scored run."""
    return len(records.methods) == 1 and records.methods[0].is_scored


def headlines(records: Records) -> Markup:
    """The first few headline metrics of the single scored run beside the trivial references', and its latency."""
    (scored,) = records.methods
    cards: list[Markup] = []
    card = Markup('<div><dt>{}</dt><dd>{}</dd><dd class="beside">{}</dd><dd class="protocol">{}</dd></div>')
    rivals = {record.run: record.method for record in records.references if record.method in TO_BEAT}
    for metric in HEADLINES:
        values = {row.run: row for row in records.metric(metric).under_usual_protocol().scored.itertuples()}
        own = values.get(scored.run)
        if own is None or len(cards) == HEADLINES_SHOWN:
            continue
        beside = [
            f"{method.replace('_', ' ')} {values[run].value:.3f}"
            for run, method in rivals.items()
            if run in values and values[run].protocol == own.protocol
        ]
        protocol = f"{json.loads(own.protocol).get('name', 'not named')}, n = {own.n}"
        others = page.join(beside, Markup("<br>"))
        cards.append(card.format(catalogue.heading(metric), f"{own.value:.3f}", others, protocol))
    if len(timed := own_sampler(records.timings)):
        row = timed.sort_values("batch", kind="stable").iloc[0]
        between = Markup("p5 {}<br>p95 {}").format(number(row["p5_ms"]), number(row["p95_ms"]))
        told = f"{row['device']}, {row['precision']}, batch {row['batch']:g}"
        cards.append(card.format("Latency [ms] ↓", number(row["median_ms"]), between, told))
    return Markup('<dl class="cards">{}</dl>').format(page.join(cards))


def sentences(group: Records) -> list[str]:
    """On one test set: a sentence for each question that can be answered, then what generating costs.

    Nothing is said of a metric that one method alone has.
    """
    usual = [max(rankings(group.metric(name)), key=lambda one: len(one.by_variant)) for name in group.main_metrics()]
    answered = [rank for rank in usual if rank.behind is not None]
    told = [*map(_quality, answered), _cost(group.methods, {rank.best for rank in answered})]
    return [sentence for sentence in [*told, claim_sentence(group.methods)] if sentence]


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
    """Who is best, how far the closest other one is behind, and whether chance explains that."""
    row, behind = found.by_variant.loc[found.best], found.behind
    assert behind is not None
    better = "higher" if catalogue.higher_is_better(found.metric) else "lower"
    value = f"{row['value']:.3f} {interval(row['low'], row['high'], '.3f')}".strip()
    closest = behind["difference"].abs().idxmin()
    other = behind.loc[closest]
    nearest, farthest = sorted((abs(other["low"]), abs(other["high"])))
    between = "" if other["low"] < 0 < other["high"] else interval(nearest, farthest, ".3f")
    distance = f"{abs(other['difference']):.3f} {between}".strip()
    meaning = "more than chance explains" if other["verdict"] == "worse" else "it may be chance"
    if not math.isfinite(other["p_holm"]):
        meaning = "one trained network of each cannot be put to a test"
    first = f"{found.best} has the best {catalogue.title(found.metric)}, {value} ({better} is better)"
    return f"{first}; the next, {closest}, is {distance} behind: {meaning} ({p_text(other['p_holm'])})."


def _cost(runs: Records, best: set[str | None]) -> str:
    """Latency of the fastest method, of those that are best at something, and of the slowest: medians over seeds."""
    taken, same, variants = latencies(runs.timings), common_circumstances(runs.timings), dict[str, list[float]]()
    if same is None or not taken:
        return ""
    for record in runs:
        if record.run in taken:
            variants.setdefault(record.variant, []).append(taken[record.run])
    medians = {variant: median_high(values) for variant, values in variants.items()}
    order = sorted(medians, key=lambda variant: medians[variant])
    named = [variant for variant in order if variant in (order[0], order[-1], *best)]
    times = joined([f"{variant} takes {number(medians[variant])} ms" for variant in named])
    over = ", median over seeds" if max(map(len, variants.values())) > 1 else ""
    return (
        f"{times} for a batch of {same['batch']:g} on {same['machine']} in {same['precision']}, {same['mode']}{over}."
    )


# The tables behind it.


def behind_table(ranked: Sequence[Ranking]) -> pandas.DataFrame:
    """How far each variant is behind the best of each metric, with interval and test, as text."""
    rows = [
        {
            "metric": _heading(rank, ranked),
            "best": rank.best,
            "run": variant,
            "behind by": f"{row['difference']:+.4f}",
            "95 % interval": interval(row["low"], row["high"], "+.4f") or DASH,
            "n": f"{row['n']} {row['over']}",
            "pairs on which it is better": DASH if np.isnan(row["better_pairs"]) else f"{row['better_pairs']:.0%}",
            "test": p_text(row["p_holm"]),
        }
        for rank in ranked
        if rank.behind is not None and catalogue.group(rank.metric) != REAL_IMAGES
        for variant, row in rank.behind.iterrows()
    ]
    return pandas.DataFrame(rows)


def _heading(rank: Ranking, ranked: Sequence[Ranking]) -> str:
    """The metric, with its protocol's name where it stands under several."""
    heading = catalogue.heading(rank.metric)
    several = len({other.protocol for other in ranked if other.metric == rank.metric}) > 1
    return f"{heading}, {json.loads(rank.protocol).get('name')}" if several else heading


def seed_table(ranked: Sequence[Ranking]) -> pandas.DataFrame:
    """Mean, interval, deviation and interquartile mean over the seeds of each variant that has several, as text."""
    rows = [
        {
            "run": variant,
            "metric": _heading(rank, ranked),
            "mean": f"{row['value']:.4f}",
            "95 % interval over seeds": interval(row["low"], row["high"], ".4f") or DASH,
            "interquartile mean": f"{row['iqm']:.4f} {interval(row['iqm_low'], row['iqm_high'], '.4f')}".strip(),
            "seeds": str(row["n"]),
            "sd": f"{row['sd']:.4f}",
            "without a value": str(row["missing"]),
        }
        for rank in ranked
        for variant, row in rank.by_variant[rank.by_variant["n"] > 1].iterrows()
    ]
    return pandas.DataFrame(rows)
