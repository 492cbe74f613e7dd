"""The contact sheet of a packed data set: some people of each split, their skeletons and their body masks, at a glance.

A wrong joint order, a transposed x and y or annotations of another image size show here before anything is trained.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from xinggan.data.poses import draw_skeleton

if TYPE_CHECKING:
    from PIL.Image import Image

    from xinggan.data.packed import PackedSplit

PEOPLE = 12  # columns
GAP = 4  # pixels between the pictures
TALL = 256  # pixels: smaller images are enlarged to about this height
OUTSIDE_MASK = 0.35  # brightness of what the body mask leaves out


def draw_contact_sheet(splits: "Sequence[PackedSplit]") -> "Image":
    """Three rows for each split: images of different people, the same with skeletons, the same through their masks."""
    from PIL import Image

    height, width = splits[0].height, splits[0].width
    scale = max(1, round(TALL / height))
    cell = np.array([height * scale + GAP, width * scale + GAP])
    rows, columns = cell * (3 * len(splits), PEOPLE)
    sheet = np.full((rows + GAP, columns + GAP, 3), 255, dtype=np.uint8)
    for block, split in enumerate(splits):
        for column, row in enumerate(_different_people(split)):
            image, pose = split.images[row], split.poses[row]
            mask = np.unpackbits(split.masks[row], axis=-1, count=width).astype(bool)
            plain = image.repeat(scale, axis=0).repeat(scale, axis=1)
            posed = draw_skeleton(pose, height, width, scale, background=plain)
            masked = np.where(mask[..., None], image, image * OUTSIDE_MASK).astype(np.uint8)
            for line, picture in enumerate((plain, posed, masked.repeat(scale, axis=0).repeat(scale, axis=1))):
                top, left = cell * (3 * block + line, column) + GAP
                sheet[top : top + height * scale, left : left + width * scale] = picture
    return Image.fromarray(sheet)


def _different_people(split: "PackedSplit") -> np.ndarray:
    """Rows of up to `PEOPLE` images, of as many identities as there are, spread over the split."""
    _, first = np.unique(split.identities, return_index=True)
    if len(first) < PEOPLE:
        first = np.arange(len(split.names))
    return np.sort(first)[np.linspace(0, len(first) - 1, min(PEOPLE, len(first))).astype(int)]
