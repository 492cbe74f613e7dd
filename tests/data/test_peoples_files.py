"""The files that people have: what cannot be used is refused by name, what is read in another way than it was written
is told, and after packing the dot that was drawn at a joint lies at the packed joint."""

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from dotted_pictures import dots_hit, dotted_picture
from PIL import Image

from xinggan.command import LayoutProblems
from xinggan.data import annotate
from xinggan.data.image_files import UnusableImage, read_image
from xinggan.data.pose_files import PoseReader, read_person
from xinggan.data.prepare import main, prepare
from xinggan.data.results import read_results
from xinggan.data.settings import DatasetSettings, Fit

ALL = (216, 216)  # dots of twelve pictures
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 16, 3), dtype=np.uint8)
RGB = Image.fromarray(PIXELS)


def packed(root: Path, kind: str = "folder", **settings):
    """The data set of a folder, prepared without a word."""
    return prepare(DatasetSettings(kind, root=str(root), **settings), root.parent / "cache", progress=False)


def hits(root: Path, kind: str = "folder", **settings) -> list[tuple[int, int]]:
    dataset = packed(root, kind, **settings)
    return [dots_hit(dataset.train), dots_hit(dataset.test)]


def refusal(root: Path, kind: str = "folder", **settings) -> str:
    with pytest.raises(ValueError) as refused:
        packed(root, kind, **settings)
    assert not any((root.parent / "cache").glob("*"))
    return str(refused.value)


def save(image: Image.Image, path: Path, **options) -> Path:
    image.save(path, **options)
    return path


# ---- one opener for every picture ----

GREY = RGB.convert("L")
UNUSABLE = {
    "16-bit grey": (lambda: of_16_bits(GREY), "png", "8 bits a channel"),
    "16-bit grey TIFF": (lambda: of_16_bits(GREY), "tif", "8 bits a channel"),
    "32-bit": (lambda: GREY.convert("I"), "tif", "8 bits a channel"),
    "floats": (lambda: GREY.convert("F"), "tif", "8 bits a channel"),
    "RGBA": (lambda: alpha(RGB), "png", "transparent"),
    "LA": (lambda: alpha(GREY), "png", "transparent"),
    "WebP": (lambda: alpha(RGB), "webp", "transparent"),
    "palette with tRNS": (lambda: transparent(RGB.quantize(8), 3), "png", "transparent"),
    "RGB with tRNS": (lambda: transparent(RGB, tuple(PIXELS[0, 0].tolist())), "png", "transparent"),
}


def of_16_bits(grey: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)


def alpha(image: Image.Image, value: int = 90) -> Image.Image:
    image = image.copy()
    image.putalpha(value)
    return image


def transparent(image: Image.Image, colour) -> Image.Image:
    image = image.copy()
    image.info["transparency"] = colour
    return image


@pytest.mark.parametrize("kind", UNUSABLE)
def test_pictures_that_would_be_clipped_or_show_hidden_colours_are_refused(tmp_path, kind):
    make, suffix, reason = UNUSABLE[kind]
    image = make()
    path = save(image, tmp_path / f"a.{suffix}", **({"transparency": image.info["transparency"]} if image.info else {}))
    with pytest.raises(UnusableImage, match=reason):
        read_image(path)


KINDS = {
    "RGB": (lambda: RGB, "png", {}, []),
    "opaque RGBA": (lambda: alpha(RGB, 255), "png", {}, []),
    "lossless WebP": (lambda: RGB, "webp", {"lossless": True}, []),
    "grey": (lambda: GREY, "png", {}, ["grey"]),
    "black and white": (lambda: RGB.convert("1"), "png", {}, ["grey"]),
    "palette": (lambda: RGB.quantize(8), "png", {}, ["palette"]),
    "CMYK": (lambda: RGB.convert("CMYK"), "tif", {}, ["CMYK"]),
    "CMYK JPEG": (lambda: RGB.convert("CMYK"), "jpg", {}, ["CMYK", "losses (JPEG)"]),
    "JPEG": (lambda: RGB, "jpg", {}, ["losses (JPEG)"]),
    "JPEG named PNG": (lambda: RGB, "png", {"format": "JPEG"}, ["losses (JPEG)"]),
    "WebP": (lambda: RGB, "webp", {}, ["losses (WEBP)"]),
    "JPEG in TIFF": (lambda: RGB, "tif", {"compression": "jpeg"}, ["losses (TIFF)"]),
    "frames of TIFF": (lambda: RGB, "tif", {"save_all": True, "append_images": [RGB.rotate(180)]}, ["first is taken"]),
    "frames of PNG": (lambda: RGB, "png", {"save_all": True, "append_images": [RGB.rotate(180)]}, ["first is taken"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_other_kind_is_read_as_pillow_converts_it_and_told(tmp_path, kind):
    make, suffix, options, told = KINDS[kind]
    path = save(make(), tmp_path / f"a.{suffix}", **options)
    pixels, notes = read_image(path)
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(path).convert("RGB")))
    assert len(notes) == len(told) and all(word in note for word, note in zip(told, notes, strict=True)), notes


def test_a_16_bit_rgb_picture_keeps_its_upper_bits_and_says_so(tmp_path):
    rows = b"".join(b"\0" + (np.uint16(257) * row).astype(">u2").tobytes() for row in PIXELS)
    chunks = (b"IHDR", struct.pack(">IIBBBBB", 16, 32, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))
    pixels, notes = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels, PIXELS)
    assert notes == ["16 bits a channel, of which the upper 8 are taken"]


class Middle:
    """An estimator that finds all joints in the middle."""

    name, weights_sha256 = "movenet", "0" * 64

    def estimate(self, images):
        pose = np.array([images.shape[2] // 2, images.shape[1] // 2, 1], dtype=np.float32)
        return np.tile(pose, (len(images), 18, 1)), np.ones((len(images), 18), dtype=np.float32)


@pytest.mark.parametrize("bad", [True, False], ids=["16 bits", "grey"])
def test_all_commands_open_pictures_alike(dotted, tmp_path, monkeypatch, capsys, bad):
    root = dotted()
    path = root / "train/anna_0.png"
    grey = Image.open(path).convert("L")
    changed = of_16_bits(grey) if bad else grey
    save(changed, path)
    monkeypatch.setattr(annotate, "open_estimator", lambda *_: Middle())
    said = []

    status = main(["folder", "--root", str(root), "--cache", str(tmp_path / "cache")])  # prepare
    said.append("".join(capsys.readouterr()))
    statuses = [status, annotate.main(["--images", str(root), "--overwrite"])]
    said.append("".join(capsys.readouterr()))

    reader = PoseReader(estimator=Middle())  # generate
    person = read_person(path, None, [str(root / "train/ben_0.png")], reader, (128, 64), resize=False)
    said.append(" ".join(person.notes) if person else reader.problems[0].what)

    shutil.rmtree(root)
    split = packed(dotted()).train  # evaluate
    (tmp_path / "results").mkdir()
    for row, (_, target) in enumerate(split.pairs):
        image = Image.fromarray(split.images[target])
        save(image, tmp_path / "results" / f"{split.pair_id(row)}.png")
    save(
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if bad else grey,
        tmp_path / "results" / f"{split.pair_id(0)}.png",
    )
    try:
        said += [" ".join(read_results(tmp_path / "results", split, progress=False).notes)]
    except LayoutProblems as problems:
        said += [str(problems)]
    assert statuses == ([2, 2] if bad else [0, 0])
    assert all(("8 bits a channel" if bad else "grey") in words for words in said), said


@pytest.mark.parametrize("size", [(16, 32), (128, 256), (48, 200)], ids=["shrunk", "grown", "both"])
def test_a_perfect_result_in_the_files_size_is_the_packed_image(dotted, tmp_path, size):
    root = dotted(size=size)
    dataset = packed(root, height=128, width=64, resize=True)
    split = dataset.test
    for row, (_, target) in enumerate(split.pairs):
        shutil.copy(root / "test" / split.names[target], tmp_path / f"{split.pair_id(row)}.png")
    results = read_results(tmp_path, split, Fit.resize, progress=False)
    np.testing.assert_array_equal(results.images, split.images[split.pairs[:, 1]])
    for notes in (results.notes, dataset.card["notes"]):
        assert any("area where neither side grows, else bicubic" in note for note in notes)


# ---- joints that do not belong to the picture ----


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


# ---- tables and names ----

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


# ---- folders ----

READ_ONLY = """
import os, sys
from pathlib import Path
from xinggan.data.prepare import prepare
from xinggan.data.settings import DatasetSettings

root, cache = map(Path, sys.argv[1:])
settings = DatasetSettings("folder", root=str(root))
prepare(settings, cache, progress=False)
for path in (cache, *cache.rglob("*")):
    path.chmod(0o555 if path.is_dir() else 0o444)
if os.geteuid() == 0:
    os.setuid(65534)  # root may write anywhere
assert not os.access(cache, os.W_OK)
print(len(prepare(settings, cache, progress=False).train))
try:
    prepare(DatasetSettings("folder", root=str(root), mask_radius=3), cache, progress=False)
except ValueError as error:
    print(error)
"""


def test_a_packed_data_set_is_used_where_nothing_can_be_written_and_nothing_is_packed_there(dotted):
    with tempfile.TemporaryDirectory() as folder:  # other users may look into it
        Path(folder).chmod(0o755)
        root = dotted(root=Path(folder) / "people")
        command = [sys.executable, "-c", READ_ONLY, str(root), str(Path(folder) / "cache")]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        assert answer.stdout.splitlines()[0] == "24"
        assert "cannot be written to; name a folder for packed data sets" in answer.stdout.splitlines()[1]
        for path in (Path(folder) / "cache").rglob("*"):
            path.chmod(0o755)


SMALL_DISK = """
import resource, signal, sys
from xinggan.data.prepare import main

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # bytes of a file: writing fails as on a full disk
sys.exit(main(sys.argv[1:]))
"""


def test_a_failed_writing_names_the_path_and_leaves_nothing(dotted, tmp_path):
    words = ["folder", "--root", str(dotted()), "--cache", str(tmp_path / "cache")]
    answer = subprocess.run([sys.executable, "-c", SMALL_DISK, *words], capture_output=True, text=True)
    assert answer.returncode == 2 and str(tmp_path / "cache") in answer.stderr and "File too large" in answer.stderr
    assert not (tmp_path / "cache").exists()


WITHOUT_LOCKS = """
import errno, sys
sys.path.insert(0, sys.argv.pop(1))
from test_files import without_flock
from xinggan.data.prepare import main

words = ["folder", "--root", sys.argv[1], "--cache", sys.argv[2]]
main(words)
without_flock(errno.ENOLCK)
print(main(words), main([*words, "--mask-radius", "3"]))
"""


def test_without_locks_a_packed_data_set_is_used_and_packing_names_the_folder(dotted, tmp_path):
    tests, cache = Path(__file__).parents[1], tmp_path / "cache"
    command = [sys.executable, "-c", WITHOUT_LOCKS, str(tests), str(dotted()), str(cache)]
    answer = subprocess.run(command, capture_output=True, text=True)
    if "no filter" in answer.stderr:
        pytest.skip("the system calls of a process cannot be filtered here")
    assert answer.stdout.splitlines()[-1] == "0 2"
    assert f"{cache}: No locks available: the folder's file system has no locks" in answer.stderr
    assert len([path for path in cache.iterdir() if path.is_dir() and path.name.startswith("folder-")]) == 1
