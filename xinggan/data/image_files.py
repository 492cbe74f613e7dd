"""Image files opened as data: found by their suffix, upright, RGB. Every command opens its pictures here.

A phone stores a portrait lying on its side and notes the orientation in the EXIF data. An error of a decoder becomes
one readable reason.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
ORIENTATION = 0x0112  # the EXIF tag; 1: the first row is the top, the first column the left
_WARNINGS = Lock()  # the filters of warnings belong to all threads


class UnusableImage(ValueError):
    """A file cannot be used as an image, for the reason in the message."""


def list_images(folder: Path) -> list[Path]:
    """The entries of a folder with the suffix of an image, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


@contextmanager
def open_image(path: Path) -> Iterator["Image"]:
    """Open an image file upright: `size` (width, height) is that after the EXIF orientation.

    Most files are decoded only when their pixels are asked for (`rgb`), so their size can be checked before. An error
    raised here or within the block becomes UnusableImage.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not path.is_file():
        raise UnusableImage("there is no such file")
    try:
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # so many pixels are an error
            file = Image.open(path)
        with file:
            if file.format == "PNG":
                file.load()  # its EXIF may come behind the pixels
            try:
                turned = file.getexif().get(ORIENTATION, 1) != 1
            except Exception:  # damaged EXIF says nothing
                turned = False
            yield ImageOps.exif_transpose(file) if turned else file
    except UnusableImage:
        raise
    except UnidentifiedImageError:
        raise UnusableImage("the image cannot be read: not an image file that Pillow knows") from None
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnusableImage(f"the image cannot be read: {reason}") from error


def rgb(image: "Image") -> np.ndarray:
    """The pixels of an opened image, uint8 [H, W, 3]."""
    return np.asarray(image.convert("RGB"))


def read_image(path: Path) -> np.ndarray:
    """The pixels of an image file, upright, uint8 [H, W, 3]. Raises UnusableImage."""
    with open_image(path) as image:
        return rgb(image)


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [H, W, 3] -> [height, width, 3]: the mean of the area where neither side grows, else bicubic."""
    from PIL import Image

    shrinks = height <= image.shape[0] and width <= image.shape[1]
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(image).resize((width, height), method))
