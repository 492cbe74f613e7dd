"""A folder of photographs becomes a data set that `prepare folder` takes; what is wrong is said first, all at once.

An estimator that always gives the same pose stands in for MoveNet where only files matter.
"""

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from xinggan.data.annotate import main, plan
from xinggan.data.poses import JOINTS
from xinggan.data.prepare import prepare
from xinggan.data.settings import DatasetSettings
from xinggan.data.tables import read_annotations

POSE = np.stack([np.linspace(2, 13, 18).round(), np.linspace(1, 30, 18).round(), np.ones(18)], axis=1)
POSE[4] = (-1, -1, 0)


@pytest.fixture
def same_pose(monkeypatch):
    """The estimator finds POSE in every image, and nothing in a black one."""

    def estimate(images):
        poses = np.array([POSE if image.any() else np.tile((-1.0, -1.0, 0.0), (18, 1)) for image in images])
        return poses.astype(np.float32), np.full((len(images), 18), 0.5, dtype=np.float32)

    estimator = SimpleNamespace(name="movenet", weights_sha256="0" * 64, estimate=estimate)
    monkeypatch.setattr("xinggan.data.annotate.open_estimator", lambda *_: estimator)


@pytest.fixture
def people(tmp_path) -> Path:
    """people/train and people/test with photographs of two identities each, 16 x 32 pixels."""
    rng = np.random.default_rng(0)
    root = tmp_path / "people"
    names = {"train": ("anna_1.png", "anna_2.png", "ben_1.jpg", "ben_2.jpg"), "test": ("c_1.png", "c_2.png")}
    for split in names:
        (root / split).mkdir(parents=True)
        for name in names[split]:
            Image.fromarray(rng.integers(1, 256, (32, 16, 3), dtype=np.uint8)).save(root / split / name)
    return root


def files(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


def refusal(people: Path, capsys: pytest.CaptureFixture, *words: str) -> str:
    """The message with which the command refuses these words, no file being there or gone that was not."""
    before = files(people)
    assert main(["--images", *map(str, words or (people,))]) == 2
    assert files(people) == before
    return capsys.readouterr().err


def test_both_splits_are_annotated_and_then_prepared(people, same_pose, tmp_path, capsys):
    assert main(["--images", str(people)]) == 0
    printed = capsys.readouterr().out
    assert "4 photographs, 17.0 of 18 joints" in printed and "from behind" in printed
    settings = DatasetSettings("folder", root=str(people), mask_radius=1)
    dataset = prepare(settings, tmp_path / "cache", progress=False)
    assert dataset.train.names == ["anna_1.png", "anna_2.png", "ben_1.jpg", "ben_2.jpg"]
    assert np.array_equal(dataset.test.poses, np.stack([POSE, POSE]).astype(np.float32))
    assert len(dataset.train.pairs) == 4
    table = list(csv.reader((people / "people-annotation-train-scores.csv").open()))
    assert table[0] == ["name", *JOINTS]
    assert table[1] == ["anna_1.png", *["0.5000"] * 18]
    origin = json.loads((people / "people-annotation-test-estimator.json").read_text())
    assert origin == {"estimator": "movenet", "weights_sha256": "0" * 64, "threshold": 0.2, "proportions": None}
    with Image.open(people / "people-annotation-train-sheet.png") as sheet:
        assert sheet.size == (4 * 128 + 3 * 2, 256)
    lines = (people / "people-annotation-test.csv").read_text().splitlines()
    y, x = POSE[:, 1].astype(int).tolist(), POSE[:, 0].astype(int).tolist()
    assert lines == ["name:keypoints_y:keypoints_x", *(f"c_{n}.png: {y}: {x}" for n in (1, 2))]  # the published form


def test_a_photograph_of_another_size_or_without_a_person_is_kept_and_told(people, same_pose, capsys):
    Image.new("RGB", (90, 30), "red").save(people / "train" / "wide_1.png")
    Image.new("L", (10, 400), 9).save(people / "train" / "tall_1.png")
    Image.new("RGB", (16, 32)).save(people / "train" / "dark_1.png")
    assert main(["--images", str(people)]) == 0
    assert "in 1 no joint was found, dark_1.png for one" in capsys.readouterr().out
    problems = []
    table = read_annotations(people / "people-annotation-train.csv", "table", problems)
    assert not problems
    assert (table.poses[table.names.index("dark_1.png")] == (-1, -1, 0)).all()


def test_where_tables_go(tmp_path):
    root = tmp_path / "people"
    (root / "train").mkdir(parents=True)
    assert plan(root, None) == {root / "people-annotation-train.csv": root / "train"}
    assert plan(root / "train", None) == {root / "people-annotation-train.csv": root / "train"}
    assert plan(root / "train", root / "own.csv") == {root / "own.csv": root / "train"}
    (root / "test").mkdir()
    (root / "market-annotation-train.csv").touch()  # one data set, one prefix
    assert [*plan(root, None)] == [root / f"market-annotation-{split}.csv" for split in ("train", "test")]
    (root / "album").mkdir()
    assert [*plan(root / "album", None)] == [root / "album" / "album-annotation.csv"]


def test_all_bad_photographs_are_listed_at_once(people, same_pose, capsys):
    (people / "train" / "anna_2.png").write_bytes(b"no picture")
    (people / "train" / "a:b_1.png").write_bytes((people / "train" / "anna_1.png").read_bytes())
    (people / "train" / "folder_1.png").mkdir()
    (people / "test" / "c_1.png").write_bytes((people / "test" / "c_1.png").read_bytes()[:60])
    message = refusal(people, capsys)
    assert message.startswith("xinggan.data.annotate: 4 problems")
    for part in ("train/anna_2.png", "a:b_1.png", "folder_1.png", "test/c_1.png", "nothing was annotated"):
        assert part in message


def test_an_empty_split_is_a_problem(people, same_pose, capsys):
    for path in (people / "test").iterdir():
        path.unlink()
    assert "no photographs in it; accepted are .bmp, .jpeg" in refusal(people, capsys)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("{people}/nowhere", "does not exist"),
        ("{people}/test/c_1.png", "is a file"),
        ("{people} --out {people}/a.csv", "leave --out away"),
        ("{people}/test --out {people}/a.txt", "name of a .csv file"),
        ("{people}/test --out {people}/test", "name of a .csv file"),
        ("{people}/test --out {people}/test/c_1.png/a.csv", "is a file"),
    ],
)
def test_odd_folders_are_refused_in_one_sentence(people, same_pose, capsys, words, part):
    message = refusal(people, capsys, *words.format(people=people).split())
    assert part in message and message.count("\n") == 1


def test_a_table_that_is_there_is_not_overwritten_unasked(people, same_pose, capsys):
    table = people / "people-annotation-test.csv"
    table.write_text("made by hand")
    for folder, offered in ((people, False), (people / "test", True)):  # another name, where there is one table
        error = refusal(people, capsys, folder)
        assert error.startswith("xinggan.data.annotate: ") and "--overwrite" in error
        assert ("or name another with --out" in error) == offered
    assert table.read_text() == "made by hand"
    assert main(["--images", str(people), "--overwrite"]) == 0
    assert table.read_text().startswith("name:")


def test_a_failed_writing_of_the_second_table_leaves_the_first_as_it_was(people, same_pose, monkeypatch, capsys):
    sheets = []

    def full(pictures, columns):
        sheets.append(pictures)
        if len(sheets) == 2:
            raise OSError(28, "No space left on device")
        return np.zeros((4, 4, 3), dtype=np.uint8)

    (people / "people-annotation-train.csv").write_text("made by hand")
    monkeypatch.setattr("xinggan.pictures.contact_sheet", full)
    assert "No space left" in refusal(people, capsys, people, "--overwrite") and len(sheets) == 2
    assert (people / "people-annotation-train.csv").read_text() == "made by hand"


def test_a_missing_estimator_is_refused_before_any_photograph_is_read(people, capsys):
    words = (people, "--weights", people / "movenet.tflite")
    assert "there is no such file. Get MoveNet" in refusal(people, capsys, *words)


@pytest.mark.parametrize(
    "words",
    ["--threshold much", "--threshold nan", "--proportions 48x128", "--proportions 0:1", "--estimator openpose"],
)
def test_odd_words_are_refused(people, words):
    with pytest.raises(SystemExit) as stopped:
        main(["--images", str(people), *words.split()])
    assert stopped.value.code == 2


def test_real_photographs_are_annotated_and_prepared(shared, movenet_weights, tmp_path):
    root = tmp_path / "people"
    for split in ("train", "test"):
        (root / split).mkdir(parents=True)
        for path in sorted((shared / "data/pku_reid" / split).iterdir())[:4]:
            shutil.copy(path, root / split)
    assert main(["--images", str(root), "--weights", str(movenet_weights)]) == 0
    dataset = prepare(DatasetSettings(name="folder", root=str(root)), tmp_path / "cache", progress=False)
    assert len(dataset.train.names) == len(dataset.test.names) == 4
    assert len(dataset.train.pairs) > 0
