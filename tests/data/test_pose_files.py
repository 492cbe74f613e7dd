"""Poses read from files: joints where they are, missing ones missing, in the pixels of the image they are meant for."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from xinggan.data.image_files import ORIENTATION
from xinggan.data.pose_files import NamedPose, PoseReader, fitted, parse_pose_json, read_person

joint = st.none() | st.tuples(st.integers(2, 63), st.integers(2, 127)).map(list)


def flat(joints, confidence=0.9):
    """Joints as OpenPose writes them: x, y, confidence; three zeros where one is missing."""
    return [number for xy in joints for number in ((*xy, confidence) if xy else (0, 0, 0))]


@given(st.lists(joint, min_size=18, max_size=18))
def test_both_kinds_of_json_say_the_same(joints):
    own, size = parse_pose_json({"joints": joints, "height": 128, "width": 64})
    assert size == (128, 64)
    for row, xy in zip(own, joints, strict=True):
        assert row.tolist() == ([*xy, 1] if xy else [-1, -1, 0])
    theirs, unknown = parse_pose_json({"people": [{"pose_keypoints_2d": flat(joints)}]})
    assert unknown is None
    assert np.array_equal(own, theirs)


def test_the_25_joints_of_openpose_become_the_18_by_their_names():
    """Names as in OpenPose's documentation of BODY_25; the middle of the hips and the feet have no joint here."""
    body_25 = [
        "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "MidHip", "RHip", "RKnee",
        "RAnkle", "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar", "LBigToe", "LSmallToe", "LHeel",
        "RBigToe", "RSmallToe", "RHeel",
    ]  # fmt: skip
    coco = [
        "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "RHip", "RKnee", "RAnkle",
        "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar",
    ]  # fmt: skip
    place = {name: [10 + number, 20 + number] for number, name in enumerate(body_25)}
    pose, _ = parse_pose_json({"people": [{"pose_keypoints_2d": flat([place[name] for name in body_25])}]})
    assert pose[:, :2].tolist() == [place[name] for name in coco]


GOOD = [[1, 2]] * 18
REFUSED = {
    "a list": ([], "neither"),
    "nobody": ({"people": []}, "0 people; expected one"),
    "a crowd": ({"people": [{}, {}]}, "2 people; expected one"),
    "person without joints": ({"people": [{}]}, "no list; expected 18"),
    "other skeleton": ({"people": [{"pose_keypoints_2d": [1.0] * 51}]}, "51 values; expected 18"),
    "null among numbers": ({"people": [{"pose_keypoints_2d": [9] * 10 + [None] * 44}]}, "y of joint 3 is null"),
    "NaN among numbers": ({"people": [{"pose_keypoints_2d": [float("nan")] * 54}]}, "x of joint 0 is NaN"),
    "17 joints": ({"joints": GOOD[:17], "height": 9, "width": 9}, "17 joints; expected 18"),
    "three numbers": ({"joints": [*GOOD[:17], [1, 2, 3]], "height": 9, "width": 9}, r"joint 17 \(left ear\) is \[1"),
    "a word": ({"joints": [["1", 2], *GOOD[1:]], "height": 9, "width": 9}, r"joint 0 \(nose\)"),
    "not a number": ({"joints": [[float("nan"), 2], *GOOD[1:]], "height": 9, "width": 9}, r"joint 0 \(nose\)"),
    "no size": ({"joints": GOOD, "height": 9}, "width is null; expected pixels"),
    "size of nothing": ({"joints": GOOD, "height": 0, "width": 9}, "height is 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_json_that_is_no_pose_is_refused_with_its_place(case):
    content, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        parse_pose_json(content)


@given(
    st.tuples(st.integers(0, 15), st.integers(0, 31)), st.tuples(st.integers(1, 8), st.integers(1, 8)), st.booleans()
)
def test_a_scaled_joint_stays_in_the_middle_of_its_pixel(xy, factor, resize):
    """A pixel of a 16x32 image becomes factor x factor pixels; its joint the centre of those."""
    image = np.zeros((32, 16), dtype=bool)
    image[xy[1], xy[0]] = True
    rows, columns = np.nonzero(image.repeat(factor[1], 0).repeat(factor[0], 1))
    pose = np.full((18, 3), -1.0, dtype=np.float32)
    pose[:, 2] = 0
    pose[4] = (columns.mean(), rows.mean(), 1)
    named = NamedPose("x", pose, (32 * factor[1], 16 * factor[0]))
    if not resize and factor != (1, 1):
        with pytest.raises(ValueError, match=r"expected 16 x 32 as in training, or --resize"):
            fitted(named, 32, 16, resize)
        return
    moved = fitted(named, 32, 16, resize)
    assert np.allclose(moved[4], (*xy, 1), atol=1e-4)
    assert (np.delete(moved, 4, axis=0) == np.delete(pose, 4, axis=0)).all()


class BrightestPixel:
    """An estimator that finds the nose in the brightest pixel."""

    def estimate(self, images):
        poses = np.full((len(images), 18, 3), (-1, -1, 0), dtype=np.float32)
        for pose, image in zip(poses, images, strict=True):
            if image.any():
                row, column = np.unravel_index(image.sum(axis=2).argmax(), image.shape[:2])
                pose[0] = (column, row, 1)
        return poses, poses[..., 2]


def test_a_photograph_has_the_pose_of_its_row_and_else_of_the_estimator(tmp_path):
    pixels = np.zeros((32, 16, 3), dtype=np.uint8)
    pixels[20, 7] = 255
    for name in ("known.png", "unknown.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    Image.fromarray(pixels * 0).save(tmp_path / "dark.png")
    table = tmp_path / "table.csv"
    table.write_text(f"name:keypoints_y:keypoints_x\nknown.png: {[3] * 18}: {[4] * 18}\n")
    reader = PoseReader(table, BrightestPixel())
    (known,), (unknown,) = (reader.of_photograph(tmp_path / name) for name in ("known.png", "unknown.png"))
    assert known.pose[0].tolist() == [4, 3, 1]
    assert unknown.pose[0].tolist() == [7, 20, 1]
    assert known.size == unknown.size == (32, 16)
    assert reader.of_photograph(tmp_path / "dark.png") == []
    assert [problem.what for problem in reader.problems] == ["the estimator found no joint in it"]


def test_a_folder_gives_its_poses_in_the_order_of_names_and_photographs_where_it_has_no_json(tmp_path):
    for name, x in (("b.json", 2), ("a.json", 1), ("c.json", 3)):
        (tmp_path / name).write_text(json.dumps({"joints": [[x, 5]] * 18, "height": 32, "width": 16}))
    (tmp_path / "notes.txt").write_text("")
    Image.new("RGB", (16, 32), "white").save(tmp_path / "photo.png")
    reader = PoseReader(estimator=BrightestPixel())
    assert [pose.pose[0, 0] for pose in reader.read(str(tmp_path))] == [1, 2, 3]
    for name in "abc":
        (tmp_path / f"{name}.json").unlink()
    assert [pose.name for pose in reader.read(str(tmp_path))] == [str(tmp_path / "photo.png")]
    assert not reader.problems


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


def test_a_larger_photograph_needs_resize_and_an_absent_one_a_note_on_the_pixels_of_the_joints(table):
    person, reader = read(table("test", 2), "row", resize=False)
    assert person is None
    assert "32 x 64 pixels (width x height); expected 16 x 32" in reader.problems[-1].what
    person, _ = read(table("test", 1), "row")
    assert not person.notes
    (table("test", 1).parent / "test/a.jpg").unlink()
    person, _ = read(table(None, 1), "row")
    np.testing.assert_allclose(person.poses[0, :, :2], JOINTS, atol=1e-5)
    assert len(person.notes) == 1 and "taken in pixels of the image of 16 x 32" in person.notes[0]
