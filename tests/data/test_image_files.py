"""Image files are opened upright, and what is wrong with one is said in words."""

import numpy as np
import pytest
from PIL import Image

from xinggan.data.annotate import annotate
from xinggan.data.image_files import ORIENTATION, UnusableImage, open_image, read_image
from xinggan.data.photographs import Framing, read_picture

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
    with open_image(path) as image:
        assert image.size == (16, 32)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), UPRIGHT)


def test_a_portrait_of_a_phone_is_upright_for_every_reader(tmp_path):
    path = turned(tmp_path / "photo.jpg", 6)
    upright = read_image(path)
    assert upright.shape == (32, 16, 3)
    np.testing.assert_array_equal(upright, np.rot90(np.asarray(Image.open(path)), -1))
    picture = read_picture(path, Framing((16, 32), 32, 16, crop=False, resize=False))
    np.testing.assert_array_equal(picture.image, upright)

    class Remembering:
        name, weights_sha256, seen = "any", "", None

        def estimate(self, images):
            self.seen = images[0]
            return np.ones((1, 18, 3), dtype=np.float32), np.ones((1, 18), dtype=np.float32)

    estimator = Remembering()
    annotate([path], estimator, [])
    np.testing.assert_array_equal(estimator.seen, upright)


def test_damaged_exif_does_not_cost_the_picture(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(UPRIGHT).save(path, exif=b"Exif\0\0no such thing")
    assert read_image(path).shape == (32, 16, 3)


def test_reasons_can_be_read(tmp_path):
    path = tmp_path / "photo.png"
    with pytest.raises(UnusableImage, match=r"^there is no such file$"):
        read_image(path)
    path.write_bytes(b"not a picture")
    with pytest.raises(UnusableImage, match=r"^the image cannot be read: not an image file that Pillow knows$"):
        read_image(path)
    Image.fromarray(UPRIGHT).save(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UnusableImage, match=r"the image cannot be read: .*truncated"):
        read_image(path)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    path = tmp_path / "photo.png"
    Image.fromarray(UPRIGHT).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # of 512: Pillow itself would only warn
    with pytest.raises(UnusableImage, match="512 pixels"):
        read_image(path)
