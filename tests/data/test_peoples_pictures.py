"""The pictures that people have: one opener for all commands refuses or tells what is converted."""

import shutil
import struct
import zlib

import numpy as np
import pytest
from peoples_files import Middle, packed, save
from PIL import Image

from xinggan.command import LayoutProblems
from xinggan.data import annotate
from xinggan.data.image_files import UnusableImage, read_image
from xinggan.data.pose_files import PoseReader, read_person
from xinggan.data.prepare import main
from xinggan.data.results import read_results
from xinggan.data.settings import Fit

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 16, 3), dtype=np.uint8)
RGB = Image.fromarray(PIXELS)
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
