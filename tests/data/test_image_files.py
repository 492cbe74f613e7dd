"""Image files are opened upright, and what is wrong with one is said in words."""

import numpy as np
import pytest
from PIL import Image

from xinggan.data.image_files import ORIENTATION, UnusableImage, open_image, read_image

UPRIGHT = np.random.default_rng(0).integers(0, 256, (32, 16, 3), dtype=np.uint8)
# How a camera that is held so stores the upright scene, by EXIF's definition of where row 0 and column 0 are.
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: UPRIGHT.transpose(1, 0, 2)[::-1],  # row 0 is the right side, column 0 the top
    7: UPRIGHT.transpose(1, 0, 2)[::-1, ::-1],
    8: UPRIGHT.transpose(1, 0, 2)[:, ::-1],
}


def turned(path, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(np.ascontiguousarray(STORED[orientation])).save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_is_read_upright(tmp_path, orientation, suffix):
    path = turned(tmp_path / f"photo.{suffix}", orientation)
    np.testing.assert_array_equal(read_image(path)[0], UPRIGHT)
    with open_image(path) as image:
        assert image.size == (16, 32)


def test_a_portrait_of_a_phone_is_upright(tmp_path):
    path = turned(tmp_path / "photo.jpg", 6)
    np.testing.assert_array_equal(read_image(path)[0], np.rot90(np.asarray(Image.open(path)), -1))


def test_damaged_exif_does_not_cost_the_picture(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(UPRIGHT).save(path, exif=b"Exif\0\0no such thing")
    assert read_image(path)[0].shape == (32, 16, 3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (None, "^there is no such file$"),
        (lambda data: b"not a picture", "^the image cannot be read: not an image file that Pillow knows$"),
        (lambda data: data[:300], "the image cannot be read: .*truncated"),
        (lambda data: data, "512 pixels"),
    ],
    ids=["missing", "text", "truncated", "too many pixels"],
)
def test_reasons_can_be_read(tmp_path, monkeypatch, change, reason):
    path = tmp_path / "photo.png"
    if change:
        Image.fromarray(UPRIGHT).save(path)
        path.write_bytes(change(path.read_bytes()))
    if reason == "512 pixels":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # of 512: Pillow itself would only warn
    with pytest.raises(UnusableImage, match=reason):
        read_image(path)
