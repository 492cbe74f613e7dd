"""The rendering: people, views and cameras put together, cast at twice the resolution, painted, and averaged down.

Images are rendered in chunks of bounded memory; each depends on its own seed, person and view only.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from xinggan.data.synthetic.annotate import label_parts, mark_joints
from xinggan.data.synthetic.backdrop import CAMERAS, cameras, paint_backdrop
from xinggan.data.synthetic.chance import PERSON, VIEW, Chance
from xinggan.data.synthetic.clothes import Samples, paint
from xinggan.data.synthetic.figure import Figures, build_figures
from xinggan.data.synthetic.motion import Skeletons, pose_people
from xinggan.data.synthetic.people import ATTRIBUTES, People, draw_people
from xinggan.data.synthetic.quadrics import bounds
from xinggan.data.synthetic.raycast import NOTHING, Views, cast

SUBSAMPLES = 2  # in each direction
SAMPLES_PER_CHUNK = 2**20
FRAME_ASPECT = 0.5  # width : height of the box that a person always fits into, whatever the image's shape
GOLDEN_ANGLE = 137.507764  # degrees between the headings of consecutive views: any number of them covers the circle


@dataclass(frozen=True)
class Rendering:
    """n images and everything known about them."""

    images: NDArray[np.uint8]  # [n, H, W, 3]
    poses: NDArray[np.float32]  # [n, 18, 3] x, y in pixels, visible
    silhouettes: NDArray[np.bool_]  # [n, H, W]
    parts: NDArray[np.uint8]  # [n, H, W] index into PARTS
    people: NDArray[np.int64]  # [n]

    def __len__(self) -> int:
        return len(self.people)


@dataclass(frozen=True)
class Scenes:
    """n scenes, independent of resolution; metres."""

    people: People
    skeletons: Skeletons
    figures: Figures
    camera: NDArray[np.int64]  # [n]
    shift: NDArray[np.float64]  # [n, 2] image heights by which the backdrop is moved
    scale: NDArray[np.float64]  # [n] image heights a metre
    middle: NDArray[np.float64]  # [n, 2] where the origin falls, in image heights from the middle of the top edge

    def views(self, height: int, width: int) -> Views:
        """The views onto an image of height x width pixels."""
        return Views(self.scale * height, self.middle * height + (width / 2, 0))


def render(
    seed: int, people: NDArray[np.int64], views: NDArray[np.int64], height: int = 128, width: int = 64
) -> Rendering:
    """Image i shows person people[i] of the world `seed` in view views[i]; the same three numbers, the same scene.

    Args: people, views: [n] integers >= 0. height, width: pixels, at least 16 x 8.
    """
    people, views = _checked(seed, people, views)
    if height < 16 or width < 8:
        raise ValueError(
            f"synthetic people need images of at least 16 x 8 pixels (height x width), not {height} x {width}"
        )
    n = len(people)
    rendering = Rendering(
        images=np.empty((n, height, width, 3), np.uint8),
        poses=np.empty((n, 18, 3), np.float32),
        silhouettes=np.empty((n, height, width), bool),
        parts=np.empty((n, height, width), np.uint8),
        people=people.copy(),
    )
    size = max(1, SAMPLES_PER_CHUNK // (height * width * SUBSAMPLES**2))

    for start in range(0, n, size):
        chunk = slice(start, start + size)
        drawn = _render_chunk(seed, people[chunk], views[chunk], height, width)
        for part in fields(Rendering):
            getattr(rendering, part.name)[chunk] = getattr(drawn, part.name)
    return rendering


def describe(seed: int, people: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """The attribute classes [n] of each person, as counted by ATTRIBUTES."""
    people, _ = _checked(seed, people, people)
    attributes = draw_people(seed, people).attributes
    return {name: attributes[name] for name in ATTRIBUTES}


def draw_scenes(seed: int, people: NDArray[np.int64], views: NDArray[np.int64]) -> Scenes:
    """Who stands where and how, before anything is cast."""
    who, chance = draw_people(seed, people), Chance(seed, VIEW, people, views)
    habits = Chance(seed, PERSON, people, np.ones_like(people))  # what ties a person's views together
    first_camera = habits.below(CAMERAS)
    second_camera = (first_camera + 1 + habits.below(CAMERAS - 1)) % CAMERAS
    camera = np.where(views % 2 == 0, first_camera, second_camera)
    pitch = cameras(seed).pitch[camera]
    heading = (habits.between(0, 360) + GOLDEN_ANGLE * views + chance.around(0, 12)) % 360

    fill, aside, lower = chance.around(0.875, 0.012), chance.around(0, 0.010), chance.around(0, 0.006)
    shift = np.stack([chance.between(-0.012, 0.012), chance.between(-0.012, 0.012)], axis=-1)
    skeletons = pose_people(who, heading, pitch, chance)
    figures = build_figures(who, skeletons)
    low, high = bounds(figures)
    absent = (figures.first_radius <= 0)[..., None]
    low, high = np.where(absent, np.inf, low).min(axis=1), np.where(absent, -np.inf, high).max(axis=1)  # [n, 2]
    scale = np.minimum(fill / (high - low)[:, 1], 0.98 * FRAME_ASPECT / (high - low)[:, 0])
    centre = (low + high) / 2
    middle = np.stack([aside, 0.5 + lower], axis=-1) - centre * (1, -1) * scale[:, None]
    return Scenes(who, skeletons, figures, camera, shift, scale, middle)


def _checked(
    seed: int, people: NDArray[np.int64], views: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    people, views = np.atleast_1d(np.asarray(people)), np.atleast_1d(np.asarray(views))
    for name, values in (("people", people), ("views", views)):
        if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer) or (values < 0).any():
            raise ValueError(
                f"`{name}` must be a list of whole numbers from 0 on, not {values.dtype} of shape {values.shape}"
            )
    if len(people) != len(views):
        raise ValueError(
            f"`people` and `views` name one image each and must be equally long, not {len(people)} and {len(views)}"
        )
    if not 0 <= seed < 2**63:
        raise ValueError(f"the seed of a world is a whole number from 0 to 2^63 - 1, not {seed}")
    return people.astype(np.int64), views.astype(np.int64)


def _render_chunk(seed: int, people: NDArray[np.int64], views: NDArray[np.int64], height: int, width: int) -> Rendering:
    scenes = draw_scenes(seed, people, views)
    world = cameras(seed)
    fine_height, fine_width = height * SUBSAMPLES, width * SUBSAMPLES
    fine = scenes.views(fine_height, fine_width)
    hits = cast(scenes.figures, fine, fine_height, fine_width)

    covered = np.flatnonzero(hits.solid.ravel() != NOTHING)
    image, rest = np.divmod(covered, fine_height * fine_width)
    row, column = np.divmod(rest, fine_width)
    point = np.stack(
        [
            (column + 0.5 - fine.origin[image, 0]) / fine.pixels_per_metre[image],
            (fine.origin[image, 1] - row - 0.5) / fine.pixels_per_metre[image],
            hits.depth.ravel()[covered],
        ]
    ).astype(np.float32)
    samples = Samples(image, hits.solid.ravel()[covered].astype(np.int64), point)
    colour = paint(scenes.people, scenes.figures, world.light[scenes.camera], samples)

    pixel = (image * height + row // SUBSAMPLES) * width + column // SUBSAMPLES
    total = len(people) * height * width
    share = np.bincount(pixel, minlength=total).reshape(-1, height, width, 1).astype(np.float32) / SUBSAMPLES**2
    sums = np.stack([np.bincount(pixel, weights=channel, minlength=total) for channel in colour], axis=-1)
    foreground = sums.astype(np.float32) / SUBSAMPLES**2
    backdrop = paint_backdrop(world, scenes.camera, scenes.shift, _shadow(scenes), height, width)
    picture = foreground.reshape(backdrop.shape) + (1 - share) * backdrop
    picture *= world.gain[scenes.camera].astype(np.float32)[:, None, None]
    parts = label_parts(scenes.figures, hits, share[..., 0] >= 0.5, SUBSAMPLES)
    return Rendering(
        images=np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8),
        poses=mark_joints(scenes.skeletons, scenes.figures, hits, fine, SUBSAMPLES),
        silhouettes=parts > 0,
        parts=parts,
        people=people,
    )


def _shadow(scenes: Scenes) -> NDArray[np.float64]:
    """[n, 4] middle and half axes of the shadow at the feet, in image heights."""
    place = scenes.middle + scenes.skeletons.ground[:, :2] * (1, -1) * scenes.scale[:, None]
    flat = np.maximum(np.abs(scenes.skeletons.up[:, 2]), 0.08)
    return np.column_stack([place, 0.36 * scenes.scale, 0.36 * flat * scenes.scale + 0.006])
