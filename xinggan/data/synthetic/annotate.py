"""Exact annotations: joints as a good detector would mark them, and the part of the body that every pixel shows."""

import numpy as np
from numpy.typing import NDArray

from xinggan.data.synthetic.figure import PARTS, Figures
from xinggan.data.synthetic.motion import Skeletons
from xinggan.data.synthetic.raycast import NOTHING, Hits, Views

HIDING_DEPTH = 0.07  # metres that something must be in front of a joint's middle to hide it
FACE_SEEN, EYE_SEEN, EAR_SEEN = -0.26, -0.86, -0.72  # smallest cosine between camera and face, eye's and ear's side
NOSE, EYES, EARS = 0, (14, 15), (16, 17)
ARM = ("upper arm", "forearm", "hand")
LEG = ("thigh", "shin", "foot")
# joint: what may lie over it without hiding it, which is its own limb and the cloth around it
COVERS: dict[int, tuple[str, ...]] = {}
for _side, _arm, _leg in (("right", (3, 4), (9, 10)), ("left", (6, 7), (12, 13))):
    COVERS |= {joint: tuple(f"{_side} {bone}" for bone in ARM) for joint in _arm}
    COVERS |= {joint: (*(f"{_side} {bone}" for bone in LEG), "skirt") for joint in _leg}


def mark_joints(
    skeletons: Skeletons, figures: Figures, hits: Hits, views: Views, subsamples: int
) -> NDArray[np.float32]:
    """[n, 18, 3] poses (x, y in pixels, visible; -1, -1, 0 where missing) of n figures.

    Neck, shoulders and hips are always marked; elbows, wrists, knees and ankles unless something else lies clearly in
    front; the face by where it looks. `hits` and `views` are on the sampling grid, `subsamples` finer than the pixels.
    """
    joints = skeletons.joints
    n, height, width = hits.solid.shape
    place = views.to_pixels(joints)  # [n, 18, 2] on the sampling grid
    column = np.clip(place[..., 0].astype(np.int64), 0, width - 1)
    row = np.clip(place[..., 1].astype(np.int64), 0, height - 1)
    image = np.arange(n)[:, None]
    part = _labels(figures)[hits.solid[image, row, column]]  # [n, 18]
    depth = hits.depth[image, row, column]  # [n, 18]

    visible = (place >= 0).all(axis=-1) & (place[..., 0] < width) & (place[..., 1] < height)
    for joint, names in COVERS.items():
        own = np.isin(part[:, joint], [PARTS.index(name) for name in names])
        visible[:, joint] &= own | (depth[:, joint] < joints[:, joint, 2] + HIDING_DEPTH)
    facing, left = skeletons.face[:, 2], skeletons.leftwards[:, 2]
    visible[:, NOSE] &= facing > FACE_SEEN
    for eye, ear, side in zip(EYES, EARS, (-left, left), strict=True):
        visible[:, eye] &= (facing > FACE_SEEN) & (side > EYE_SEEN)
        visible[:, ear] &= side > EAR_SEEN
    poses = np.concatenate([place / subsamples, np.ones((n, 18, 1))], axis=-1)
    return np.where(visible[..., None], poses, (-1, -1, 0)).astype(np.float32)


def label_parts(figures: Figures, hits: Hits, inside: NDArray[np.bool_], subsamples: int) -> NDArray[np.uint8]:
    """[n, H, W] index into PARTS of what is nearest among a pixel's samples; background where not `inside`."""
    labels = _labels(figures)
    best, depth = np.zeros(inside.shape, np.uint8), np.full(inside.shape, -np.inf, np.float32)
    for row in range(subsamples):
        for column in range(subsamples):
            here = (slice(None), slice(row, None, subsamples), slice(column, None, subsamples))
            nearer = hits.depth[here] > depth
            best = np.where(nearer, labels[hits.solid[here]], best)
            depth = np.where(nearer, hits.depth[here], depth)
    return np.where(inside, best, 0).astype(np.uint8)


def _labels(figures: Figures) -> NDArray[np.uint8]:
    """[256] solid -> part; NOTHING is background."""
    return np.append(figures.part, np.zeros(NOTHING + 1 - len(figures.part), np.uint8))
