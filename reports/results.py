"""The tables of README.md and docs/results.md, computed from the run records that are committed in reports/results.

    python -m reports.results            # which tables are not those of the records; exit status 1 where there are any
    python -m reports.results --write    # writes them, and the figures of reports/gallery

A document marks the place of a table by `<!-- results: components means -->` and `<!-- end -->`: a folder of
reports/results and a key of TABLES. What is not measured, or not all of it, is said in the table's place.
"""

import argparse
import difflib
import io
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas

from reports import effects, learning, page, speed, timing
from reports.figures import WIDE_INCHES, looks
from reports.formats import DASH, count, decimals_for, duration, is_number, joined, number, plural, share
from reports.grids import sample_grid
from reports.literature import read_literature
from reports.records import NothingFound, Records, load_records
from reports.settings import Rows, read_studies
from xinggan.command import exit_status, run_command
from xinggan.files import write_atomically
from xinggan.metrics import catalogue

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
DOCUMENTS = ("README.md", "docs/results.md")
PLACE = re.compile(r"(<!-- results: (?P<study>\S+) (?P<table>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
FIGURE_METRICS = ("perceptual_embedded", "pckh_embedded")  # of the learning curves in README.md
FIGURE_DPI = 110
CLAIMS = {"to_train": "training_speedup_over_pidm", "to_sample": "inference_speedup_over_pidm"}


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
    return f"{told}\n{notes}" if notes else told.rstrip("\n")


# The tables. Each is Markdown of one study.


def means(study: Study) -> str:
    """A row a method, a column a main metric: the mean over seeds, with half of its 95 % interval where there are."""
    trivial = {record.variant: record.is_reference for record in study.scored}
    titles = list(trivial)
    table, seeds = pandas.DataFrame({"": titles}), set[int]()
    for metric in study.scored.main_metrics():
        found = study.scored.metric(metric).under_usual_protocol().by("variant", over="seeds")
        decimals = decimals_for(found["value"].abs().max())
        cells = {
            str(title): f"{row['value']:.{decimals}f}"
            + (f" ± {(row['high'] - row['low']) / 2:.{decimals}f}" if is_number(row["high"]) else "")
            for title, row in found.iterrows()
        }
        seeds |= {int(n) for title, n in found["n"].items() if not trivial[str(title)]}
        table[catalogue.heading(metric)] = [cells.get(title, DASH) for title in titles]
    several = " to ".join(map(str, sorted({min(seeds, default=1), max(seeds, default=1)})))
    told = f"Means over {several} training seeds, ± half of the 95 % interval over these."
    return markdown(table, notes="One training seed each." if several == "1" else told)


def steps(study: Study) -> str:
    """For each main metric what every row adds to the one before it, with interval, seeds and test."""
    found = _effects(study)
    parts = []
    for metric in found["metric"].unique() if len(found) else ():
        table, bold = effects.evidence_table(found, metric)
        parts.append(f"{catalogue.heading(metric)}\n\n{markdown(table, bold.to_numpy())}")
    return "\n\n".join(parts)


def summary(study: Study) -> str:
    """What every row adds to the one before it: its difference in each main metric, and what it costs."""
    contrasts = effects.cumulative_contrasts(study.rows, study.scored)
    found = _effects(study)
    return "" if found.empty else markdown(*_texts(effects.summary(contrasts, found)))


def sentences(study: Study) -> str:
    """What helps, what does not and what is not shown, from the tests of `steps`."""
    found = _effects(study)
    return "\n".join(f"- {told}" for told in effects.sentences(found)) if len(found) else ""


def _effects(study: Study) -> pandas.DataFrame:
    contrasts = effects.cumulative_contrasts(study.rows, study.scored)
    return effects.effects(contrasts) if contrasts else pandas.DataFrame()


def _texts(table: tuple[pandas.DataFrame, pandas.DataFrame]) -> tuple[pandas.DataFrame, np.ndarray]:
    return table[0], table[1].to_numpy()


def costs(study: Study) -> str:
    """What a row costs: medians over its seeds."""
    records = study.records.methods
    frame = effects.costs(records).assign(
        macs=[record.timing.get("macs_per_image") for record in records],
        memory=[timing.training_memory_mb(record) for record in records],
        variant=[record.variant for record in records],
    )
    middle = frame.astype({"macs": float, "memory": float}).groupby("variant", sort=False).median()
    same = speed.common_circumstances(records.timings) or {}
    table = pandas.DataFrame(
        {
            "": middle.index,
            "parameters": middle["parameters"].map(count),
            "GMACs an image": (middle["macs"] / 1e9).map(number),
            "latency [ms] ↓": middle["latency [ms]"].map(number),
            "training [images/s] ↑": middle["training images/s"].map(number),
            "memory of training [MB] ↓": middle["memory"].map(number),
        }
    )
    table = table.loc[:, [bool((table[head] != DASH).any()) for head in table]]
    where = joined([f"{key} {same[key]:g}" if key == "batch" else str(same[key]) for key in same if key in SHOWN])
    return markdown(table, notes=f"Medians over seeds. Latency: {where}. {noise(records)}".rstrip())


SHOWN = ("device", "precision", "mode", "batch")


def noise(records: Records) -> str:
    """How even the runs' speed was while they trained."""
    shares = [found for record in records if (found := timing.slowest_tenth(record)) is not None]
    if not shares:
        return ""
    usual, worst = float(np.median(shares)), min(shares)
    return (
        f"While training, the slowest tenth of the logged speeds was {share(usual)} of a run's median speed or less "
        f"(median over runs; {share(worst)} in the noisiest)."
    )


def last(study: Study) -> str:
    """For each run with a learning curve what its training cost, and the main metrics at its end."""
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
    for metric in curves["metric"].unique():
        decimals = decimals_for(values[metric].abs().max())
        cells = [values[metric].get(title, np.nan) for title in order]
        told[catalogue.heading(metric)] = [f"{cell:.{decimals}f}" if is_number(cell) else DASH for cell in cells]
    return markdown(told, notes=noise(study.records.methods))


def overtaking(study: Study) -> str:
    """From how much training on a diffusion model is better than another method, for each main metric."""
    found = learning.overtaking(learning.learning_curves(study.records))
    told = "\n".join(f"- {sentence}" for sentence in learning.sentences(found))
    return f"{markdown(learning.overtaking_table(found))}\n\n{told}" if len(found) else ""


def ratios(study: Study) -> str:
    """Size, work, time and memory of each method at batch 1, and ratios to PIDM beside what the paper claims."""
    records = study.records
    found = speed.ratios(records) if len(records.timings) else pandas.DataFrame()
    if found.empty:
        return ""
    counts = {record.run: record.timing for record in records}
    macs = [counts[run].get("macs_per_image") for run in found["run"]]
    table = pandas.DataFrame(
        {
            "": found["title"],
            "precision": found["precision"],
            "mode": found["mode"],
            "parameters": [count(counts[run].get("parameters")) for run in found["run"]],
            "GMACs an image": [number(each / 1e9) if is_number(each) else DASH for each in macs],
            "network evaluations": found["work"],
            "latency [ms] ↓": found["median_ms"].map(number),
            "memory [MB] ↓": found["peak_memory_mb"].map(number),
            "times as fast as PIDM": found["to_sample"].map(number),
            "times as fast to train": found["to_train"].map(number),
        }
    )
    table = table.loc[:, [bool((table[head] != DASH).any()) for head in table]]
    claimed = read_literature().query("method == 'XingGAN++'").drop_duplicates("metric").set_index("metric")["value"]
    told = (
        f"The paper of XingGAN++ claims {claimed[CLAIMS['to_sample']]:g} times as fast as PIDM to sample and "
        f"{claimed[CLAIMS['to_train']]:g} times to train."
    )
    return markdown(table, notes=" ".join([told, *(f"{says}." for says in timing.noise(records))]))


TABLES: dict[str, Callable[[Study], str]] = {
    "means": means, "steps": steps, "summary": summary, "sentences": sentences, "costs": costs, "last": last,
    "overtaking": overtaking, "ratios": ratios,
}  # fmt: skip


def compute(results: Path) -> str:
    """How long all committed runs took: a row a study."""
    rows, total, runs = [], 0.0, 0
    for folder in sorted(path for path in results.iterdir() if path.is_dir()):
        records = Study(folder).records
        seconds = sum(record.status.get("seconds") or 0.0 for record in records)
        trained = sum(timing.training_seconds(record) or 0.0 for record in records)
        machines = {f"{record.environment.get('cpu') or record.environment.get('device')}" for record in records}
        if records:
            rows.append(
                (folder.name, str(len(records)), duration(trained), duration(seconds), joined(sorted(machines)))
            )
            total, runs = total + seconds, runs + len(records)
    table = pandas.DataFrame(rows, columns=["study", "records", "training", "in all", "on"])
    return markdown(table, notes=f"{plural(runs, 'record')}, {duration(total)} in all.") if rows else ""


# Documents and figures.


def computed(text: str, results: Path = RESULTS) -> str:
    """The document `text` with every table as the records give it. Raises ValueError for a table that is none."""
    studies: dict[str, Study] = {}

    def table(place: re.Match[str]) -> str:
        name, kind = place["study"], place["table"]
        if (name, kind) != ("all", "compute") and kind not in TABLES:
            raise ValueError(f"results: {name} {kind}: no such table; there are {', '.join(TABLES)}, and `all compute`")
        if kind == "compute":
            told, state = compute(results), ""
        else:
            state = "" if name in studies else Study(results / name).state  # said once, above the first table
            study = studies.setdefault(name, Study(results / name))
            told = TABLES[kind](study) if study.records else ""
        return "\n".join(
            [place[1].rstrip("\n"), *filter(None, [state.strip() and f"*{state.strip()}*\n", told]), place[4]]
        )

    return PLACE.sub(table, text)


def draw(results: Path, gallery: Path) -> list[Path]:
    """Write the figures of README.md from the records: pictures of all rows, and the learning curves; those drawn."""
    comparison, components = Study(results / "comparison"), Study(results / "components")
    shown = comparison if any(record.examples for record in comparison.records) else components
    curves = learning.learning_curves(comparison.records) if comparison.records else pandas.DataFrame()
    if len(curves):
        curves = curves[curves["metric"].isin(FIGURE_METRICS)]
    figures = {
        "samples": sample_grid(shown.records, WIDE_INCHES, rows=4) if shown.records else None,
        "learning": learning.curves(curves, looks(comparison.records), inches=WIDE_INCHES),
    }
    written = []
    for name, figure in figures.items():
        if figure is not None:
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=FIGURE_DPI, metadata={"Software": None})
            write_atomically(gallery / f"{name}.png", file.getvalue())
            written.append(gallery / f"{name}.png")
    return written


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 where the documents hold what the records give, 1 where they do not, 2 for what cannot be read."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="python -m reports.results", description="Tables of the documents from the records."
    )
    parser.add_argument("--write", action="store_true", help="write tables and figures instead of saying what differs")
    options = parser.parse_args(arguments)
    return exit_status("reports.results", lambda: update(ROOT, options.write))


def update(root: Path, write: bool) -> int:
    """Compare the documents below `root` with its records, or write them; the exit status of `main`."""
    results, status = root / "reports" / "results", 0
    for name in DOCUMENTS:
        before = (root / name).read_text(encoding="utf-8")
        after = computed(before, results)
        if after == before:
            print(f"{name}: as the records say")
        elif write:
            write_atomically(root / name, after)
            print(f"{name}: written")
        else:
            told = difflib.unified_diff(before.splitlines(), after.splitlines(), name, "the records", lineterm="", n=0)
            print("\n".join(told))
            status = 1
    for path in draw(results, root / "reports" / "gallery") if write else ():
        print(f"{path.relative_to(root)}: drawn")
    if status:
        print("python -m reports.results --write brings them up to date", file=sys.stderr)
    return status


if __name__ == "__main__":
    run_command(main)
