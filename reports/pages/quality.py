"""Quality: every metric under its protocol, how sure it is, single images, published numbers, and what people said."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas
from markupsafe import Markup

from reports import figures, image_values, literature, measures, tables
from reports.embedded import figure, grid, kept_table, table_links
from reports.markup import Shown, details, join, listing, paragraph
from reports.records import Records
from reports.standings import Standing, p_text, standings
from reports.user_study.preferences import preference_table
from xinggan.files import write_atomically

BEHIND_HEADS = ("metric", "best", "run", "behind by", "95 % interval", "n", "pairs on which it is better", "test")
MANY_ROWS = 12  # longer tables are folded
SEEDS_HEADS = ("run", "metric", "mean", "95 % interval over seeds", "seeds", "sd", "without a value")
RANKING_HEADS = ("name", "value", "95 % interval", "n", "status", "source")
APART_HEADS = ("method", "data set", "metric", "value", "protocol", "status", "source", "not ranked because")
ANSWER_HEADS = ("measure", "run", "against", "rate", "95 % interval", "answers", "participants")


def metrics(records: Records, output: Path | str) -> Shown:
    """Metric dots and tables for each test set, with intervals, and the tables' files."""
    output = Path(output)
    parts: list[Markup] = []
    titles = records.titles()
    for number, (heading, group) in enumerate(records.by_dataset().items(), start=1):
        of_group, unavailable = tables.metric_tables(group)
        if not of_group and not unavailable:
            continue
        found = {standing.key: standing for standing in standings(group)}
        intervals = {key: _intervals(standing) for key, standing in found.items()}
        caption = f"Values on {heading} with 95 % intervals over people; a ground truth far outside is at the edge."
        dots = figure(
            lambda rows, inches, lines=intervals: figures.metric_dots(rows, inches, lines),  # type: ignore[misc]
            group, output, f"metrics-{number}", caption,
        )  # fmt: skip
        parts.append(dots)
        for place, one in enumerate(of_group, start=1):
            tables.with_certainty(one, found, titles)
            one.keep(output / "tables" / f"metrics-{number}-{place}")
            parts += [one.as_html(), table_links(f"metrics-{number}-{place}")]
        if unavailable:
            parts.append(details("Unavailable metrics", listing(unavailable)))
    if not parts:
        return Shown(paragraph("No run has been scored.", "none"))
    write_atomically(output / "tables" / "metrics.csv", tables.metric_frame(records).to_csv(index=False))
    files = Markup('<p class="files">All values with their protocols: <a href="tables/metrics.csv">CSV</a>.</p>')
    return Shown(join([*parts, files]))


def comparisons(records: Records, output: Path | str) -> Shown:
    """How far each method is behind the best of each metric, tested, and means over seeds where there are several."""
    output, parts = Path(output), []
    for number, group in enumerate(records.by_dataset().values(), start=1):
        found = standings(group)
        rows = [row for standing in found for row in _behind_rows(standing)]
        caption = "Distance to the best of each metric"
        behind = kept_table(output, f"behind-{number}", BEHIND_HEADS, rows, caption)
        parts.append(details(f"{len(rows)} comparisons with the best", behind) if len(rows) > MANY_ROWS else behind)
        seeds = [row for standing in found for row in _seed_rows(standing)]
        parts.append(kept_table(output, f"seeds-{number}", SEEDS_HEADS, seeds, "Means over training seeds"))
    return Shown(join(parts) or paragraph("No two methods have values of one metric.", "none"))


def images(records: Records, output: Path | str) -> Shown:
    """Distributions over single images, and the best and worst cases of the best method."""
    output, parts = Path(output), []
    for number, group in enumerate(records.by_dataset().values(), start=1):
        caption = (
            "Values of single test pairs, a distribution a run: the wider, the more pairs; the line is the median."
        )
        parts.append(figure(image_values.distributions, group.methods, output, f"images-{number}", caption))
        for kind in ("best", "worst"):
            cases = image_values.cases(group, kind)
            if cases is not None:
                parts.append(grid(cases.wide, cases.narrow, output, f"{kind}-cases-{number}", cases.caption))
    return Shown(join(parts) or paragraph("No run has kept values of single images.", "none"))


def published(records: Records, output: Path | str) -> Shown:
    """Published numbers: ranked with measured ones where data, size, metric and protocol agree, else apart."""
    rankings, apart = literature.beside(records.methods, literature.read_literature())
    output, parts = Path(output), []
    for number, frame in enumerate(rankings, start=1):
        rows = [_ranking_row(row) for row in frame.to_dict("records")]
        where = f"{frame.attrs['dataset']}, protocol {frame.attrs['protocol']}"
        caption = f"{measures.heading(frame.attrs['metric'])} on {where}"
        parts.append(kept_table(output, f"published-{number}", RANKING_HEADS, rows, caption))
    if not rankings:
        told = "No published number was obtained on a test set and under a protocol of these runs: none is ranked here."
        parts.append(paragraph(told))
    keys = ("method", "dataset", "metric", "value", "protocol", "status", "source", "apart_because")
    rows = [[str(row[key]) for key in keys] for row in apart.to_dict("records")]
    listed = kept_table(output, "published-apart", APART_HEADS, rows, "Published numbers not comparable", kind="")
    return Shown(join([*parts, details(f"{len(rows)} published numbers that are not comparable", listed)]))


def people(answers: Sequence[str], key: str | None, output: Path | str) -> Shown:
    """Rates of a human study with intervals, when its answers were given."""
    if not answers or key is None:
        told = "No answers were given: python -m reports.build --answers FILES --key KEY (see reports.user_study.page)."
        return Shown(paragraph(told, "none"))
    frame = preference_table([Path(file) for file in answers], Path(key))
    rows = [
        [
            *(row["measure"], row["run"], row["against"], f"{row['rate']:.1%}", _percent(row["low"], row["high"])),
            *(str(row["answers"]), str(row["participants"])),
        ]
        for row in frame.to_dict("records")
    ]
    notes = listing(frame.attrs["notes"])
    if not rows:
        return Shown(paragraph("No answer counts.", "none") + notes)
    return Shown(kept_table(Path(output), "people", ANSWER_HEADS, rows, "What people answered") + notes)


def _intervals(standing: Standing) -> dict[str, tuple[float, float]]:
    rows = standing.by_run.iterrows()
    return {str(run): (row["low"], row["high"]) for run, row in rows if math.isfinite(row["low"])}


def _behind_rows(standing: Standing) -> list[list[str]]:
    if standing.behind is None or measures.group(standing.metric) == measures.GROUPS[3]:
        return []  # the real images' own values tell nothing about methods
    rows = []
    for variant, row in standing.behind.iterrows():
        between = f"[{row['low']:+.4f}, {row['high']:+.4f}]" if math.isfinite(row["low"]) else "–"
        share = f"{row['better_pairs']:.0%}" if math.isfinite(row["better_pairs"]) else "–"
        n = f"{row['n']} {row['over']}"
        told = [f"{row['difference']:+.4f}", between, n, share, p_text(row["p_holm"])]
        rows.append([measures.heading(standing.metric), str(standing.best), str(variant), *told])
    return rows


def _seed_rows(standing: Standing) -> list[list[str]]:
    rows = []
    for variant, row in standing.by_variant.iterrows():
        if row["n"] > 1:
            between = f"[{row['low']:.4f}, {row['high']:.4f}]" if math.isfinite(row["low"]) else "–"
            told = [f"{row['value']:.4f}", between, str(row["n"]), f"{row['sd']:.4f}", str(row["missing"])]
            rows.append([str(variant), measures.heading(standing.metric), *told])
    return rows


def _ranking_row(row: dict) -> list[str]:
    between = f"[{row['low']:.4f}, {row['high']:.4f}]" if pandas.notna(row["low"]) else "–"
    n = str(int(row["n"])) if pandas.notna(row["n"]) else "–"
    return [str(row["name"]), f"{row['value']:.4g}", between, n, str(row["status"]), str(row["source"])]


def _percent(low: float, high: float) -> str:
    return f"[{low:.1%}, {high:.1%}]" if math.isfinite(low) else "–"
