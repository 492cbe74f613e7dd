"""Image files opened as data, upright: a phone writes a portrait lying on its side, and which way is up into its EXIF.

Whatever a decoder raises about a file becomes one readable reason here.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

ORIENTATION = 0x0112  # the EXIF tag; 1: the first row is the top, the first column the left
_WARNINGS = Lock()  # what becomes of warnings belongs to all threads


@contextmanager
def open_image(path: Path) -> Iterator["Image"]:
    """The upright image of a file: its `size` (width, height) is as it is shown, after the EXIF orientation.

    Most files are decoded only when their pixels are asked for (`convert`, ...), so their size can be checked before.
    Whatever is raised within, `why_unreadable` puts into words.
    """
    from PIL import Image, ImageOps

    if not path.is_file():
        raise FileNotFoundError(path)
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


def why_unreadable(error: Exception) -> str:
    """What a decoder raised about a file, to be read behind "the image cannot be read: "."""
    from PIL import UnidentifiedImageError

    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, UnidentifiedImageError):
        return "not an image file that Pillow knows"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
