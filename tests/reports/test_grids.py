"""Grids show the recorded pixels, each in its place, with a grey cell where there is no such image; cases are the pairs
with the extreme values.
"""

import numpy as np
import pytest
from ablation_runs import write_values
from PIL import Image
from study_runs import COLOURS, painted_runs

from reports.comparison import rankings
from reports.figures import NARROW_INCHES, WIDE_INCHES
from reports.grids import CASES, SMALLEST_INCHES, cases, sample_grid
from reports.records import load_records


def shown(figure) -> list[list[np.ndarray]]:
    """The images of a figure in rows, from the upper left."""
    rows: dict[float, dict[float, np.ndarray]] = {}
    for image in figure.axes[0].images:
        left, _, _, top = image.get_extent()
        rows.setdefault(round(top, 6), {})[left] = np.asarray(image.get_array())
    return [[row[left] for left in sorted(row)] for _, row in sorted(rows.items())]


def example(run, number: int, kind: str) -> np.ndarray:
    return np.asarray(Image.open(run / "generated" / "examples" / f"{number:02d}_{kind}.png").convert("RGB"))


@pytest.mark.parametrize(("inches", "beside"), [(WIDE_INCHES, 1), (2 * WIDE_INCHES, 3), (NARROW_INCHES, 1)])
def test_each_cell_is_the_recorded_image_and_short_rows_stand_side_by_side(fabricate, inches, beside):
    first, second = fabricate.run(), fabricate.run("patn", "patn")
    fabricate.references()
    order = [(first, kind) for kind in ("source", "source_pose", "target_pose", "target")]
    order += [(second, "generated"), (first, "generated")]  # runs by name
    figure = sample_grid(load_records(fabricate.folder), inches, rows=3)
    found = shown(figure)
    for row, images in enumerate(found):
        expected = [example(run, row + 3 * block, kind) for block in range(beside) for run, kind in order]
        assert len(images) == len(expected) and all(map(np.array_equal, images, expected))
    assert len(found) == 3 and figure.get_figwidth() <= max(inches, 6.5 * SMALLEST_INCHES)
    heads = [" ".join(text.get_text().split()).replace("= ", "=") for text in figure.axes[0].texts if text.get_text()]
    assert heads == ["source", "source pose", "target pose", "target", "patn", "xinggan scale=single"] * beside


def test_missing_and_damaged_examples_are_grey(fabricate):
    fabricate.run("a", "a")
    second = fabricate.run("b", "b") / "generated" / "examples"
    (second / "00_generated.png").unlink()
    (second / "01_generated.png").write_bytes(b"no image")
    found = shown(sample_grid(load_records(fabricate.folder), NARROW_INCHES, rows=3))
    alike = [[len(np.unique(cell.reshape(-1, 3), axis=0)) == 1 for cell in row[4:]] for row in found]
    assert alike == [[False, True], [False, True], [False, False]]


def test_no_examples_give_no_grid(fabricate):
    fabricate.run(state="failed")
    fabricate.references()
    assert sample_grid(load_records(fabricate.folder), WIDE_INCHES) is None


PAIRS = 40


@pytest.fixture
def painted(tmp_path, fabricator):
    """Runs whose generated image of pair p is their own colour with p added to the blue; alder is the better one."""
    runs = painted_runs(tmp_path, fabricator)
    rng = np.random.default_rng(0)
    values = {run.name: rng.permutation(np.linspace(0.3, 0.4, PAIRS)) for run in runs}
    return runs, values


def shown_pairs(figure, colour) -> set[int]:
    """Pairs whose image in this colour is in the figure."""
    pixels = [image[0, 0].astype(int) for row in shown(figure) for image in row[3:]]
    return {int(blue - colour[2]) for red, green, blue in pixels if (red, green) == colour[:2]}


@pytest.mark.parametrize(("metric", "sign"), [("ssim", 1), ("perceptual_embedded", -1)])
def test_cases_are_the_best_runs_extreme_pairs(painted, metric, sign):
    runs, values = painted
    for run, ahead in zip(runs, (0.2, 0.0), strict=True):
        write_values(run, {metric: 0.5 + sign * (values[run.name] + ahead - 0.5)}, people=12)
    records = load_records(runs[0].parent)
    best_first = np.argsort(-values[runs[0].name])
    found_cases = cases(records, rankings(records.metric(metric)))
    assert list(found_cases) == ["best", "worst"]
    for (kind, found), expected in zip(found_cases.items(), (best_first, best_first[::-1]), strict=True):
        assert "alder" in found.caption and kind in found.caption
        for colour in COLOURS.values():
            assert shown_pairs(found.picture(WIDE_INCHES), colour) == set(expected[:CASES])
        assert shown_pairs(found.picture(NARROW_INCHES), COLOURS["alder"]) == set(expected[:CASES])


def test_image_that_is_not_the_one_scored_is_not_shown(painted):
    runs, values = painted
    for run in runs:
        write_values(run, {"ssim": values[run.name]}, people=12)
    records = load_records(runs[0].parent)
    ranks = rankings(records.metric("ssim"))
    assert cases(records, ranks)
    for path in (runs[1] / "generated").glob("*.png"):
        path.write_bytes(path.read_bytes() + b"\0")
    assert cases(records, ranks) == {}


def test_runs_without_pictures_or_scores_have_no_cases(fabricate):
    fabricate.run()
    records = load_records(fabricate.folder)
    assert cases(records, rankings(records.metric("ssim"))) == {}
