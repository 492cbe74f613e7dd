"""The rendering: people seen by cameras, cast at twice the resolution, painted, averaged, and annotated.

Images are rendered in chunks of bounded memory; each depends on its own seed, person and view only.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xinggan.data.synthetic.figure import PARTS, Figures, build_figures
from xinggan.data.synthetic.paint import CAMERAS, cameras, paint, paint_backdrop
from xinggan.data.synthetic.people import ATTRIBUTES, PERSON, VIEW, Chance, Floats, Integers, People, draw_people
from xinggan.data.synthetic.posture import Skeletons, pose_people
from xinggan.data.synthetic.raycast import NOTHING, Hits, Views, cast

SUBSAMPLES = 2  # in each direction
SAMPLES_PER_CHUNK = 2**20
FRAME_ASPECT = 0.5  # width : height of the box that a person always fits into, whatever the image's shape
GOLDEN_ANGLE = 137.507764  # degrees between the headings of consecutive views: any number of them covers the circle

HIDING_DEPTH = 0.07  # metres that something must be in front of a joint's middle to hide it
FACE_SEEN, EYE_SEEN, EAR_SEEN = -0.26, -0.86, -0.72  # smallest cosine between camera and face, eye's and ear's side
NOSE, EYES, EARS = 0, (14, 15), (16, 17)
COVERS: dict[int, tuple[str, ...]] = {}  # joint: what may lie over it without hiding it, its own limb and its cloth
for _side, _arm, _leg in (("right", (3, 4), (9, 10)), ("left", (6, 7), (12, 13))):
    COVERS |= {joint: tuple(f"{_side} {bone}" for bone in ("upper arm", "forearm", "hand")) for joint in _arm}
    COVERS |= {joint: (*(f"{_side} {bone}" for bone in ("thigh", "shin", "foot")), "skirt") for joint in _leg}


@dataclass(frozen=True)
class Rendering:
    """n images with their annotations."""

    images: NDArray[np.uint8]  # [n, H, W, 3]
    poses: NDArray[np.float32]  # [n, 18, 3] x, y in pixels, visible
    parts: NDArray[np.uint8]  # [n, H, W] index into PARTS; 0: background
    people: Integers  # [n]


@dataclass(frozen=True)
class Scenes:
    """n scenes in metres, before the choice of a resolution."""

    people: People
    skeletons: Skeletons
    figures: Figures
    camera: Integers  # [n]
    shift: Floats  # [n, 2] image heights by which the backdrop is moved
    scale: Floats  # [n] image heights a metre
    middle: Floats  # [n, 2] where the origin falls, in image heights from the middle of the top edge

    def views(self, height: int, width: int) -> Views:
        """The views onto an image of height x width pixels."""
        return Views(self.scale * height, self.middle * height + (width / 2, 0))


def render(seed: int, people: Integers, views: Integers, height: int = 128, width: int = 64) -> Rendering:
    """Image i shows person people[i] of the world `seed` in view views[i]; the same three numbers, the same scene.

    Args: people, views: [n] integers >= 0. height, width: pixels, at least 16 x 8. Raises ValueError for others.
    """
    people, views = _checked(seed, people, views)
    if height < 16 or width < 8:
        what = f"not {height} x {width}"
        raise ValueError(f"synthetic people need images of at least 16 x 8 pixels (height x width), {what}")
    n = len(people)
    images, poses = np.empty((n, height, width, 3), np.uint8), np.empty((n, 18, 3), np.float32)
    parts = np.empty((n, height, width), np.uint8)
    size = max(1, SAMPLES_PER_CHUNK // (height * width * SUBSAMPLES**2))
    for start in range(0, n, size):
        chunk = slice(start, start + size)
        drawn = _render_chunk(draw_scenes(seed, people[chunk], views[chunk]), seed, height, width)
        images[chunk], poses[chunk], parts[chunk] = drawn
    return Rendering(images, poses, parts, people)


def describe(seed: int, people: Integers) -> dict[str, Integers]:
    """The attribute classes [n] of each person, as counted by ATTRIBUTES."""
    people, _ = _checked(seed, people, people)
    attributes = draw_people(seed, people).attributes
    return {name: attributes[name] for name in ATTRIBUTES}


def draw_scenes(seed: int, people: Integers, views: Integers) -> Scenes:
    """The scenes of the views `views` of the people `people` of the world `seed`, both [n]."""
    who, chance = draw_people(seed, people), Chance(seed, VIEW, people, views)
    habits = Chance(seed, PERSON, people, np.ones_like(people))  # the same in all views of a person
    first_camera = habits.below(CAMERAS)
    camera = np.where(views % 2 == 0, first_camera, habits.another(first_camera, CAMERAS))
    pitch = cameras(seed).pitch[camera]
    heading = (habits.between(0, 360) + GOLDEN_ANGLE * views + chance.around(0, 12)) % 360

    fill, aside, lower = chance.around(0.875, 0.012), chance.around(0, 0.010), chance.around(0, 0.006)
    shift = np.stack([chance.between(-0.012, 0.012), chance.between(-0.012, 0.012)], axis=-1)
    skeletons = pose_people(who, heading, pitch, chance)
    figures = build_figures(who, skeletons)
    low, high = figures.bounds()
    absent = (figures.first_radius <= 0)[..., None]
    low, high = np.where(absent, np.inf, low).min(axis=1), np.where(absent, -np.inf, high).max(axis=1)  # [n, 2]
    scale = np.minimum(fill / (high - low)[:, 1], 0.98 * FRAME_ASPECT / (high - low)[:, 0])
    centre = (low + high) / 2
    middle = np.stack([aside, 0.5 + lower], axis=-1) - centre * (1, -1) * scale[:, None]
    return Scenes(who, skeletons, figures, camera, shift, scale, middle)


def _checked(seed: int, people: Integers, views: Integers) -> tuple[Integers, Integers]:
    """People and views as arrays [n]. Raises ValueError for numbers that no world has."""
    people, views = np.atleast_1d(np.asarray(people)), np.atleast_1d(np.asarray(views))
    for name, values in (("people", people), ("views", views)):
        if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer) or (values < 0).any():
            found = f"{values.dtype} of shape {values.shape}"
            raise ValueError(f"`{name}` must be a list of whole numbers from 0 on, not {found}")
    if len(people) != len(views):
        raise ValueError(f"`people` and `views` must be equally long, not {len(people)} and {len(views)}")
    if not 0 <= seed < 2**63:
        raise ValueError(f"the seed of a world is a whole number from 0 to 2^63 - 1, not {seed}")
    return people.astype(np.int64), views.astype(np.int64)


def _render_chunk(
    scenes: Scenes, seed: int, height: int, width: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """Images, poses and parts of the scenes."""
    world = cameras(seed)
    fine_height, fine_width = height * SUBSAMPLES, width * SUBSAMPLES
    fine = scenes.views(fine_height, fine_width)
    hits = cast(scenes.figures, fine, fine_height, fine_width)

    covered = np.flatnonzero(hits.solid.ravel() != NOTHING)
    image, row, column = np.unravel_index(covered, hits.solid.shape)
    x = (column + 0.5 - fine.origin[image, 0]) / fine.pixels_per_metre[image]
    y = (fine.origin[image, 1] - row - 0.5) / fine.pixels_per_metre[image]
    point = np.stack([x, y, hits.depth.ravel()[covered]]).astype(np.float32)
    solid = hits.solid.ravel()[covered].astype(np.int64)
    colour = paint(scenes.people, scenes.figures, world.light[scenes.camera], image, solid, point)

    pixel = (image * height + row // SUBSAMPLES) * width + column // SUBSAMPLES
    total = len(scenes.camera) * height * width
    share = np.bincount(pixel, minlength=total).reshape(-1, height, width, 1).astype(np.float32) / SUBSAMPLES**2
    sums = np.stack([np.bincount(pixel, weights=channel, minlength=total) for channel in colour], axis=-1)
    foreground = sums.astype(np.float32) / SUBSAMPLES**2
    feet = scenes.middle + scenes.skeletons.ground[:, :2] * (1, -1) * scenes.scale[:, None]
    flat = np.maximum(np.abs(scenes.skeletons.up[:, 2]), 0.08)
    shadow = np.column_stack([feet, 0.36 * scenes.scale, 0.36 * flat * scenes.scale + 0.006])
    backdrop = paint_backdrop(world, scenes.camera, scenes.shift, shadow, height, width)
    picture = foreground.reshape(backdrop.shape) + (1 - share) * backdrop
    picture *= world.gain[scenes.camera].astype(np.float32)[:, None, None]
    images = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    part = np.append(scenes.figures.part, np.zeros(NOTHING + 1 - len(scenes.figures.part), np.uint8))  # of a solid
    return images, _joints(scenes, hits, part, fine), _parts(hits, part, share[..., 0] >= 0.5)


def _joints(scenes: Scenes, hits: Hits, part: NDArray[np.uint8], views: Views) -> NDArray[np.float32]:
    """[n, 18, 3] poses with the visibility of a good detector: x, y in pixels, visible; -1, -1, 0 where missing.

    Neck, shoulders and hips are always visible; elbows, wrists, knees and ankles unless another solid lies clearly in
    front; the joints of the face depend on its direction. `hits` and `views` are on the sampling grid, `part` [256]
    gives the part of each solid.
    """
    joints = scenes.skeletons.joints
    n, height, width = hits.solid.shape
    place = views.to_pixels(joints)  # [n, 18, 2] on the sampling grid
    column = np.clip(place[..., 0].astype(np.int64), 0, width - 1)
    row = np.clip(place[..., 1].astype(np.int64), 0, height - 1)
    at = np.arange(n)[:, None], row, column
    seen, depth = part[hits.solid[at]], hits.depth[at]  # [n, 18]

    visible = (place >= 0).all(axis=-1) & (place[..., 0] < width) & (place[..., 1] < height)
    for joint, names in COVERS.items():
        own = np.isin(seen[:, joint], [PARTS.index(name) for name in names])
        visible[:, joint] &= own | (depth[:, joint] < joints[:, joint, 2] + HIDING_DEPTH)
    head = scenes.skeletons.frames["head"]
    facing, left = head[:, 2, 2], head[:, 2, 0]  # towards the camera: the face, the left ear
    visible[:, NOSE] &= facing > FACE_SEEN
    for eye, ear, side in zip(EYES, EARS, (-left, left), strict=True):
        visible[:, eye] &= (facing > FACE_SEEN) & (side > EYE_SEEN)
        visible[:, ear] &= side > EAR_SEEN
    poses = np.concatenate([place / SUBSAMPLES, np.ones((n, 18, 1))], axis=-1)
    return np.where(visible[..., None], poses, (-1, -1, 0)).astype(np.float32)


def _parts(hits: Hits, part: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """[n, H, W] index into PARTS of what is nearest among a pixel's samples; background where not `inside`."""
    best, depth = np.zeros(inside.shape, np.uint8), np.full(inside.shape, -np.inf, np.float32)
    for row in range(SUBSAMPLES):
        for column in range(SUBSAMPLES):
            here = (slice(None), slice(row, None, SUBSAMPLES), slice(column, None, SUBSAMPLES))
            nearer = hits.depth[here] > depth
            best = np.where(nearer, part[hits.solid[here]], best)
            depth = np.where(nearer, hits.depth[here], depth)
    return np.where(inside, best, 0).astype(np.uint8)
