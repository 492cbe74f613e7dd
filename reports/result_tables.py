"""Tables of results as Markdown: what the committed records of one study say, for README.md and docs/results.md.

`reports.results` puts them into the documents.
"""

import json
import re
from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from reports import effects, learning, page, speed, timing
from reports.formats import DASH, count, decimals_for, duration, is_number, joined, number, plural
from reports.literature import claim
from reports.records import NothingFound, Record, Records, load_records
from reports.settings import Rows, read_studies
from xinggan.metrics import catalogue

SHORTLIST = ("xinggan", "patn", "gfla", "nted", "pidm", "pidm_few_step", "cfld", "xmdpt")  # in the table `short`


@dataclass(frozen=True)
class Study:
    """The committed records of one folder of reports/results, and the rows that it is to have."""

    folder: Path

    @cached_property
    def records(self) -> Records:
        """Empty where there are none yet."""
        try:
            return load_records(self.folder)
        except NothingFound:
            return Records()

    @cached_property
    def rows(self) -> Rows:
        """All rows of the folder's studies with their runs, those that never ran included."""
        return [row for rows in read_studies(self.folder).values() for row in rows]

    @cached_property
    def scored(self) -> Records:
        return Records(record for record in self.records if record.is_scored)

    @cached_property
    def timed(self) -> Records:
        """The records that say what the methods cost: those of the folder `<study>-cost`, else the study's own.

        Runs are timed beside whatever else the machine does; that folder is of a study `efficiency` on a quiet one.
        """
        quiet = Study(self.folder.with_name(f"{self.folder.name}-cost")).records
        return quiet or self.records.methods

    @property
    def state(self) -> str:
        """What is not there of the study, in a sentence or two; "" where every run of it is finished."""
        asked = f"`reports/results/{self.folder.name}`"
        if not self.records:
            return f"Not measured yet: there is no record in {asked}."
        finished = {record.run for record in self.records if record.state == "finished"}
        rows = [run for _, run in self.rows] or [record.run for record in self.records]
        lacking = len(set(rows) - finished)
        if not lacking:
            return ""
        seeds: dict[str, list[bool]] = {}
        for title, run in self.rows:
            if seed := re.search(r" seed=(\S+)", title):
                seeds.setdefault(seed[1], []).append(run in finished)
        whole = sum(map(all, seeds.values()))
        told = f"So far {len(rows) - lacking} of {len(rows)} runs"
        told += f", {whole} of {len(seeds)} seeds" if len(seeds) > 1 else ""
        stopped = [f"{r.title}: {r.state_sentence}" for r in self.records if r.state in ("failed", "preempted")]
        return f"{told}. " + (f"{'; '.join(stopped)}. " if stopped else "")


def markdown(frame: pandas.DataFrame, bold: np.ndarray | None = None, notes: str = "") -> str:
    """A table as a document shows it, with a note below."""
    if frame.empty:
        return notes
    told = page.as_markdown(frame, "", np.zeros(frame.shape, bool) if bold is None else bold)
    told = re.sub("-{3,}", "---", re.sub(" {2,}", " ", told))  # without the padding that makes columns of text
    told = told.replace("&#39;", "'")
    return f"{told}\n{notes}" if notes else told.rstrip("\n")


# The tables. Each is Markdown of one study.


def means(study: Study) -> str:
    """A row a method, a column a main metric: the mean over seeds, with half of its 95 % interval where there are."""
    table, told = _means(study.scored)
    return markdown(table, notes=told)


def brief(study: Study) -> str:
    """`means`, with what generating and training cost."""
    table, told = _means(study.scored)
    cost = _costs(study).set_index("")
    for head in ("latency [ms] ↓", "training [images/s] ↑"):
        if head in cost:
            table[head] = [cost[head].get(title, DASH) for title in table[""]]
    return markdown(table, notes=" ".join(filter(None, [told, _where(study.timed), timing.noise(study.timed)])))


def _means(records: Records) -> tuple[pandas.DataFrame, str]:
    trivial = {record.variant: record.is_reference for record in records}
    table, seeds = pandas.DataFrame({"": list(trivial)}), set[int]()
    for metric in records.main_metrics():
        found = records.metric(metric).under_usual_protocol().by("variant", over="seeds")
        decimals = decimals_for(found["value"].abs().max())
        cells = {
            str(title): f"{row['value']:.{decimals}f}"
            + (f" ± {(row['high'] - row['low']) / 2:.{decimals}f}" if is_number(row["high"]) else "")
            for title, row in found.iterrows()
        }
        seeds |= {int(n) for title, n in found["n"].items() if not trivial[str(title)]}
        table[catalogue.heading(metric)] = [cells.get(title, DASH) for title in trivial]
    several = " to ".join(map(str, sorted({min(seeds, default=1), max(seeds, default=1)})))
    told = f"Means over {several} training seeds, ± half of the 95 % interval over these."
    return table, "One training seed each." if several == "1" else told


def protocols(study: Study) -> str:
    """SSIM and Mask-SSIM of every method under each protocol: what different tables of the literature would print."""
    records = study.scored
    variants = {record.run: record.variant for record in records}
    table = pandas.DataFrame({"": list(dict.fromkeys(variants.values()))})
    for metric in ("ssim", "ssim_window51", "mask_ssim"):
        scored = records.metric(metric).scored
        named = scored.assign(name=[json.loads(text).get("name") for text in scored["protocol"]])
        for name, own in named.groupby("name", sort=False):
            found = own.groupby(own["run"].map(variants))["value"].mean()
            head = f"{catalogue.heading(metric)}, `{name}`"
            table[head] = [f"{found[title]:.4f}" if title in found else DASH for title in table[""]]
    return markdown(table)


def steps(study: Study) -> str:
    """For each main metric what every row adds to the one before it, with interval, seeds and test."""
    found = _effects(study)
    parts = []
    for metric in found["metric"].unique() if len(found) else ():
        table, bold = effects.evidence_table(found, metric)
        parts.append(f"{catalogue.heading(metric)}\n\n{markdown(table, bold.to_numpy())}")
    return "\n\n".join(parts)


def sentences(study: Study) -> str:
    """What helps, what does not and what is not shown, from the tests of `steps`."""
    found = _effects(study)
    told = effects.sentences(found) if len(found) else []
    return "\n".join(f"- {sentence}" for sentence in told)


def _effects(study: Study) -> pandas.DataFrame:
    contrasts = effects.cumulative_contrasts(study.rows, study.scored)
    return effects.effects(contrasts) if contrasts else pandas.DataFrame()


def costs(study: Study) -> str:
    """What a row costs: medians over its seeds, or of the study that timed it on a quiet machine."""
    own = any(not record.is_timing_only for record in study.timed)
    told = ["Of the training runs themselves, medians over seeds."] * own + [_where(study.timed), noise(study.timed)]
    told += [] if own else [timing.noise(study.timed)]
    return markdown(_costs(study), notes=" ".join(filter(None, told)))


def _costs(study: Study) -> pandas.DataFrame:
    records, titles = study.timed, {record.name: record.variant for record in study.records.methods}
    frame = effects.costs(records)
    same = speed.common_circumstances(records.timings) or {}
    trained = {record.run: _training(record, same) for record in records if record.is_timing_only}
    for run, scenario in trained.items():
        frame.loc[run, "training images/s"] = scenario.get("images_per_second")
    frame = frame.assign(
        macs=[record.timing.get("macs_per_image") for record in records],
        memory=[
            trained[record.run].get("peak_memory_mb") if record.run in trained else timing.training_memory_mb(record)
            for record in records
        ],
        variant=[titles.get(record.name, record.variant) for record in records],
    )
    middle = frame.astype({"macs": float, "memory": float}).groupby("variant", sort=False).median()
    table = pandas.DataFrame(
        {
            "": middle.index,
            "parameters": middle["parameters"].map(count),
            "GMACs per image": (middle["macs"] / 1e9).map(number),
            "latency [ms] ↓": middle["latency [ms]"].map(number),
            "training [images/s] ↑": middle["training images/s"].map(number),
            "memory of training [MB] ↓": middle["memory"].map(number),
        }
    )
    return table.loc[:, [bool((table[head] != DASH).any()) for head in table]]


def _training(record: Record, same: dict[str, Any]) -> dict[str, Any]:
    """The training scenario of a record of the study `efficiency`, in the precision and mode of the latencies."""
    keys = {"kind": "training", "precision": same.get("precision"), "mode": same.get("mode")}
    return next((row for row in record.scenarios if all(row.get(key) == value for key, value in keys.items())), {})


def _where(records: Records, said: Container[str] = ()) -> str:
    """On what the latencies and speeds of a table were taken, less the circumstances that it has `said` already."""
    same = speed.common_circumstances(records.timings)
    if same is None:
        return ""
    told = [f"{same['batch']:g}", *(str(same[key]) for key in ("precision", "mode") if key not in said)]
    return f"Latency at batch {', '.join(told)}, on {same['machine']}."


def noise(records: Records) -> str:
    """How even the runs' speed was while they trained."""
    shares = [found for record in records if (found := timing.slowest_tenth(record)) is not None]
    if not shares:
        return ""
    usual, worst = float(np.median(shares)), min(shares)
    return (
        f"While training, the slowest tenth of a run's logged speeds lay below {usual:.0%} of its median speed (median "
        f"over runs; {worst:.0%} in the noisiest): the lower, the less even was what else the machine did."
    )


def last(study: Study) -> str:
    """For each run with a learning curve what its training and generating cost, and the main metrics at its end.

    The references, which are not trained, come last.
    """
    curves = learning.learning_curves(study.records)
    if curves.empty:
        return ""
    ends = curves.sort_values("step", kind="stable").groupby(["title", "metric"], sort=False).tail(1)
    table = ends.drop_duplicates("title").set_index("title")[list(learning.COSTS)]
    values = ends.pivot_table(index="title", columns="metric", values="value", sort=False)
    order = [title for title in study.records.titles().values() if title in table.index]
    told = pandas.DataFrame(
        {
            "": order,
            "training pairs": [count(table["images"][title]) for title in order],
            "training time": [duration(table["seconds"][title]) for title in order],
            "PFLOPs": [number(table["flops"][title] / 1e15) for title in order],
        }
    )
    if (latency := "latency [ms] ↓") in (cost := _costs(study).set_index("")):
        variants = {record.title: record.variant for record in study.records}
        told[latency] = [cost[latency].get(variants[title], DASH) for title in order]
    references = {record.run: record.title for record in study.scored if record.is_reference}
    told = pandas.concat([told, pandas.DataFrame({"": references.values()})]).fillna(DASH)
    for metric in curves["metric"].unique():
        decimals = decimals_for(values[metric].abs().max())
        scored = study.scored.metric(metric).under_usual_protocol().by("run")["value"].rename(references)
        cells = [values[metric].get(title, scored.get(title, np.nan)) for title in told[""]]
        told[catalogue.heading(metric)] = [f"{cell:.{decimals}f}" if is_number(cell) else DASH for cell in cells]
    return markdown(told, notes=" ".join(filter(None, [_where(study.timed), noise(study.records.methods)])))


def curves(study: Study) -> str:
    """The figure of the learning curves, which `reports.results` draws."""
    found = learning.learning_curves(study.records)
    if found.empty:
        return ""
    drawn = "Quality after ever more training: by training pairs, seconds and operations"
    told = " ".join(filter(None, [learning.STAGES_FIRST, learning.machines_sentence(found)]))
    return f"![{drawn}](reports/gallery/learning.png)\n\n{told}"


def overtaking(study: Study) -> str:
    """From how much training on a diffusion model is better than another method, for each main metric."""
    return markdown(learning.overtaking_table(learning.overtaking(learning.learning_curves(study.records))))


def grid(study: Study) -> str:
    """The learning rates and parametrisations that every method was tuned over; * is chosen."""
    points = learning.tuning_grid(study.records)
    sentences = ["Each rate's score on the validation split; * is chosen.", *learning.tuning_sentences(points)]
    return markdown(learning.tuning_table(points), notes=" ".join(sentences)) if points else ""


def short(study: Study) -> str:
    """The main columns of `ratios`, of `SHORTLIST` with their own samplers, not compiled, in the first precision."""
    return ratios(study, in_short=True)


def ratios(study: Study, in_short: bool = False) -> str:
    """Size, work, time and memory of each method at batch 1, and ratios to PIDM beside what the paper claims."""
    records = study.records
    found = speed.ratios(records) if len(records.timings) else pandas.DataFrame()
    if in_short and len(found):
        found = found[found["sampling_steps"].isna() & (found["mode"] == "eager")]
        found = found[found["precision"].isin(found["precision"].head(1)) & found["method"].isin(SHORTLIST)]
        found = found[~found["name"].str.contains("guidance")]  # PIDM with other numbers of evaluations
    if found.empty:
        return ""
    leave_out = ("memory [MB] ↓", "training [images/s] ↑") if in_short else ()
    counts = {record.run: record.timing for record in records}
    own = found["sampling_steps"].isna()  # with the sampler and steps that the operations were counted of
    macs = [counts[run].get("macs_per_image") if same else None for run, same in zip(found["run"], own, strict=True)]
    table = pandas.DataFrame(
        {
            "": found["title"],
            **{key: found[key] for key in ("precision", "mode") if found[key].nunique() > 1},
            "parameters": [count(counts[run].get("parameters")) for run in found["run"]],
            "GMACs per image": [number(each / 1e9) if is_number(each) else DASH for each in macs],
            "network evaluations": found["work"],
            "latency [ms] ↓": found["median_ms"].map(number),
            "memory [MB] ↓": found["peak_memory_mb"].map(number),
            "times as fast as PIDM": found["to_sample"].map(number),
            "training [images/s] ↑": found["trained_per_second"].map(number),
            "published training [h] ↓": found["schedule_hours"].map(number),
            "times as fast to train": found["to_train"].map(number),
        }
    )
    table = table.loc[:, [head not in leave_out and bool((table[head] != DASH).any()) for head in table]]
    claimed = {work: claim("XingGAN++", f"{work}_speedup_over_pidm").value for work in ("inference", "training")}
    told = (
        f"The paper of XingGAN++ claims {claimed['inference']:g} times PIDM's speed of sampling and "
        f"{claimed['training']:g} times its speed of training, on DeepFashion at 256x176."
    )
    return markdown(table, notes=f"{_where(records, table.columns)} {told} {timing.noise(records)}")


TABLES: dict[str, Callable[[Study], str]] = {
    "means": means, "brief": brief, "protocols": protocols, "steps": steps, "sentences": sentences, "costs": costs,
    "grid": grid, "last": last, "curves": curves, "overtaking": overtaking, "ratios": ratios, "short": short,
}  # fmt: skip


def compute(results: Path) -> str:
    """How long all committed runs took: a row a study.

    Methods that are timed in turns begin and end together; where some were timed without the others, the longest record
    is the least that the study took.
    """
    rows, total, runs, least = [], 0.0, 0, ""
    for folder in sorted(path for path in results.iterdir() if path.is_dir()):
        records = Study(folder).records
        taken = [(record.is_timing_only, record.status.get("seconds") or 0.0) for record in records]
        turns = [seconds for timed, seconds in taken if timed] or [0.0]
        apart = "at least " * (max(turns) > 1.1 * min(turns))
        seconds = max(turns) + sum(seconds for timed, seconds in taken if not timed)
        trained = sum(timing.training_seconds(record) or 0.0 for record in records)
        machines = {record.machine for record in records}
        if records:
            training, spent = duration(trained) if trained else DASH, f"{apart}{duration(seconds)}"
            rows.append((folder.name, str(len(records)), training, spent, joined(sorted(machines))))
            total, runs, least = total + seconds, runs + len(records), least or apart
    table = pandas.DataFrame(rows, columns=["study", "records", "training", "in all", "on"])
    return markdown(table, notes=f"{plural(runs, 'record')}, {least}{duration(total)} in all.") if rows else ""
