"""Promises of the synthetic people: reproducible, the same person from every side, exactly annotated."""

import hashlib
import itertools
from dataclasses import fields

import numpy as np
import pytest

from xinggan.data.layout import derived_pairs
from xinggan.data.prepare import prepare
from xinggan.data.settings import DatasetSettings
from xinggan.data.synthetic import ATTRIBUTES, GENERATOR_VERSION, PARTS, Rendering, describe, render, scored_pairs
from xinggan.data.synthetic import scene as scene_module
from xinggan.data.synthetic.people import CLASSES, INK, VIEW, Chance, draw_people
from xinggan.data.synthetic.posture import pose_people
from xinggan.data.synthetic.raycast import FAR, NOTHING, cast
from xinggan.data.synthetic.scene import draw_scenes

RIGHT_SHOULDER, LEFT_SHOULDER = 2, 5
LIMBS = {
    3: "right upper arm, right forearm",
    4: "right forearm, right hand",
    6: "left upper arm, left forearm",
    7: "left forearm, left hand",
    9: "right thigh, right shin, skirt",
    10: "right shin, right foot, skirt",
    12: "left thigh, left shin, skirt",
    13: "left shin, left foot, skirt",
}
AROUND_THE_FACE = "background, face, hair, neck, torso, hips, skirt, bag"
SMALL = DatasetSettings(people_train=3, people_test=2, views=3, height=32, width=16)
DIGEST = "1659c50d643ec68f01a12f5965060db7130a3d8854330382026b0200e74c8379"  # of version 2


def numbers(people: int, views: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `views` views of each of the first `people` people."""
    return np.divmod(np.arange(people * views), views)


def chroma(colours: np.ndarray) -> np.ndarray:
    """Colours [..., 3] with their brightness taken out."""
    colours = np.asarray(colours, float)
    return colours / np.maximum(colours.sum(axis=-1, keepdims=True), 1e-6)


def part_index(names: str) -> list[int]:
    return [PARTS.index(name) for name in names.split(", ")]


@pytest.fixture(scope="module")
def crowd() -> Rendering:
    """60 people, 8 views each, of the world 0."""
    return render(0, *numbers(60, 8))


def test_no_pixel_joint_or_attribute_of_this_version_changes() -> None:
    """Data sets packed earlier are found by the version alone; if this fails on purpose, count the version up."""
    found = hashlib.sha256()
    for size in ((64, 32), (128, 64), (256, 176)):
        rendering = render(7, np.array([0, 3, 8, 20, 31]), np.array([0, 1, 2, 3, 9]), *size)
        for array in (rendering.images, rendering.poses, rendering.parts):
            found.update(array.tobytes())
    for classes in describe(7, np.arange(200)).values():
        found.update(classes.tobytes())
    assert (GENERATOR_VERSION, found.hexdigest()) == ("2", DIGEST)


def test_an_image_does_not_depend_on_what_is_rendered_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    who, which = numbers(6, 4)
    together = render(3, who, which)
    order = np.array([23, 5, 11, 0, 17, 5])
    alone = [render(3, who[i : i + 1], which[i : i + 1]) for i in order]
    shuffled = render(3, who[order], which[order])
    monkeypatch.setattr(scene_module, "SAMPLES_PER_CHUNK", 5 * 128 * 64 * 4)
    in_small_chunks = render(3, who, which)
    for part in fields(Rendering):
        expected = getattr(together, part.name)
        assert np.array_equal(getattr(shuffled, part.name), expected[order]), part.name
        assert np.array_equal(np.concatenate([getattr(one, part.name) for one in alone]), expected[order]), part.name
        assert np.array_equal(getattr(in_small_chunks, part.name), expected), part.name


def test_every_person_view_and_world_is_another_image(crowd: Rendering) -> None:
    pictures = np.concatenate([crowd.images, render(1, *numbers(60, 8)).images]).reshape(2 * 480, -1)
    assert len(np.unique(pictures, axis=0)) == len(pictures)


def test_no_two_people_look_alike_and_attributes_cover_their_classes_and_nothing_else() -> None:
    attributes = describe(0, np.arange(2000))
    assert len(np.unique(np.stack(list(attributes.values()), axis=1), axis=0)) == 2000
    assert {name: np.unique(classes).tolist() for name, classes in attributes.items()} == {
        name: list(range(count)) for name, count in ATTRIBUTES.items()
    }


def test_clothes_keep_their_colour_over_views(crowd: Rendering) -> None:
    people = draw_people(0, np.arange(60))
    plain = people.is_a("upper_texture", "plain") & ~people.is_a("bag", "backpack")
    checked = 0
    for row in np.flatnonzero(plain[crowd.people]):
        torso = crowd.images[row][crowd.parts[row] == PARTS.index("torso")]
        if len(torso) < 60:
            continue
        expected = chroma(people.palette[crowd.people[row], INK["upper"]])
        assert np.abs(chroma(np.median(torso, axis=0)) - expected).max() < 0.06, row
        checked += 1
    assert checked > 50


def test_a_logo_is_seen_only_from_its_own_side() -> None:
    people = draw_people(0, np.arange(600))
    inks = {name: chroma(people.palette[:, INK[name]]) for name in ("upper", "upper second", "front logo")}
    others = np.stack([inks["upper"], inks["upper second"]])
    distinct = (np.abs(inks["front logo"] - others).max(axis=-1) > 0.2).all(axis=0)
    in_front_only = people.is_a("front_logo", "disc") & people.is_a("back_logo", "none") & people.is_a("bag", "none")
    chosen = np.flatnonzero(in_front_only & distinct)
    assert len(chosen) >= 3
    who, which = np.repeat(chosen, 16), np.tile(np.arange(16), len(chosen))
    rendered = render(0, who, which)
    chest = draw_scenes(0, who, which).skeletons.frames["chest"][:, 2, 2]  # 1: its front is towards the camera
    away = np.abs(chroma(rendered.images) - inks["front logo"][who][:, None, None]).max(axis=-1)
    logo = ((away < 0.05) & (rendered.parts == PARTS.index("torso"))).sum(axis=(1, 2))  # pixels
    assert logo[chest < -0.5].max() == 0
    assert np.median(logo[chest > 0.8]) > 15


def test_hair_styles_are_all_drawn() -> None:
    people = draw_people(0, np.arange(60))
    hair = (render(0, *numbers(60, 1)).parts == PARTS.index("hair")).any(axis=(1, 2))
    for style in CLASSES["hair"]:
        assert hair[people.is_a("hair", style)].all(), style


def test_visible_joints_lie_on_their_limbs(crowd: Rendering) -> None:
    column, row = crowd.poses[..., 0].astype(int), crowd.poses[..., 1].astype(int)
    label = crowd.parts[np.arange(len(crowd.people))[:, None], row, column]
    visible = crowd.poses[..., 2] > 0
    for joint, names in LIMBS.items():
        found = label[visible[:, joint], joint]
        assert len(found) > 0.6 * len(crowd.people), joint
        assert np.isin(found, part_index(names)).mean() > 0.93, (joint, names)
    for joint in (1, RIGHT_SHOULDER, LEFT_SHOULDER, 8, 11):
        assert visible[:, joint].mean() > 0.995
        assert (label[visible[:, joint], joint] > 0).mean() > 0.99
    for joint in (0, 14, 15):  # the nose's tip and far eye may stand out against the backdrop
        assert np.isin(label[visible[:, joint], joint], part_index(AROUND_THE_FACE)).mean() > 0.9


def test_annotations_are_usable(crowd: Rendering) -> None:
    visible = crowd.poses[..., 2] == 1
    assert (crowd.poses[~visible] == (-1, -1, 0)).all()
    assert (crowd.poses[visible][:, :2] >= 0).all() and (crowd.poses[visible][:, :2] < (64, 128)).all()
    tall = (crowd.parts > 0).any(axis=2).sum(axis=1) / 128
    assert np.percentile(tall, 25) > 0.84 and tall.max() < 0.95
    head = crowd.poses[:, (0, 1, 14, 15, 16, 17)]
    low = np.where(head[..., 2:] > 0, head[..., :2], np.inf).min(axis=1)
    width, height = (np.where(head[..., 2:] > 0, head[..., :2], -np.inf).max(axis=1) - low).T
    assert width.min() > 2 and np.median(width) > 8 and height.min() > 6, "head boxes must be wide enough to count hits"


def test_a_joint_behind_the_body_is_missing() -> None:
    joints = draw_scenes(0, *numbers(40, 8)).skeletons.joints
    poses = render(0, *numbers(40, 8)).poses
    offset = joints[:, (4, 7)] - joints[:, (8, 11)].mean(axis=1)[:, None]  # wrists from the pelvis
    behind = (np.abs(offset[..., 0]) < 0.06) & (offset[..., 1] > 0) & (offset[..., 1] < 0.3) & (offset[..., 2] < -0.2)
    assert behind.sum() > 5
    assert not poses[:, (4, 7), 2][behind].any()


def test_backs_hide_nose_and_eyes_and_fronts_show_them(crowd: Rendering) -> None:
    scenes = draw_scenes(0, *numbers(60, 8))
    breadth = crowd.poses[:, LEFT_SHOULDER, 0] - crowd.poses[:, RIGHT_SHOULDER, 0]
    turned = breadth / (2 * scenes.people.shoulders * scenes.scale * 128)  # 1: chest to the camera, -1: back
    face = crowd.poses[:, (0, 14, 15), 2]
    assert (turned > 0.9).sum() > 30 and (turned < -0.9).sum() > 30
    assert face[turned > 0.9, 0].all() and not face[turned < -0.9].any()


def test_right_is_the_persons_right(crowd: Rendering) -> None:
    right_eye, left_eye = crowd.poses[:, 14], crowd.poses[:, 15]
    facing = (right_eye[:, 2] == 1) & (left_eye[:, 2] == 1) & (np.abs(left_eye[:, 0] - right_eye[:, 0]) > 2)
    assert (right_eye[facing, 0] < left_eye[facing, 0]).all()
    chance = Chance(0, VIEW, np.zeros(4, int), np.zeros(4, int))
    skeletons = pose_people(draw_people(0, np.zeros(4, int)), np.arange(4) * 90.0, np.zeros(4), chance)
    across = skeletons.joints[:, LEFT_SHOULDER] - skeletons.joints[:, RIGHT_SHOULDER]  # [heading, 3]
    assert across[0, 0] > 0.2 and across[2, 0] < -0.2
    assert across[3, 2] > 0.2, "who faces the left of the image has the left shoulder towards the camera"
    assert np.allclose(across[:2] * (-1, 1, -1), across[2:])


def test_another_resolution_is_the_same_scene() -> None:
    who, which = numbers(8, 6)
    small, large, wide = render(0, who, which), render(0, who, which, 256, 128), render(0, who, which, 256, 176)
    both = (small.poses[..., 2] == 1) & (large.poses[..., 2] == 1)
    assert (small.poses[..., 2] == large.poses[..., 2]).mean() > 0.985
    assert np.allclose(2 * small.poses[both], large.poses[both] * (1, 1, 2), atol=1e-3)
    in_wide = both & (wide.poses[..., 2] == 1)
    assert np.allclose(large.poses[in_wide] + (24, 0, 0), wide.poses[in_wide], atol=1e-3)
    halved = large.images.reshape(48, 128, 2, 64, 2, 3).mean(axis=(2, 4))
    assert np.abs(halved - small.images).mean() < 2.5


def test_one_camera_has_one_backdrop(crowd: Rendering) -> None:
    images = crowd.images[:, :64].reshape(60, 8, 64, 64, 3).astype(float)  # above the ground
    free = crowd.parts[:, :64].reshape(60, 8, 64, 64) == 0
    same, other = (np.abs(images[:, 0] - images[:, view])[free[:, 0] & free[:, view]].mean() for view in (2, 1))
    assert same < 3 and other > 3 * same


def test_hits_equal_a_slow_ray_caster() -> None:
    """The reference: a solid is a row of 300 balls, each ray meets each ball by itself."""
    height, width, share = 48, 24, np.linspace(0, 1, 300)
    scenes = draw_scenes(0, np.array([0, 3, 5, 8, 20]), np.arange(5))
    figures, views = scenes.figures, scenes.views(height, width)
    hits = cast(figures, views, height, width)
    for n, row, column in np.ndindex(hits.solid.shape):
        own = np.swapaxes(figures.frame[n], 1, 2) / figures.stretch[n][:, :, None]  # [S, 3, 3] from view axes
        radius = figures.first_radius[n][:, None] + share * (figures.last_radius - figures.first_radius)[n][:, None]
        x = (column + 0.5 - views.origin[n, 0]) / views.pixels_per_metre[n]
        y = (views.origin[n, 1] - row - 0.5) / views.pixels_per_metre[n]
        eye = np.einsum("sij,sj->si", own, np.array([x, y, 0]) - figures.start[n])[:, None]  # [S, 1, 3] at z = 0
        ray = own[:, :, 2][:, None]
        middle = np.stack([0 * share, -share, 0 * share], axis=-1) * figures.length[n][:, None, None]
        a, b = (ray**2).sum(-1), (ray * (eye - middle)).sum(-1)
        inside = b**2 - a * (((eye - middle) ** 2).sum(-1) - radius**2)
        z = np.where((inside >= 0) & (radius > 0), (-b + np.sqrt(np.maximum(inside, 0))) / a, -np.inf)
        z[figures.first_radius[n] <= 0] = -np.inf
        nearest = z.max(axis=1)  # [S]
        down = -(eye[:, 0, 1] + np.where(np.isfinite(nearest), nearest, 0) * ray[:, 0, 1])
        nearest[down > figures.floor[n]] = -np.inf
        expected, solid, found = nearest.max(), hits.solid[n, row, column], hits.depth[n, row, column]
        if not np.isfinite(expected):  # only a ray that grazes the edge may slip between two balls of the reference
            assert solid != NOTHING or found == FAR
            continue
        assert solid != NOTHING and abs(found - expected) < 0.004, (n, row, column)
        assert nearest[solid] > expected - 0.004


@pytest.mark.parametrize(
    ("people", "views", "size", "says"),
    [
        ([0, 1], [0], (128, 64), "equally long"),
        ([-1], [0], (128, 64), "from 0 on"),
        ([0.5], [0], (128, 64), "whole numbers"),
        ([0], [0], (8, 4), "at least 16 x 8"),
    ],
)
def test_nonsense_is_refused_with_what_is_accepted(people: list, views: list, size: tuple[int, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        render(0, np.array(people), np.array(views), *size)


@pytest.mark.parametrize(("people", "views"), [(1, 2), (7, 4), (60, 8)])
def test_test_pairs_are_all_pairs_in_an_order_that_covers_all_people_evenly(people, views):
    every = derived_pairs(np.repeat(np.arange(people), views))
    expected = [(a, b) for a, b in itertools.permutations(range(people * views), 2) if a // views == b // views]
    pairs = scored_pairs(every, people)
    assert sorted(map(tuple, pairs.tolist())) == sorted(map(tuple, every.tolist())) == sorted(expected)
    shown = pairs[:, 0] // views
    for start in range(0, len(pairs), people):
        assert sorted(shown[start : start + people]) == list(range(people))
    np.testing.assert_array_equal(pairs, scored_pairs(every, people))


def test_the_packed_people_are_the_rendered_ones_and_no_identity_is_in_both_splits(tmp_path):
    dataset = prepare(SMALL, tmp_path, progress=False)
    assert dataset.train.identities.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert dataset.test.identities.tolist() == [3, 3, 3, 4, 4, 4]
    views = np.tile(np.arange(3), 2)
    rendering = render(0, dataset.test.identities, views, 32, 16)
    np.testing.assert_array_equal(dataset.test.images, rendering.images)
    np.testing.assert_array_equal(dataset.test.poses, rendering.poses)
    assert len(dataset.train) == 18 and len(dataset.test) == 12
    assert dataset.test.names[4] == "000004_001.png"


def test_fewer_test_pairs_are_the_first_of_the_list(tmp_path):
    every = prepare(SMALL, tmp_path, progress=False).test
    some = prepare(DatasetSettings(**{**vars(SMALL), "test_pairs": 5}), tmp_path, progress=False).test
    np.testing.assert_array_equal(some.pairs, every.pairs[:5])


def test_settings_that_make_no_data_set_are_refused(tmp_path):
    wrong = {"people_train": 0, "views": 1, "height": 30, "width": 4, "test_pairs": 0, "name": "market"}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match="accepted: synthetic" if name == "name" else name):
            prepare(DatasetSettings(**{name: value}), tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []
