"""The tables and names that people have: what would not be read is refused, names are found in every form."""

import json
import os
import shutil
import unicodedata

import numpy as np
import pytest
from dotted_pictures import dots_hit
from peoples_files import ALL, Middle, hits, packed, refusal, save
from PIL import Image

from xinggan.data import annotate
from xinggan.data.pose_files import PoseReader, read_person
from xinggan.data.prepare import main
from xinggan.data.results import read_results

ROWS = "from,to\nanna_0.png,anna_1.png\n"
UNREAD = {
    "another set's name": (lambda root: (root / "fasion-pairs-train.csv").write_text(ROWS), "fasion-pairs-train.csv"),
    "another form": (
        lambda root: (root / "fasion-pairs-train.csv").write_text(",from,to\n0,anna_0.png,anna_1.png\n"),
        "fasion-pairs-train.csv",
    ),
    "of a val split": (lambda root: (root / "people-pairs-val.csv").write_text(ROWS), "people-pairs-val.csv"),
    "capitals": (lambda root: (root / "people-pairs-train.CSV").write_text(ROWS), "people-pairs-train.CSV"),
    "a dangling link": (lambda root: (root / "people-pairs-train.csv").symlink_to("nowhere"), "a link to nowhere"),
    "a folder": (lambda root: (root / "people-pairs-train.csv").mkdir(), "no file but a folder"),
    "a pipe": (lambda root: os.mkfifo(root / "people-pairs-train.csv"), "no file but a folder"),
}


@pytest.mark.parametrize("case", UNREAD)
def test_a_list_of_pairs_that_would_not_be_read_is_refused(dotted, case):
    change, named = UNREAD[case]
    root = dotted()
    change(root)
    assert named in refusal(root)


def test_a_list_of_pairs_beside_the_one_that_is_read_and_another_set_are_noted(dotted):
    root = dotted()
    (root / "people-pairs-train.csv").write_text(ROWS)
    (root / "old-pairs-train.csv").write_text(ROWS)
    (root / "people-pairs-val.csv").write_text("from,to\nzoe_0.png,zoe_1.png\n")
    for split in ("train", "test"):
        shutil.copy(root / f"people-annotation-{split}.csv", root / f"market-annotation-{split}.csv")
        (root / f"people-annotation-{split}.csv").rename(root / f"pku-annotation-{split}.csv")
    (root / "people-pairs-train.csv").rename(root / "market-pairs-train.csv")
    dataset = packed(root)
    assert len(dataset.train.pairs) == 1
    notes = "\n".join(dataset.card["notes"])
    assert "old-pairs-train.csv is not read: the pairs of train are read from market-pairs-train.csv" in notes
    assert "people-pairs-val.csv is not read" in notes
    assert "pku-annotation-train.csv is not read: market-annotation-train.csv goes before it" in notes


TREE = {
    "names alike": "WOMEN/Dresses/id_{person}/02_{view}_front.png",
    "names that differ": "WOMEN/Dresses/id_{person}/02_{number}_front.png",
}


@pytest.mark.parametrize("case", TREE)
def test_deepfashions_own_tree_is_refused_in_one_sentence_and_its_flattened_names_are_read(dotted, case, tmp_path):
    root = dotted(name=TREE[case], size=(176, 256))
    said = refusal(root, "deepfashion")
    assert said.startswith("2 problems") and "WOMEN_Dresses_id_" in said
    flat = dotted(name=TREE[case].replace("/", "_"), size=(176, 256), root=tmp_path / "flat")
    assert packed(flat, "deepfashion").card["splits"]["train"]["identities"] == 4


def test_identities_of_files_in_several_folders_need_a_pattern(dotted):
    root = dotted(name="camera{view}/{person}_{view}.png")
    said = refusal(root)
    assert "would both show 'anna'" in said and "set identity_pattern" in said
    assert hits(root, identity_pattern=r"(?:.*/)?([^_/]+)_") == [ALL, ALL]


@pytest.mark.parametrize("in_table", ["NFC", "NFD"])
@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_a_name_is_the_same_in_either_unicode_form_and_the_other_form_is_told(dotted, in_table, on_disk):
    root = dotted()
    for path in root.glob("train/anna_*"):
        path.rename(path.with_name(unicodedata.normalize(on_disk, path.name.replace("anna", "José"))))
    table = root / "people-annotation-train.csv"
    table.write_text(unicodedata.normalize(in_table, table.read_text().replace("anna", "José")))
    (root / "people-pairs-train.csv").write_text(unicodedata.normalize("NFD", "from,to\nJosé_0.png,José_1.png\n"))
    dataset = packed(root)
    assert dots_hit(dataset.train) == ALL and dataset.train.names[0] == unicodedata.normalize("NFC", "José_0.png")
    assert len(np.unique(dataset.train.identities)) == 4 and len(dataset.train.pairs) == 1
    assert any("3 names are decomposed Unicode (NFD)" in note for note in dataset.card["notes"]) == (in_table == "NFD")


def test_two_forms_of_one_name_in_a_table_are_one_person(dotted):
    root = dotted()
    table = root / "people-annotation-train.csv"
    for number, form in enumerate(("NFC", "NFD", "NFC")):
        new = unicodedata.normalize(form, f"José_{number}.png")
        (root / f"train/anna_{number}.png").rename(root / "train" / new)
        table.write_text(table.read_text().replace(f"anna_{number}.png", new))
    dataset = packed(root)
    assert len(np.unique(dataset.train.identities)) == 4 and dots_hit(dataset.train) == ALL
    assert "1 names are decomposed Unicode (NFD), José_1.png for one" in dataset.card["notes"][0]


def test_results_and_poses_are_found_under_either_form_of_a_name(dotted, tmp_path):
    root, decomposed = dotted(name="é{person}_{view}.png"), unicodedata.normalize("NFD", "é")
    split = packed(root).test
    for row, (_, target) in enumerate(split.pairs):
        name = split.pair_id(row).replace("é", decomposed)
        save(Image.fromarray(split.images[target]), tmp_path / f"{name}.png")
    assert len(read_results(tmp_path, split, progress=False).images) == len(split)
    (pose,) = PoseReader().read(f"{root}/people-annotation-test.csv:{decomposed}emil_0.png")
    assert pose.size == (128, 64)


def test_names_that_differ_only_in_case_are_noted(dotted):
    root = dotted()
    table = root / "people-annotation-train.csv"
    (root / "train/anna_0.png").rename(root / "train/Anna_0.png")
    table.write_text(table.read_text().replace("anna_0", "Anna_0"))
    notes = packed(root).card["notes"]
    assert notes == ["train/: identities that differ only in case are taken as different: Anna and anna"]


def test_hidden_files_are_skipped_by_every_command_and_counted(dotted, monkeypatch, capsys, tmp_path):
    root = dotted()
    for folder in (root / "train", root / "test", root):
        (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (folder / "._anna_0.png").write_bytes(b"\0\5\x16\7")
    (root / "._people-annotation-train.csv").write_bytes(b"\0\5\x16\7")
    (root / "._people-annotation-test.csv").write_bytes(b"\0\5\x16\7")
    assert packed(root).card["notes"] == [f"{split}/: 2 hidden files are left out, .DS_Store for one"
                                          for split in ("train", "test")]  # fmt: skip
    split, results = packed(root).train, tmp_path / "results"
    results.mkdir()
    for row, (_, target) in enumerate(split.pairs):
        save(Image.fromarray(split.images[target]), results / f"{split.pair_id(row)}.png")
    (results / "._x.png").write_bytes(b"\0\5\x16\7")
    (note,) = read_results(results, split, progress=False).notes
    assert note == "results/: 1 hidden files are left out, ._x.png for one"

    monkeypatch.setattr(annotate, "open_estimator", lambda *_: Middle())
    assert annotate.main(["--images", str(root)]) == 2
    assert "people-annotation-train.csv" in capsys.readouterr().err  # there already: the tables' own prefix was seen
    assert annotate.main(["--images", str(root), "--overwrite"]) == 0
    assert "2 hidden files are left out" in capsys.readouterr().out
    assert len(list(root.glob("*-annotation-*[nt].csv"))) == 4  # two of them hidden

    poses = tmp_path / "poses"
    poses.mkdir()
    (poses / "a.json").write_text(json.dumps({"joints": [[9, n] for n in range(18)], "height": 128, "width": 64}))
    (poses / "._a.json").write_bytes(b"\0\5\x16\7")
    reader = PoseReader(estimator=Middle())
    person = read_person(root / "train/anna_0.png", None, [str(poses)], reader, (128, 64), resize=False)
    assert len(person.poses) == 1 and person.notes == ["poses/: 1 hidden files are left out, ._a.json for one"]


def test_a_name_with_its_own_folder_before_it_is_the_name(dotted):
    root = dotted()
    table = root / "people-annotation-train.csv"
    table.write_text(table.read_text().replace("anna", "./anna").replace("ben", ".//ben"))
    (root / "people-pairs-train.csv").write_text("from,to\n./anna_0.png,anna_1.png\n")
    dataset = packed(root)
    assert dots_hit(dataset.train) == ALL and dataset.train.pair_id(0) == "anna_0___anna_1"


@pytest.mark.parametrize("words", [["--root", "x" * 300], ["--cache", "x" * 300, "--root", "{root}"]])
def test_paths_that_no_file_can_have_are_one_message(dotted, capsys, words):
    root = dotted()
    assert main(["folder", *(word.format(root=root) for word in words)]) == 2
    assert "File name too long" in capsys.readouterr().err
