"""The Pose-Transfer layout: which files are read, which pairs follow, and what is worth a note."""

from pathlib import Path

import pytest
from PIL import Image

from xinggan.data.layout import LayoutProblems, find_files, read_layout
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


@pytest.mark.parametrize("prefix", ["market", "fasion-resize", "fasion", "fashion", "pku", "my-own"])
@pytest.mark.parametrize("kind", ["market1501", "deepfashion", "folder"])
def test_a_set_is_found_in_a_folder_below_the_root(make_layout, tmp_path, prefix, kind):
    make_layout(prefix=prefix, root=tmp_path / "sets/data")
    files = find_files(DatasetSettings(kind, root=str(tmp_path / "sets")))
    assert (files.root, files.prefix) == (tmp_path / "sets/data", prefix)


def test_of_sets_below_the_root_a_data_set_takes_its_own_and_a_folder_asks(make_layout, tmp_path):
    for prefix in ("fasion-resize", "market", "pku"):
        make_layout(prefix=prefix, root=tmp_path / f"{prefix}_data")
    assert find_files(market(tmp_path)).root == tmp_path / "market_data"
    assert find_files(DatasetSettings("deepfashion", root=str(tmp_path))).root == tmp_path / "fasion-resize_data"
    with pytest.raises(ValueError, match="fasion-resize_data/fasion-resize, market_data/market, pku_data/pku"):
        find_files(DatasetSettings("folder", root=str(tmp_path)))
    make_layout(prefix="market", root=tmp_path / "another")
    with pytest.raises(ValueError, match="several sets \\(another/market, market_data/market\\)"):
        find_files(market(tmp_path))
    assert find_files(market(tmp_path / "another")).root == tmp_path / "another"


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


def test_the_problems_print_as_a_table_with_the_number_of_the_rest(make_layout):
    root = make_layout()
    for number in range(30):
        with (root / "market-annotation-train.csv").open("a") as file:
            file.write(f"{number}_z.png: []: []\n")
    with pytest.raises(LayoutProblems) as raised:
        read_layout(market(root), "train")
    lines = str(raised.value).splitlines()
    assert lines[0] == f"30 problems in {root}; nothing was prepared."
    assert lines[2].split() == ["file", "row", "problem"] and len({line.find("_z.png") for line in lines[3:9]}) == 1
    assert lines[-1].strip() == "... and 10 more"
    assert len(raised.value.table(100).splitlines()) == 33
