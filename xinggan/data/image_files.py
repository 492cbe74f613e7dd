"""Image files opened as data: found by their suffix, upright, RGB of 8 bits a channel. Every command opens its pictures
here, so all refuse the same kinds of file and say the same of the others.

A phone stores a portrait lying on its side and notes the orientation in the EXIF data. An error of a decoder becomes
one readable reason.
"""

import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
ORIENTATION = 0x0112  # the EXIF tag; 1: the first row is the top, the first column the left
GREY, PALETTE = "grey, the same in all three channels", "colours of a palette"
KINDS = {"1": GREY, "L": GREY, "LA": GREY, "P": PALETTE, "PA": PALETTE, "CMYK": "CMYK, converted without a profile"}
LOSSY = ("JPEG", "MPO", "WEBP", "AVIF")  # formats, as Pillow calls them
LOSSY_IN_TIFF = ("jpeg", "tiff_jpeg", "webp")
RESIZED_BY = "area where neither side grows, else bicubic"
_WARNINGS = Lock()  # the filters of warnings belong to all threads


class UnusableImage(ValueError):
    """A file cannot be used as an image, for the reason in the message."""


def list_images(folder: Path) -> list[Path]:
    """The entries of a folder with the suffix of an image, sorted by name; hidden ones are left out."""
    return [path for path in visible(folder) if path.suffix.lower() in IMAGE_SUFFIXES]


def visible(folder: Path) -> list[Path]:
    """The entries of a folder, sorted by name, without hidden ones such as macOS's `._NAME` and `.DS_Store`."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def hidden_note(folder: Path) -> list[str]:
    """The number of a folder's hidden files in a sentence, or nothing."""
    hidden = sorted(path.name for path in folder.glob(".*") if path.is_file())
    return [f"{folder.name}/: {len(hidden)} hidden files are left out, {hidden[0]} for one"] if hidden else []


def file_named(folder: Path, name: str) -> Path:
    """The file of an image's name, which is in NFC. On the disk it may be decomposed (NFD), as macOS writes it."""
    path = folder / name
    decomposed = path if name.isascii() or path.exists() else folder / unicodedata.normalize("NFD", name)
    return decomposed if decomposed.exists() else path


@dataclass(frozen=True)
class OpenedImage:
    """An image file that can be used, most formats not yet decoded, so that its size can be checked before."""

    size: tuple[int, int]  # width and height in pixels after the EXIF orientation
    notes: list[str]  # its kind, where that is not RGB without losses
    upright: "Image"

    def rgb(self) -> np.ndarray:
        """The pixels, uint8 [H, W, 3]. Raises UnusableImage where some are transparent."""
        if not self.upright.has_transparency_data:
            return np.asarray(self.upright.convert("RGB"))
        pixels = np.asarray(self.upright.convert("RGBA"))
        if pixels[..., 3].min() < 255:
            what = "has transparent pixels, and what is behind them is not known"
            raise UnusableImage(f"{what}; save it without transparency")
        return np.ascontiguousarray(pixels[..., :3])


@contextmanager
def open_image(path: Path) -> Iterator[OpenedImage]:
    """Open an image file. An error raised here or within the block becomes UnusableImage, which says why.

    Files of more than 8 bits a grey value are refused: Pillow would clip them.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        if not path.is_file():
            raise UnusableImage("no file but a folder, pipe or device" if path.exists() else "there is no such file")
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # so many pixels are an error
            file = Image.open(path)
        with file:
            if file.mode[0] in "IF":
                what = f"values of 16 or 32 bits (kind {file.mode} of Pillow)"
                raise UnusableImage(f"{what}; accepted are 8 bits a channel: save it so")
            notes = _kind(file, path)
            if file.format == "PNG":
                file.load()  # its EXIF may come behind the pixels
            try:
                turned = file.getexif().get(ORIENTATION, 1) != 1
            except Exception:  # damaged EXIF says nothing
                turned = False
            upright = ImageOps.exif_transpose(file) if turned else file
            yield OpenedImage(upright.size, notes, upright)
    except UnusableImage:
        raise
    except UnidentifiedImageError:
        raise UnusableImage("the image cannot be read: not an image file that Pillow knows") from None
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnusableImage(f"the image cannot be read: {reason}") from error


def _kind(file: "Image", path: Path) -> list[str]:
    """What a person should know of a file that is not RGB of 8 bits in one frame without losses."""
    notes = [KINDS[file.mode]] if file.mode in KINDS else []
    if any(";16" in str(part) for part in getattr(file, "tile", ())):
        notes.append("16 bits a channel, of which the upper 8 are taken")
    if getattr(file, "n_frames", 1) > 1:
        notes.append("several frames, of which the first is taken")
    lossy = file.format in LOSSY or file.info.get("compression") in LOSSY_IN_TIFF
    if file.format == "WEBP":
        with path.open("rb") as data:
            lossy = b"VP8L" not in data.read(2**16)  # the chunk of a lossless picture
    return [*notes, f"compressed with losses ({file.format})"] if lossy else notes


def read_image(path: Path) -> tuple[np.ndarray, list[str]]:
    """The pixels of an image file, upright, uint8 [H, W, 3], and notes on its kind. Raises UnusableImage."""
    with open_image(path) as image:
        return image.rgb(), image.notes


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [H, W, 3] -> [height, width, 3] by the one filter of all commands, RESIZED_BY."""
    from PIL import Image

    shrinks = height <= image.shape[0] and width <= image.shape[1]
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(image).resize((width, height), method))
