"""The poses wanted are in the pixels of the photographs that they were annotated on, as far as those are there."""

import numpy as np
import pytest
from PIL import Image

from xinggan.data.image_files import ORIENTATION
from xinggan.data.person import read_person
from xinggan.data.pose_files import PoseReader

HEIGHT, WIDTH = 32, 16
JOINTS = np.stack([np.arange(18) / 2 + 2, np.arange(18) + 3.0], axis=1)  # x, y


@pytest.fixture
def table(tmp_path):
    """table(folder of the photograph or None, times) -> a table: its row is JOINTS on an image `times` as large."""

    def write(folder, times, orientation=1):
        joints = (JOINTS + 0.5) * times - 0.5
        path = tmp_path / "my-annotation-test.csv"
        row = f"a.jpg: {joints[:, 1].tolist()}: {joints[:, 0].tolist()}"
        path.write_text(f"name:keypoints_y:keypoints_x\n{row}\n")
        if folder:
            exif = Image.Exif()
            exif[ORIENTATION] = orientation
            size = (WIDTH * times, HEIGHT * times)
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.new("RGB", size if orientation == 1 else size[::-1]).save(tmp_path / folder / "a.jpg", exif=exif)
        return path

    return write


def read(path, word, resize=True):
    source = path.with_name("source.png")
    Image.new("RGB", (WIDTH, HEIGHT)).save(source)
    reader = PoseReader()
    row = f"{path}:a.jpg"
    return read_person(source, row, [row if word == "row" else str(path)], reader, (HEIGHT, WIDTH), resize), reader


@pytest.mark.parametrize("word", ["row", "table"])
@pytest.mark.parametrize("folder", ["test", "."])
@pytest.mark.parametrize("orientation", [1, 6])
def test_joints_of_a_larger_photograph_beside_the_table_are_scaled(table, folder, word, orientation):
    person, reader = read(table(folder, 2, orientation), word)
    assert not reader.problems
    np.testing.assert_allclose(person.poses[0, :, :2], JOINTS, atol=1e-5)
    np.testing.assert_allclose(person.pose[:, :2], JOINTS, atol=1e-5)
    assert person.notes == ["1 of 1 poses: resized with the images they belong to"]


def test_without_resize_they_are_refused(table):
    person, reader = read(table("test", 2), "row", resize=False)
    assert person is None
    assert "32 x 64 pixels (width x height); expected 16 x 32" in reader.problems[-1].what


def test_where_the_photograph_is_not_there_a_note_says_which_pixels_the_joints_are_taken_in(table):
    person, _ = read(table(None, 1), "row")
    np.testing.assert_allclose(person.poses[0, :, :2], JOINTS, atol=1e-5)
    assert len(person.notes) == 1 and "taken in pixels of the image of 16 x 32" in person.notes[0]
    assert not read(table("test", 1), "row")[0].notes
