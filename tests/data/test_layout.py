"""The Pose-Transfer layout: which files are read, which pairs follow, and every problem of many broken data sets."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from xinggan.data.layout import LayoutProblems, find_files, read_layout
from xinggan.data.prepare import prepare
from xinggan.data.settings import DatasetSettings


def market(root: Path, **others) -> DatasetSettings:
    return DatasetSettings("market1501", root=str(root), **others)


@pytest.mark.parametrize("prefix", ["market", "fasion-resize", "fasion", "fashion", "pku", "my-own"])
def test_any_set_s_files_are_found_by_their_ending(make_layout, prefix):
    settings = DatasetSettings("folder", root=str(make_layout(prefix=prefix)))
    assert find_files(settings).prefix == prefix
    assert read_layout(settings, "train").names == ["1_a.png", "1_b.png", "1_c.png", "2_a.png", "2_b.png"]


def test_of_several_sets_the_known_one_is_read_and_unknown_ones_are_a_question(make_layout):
    root = make_layout(prefix="fasion")
    for extra in ("fasion-resize", "zzz"):
        (root / f"{extra}-annotation-train.csv").write_text("")
    assert find_files(market(root)).prefix == "fasion-resize"
    for known in ("fasion", "fasion-resize"):
        (root / f"{known}-annotation-train.csv").rename(root / f"my-{known}-annotation-train.csv")
    with pytest.raises(ValueError, match="several sets \\(my-fasion, my-fasion-resize, zzz\\)"):
        find_files(market(root))


def test_pairs_come_from_the_file_or_from_the_rule(make_layout):
    root = make_layout(pairs={"test": "from,to\n4_b.png,4_a.png\n3_a.png,3_b.png\n"})
    assert read_layout(market(root), "test").pairs.tolist() == [[3, 2], [0, 1]]
    assert read_layout(market(root, test_pairs=1), "test").pairs.tolist() == [[3, 2]]
    assert read_layout(market(root), "train").pairs.tolist() == [
        *([0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1]),
        *([3, 4], [4, 3]),
    ]


def test_market_s_distractors_are_left_out_and_need_no_image(make_layout):
    root = make_layout(test=("-1_a.png", "-1_b.png", "0000_a.png", "0000_b.png", "3_a.png", "3_b.png"))
    (root / "test/0000_a.png").unlink()
    layout = read_layout(market(root), "test")
    assert layout.names == ["3_a.png", "3_b.png"] and sorted(layout.pairs.tolist()) == [[0, 1], [1, 0]]
    (root / "market-pairs-test.csv").write_text("from,to\n-1_a.png,3_a.png\n")
    assert read_layout(market(root), "test").names == ["-1_a.png", "3_a.png", "3_b.png"]


def test_images_without_annotation_are_a_note(make_layout):
    root = make_layout()
    Image.new("RGB", (7, 7)).save(root / "train/extra.jpg")
    assert read_layout(market(root), "train").notes == [
        "train/: 1 images have no annotation and are left out, extra.jpg for one"
    ]


def test_a_training_pair_may_be_listed_twice_and_weighs_twice(make_layout):
    layout = read_layout(market(make_layout(pairs={"train": "from,to\n1_a.png,1_b.png\n1_a.png,1_b.png\n"})), "train")
    assert layout.pairs.tolist() == [[0, 1], [0, 1]]
    assert layout.notes == ["market-pairs-train.csv: 1 pairs are listed more than once"]


def test_pairs_of_different_people_are_a_note(make_layout):
    layout = read_layout(market(make_layout(pairs={"train": "from,to\n1_a.png,2_b.png\n"})), "train")
    assert layout.notes == ["market-pairs-train.csv: 1 pairs join images of different identities"]


def test_images_may_lie_in_folders_below(make_layout):
    root = make_layout()
    (root / "train/one").mkdir()
    (root / "train/1_a.png").rename(root / "train/one/1_a.png")
    table = root / "market-annotation-train.csv"
    table.write_text(table.read_text().replace("1_a.png", "one/1_a.png"))
    layout = read_layout(market(root), "train")
    assert layout.names[0] == "one/1_a.png" and layout.identities[0] == "1"


# What can be wrong: how to break a good layout, then the file, row and words of the problem.


def append(table: str, row: str) -> Callable[[Path], None]:
    def breaks(root: Path) -> None:
        with (root / table).open("a") as file:
            file.write(row + "\n")

    return breaks


def annotate(table: str, name: str, change: Callable[[str], str] = str) -> Callable[[Path], None]:
    """Append the table's first row under another name."""

    def breaks(root: Path) -> None:
        _, _, joints = (root / table).read_text().splitlines()[1].partition(":")
        append(table, change(f"{name}:{joints}"))(root)

    return breaks


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes(change((root / name).read_bytes())) and None


def copy(source: str, target: str) -> Callable[[Path], None]:
    return lambda root: (root / target).write_bytes((root / source).read_bytes()) and None


TRAIN, PAIRS = "market-annotation-train.csv", "market-pairs-test.csv"
TEST = "market-annotation-test.csv"

BROKEN = {
    "image missing": (lambda root: (root / "train/1_b.png").unlink(), TRAIN, 3, "train/1_b.png: the image is missing"),
    "folder missing": (
        lambda root: (root / "test").rename(root / "tests"),
        "test/",
        None,
        "folder of the images is missing",
    ),
    "image empty": (rewrite("train/1_b.png", lambda data: b""), TRAIN, 3, "train/1_b.png: the image cannot be read"),
    "image truncated": (
        rewrite("test/3_b.png", lambda data: data[:-300]),
        TEST,
        3,
        "test/3_b.png: the image cannot be read",
    ),
    "image damaged": (
        rewrite("test/3_b.png", lambda data: data[:900] + bytes(50) + data[950:]),
        *(TEST, 3, "test/3_b.png: the image cannot be read"),
    ),
    "image of another size": (
        lambda root: Image.new("RGB", (16, 36)).save(root / "train/2_a.png"),
        *(TRAIN, 5, "train/2_a.png: 16 x 36 pixels (width x height); expected 16 x 32"),
    ),
    "annotations missing": (lambda root: (root / TEST).unlink(), TEST, None, "the file cannot be read"),
    "annotation malformed": (append(TRAIN, "9_a.png: [1, 2: [3]"), TRAIN, 7, "9_a.png: the list of y cannot be read"),
    "annotation of 17": (
        annotate(TRAIN, "9_a.png", lambda row: row.replace("[1, ", "[", 1)),
        TRAIN,
        7,
        "17 values of y; expected 18",
    ),
    "duplicate name": (annotate(TRAIN, "1_a.png"), TRAIN, 7, "1_a.png is annotated already in row 2"),
    "same name but for suffix": (
        lambda root: (copy("train/1_a.png", "train/1_a.bmp")(root), annotate(TRAIN, "1_a.bmp")(root)),
        *(TRAIN, 7, "1_a.bmp is named like the image of row 2 but for folder and suffix"),
    ),
    "name above the root": (annotate(TRAIN, "../1_z.png"), TRAIN, 7, "'../1_z.png' leaves the folder"),
    "absolute name": (annotate(TRAIN, "/tmp/1_z.png"), TRAIN, 7, "'/tmp/1_z.png' leaves the folder"),
    "no identity in a name": (
        lambda root: (copy("train/1_a.png", "train/x.png")(root), annotate(TRAIN, "x.png")(root)),
        *(TRAIN, 7, "no identity in the name x.png"),
    ),
    "pair of unknown image": (append(PAIRS, "3_a.png,8_a.png"), PAIRS, 3, "8_a.png is unknown"),
    "pair without annotation": (
        lambda root: (copy("test/3_a.png", "test/8_a.png")(root), append(PAIRS, "8_a.png,3_a.png")(root)),
        *(PAIRS, 3, "8_a.png has no annotation"),
    ),
    "pair above the root": (
        append(PAIRS, "../train/1_a.png,3_a.png"),
        PAIRS,
        3,
        "'../train/1_a.png' leaves the folder",
    ),
    "pair of three": (append(PAIRS, "3_a.png,3_b.png,4_a.png"), PAIRS, 3, "3 fields separated by ','; expected 2"),
    "pair twice": (append(PAIRS, "3_a.png,3_b.png"), PAIRS, 3, "the pair is listed already in row 2"),
    "pair with itself": (append(PAIRS, "3_a.png,3_a.png"), PAIRS, 3, "3_a.png is paired with itself"),
    "pairs empty": (lambda root: (root / PAIRS).write_text("from,to\n") and None, PAIRS, None, "no usable pair"),
    "no derived pair": (
        rewrite(TRAIN, lambda table: re.sub(rb"\[(\d+), (\d+), (\d+),", rb"[\1, \2, -1,", table)),
        *(TRAIN, None, "no usable pair"),
    ),
    "picture in both splits": (
        lambda root: Image.open(root / "train/1_a.png").save(root / "test/3_a.png", compress_level=1),
        *(TEST, 2, "test/3_a.png: the same picture as train/1_a.png"),
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_data_set_is_refused_with_file_and_row_and_nothing_is_written(make_layout, tmp_path, case):
    breaks, file, row, message = BROKEN[case]
    root = make_layout(pairs={"test": "from,to\n3_a.png,3_b.png\n"})
    breaks(root)
    (tmp_path / "cache").mkdir()
    with pytest.raises(LayoutProblems) as raised:
        prepare(market(root), tmp_path / "cache", progress=False)
    found = [(problem.file, problem.row) for problem in raised.value.problems if message in problem.what]
    assert found == [(file, row)], raised.value
    assert list((tmp_path / "cache").iterdir()) == []


def test_all_problems_are_reported_at_once(make_layout, tmp_path):
    root = make_layout(pairs={"test": "from,to\n3_a.png,3_b.png\n"})
    independent = [
        "image missing",
        "image truncated",
        "image of another size",
        "annotation of 17",
        "pair of unknown image",
    ]
    for case in independent:
        BROKEN[case][0](root)
    with pytest.raises(LayoutProblems) as raised:
        prepare(market(root), tmp_path / "cache", progress=False)
    assert len(raised.value.problems) == len(independent)
    for case in independent:
        assert any(BROKEN[case][3] in problem.what for problem in raised.value.problems), case


def test_the_problems_print_as_a_table_with_the_number_of_the_rest(make_layout):
    root = make_layout()
    for number in range(30):
        append(TRAIN, f"{number}_z.png: []: []")(root)
    with pytest.raises(LayoutProblems) as raised:
        read_layout(market(root), "train")
    lines = str(raised.value).splitlines()
    assert lines[0] == f"30 problems in {root}; nothing was prepared."
    assert lines[2].split() == ["file", "row", "problem"] and len({line.find("_z.png") for line in lines[3:9]}) == 1
    assert lines[-1].strip() == "... and 10 more"
    assert len(raised.value.table(100).splitlines()) == 33


@pytest.mark.parametrize(
    ("root", "message"),
    [(None, "'market1501' needs root"), ("nowhere", "is not a folder"), (".", "has no \\*-annotation-train.csv")],
)
def test_a_root_that_is_none_is_refused_with_what_is_expected(tmp_path, root, message):
    settings = DatasetSettings("market1501", root=root and str(tmp_path / root))
    with pytest.raises(ValueError, match=message):
        prepare(settings, tmp_path / "cache", progress=False)
    assert not (tmp_path / "cache").exists()
