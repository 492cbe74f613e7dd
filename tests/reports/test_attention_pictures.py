"""Attention maps on a page: each weight where its key lies, the joint where it is, and who has no maps and why."""

import numpy as np
import pytest
from PIL import Image

from reports.attention import (
    DRAWN,
    attention_figure,
    caption,
    highest,
    kept_maps,
    overlaid,
    which,
    with_maps,
)
from reports.figures import NARROW_INCHES, WIDE_INCHES
from reports.records import load_records
from xinggan.model.attention_maps import FILE_NAME, AttentionMaps, write_attention

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


def example(run, pair, kind):
    return run / "generated" / "examples" / f"{pair:02d}_{kind}.png"


def written(run, maps=None):
    write_attention(run / "generated" / "examples" / FILE_NAME, maps or some_maps())
    return run


def coloured(picture):
    """Which pixels are no grey, [H, W]."""
    return np.ptp(np.asarray(picture).astype(int), axis=-1) > 0


def grey(height, width, level=90):
    return np.full((height, width, 3), level, np.uint8)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 1), (6, 3), (16, 8)])
def test_a_weight_colours_its_own_part_of_the_source_and_no_other(rows, columns):
    source = np.random.default_rng(0).integers(0, 256, (48, 24, 3), dtype=np.uint8)
    for key in (0, rows * columns // 2, rows * columns - 1):
        shares = np.zeros(rows * columns)
        shares[key] = 5
        row, column = divmod(key, columns)
        expected = np.zeros((48, 24), bool)
        height, width = 48 // rows, 24 // columns
        expected[row * height : (row + 1) * height, column * width : (column + 1) * width] = True
        assert np.array_equal(coloured(overlaid(source, shares.reshape(rows, columns), top=8)), expected)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_larger_weight_is_darker_whatever_lies_below(level):
    picture = Image.fromarray(overlaid(grey(1, 9, level), 2 ** np.linspace(0.5, 6, 9)[None], top=64))
    assert (np.diff(np.asarray(picture.convert("L")).astype(int)) < 0).all()


@pytest.mark.parametrize("keys", [20, 128, 220, 1027])
def test_equal_weights_have_no_colour_however_they_were_rounded(keys):
    shares = np.full((1, 4), 1 / keys, np.float16).astype(np.float32) * keys
    assert not coloured(overlaid(grey(4, 4), shares, top=2)).any()


def test_colours_end_at_the_power_of_two_that_no_weight_exceeds():
    weights = np.zeros((2, 2, 3, 10), np.float16)
    for largest, top in ((0.1, 2), (0.19, 2), (0.25, 4), (0.5, 8), (1, 16)):
        weights[0, 0, 1, 4] = largest
        assert highest(some_maps(weights)) == top


def test_a_row_holds_the_marked_target_and_source_and_a_map_of_each_scale(fabricate):
    weights = np.zeros((2, 2, 3, 10), np.float16)
    weights[0, 1, 1, 1] = 1  # SA, last block, the lower of the 2 x 1 keys
    weights[1, 1, 1, 2 + 3] = 1  # AS, last block, second row and second column of the 4 x 2 keys
    run = fabricate.run()
    (record,) = load_records(fabricate.folder)
    page, bar = attention_figure(record, some_maps(weights, pairs=(0, 4, 4)), 1, 4.5).axes
    images, marks = page.images[6:12], list(page.lines)
    for image, kind in zip(images, ("target", "source"), strict=False):
        assert np.array_equal(image.get_array(), np.asarray(Image.open(example(run, 4, kind))))
    coloured_parts = [((32, 64), (0, 32)), ((0, 0), (0, 0)), ((0, 0), (0, 0)), ((16, 32), (16, 32))]
    for image, (rows, columns) in zip(images[2:], coloured_parts, strict=True):
        expected = np.zeros((64, 32), bool)
        expected[slice(*rows), slice(*columns)] = True
        assert np.array_equal(coloured(image.get_array()), expected)
    assert [mark.get_marker() for mark in marks] == [*"o", *"o+++++", *"o+++++"], "the first source shows no joint"
    joints = [(20, 20), *[(10, 20)] * 5]
    for image, mark, (x, y) in zip(images, marks[1:7], joints, strict=True):
        left, right, bottom, top = image.get_extent()
        place = (left + (x + 0.5) / 32 * (right - left), top + (y + 0.5) / 64 * (bottom - top))
        assert (mark.get_xdata()[0], mark.get_ydata()[0]) == pytest.approx(place)
    assert {"right\nshoulder", "pair 5", "100%", "SA 2×1", "AS 4×2"} <= {text.get_text() for text in page.texts}
    assert bar.get_xlim() == pytest.approx((1, 16)) and bar.get_title("left") == "weight of a key ÷ equal share (1/10)"


@pytest.mark.parametrize("inches", [WIDE_INCHES, NARROW_INCHES])
def test_nothing_lies_over_anything_else_on_wide_and_narrow_pages(fabricate, inches):
    fabricate.run()
    (record,) = load_records(fabricate.folder)
    figure = attention_figure(record, some_maps(), 0, inches)
    boxes = [image.get_window_extent() for image in figure.axes[0].images]
    boxes += [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    boxes += [figure.axes[1].get_tightbbox()]
    for place, box in enumerate(boxes):
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1
        assert not any(box.overlaps(other) for other in boxes[:place])


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
