"""Photographs: packed bytes are those that Pillow decodes; sizes, DeepFashion's crop, resizing with annotations."""

import numpy as np
import pytest
from PIL import Image

from xinggan.command import LayoutProblems
from xinggan.data.layout import derived_pairs, read_layout
from xinggan.data.prepare import prepare
from xinggan.data.settings import DatasetSettings

FASHION_TRAIN = ("fashionMENDenimid0000008001_1front.png", "fashionMENDenimid0000008001_2side.png")
FASHION_TEST = ("fashionMENDenimid0000008002_1front.png", "fashionMENDenimid0000008002_3back.png")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_packed_images_equal_the_files_decoded_by_pillow(make_layout, tmp_path, suffix):
    root = make_layout(
        train=tuple(f"{n % 40}_{n}.{suffix}" for n in range(150)), test=(f"a_1.{suffix}", f"a_2.{suffix}")
    )
    Image.open(root / f"train/0_0.{suffix}").convert("L").save(root / f"train/0_0.{suffix}")  # grey ones too
    dataset = prepare(DatasetSettings("folder", root=str(root)), tmp_path / "cache", progress=False)
    for split in (dataset.train, dataset.test):
        layout = read_layout(DatasetSettings("folder", root=str(root)), split.name, [])
        assert split.names == layout.names
        np.testing.assert_array_equal(split.poses, layout.poses)
        for name, image in zip(split.names, split.images, strict=True):
            np.testing.assert_array_equal(image, np.asarray(Image.open(root / split.name / name).convert("RGB")))


def test_identities_are_numbered_through_both_splits_and_shared_ones_are_counted(make_layout, tmp_path):
    root = make_layout(train=("a_1.png", "b_1.png", "a_2.png"), test=("c_1.png", "c_2.png", "b_2.png"))
    dataset = prepare(DatasetSettings("folder", root=str(root)), tmp_path, progress=False)
    assert dataset.train.identities.tolist() == [0, 1, 0] and dataset.test.identities.tolist() == [2, 2, 1]
    assert dataset.card["shared"] == {"images": 0, "identities": 1}


def test_files_of_another_size_are_a_problem_unless_they_may_be_resized(make_layout, tmp_path):
    root = make_layout()
    settings = DatasetSettings("folder", root=str(root), height=16, width=8)
    with pytest.raises(LayoutProblems, match=r"16 x 32 pixels .*; expected 8 x 16, or --resize for all"):
        prepare(settings, tmp_path / "cache", progress=False)
    settings.resize = True
    split = prepare(settings, tmp_path / "cache", progress=False).train
    for name, image in zip(split.names, split.images, strict=True):
        pixels = np.asarray(Image.open(root / "train" / name)).astype(float)
        means = pixels.reshape(16, 2, 8, 2, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(image, means, atol=1)  # Pillow rounds after either direction
    original = read_layout(settings, "train", []).poses
    np.testing.assert_allclose(split.poses[..., :2], original[..., :2] / 2 - 0.25)


def test_enlarging_moves_joints_with_the_picture(make_layout, tmp_path):
    root = make_layout()
    pixels = np.zeros((32, 16, 3), dtype=np.uint8)
    pixels[1, 2] = 255  # the first joint's pixel
    Image.fromarray(pixels).save(root / "train/1_a.png")
    settings = DatasetSettings("folder", root=str(root), height=128, width=64, resize=True)
    split = prepare(settings, tmp_path / "cache", progress=False).train
    brightness = split.images[0].astype(float).sum(axis=-1)
    rows, columns = np.mgrid[:128, :64]
    centre = [(columns * brightness).sum() / brightness.sum(), (rows * brightness).sum() / brightness.sum()]
    np.testing.assert_allclose(split.poses[0, 0, :2], centre, atol=0.05)


def test_sizes_that_the_networks_cannot_halve_are_a_problem(make_layout, tmp_path):
    root = make_layout(size=(18, 32))
    with pytest.raises(LayoutProblems, match=r"18 x 32 pixels .*multiples of 4; set height and width, and resize"):
        prepare(DatasetSettings("folder", root=str(root)), tmp_path / "cache", progress=False)


def test_garments_in_both_splits_of_deepfashion_are_counted(make_layout, tmp_path):
    other_view = tuple(name.replace("8002", "8007") for name in FASHION_TEST)  # same garment 00000080, another outfit
    root = make_layout(train=FASHION_TRAIN, test=other_view, size=(176, 256))
    dataset = prepare(DatasetSettings("deepfashion", root=str(root)), tmp_path, progress=False)
    assert dataset.card["shared"] == {"images": 0, "identities": 0, "garments": 1}


def test_the_real_photographs_are_read_as_their_tables_say(shared, tmp_path, golden_poses):
    root = shared / "data/pku_reid"
    dataset = prepare(DatasetSettings("folder", root=str(root)), tmp_path, progress=False)
    counts = {name: (split["images"], split["pairs"]) for name, split in dataset.card["splits"].items()}
    assert counts == {"train": (800, 11_940), "test": (192, 500)} and dataset.card["notes"] == []
    for name, pose, image in zip(dataset.test.names, dataset.test.poses, dataset.test.images, strict=True):
        np.testing.assert_array_equal(pose, golden_poses[name])
        np.testing.assert_array_equal(image, np.asarray(Image.open(root / "test" / name).convert("RGB")))
    first = (root / "pku-pairs-test.csv").read_text().splitlines()[1].replace(".png", "")
    assert dataset.test.pair_id(0) == first.replace(",", "___")


def test_the_rule_derives_the_real_training_pairs(shared):
    settings = DatasetSettings("folder", root=str(shared / "data/pku_reid"))
    layout = read_layout(settings, "train", [])
    assert sorted(map(tuple, layout.pairs)) == sorted(map(tuple, derived_pairs(layout.identities, layout.poses)))
