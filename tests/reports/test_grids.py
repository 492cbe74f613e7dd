"""Grids show the recorded pixels, each in its place, with a grey cell where there is no such image; cases are the pairs
with the extreme values.
"""

from dataclasses import replace

import numpy as np
import pytest
from ablation_runs import write_values
from PIL import Image
from study_runs import COLOURS, painted_runs

from reports.comparison import rankings
from reports.grids import CASES, NARROW, WIDE, GridLook, cases, sample_grid
from reports.records import load_records

GAP = 6
SMALL = GridLook(page_width=200, cell_width=32, font_size=8, gap=GAP, density=1)


def cut(grid: Image.Image, rows: int, columns: int, size: tuple[int, int]) -> np.ndarray:
    """[rows, columns, height, width, 3] cut from the grid's lower left, without gaps; the divider follows column 4."""
    width, height = size
    pixels = np.asarray(grid)
    head = pixels.shape[0] - rows * (height + GAP) + GAP
    found = []
    for row in range(rows):
        for column in range(columns):
            x = column * (width + GAP) + (2 * GAP if column >= 4 else 0)
            y = head + row * (height + GAP)
            found.append(pixels[y : y + height, x : x + width])
    return np.array(found).reshape(rows, columns, height, width, 3)


def test_each_cell_is_the_recorded_image(fabricate):
    first, second = fabricate.run(), fabricate.run("patn", "patn")
    fabricate.references()
    grid = sample_grid(load_records(fabricate.folder), rows=3, look=SMALL)
    found = cut(grid, 3, 6, (32, 64))
    order = [(first, kind) for kind in ("source", "source_pose", "target_pose", "target")]
    order += [(second, "generated"), (first, "generated")]  # runs by name
    for row in range(3):
        for column, (directory, kind) in enumerate(order):
            image = Image.open(directory / "generated" / "examples" / f"{row:02d}_{kind}.png").convert("RGB")
            assert np.array_equal(found[row, column], np.asarray(image)), (row, column)


def test_short_rows_stand_side_by_side_where_the_page_has_room(fabricate):
    fabricate.run()
    records = load_records(fabricate.folder)
    narrow = sample_grid(records, rows=8, look=SMALL)
    wide = sample_grid(records, rows=4, look=GridLook(page_width=500, cell_width=32, font_size=8, gap=GAP, density=1))
    assert wide.width == 2 * narrow.width + 5 * GAP
    pixels, expected = np.asarray(wide), np.asarray(narrow)
    half = 4 * (64 + GAP)
    assert np.array_equal(pixels[GAP - half :, : narrow.width], expected[GAP - 2 * half : -half])  # pairs 1 to 4
    assert np.array_equal(pixels[GAP - half :, -narrow.width :], expected[GAP - half :])  # pairs 5 to 8


def test_missing_and_damaged_examples_are_grey_and_pixels_are_repeated(fabricate):
    fabricate.run("a", "a")
    second = fabricate.run("b", "b") / "generated" / "examples"
    (second / "00_generated.png").unlink()
    (second / "01_generated.png").write_bytes(b"no image")
    grid = sample_grid(load_records(fabricate.folder), replace(SMALL, density=2, gap=GAP // 2), rows=3)
    found = cut(grid, 3, 6, (64, 128))
    assert np.array_equal(found[:, :, ::2, ::2], found[:, :, 1::2, 1::2])
    assert [len(np.unique(cell.reshape(-1, 3), axis=0)) == 1 for cell in found[:, 5]] == [True, True, False]
    assert not any((cell == cell[0, 0]).all() for cell in found[:, 4])


def test_no_examples_give_no_grid(fabricate):
    fabricate.run(state="failed")
    fabricate.references()
    assert sample_grid(load_records(fabricate.folder)) is None


PAIRS = 40


@pytest.fixture
def painted(tmp_path, fabricator):
    """Runs whose generated image of pair p is their own colour with p added to the blue; alder is the better one."""
    runs = painted_runs(tmp_path, fabricator)
    rng = np.random.default_rng(0)
    values = {run.name: rng.permutation(np.linspace(0.3, 0.4, PAIRS)) for run in runs}
    return runs, values


def shown_pairs(picture, colour) -> set[int]:
    """Pairs whose image in this colour is in the picture."""
    pixels = np.asarray(picture).reshape(-1, 3)
    blue = pixels[(pixels[:, :2] == colour[:2]).all(axis=1), 2].astype(int)
    pairs, counts = np.unique(blue - colour[2], return_counts=True)
    painted = (pairs >= 0) & (pairs < PAIRS) & (counts >= 100)  # neither the skeletons nor stray pixels of a person
    return set(pairs[painted].tolist())


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
            assert shown_pairs(found.picture(WIDE), colour) == set(expected[:CASES])
        assert shown_pairs(found.picture(NARROW), COLOURS["alder"]) == set(expected[:CASES])


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
