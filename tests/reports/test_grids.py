"""The sample grid shows the recorded pixels, each in its place, and leaves a grey cell where there is no such image."""

import numpy as np
from PIL import Image

from reports.grids import GridLook, sample_grid
from reports.records import load_records

GAP = 6
SMALL = GridLook(page_width=200, cell_width=32, font_size=8, gap=GAP, density=1)


def cells(grid: Image.Image, rows: int, columns: int, size: tuple[int, int]) -> np.ndarray:
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
    found = cells(grid, 3, 6, (32, 64))
    order = [(first, kind) for kind in ("source", "source_pose", "target_pose", "target")]
    order += [(second, "generated"), (first, "generated")]  # runs by name
    for row in range(3):
        for column, (directory, kind) in enumerate(order):
            image = Image.open(directory / "generated" / "examples" / f"{row:02d}_{kind}.png").convert("RGB")
            assert np.array_equal(found[row, column], np.asarray(image)), (row, column)


def test_enlarging_repeats_pixels(fabricate):
    fabricate.run()
    records = load_records(fabricate.folder)
    large = sample_grid(records, rows=1, look=GridLook(page_width=200, cell_width=64, density=1))
    bottom_left = np.asarray(large)[-128:, :64]
    assert np.array_equal(bottom_left[::2, ::2], bottom_left[1::2, 1::2])


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


def test_missing_damaged_and_foreign_examples_are_grey(fabricate):
    first = fabricate.run("a", "a") / "generated" / "examples"
    second = fabricate.run("b", "b") / "generated" / "examples"
    (second / "00_generated.png").unlink()
    (second / "01_generated.png").write_bytes(b"no image")
    (second / "02_source.png").write_bytes((first / "05_source.png").read_bytes())
    grid = sample_grid(load_records(fabricate.folder), rows=4, look=SMALL)
    found = cells(grid, 4, 6, (32, 64))
    grey = [bool((found[row, 5] == found[row, 5, 0, 0]).all()) for row in range(4)]
    assert grey == [True, True, True, False]
    assert not any((found[row, 4] == found[row, 4, 0, 0]).all() for row in range(4))


def test_no_examples_give_no_grid(fabricate):
    fabricate.run(state="failed")
    fabricate.references()
    assert sample_grid(load_records(fabricate.folder)) is None
