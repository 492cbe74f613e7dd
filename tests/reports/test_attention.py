"""Attention maps on a page: each weight where its key lies, the joint where it is, and who has no maps and why."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from reports.attention import (
    DRAWN,
    attention_picture,
    caption,
    colour_bar,
    highest,
    kept_maps,
    overlaid,
    which,
    with_maps,
)
from reports.grids import GridLook
from reports.records import load_records
from xinggan.model.attention_maps import FILE_NAME, AttentionMaps, write_attention

PLAIN = GridLook(page_width=1000, cell_width=32, font_size=8, density=1)
ARCHITECTURE = {"_target_": "xinggan.model.generator.XingGAN", "architecture": {"attention": "enhanced"}}


def some_maps(weights=None, pairs=(0, 0, 1)):
    """Three queries over scales of 2 x 1 and 4 x 2 keys, in the 64 x 32 pixels of the fabricated examples."""
    keys, count = 2 + 8, len(pairs)
    return AttentionMaps(
        weights=np.full((2, 2, count, keys), 1 / keys, np.float16) if weights is None else weights,
        branches=np.array(["SA", "AS"]),
        blocks=np.array([1, 3]),
        grids=np.array([[2, 1], [4, 2]]),
        pair=np.array(pairs),
        joint=np.array([0, 2, 10][:count]),
        target=np.array([[16, 8], [20, 20], [10, 50]], np.float32)[:count],
        source=np.array([[-1, -1], [10, 20], [5, 60]], np.float32)[:count],
    )


def written(run, maps=None):
    write_attention(run / "generated" / "examples" / FILE_NAME, maps or some_maps())
    return run


def coloured(picture):
    """Which pixels are no grey, [H, W]."""
    return np.ptp(np.asarray(picture).astype(int), axis=-1) > 0


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 1), (6, 3), (16, 8)])
def test_a_weight_colours_its_own_part_of_the_source_and_no_other(rows, columns):
    source = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 24, 3), dtype=np.uint8))
    for key in (0, rows * columns // 2, rows * columns - 1):
        shares = np.zeros(rows * columns)
        shares[key] = 5
        row, column = divmod(key, columns)
        expected = np.zeros((48, 24), bool)
        height, width = 48 // rows, 24 // columns
        expected[row * height : (row + 1) * height, column * width : (column + 1) * width] = True
        assert np.array_equal(coloured(overlaid(source, shares.reshape(rows, columns), top=8)), expected)


def test_a_larger_weight_is_darker_whatever_lies_below():
    for level in (0, 128, 255):
        source = Image.new("RGB", (9, 1), (level, level, level))
        picture = overlaid(source, 2 ** np.linspace(0.5, 6, 9)[None], top=64)
        assert (np.diff(np.asarray(picture.convert("L")).astype(int)) < 0).all()


@pytest.mark.parametrize("keys", [20, 128, 220, 1027])
def test_equal_weights_have_no_colour_however_they_were_rounded(keys):
    shares = np.full((1, 4), 1 / keys, np.float16).astype(np.float32) * keys
    assert not coloured(overlaid(Image.new("RGB", (4, 4), (90, 90, 90)), shares, top=2)).any()


def test_colours_end_at_the_power_of_two_that_no_weight_exceeds():
    weights = np.zeros((2, 2, 3, 10), np.float16)
    for largest, top in ((0.1, 2), (0.19, 2), (0.25, 4), (0.5, 8), (1, 16)):
        weights[0, 0, 1, 4] = largest
        assert highest(some_maps(weights)) == top


def test_a_row_holds_the_targets_joint_the_source_and_a_map_of_each_scale(fabricate):
    weights = np.zeros((2, 2, 1, 10), np.float16)
    weights[0, 1, 0, 1] = 1  # SA, last block, the lower of the 2 x 1 keys
    weights[1, 1, 0, 2 + 3] = 1  # AS, last block, second row and second column of the 4 x 2 keys
    run = fabricate.run()
    (record,) = load_records(fabricate.folder)
    picture = np.asarray(attention_picture(record, some_maps(weights, pairs=(4,)), 1, PLAIN))
    examples = {kind: Image.open(run / "generated" / "examples" / f"04_{kind}.png") for kind in ("target", "source")}
    top = _row_of(picture, np.asarray(examples["source"]))
    lefts = [column * 38 + (12 if column >= 2 else 0) for column in range(6)]
    cells = [picture[top : top + 64, left : left + 32] for left in lefts]
    assert np.array_equal(cells[1], np.asarray(examples["source"])), "the joint is not visible there: no cross"
    changed = (cells[0] != np.asarray(examples["target"])).any(axis=-1)
    y, x = np.nonzero(changed)
    assert (x.mean(), y.mean()) == pytest.approx((16.5, 8.5), abs=1)
    assert not changed[8, 16], "the ring leaves the joint itself to be seen"
    for cell, (rows, columns) in zip(
        cells[2:], [((32, 64), (0, 32)), ((0, 0), (0, 0)), ((0, 0), (0, 0)), ((16, 32), (16, 32))], strict=True
    ):
        expected = np.zeros((64, 32), bool)
        expected[slice(*rows), slice(*columns)] = True
        assert np.array_equal(coloured(cell), expected)


def _row_of(picture, image):
    """Where the image stands in its column, the second."""
    column = picture[:, 38:70]
    return next(y for y in range(len(column) - 64) if np.array_equal(column[y : y + 64], image))


def test_the_cross_is_at_the_joint_in_the_source(fabricate):
    run = fabricate.run()
    (record,) = load_records(fabricate.folder)
    pictures = []
    for place in ([-1, -1], [10, 20]):
        maps = replace(some_maps(pairs=(0,)), source=np.array([place], np.float32))
        pictures.append(np.asarray(attention_picture(record, maps, 0, PLAIN)).astype(int))
    source = Image.open(run / "generated" / "examples" / "00_source.png")
    y, x = np.nonzero(np.abs(pictures[1] - pictures[0]).sum(axis=-1))
    for column in range(1, 6):  # the source, and on it two scales of SA and of AS
        left = 38 * column + (12 if column >= 2 else 0)
        here = (x >= left) & (x < left + 32)
        assert x[here].mean() == pytest.approx(left + 10.5, abs=1)
        assert y[here].mean() == pytest.approx(_row_of(pictures[0], np.asarray(source)) + 20.5, abs=1)
    assert not (x < 38).any()


def test_the_colour_bar_has_the_colours_of_the_maps():
    bar = np.asarray(colour_bar(16, 234, 400, PLAIN)).astype(int)
    grey = Image.new("RGB", (1, 1), (192, 192, 192))
    y = np.flatnonzero(coloured(bar).any(axis=1))[0] + 6
    for power in (0.5, 1, 2, 3.5):
        expected = np.asarray(overlaid(grey, np.array([[2**power]]), top=16))[0, 0]
        assert np.abs(bar[y, 20 + round(329 * power / 4)] - expected).max() <= 3
    assert colour_bar(4096, 234, 160, PLAIN).width == 160


@pytest.mark.parametrize(
    ("method", "state", "told"),
    [
        ({"_target_": "baselines.gan.patn.PATN"}, "finished", "no cross-attention of appearance and shape code"),
        ({**ARCHITECTURE, "architecture": {"attention": "none"}}, "finished", "attention=none"),
        (ARCHITECTURE, "finished", "before maps were kept"),
        (ARCHITECTURE, "failed", "failed"),
    ],
)
def test_a_run_without_maps_says_why(fabricate, method, state, told):
    fabricate.run(method=method, state=state)
    records = load_records(fabricate.folder)
    assert told in kept_maps(records[0])
    assert with_maps(records) == ([], [], {kept_maps(records[0]): [records[0].title]})


def test_a_damaged_file_is_named(fabricate):
    run = fabricate.run("evil", "xinggan <script>")
    (run / "generated" / "examples" / FILE_NAME).write_bytes(b"no archive")
    drawn, _, without = with_maps(load_records(fabricate.folder))
    ((why, titles),) = without.items()
    assert not drawn and "attention.npz holds no attention maps" in why and titles == ["xinggan <script>"]


def test_the_first_variants_are_drawn_and_the_others_named(fabricate):
    for number in range(DRAWN + 2):
        written(fabricate.run(f"run-{number}", f"xinggan blocks={number}"))
    written(fabricate.run("again", "xinggan blocks=0 seed=1", seed=1))
    drawn, others, without = with_maps(load_records(fabricate.folder))
    assert [record.title for record, _ in drawn] == [f"xinggan blocks={number}" for number in range(DRAWN)]
    assert len(others) == 3 and not without
    record, maps = drawn[0]
    assert [which(maps, block) for block in (1, 3)] == ["the first", "the last"]
    assert "block 3 (the last), SA (shape-guided appearance) and AS (appearance-guided shape)" in caption(
        record, maps, 3
    )


def test_a_run_whose_images_are_gone_is_left_out_without_an_error(fabricate):
    run = written(fabricate.run())
    for path in (run / "generated" / "examples").glob("*.png"):
        path.unlink()
    drawn, _, without = with_maps(load_records(fabricate.folder))
    assert not drawn and list(without) == ["its example images are not there"]
