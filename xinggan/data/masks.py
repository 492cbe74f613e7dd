"""The body mask drawn from a pose, as the evaluation tools of the PG2 ... XingGAN line of papers draw it.

Every limb is a quadrilateral with `radius` pixels to either side of the segment, every joint a disk of that radius; a
closing by a 5 x 5 square joins them. The result is scikit-image's (`polygon`, `disk`, `closing`), pixel for pixel; to
mask a whole data set in seconds, thousands of limbs are filled at once, row by row.
"""

import numpy as np

from xinggan.data.poses import LIMBS

CLOSING_REACH = 2  # pixels to either side: a 5 x 5 square
POSES_AT_ONCE = 256
# A row's end nearer than this to a pixel's centre is left to scikit-image, whose rounding decides there (pixels).
CLOSE_CALL = 1e-6


def body_mask(pose: np.ndarray, height: int, width: int, radius: int = 4) -> np.ndarray:
    """pose [18, 3] -> bool [height, width]. Missing joints and limbs with a missing end are left out."""
    return body_masks(pose[None], height, width, radius)[0]


def body_masks(poses: np.ndarray, height: int, width: int, radius: int = 4) -> np.ndarray:
    """poses [n, 18, 3] -> bool [n, height, width]: `body_mask` of each."""
    masks = np.zeros((len(poses), height, width), dtype=bool)
    for start in range(0, len(poses), POSES_AT_ONCE):
        chunk = slice(start, start + POSES_AT_ONCE)
        points = np.asarray(poses[chunk, :, 1::-1], dtype=np.float64)  # [k, 18, 2]: row, column
        present = np.asarray(poses[chunk, :, 2]) > 0
        masks[chunk] = _limbs(points, present, height, width, radius)
        _add_disks(masks[chunk], points, present, radius)
        masks[chunk] = _closed(masks[chunk])
    return masks


def _limbs(points: np.ndarray, present: np.ndarray, height: int, width: int, radius: int) -> np.ndarray:
    """points [k, 18, 2], present [k, 18] -> bool [k, height, width].

    A limb is where 0 <= along <= length and -radius <= across <= radius; on each row both slabs are an interval of
    columns. Their intersections are filled with a running sum of +1 where one begins and -1 after its end.
    """
    first, second = np.array(LIMBS).T
    a, b = points[:, first], points[:, second]  # [k, 23, 2]
    drawn = present[:, first] & present[:, second] & (a != b).any(axis=-1)
    pose_index = np.nonzero(drawn)[0]
    a, b = a[drawn], b[drawn]  # [m, 2] in all poses together
    length = np.linalg.norm(b - a, axis=1, keepdims=True)
    direction = (b - a) / length  # [m, 2] unit vectors
    slanted = np.abs(direction).min(axis=1) > 1e-3  # neither level nor upright: both slabs cross every row
    down, right = np.where(slanted[:, None], direction, 1).T[..., None]  # [m, 1] each
    below = np.arange(height) - a[:, :1]  # [m, H]: rows below the limb's beginning
    along = np.stack([-below * down / right, (length - below * down) / right])  # [2, m, H]: columns right of it
    across = np.stack([(below * right - radius) / down, (below * right + radius) / down])
    begin = np.maximum(along.min(axis=0), across.min(axis=0)) + a[:, 1:]  # [m, H]
    end = np.minimum(along.max(axis=0), across.max(axis=0)) + a[:, 1:]

    exact = slanted & ~_close_call(begin, end, a, b, radius)
    begin = np.ceil(np.clip(begin, 0, width)).astype(np.int64)
    stop = np.floor(np.clip(end, -1, width - 1)).astype(np.int64) + 1
    limb, row = np.nonzero((begin < stop) & exact[:, None])
    line = (pose_index[limb] * height + row) * (width + 1)
    cells = len(points) * height * (width + 1)
    steps = np.bincount(line + begin[limb, row], minlength=cells) - np.bincount(line + stop[limb, row], minlength=cells)
    filled = steps.reshape(len(points), height, width + 1)[..., :width].cumsum(axis=-1) > 0

    for i in np.flatnonzero(~exact):
        _add_limb(filled[pose_index[i]], a[i], b[i], radius)
    return filled


def _close_call(begin: np.ndarray, end: np.ndarray, a: np.ndarray, b: np.ndarray, radius: int) -> np.ndarray:
    """Whether rounding might decide about a pixel of the limb a-b [m, 2], given where its rows begin and end [m, H].

    Pixels under the disks of the two joints do not count: they are in the mask either way.
    """
    limb, row = np.nonzero(begin <= end + CLOSE_CALL)
    undecided = np.zeros(len(begin), dtype=bool)
    for column in (begin[limb, row], end[limb, row]):
        centre = np.rint(column)
        near = np.abs(column - centre) < CLOSE_CALL
        pixel = np.stack([row[near], centre[near]], axis=1)
        hidden = [np.linalg.norm(pixel - joint[limb[near]], axis=1) < radius - CLOSE_CALL for joint in (a, b)]
        undecided[limb[near][~(hidden[0] | hidden[1])]] = True
    return undecided


def _add_limb(mask: np.ndarray, a: np.ndarray, b: np.ndarray, radius: int) -> None:
    """Draw the limb from `a` to `b` (row, column) into bool [height, width]."""
    from skimage.draw import polygon

    along = a - b
    aside = radius * np.array([-along[1], along[0]]) / np.linalg.norm(along)
    corners = np.stack([a + aside, a - aside, b - aside, b + aside])
    mask[polygon(corners[:, 0], corners[:, 1], shape=mask.shape)] = True


def _add_disks(masks: np.ndarray, points: np.ndarray, present: np.ndarray, radius: int) -> None:
    """Draw a disk, its rim left out, at every present joint of points [k, 18, 2] into bool [k, height, width]."""
    _, height, width = masks.shape
    pose_index = np.nonzero(present)[0][:, None, None]
    centre = points[present]  # [m, 2]
    nearby = np.arange(-radius, radius + 2)
    rows = (np.floor(centre[:, 0]).astype(np.int64)[:, None] + nearby)[:, :, None]  # [m, 2 radius + 2, 1]
    columns = (np.floor(centre[:, 1]).astype(np.int64)[:, None] + nearby)[:, None, :]
    down = ((rows - centre[:, 0, None, None]) / radius) ** 2
    inside = down + ((columns - centre[:, 1, None, None]) / radius) ** 2 < 1
    inside &= (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    masks.reshape(-1)[((pose_index * height + rows) * width + columns)[inside]] = True


def _closed(masks: np.ndarray) -> np.ndarray:
    """bool [k, H, W] -> dilated, then eroded by the square; what lies outside the image counts for neither."""
    for axis in (1, 2):
        masks = _spread(masks, axis)
    masks = ~masks
    for axis in (1, 2):
        masks = _spread(masks, axis)
    return ~masks


def _spread(masks: np.ndarray, axis: int) -> np.ndarray:
    """True where any pixel within `CLOSING_REACH` along `axis` is true."""
    result = masks.copy()
    source, target = np.moveaxis(masks, axis, 0), np.moveaxis(result, axis, 0)
    for shift in range(1, CLOSING_REACH + 1):
        target[shift:] |= source[:-shift]
        target[:-shift] |= source[shift:]
    return result
