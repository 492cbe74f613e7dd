"""The answer of a report in a few sentences: who is best at what, by how much, how sure that is, and what it costs."""

import math

from reports import measures
from reports.quality_time import circumstances, latencies
from reports.ratios import claim_sentence
from reports.records import Records
from reports.standings import Standing, interval, p_text, standings
from reports.timing import number

# Of each question the first metric that the runs have.
QUESTIONS = (("ssim",), ("lpips", "perceptual_embedded"), ("fid", "fd_embedded"), ("pckh", "pckh_embedded"))


def main_metrics(group: Records) -> list[str]:
    """The metric that answers each of QUESTIONS, of those that the methods' runs have."""
    there = group.methods.metrics()
    return [found for choices in QUESTIONS if (found := next((name for name in choices if name in there), None))]


def sentences(group: Records) -> list[str]:
    """On one test set: a sentence for each question that can be answered, then what generating costs."""
    answered, best = [], None
    for metric in main_metrics(group):
        of_metric = standings(group, [metric])
        found = max(of_metric, key=lambda one: len(one.by_variant))  # the protocol that most runs have
        if found.best is not None:
            best = best or found
            answered.append(_of_quality(found))
    return [*answered, *_of_time(group.methods, best), *filter(None, [claim_sentence(group.methods)])]


def how_sure(group: Records) -> str:
    """What the intervals and tests of `sentences` speak of."""
    names = [record.facts.get("variant") for record in group.methods if record.measurements]
    if not names:
        return "Times are medians; the page Timing says whether the machine was quiet enough for them to be repeated."
    several = len(names) > len(set(names))
    seeds = "Where a method has several training seeds, its interval is over these."
    if not several:
        seeds = "Each method was trained once: another training seed may order close ones differently."
    return (
        "Brackets are 95 % intervals over the people of the test set; p is corrected for all comparisons of a metric "
        f"(Holm). {seeds}"
    )


def _of_quality(standing: Standing) -> str:
    row = standing.by_variant.loc[standing.best]
    title = measures.title(standing.metric)
    better = "higher" if measures.higher_is_better(standing.metric) else "lower"
    told = f"{row['value']:.3f} {interval(row['low'], row['high'], 3)}".strip()
    if standing.behind is None or standing.behind.empty:
        return f"{standing.best} reaches {title} {told}; no other method has a value to compare it with."
    closest = standing.behind["difference"].abs().idxmin()
    other = standing.behind.loc[closest]
    nearest, farthest = sorted((abs(other["low"]), abs(other["high"])))
    gap = interval(nearest, farthest, 3)
    if other["low"] < 0 < other["high"]:
        gap = ""
    distance = f"{abs(other['difference']):.3f} {gap}".strip()
    first = f"{standing.best} has the best {title}, {told} ({better} is better)"
    if not math.isfinite(other["p_holm"]):
        return f"{first}; {closest} is {distance} behind, which one trained network of each cannot put to a test."
    if other["verdict"] == "worse":
        told = p_text(other["p_holm"])
        return f"{first}; the next, {closest}, is {distance} behind, more than chance explains ({told})."
    return f"{first}, but {closest} is only {distance} behind, which may be chance ({p_text(other['p_holm'])})."


def _of_time(runs: Records, best: Standing | None) -> list[str]:
    taken, same, titles = latencies(runs), circumstances(runs), runs.titles()
    if not taken or same is None:
        return []
    order = sorted(taken, key=lambda run: taken[run])
    where = f"a batch of {same['batch']} on {same['device']} in {same['precision']}, {same['mode']}"
    fastest = f"{titles[order[0]]} is the fastest, with {number(taken[order[0]])} ms for {where}"
    if len(order) == 1:
        return [f"{titles[order[0]]} takes {number(taken[order[0]])} ms for {where}."]
    slowest = order[-1]
    told = f"{fastest}; the slowest, {titles[slowest]}, takes {number(taken[slowest])} ms"
    of_best = [run for run in order if best is not None and runs.whole.titles()[run] == best.best]
    if of_best and best is not None and of_best[0] not in (order[0], slowest):
        factor = number(taken[slowest] / taken[of_best[0]])
        told += f", {factor} times as long as {best.best}, the best in {measures.title(best.metric)}"
        told += f" ({number(taken[of_best[0]])} ms)"
    return [f"{told}."]
