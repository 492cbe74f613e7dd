"""Single test images: how the values of a metric are spread over them, and those that came out best and worst."""

from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from reports import measures
from reports.grids import NARROW, WIDE, GridLook, picture_rows
from reports.panels import panels, title_of, wrap
from reports.records import Records
from reports.standings import standings
from reports.style import SETTINGS, WIDE_INCHES, looks
from reports.user_study.pictures import StudyPictures, open_pictures

DRAWN = ("ssim", "lpips", "perceptual_embedded", "pckh", "pckh_embedded")
CASES = 4  # test pairs shown of the best, and of the worst
JUDGED_BY = ("lpips", "perceptual_embedded", "ssim")


@rc_context(SETTINGS)
def distributions(records: Records, inches: float = WIDE_INCHES) -> Figure | None:
    """One panel a metric, one violin a run with its median; nothing where no run has values of single images."""
    values: dict[str, dict[str, np.ndarray]] = {}
    for metric in DRAWN:
        for record in records:
            found = record.per_image_of(metric)["value"].dropna().to_numpy(float)
            if len(found) > 1 and np.ptp(found) > 0:
                values.setdefault(metric, {})[record.run] = found
    if not values:
        return None
    runs = [record.run for record in records if any(record.run in of for of in values.values())]
    titles, style = records.titles(), looks(records)
    labels = [wrap(titles[run], inches, wide=24, narrow=16) for run in runs]
    lines = max(label.count("\n") + 1 for label in labels)
    figure, every = panels([0.8 + max(0.36, 0.17 * lines) * len(runs)] * len(values), inches, per_row=3, sharey=True)
    for (metric, of_metric), axes in zip(values.items(), every, strict=True):
        for run, found in of_metric.items():
            place = runs.index(run)
            drawn = axes.violinplot(found, [place], orientation="horizontal", widths=0.85, showextrema=False)
            for body in drawn["bodies"]:  # type: ignore[attr-defined]
                body.set(facecolor=style[run].colour, alpha=0.45, edgecolor=style[run].colour)
            middle = float(np.median(found))
            axes.plot([middle, middle], [place - 0.3, place + 0.3], color="#1a1a1a", linewidth=1.8)
        axes.set(title=title_of(measures.heading(metric)))
        axes.set_xlabel(measures.direction(metric), loc="right")
        axes.set_yticks(range(len(runs)), labels)
        axes.set_ylim(len(runs) - 0.4, -0.6)
        axes.locator_params(axis="x", nbins=5)
    return figure


@dataclass(frozen=True)
class Cases:
    """Rows of pictures for a wide and for a narrow page."""

    wide: Image.Image
    narrow: Image.Image
    caption: str


def cases(records: Records, kind: str) -> Cases | None:
    """The test pairs on which the best run came out `best` or `worst`, with what all runs made of them."""
    measured = records.methods.metrics()
    metric = next((name for name in JUDGED_BY if name in measured), None)
    if metric is None:
        return None
    standing = max(standings(records, [metric]), key=lambda one: len(one.by_variant))
    judged = next((record for record in records.methods if record.facts.get("variant") == standing.best), None)
    if judged is None:
        return None
    with_images = [record for record in records.methods if (record.directory / "generated" / "manifest.json").is_file()]
    if judged not in with_images:
        return None
    try:
        pictures = open_pictures([record.directory for record in with_images])
    except ValueError:
        return None
    by_pair = judged.per_image_of(metric).drop_duplicates("pair").set_index("pair")["value"].dropna()
    there = {pair.pair: pair for pair in pictures.pairs}
    lowest_first = [pair for pair in by_pair.sort_values().index if pair in there]
    best_first = lowest_first[::-1] if measures.higher_is_better(metric) else lowest_first
    chosen = best_first[:CASES] if kind == "best" else best_first[::-1][:CASES]
    titles = records.titles()
    names = [titles[run] for run in pictures.titles if run in titles]
    if not chosen or len(names) != len(pictures.titles):
        return None
    try:
        rows = [_row(pictures, there[pair]) for pair in chosen]
    except ValueError:
        return None
    heads = ["source", "target pose", "target", *names]
    caption = f"The {len(chosen)} test pairs on which {titles[judged.run]} came out {kind} by {measures.title(metric)}."
    return Cases(_drawn(heads, rows, WIDE), _drawn(heads, rows, NARROW), caption)


def _row(pictures: StudyPictures, pair) -> list[np.ndarray]:
    given = [pictures.given(pair, which) for which in ("source", "target_pose", "target")]
    return [*given, *(pictures.generated(pair, run) for run in pictures.titles)]


def _drawn(heads: list[str], rows: list[list[np.ndarray]], look: GridLook) -> Image.Image:
    return picture_rows(heads, [[Image.fromarray(cell) for cell in row] for row in rows], given=3, look=look)
