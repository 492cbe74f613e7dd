"""A contact sheet of synthetic people: a row a person, a column a view."""

import numpy as np
from numpy.typing import NDArray

from xinggan.data.synthetic.scene import render

GUTTER = 4  # white pixels between images and around them


def sheet(seed: int = 0, people: int = 8, views: int = 8, height: int = 128, width: int = 64) -> NDArray[np.uint8]:
    """uint8 [H', W', 3]: the first `people` people of the world `seed` in their first `views` views."""
    who, which = np.divmod(np.arange(people * views), views)
    images = render(seed, who, which, height, width).images.reshape(people, views, height, width, 3)
    page = np.full((people * (height + GUTTER) + GUTTER, views * (width + GUTTER) + GUTTER, 3), 255, np.uint8)
    cells = page[GUTTER:, GUTTER:].reshape(people, height + GUTTER, views, width + GUTTER, 3)
    cells[:, :height, :, :width] = images.swapaxes(1, 2)
    return page
