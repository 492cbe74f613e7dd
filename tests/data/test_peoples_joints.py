"""The joints that people have: those of other pictures are refused, and after packing the dot that was drawn at a joint
lies at the packed joint."""

import json

import numpy as np
import pytest
from dotted_pictures import dots_hit, dotted_picture
from peoples_files import ALL, Middle, hits, packed, refusal, save
from PIL import Image

from xinggan.data.pose_files import PoseReader, read_person


def test_joints_lie_on_their_dots_and_nothing_is_noted(dotted):
    root = dotted()
    assert hits(root) == [ALL, ALL]
    assert packed(root).card["notes"] == []


WRONG = {
    "of smaller pictures": ({"size": (128, 256), "joints_in": (44, 64)}, {}, "fill only a corner"),
    "a quarter": ({"joints": lambda xy: xy / 4}, {}, "fill only a corner"),
    "of larger pictures": ({"joints_in": (640, 1280)}, {}, "lie outside the images"),
    "fractions": ({"joints": lambda xy: (xy + 0.5) / (64, 128)}, {}, "between 0 and 1"),
    "fractions beyond 1": ({"joints": lambda xy: xy / (50, 100)}, {}, "between 0 and 1"),
    "at one point": ({"joints": lambda xy: xy * 0 + 30}, {}, "all joints lie at one point"),
}


@pytest.mark.parametrize("case", WRONG)
def test_joints_that_cannot_be_those_of_the_pictures_are_refused_unless_forced(dotted, case):
    words, settings, reason = WRONG[case]
    root = dotted(**words)
    said = refusal(root, **settings)
    assert "2 problems" in said and reason in said and "--annotation-size" in said and "--force" in said
    dataset = packed(root, **settings, force=True)
    assert sum(reason in note and "by force" in note for note in dataset.card["notes"]) == 2


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ({"size": (192, 384), "joints_in": (64, 128)}, "128x64"),
        ({"joints_in": (640, 1280)}, "1280x640"),
        ({"joints": lambda xy: (xy + 0.5) / (64, 128)}, "1x1"),
    ],
    ids=["smaller", "larger", "fractions"],
)
def test_the_size_that_joints_belong_to_puts_them_on_their_dots(dotted, words, size):
    root = dotted(**words)
    assert hits(root, annotation_size=size) == [ALL, ALL]
    assert hits(root, annotation_size=size, height=128, width=64, resize=True) == [ALL, ALL]


def test_undetected_joints_written_as_zeros_are_missing_and_counted(dotted):
    def undetected(xy):
        return np.where(np.isin(np.arange(18), (3, 4, 16))[:, None], 0, xy)

    dataset = packed(dotted(joints=undetected))
    assert dots_hit(dataset.train) == dots_hit(dataset.test) == (180, 180)
    assert [note.split(": ")[1] for note in dataset.card["notes"]] == [
        "36 joints of 12 images stand at exactly 0, 0 and are taken as missing"
    ] * 2


FASHION = "{person}_{view}front.png"


def padded(joints, size):
    """A picture of 176 x 256 between 40 white columns at either side."""
    square = Image.new("RGB", (256, 256), "white")
    square.paste(dotted_picture(joints, size), (40, 0))
    return square


def in_square(joints):
    return joints + np.array([40, 0])


FASHION_FILES = {
    "padded, cropped joints": ({"size": (176, 256), "picture": padded, "prefix": "fasion-resize"}, None),
    "padded, square joints": ({"size": (176, 256), "picture": padded, "joints": in_square}, None),
    "squeezed, cropped joints": ({"size": (256, 256), "joints_in": (176, 256), "prefix": "fasion-resize"}, "squeezed"),
    "squeezed, square joints": ({"size": (256, 256)}, "squeezed"),
}


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("case", FASHION_FILES)
def test_deepfashions_square_files_keep_their_joints_cropped_or_square(dotted, case, square):
    words, layout = FASHION_FILES[case]
    root = dotted(name=FASHION, **words)
    size = {"height": 256, "width": 256} if square else {}
    if layout and (not square or "cropped joints" in case):
        said = refusal(root, "deepfashion", **size)
        assert "--layout squeezed" in said and "dataset.layout" in said
    dataset = packed(root, "deepfashion", layout=layout, **size)
    assert (dataset.train.height, dataset.train.width) == (256, 256 if square else 176)
    assert dots_hit(dataset.train) == dots_hit(dataset.test) == ALL
    if not square:
        done = "resized from 256 x 256 to 176 x 256" if layout else "cropped to columns 40..216"
        assert f"train/: 12 images: {done}" in dataset.card["notes"][0]


def test_joints_that_the_crop_cuts_off_are_missing(dotted):
    def one_outside(xy):
        return np.where((np.arange(18) == 4)[:, None], (10, 9), in_square(xy))

    root = dotted(name=FASHION, size=(176, 256), picture=padded, joints=one_outside)
    assert "--layout" in refusal(root, "deepfashion")
    assert hits(root, "deepfashion", layout="padded") == [(204, 204)] * 2


@pytest.mark.parametrize("form", ["own", "OpenPose", "table"])
@pytest.mark.parametrize("beyond", [0.7, 1.11])
def test_fractions_are_refused_in_every_form_whatever_lies_beyond_1(tmp_path, form, beyond):
    xy = np.linspace(0.1, 0.9, 36).reshape(18, 2)
    xy[3, 0] = beyond
    source, pose = save(Image.new("RGB", (64, 128)), tmp_path / "a.png"), tmp_path / "pose.json"
    if form == "own":
        pose.write_text(json.dumps({"joints": xy.tolist(), "height": 128, "width": 64}))
    elif form == "OpenPose":
        pose.write_text(json.dumps({"people": [{"pose_keypoints_2d": np.insert(xy, 2, 1, axis=1).ravel().tolist()}]}))
    else:
        pose = tmp_path / "table.csv"
        pose.write_text(f"name:keypoints_y:keypoints_x\na.png: {xy[:, 1].tolist()}: {xy[:, 0].tolist()}\n")
    reader = PoseReader(estimator=Middle())
    assert read_person(source, None, [str(pose)], reader, (128, 64), resize=False) is None
    assert "joints between 0 and 1; expected pixels" in reader.problems[0].what


def test_the_canvas_of_a_pose_is_the_size_of_its_image(tmp_path):
    joints = [number for joint in range(18) for number in (20 + joint, 40 + joint, 1)]
    content = {"people": [{"pose_keypoints_2d": joints}], "canvas_height": 256, "canvas_width": 128}
    (tmp_path / "pose.json").write_text(json.dumps(content))
    save(Image.new("RGB", (64, 128)), tmp_path / "a.png")
    reader = PoseReader(estimator=Middle())
    person = read_person(tmp_path / "a.png", None, [str(tmp_path / "pose.json")], reader, (128, 64), resize=True)
    np.testing.assert_allclose(person.poses[0, :, 0], (20 + np.arange(18) + 0.5) / 2 - 0.5)
    assert read_person(tmp_path / "a.png", None, [str(tmp_path / "pose.json")], reader, (128, 64), resize=False) is None
