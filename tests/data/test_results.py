"""Folders of generated images: found under every name the field uses, refused with everything that is wrong."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from xinggan.command import LayoutProblems
from xinggan.data.results import read_results
from xinggan.data.settings import Fit


@pytest.fixture(scope="module")
def split(people):
    return people.test


@pytest.fixture(scope="module")
def generated(split) -> np.ndarray:
    """A different noise image for each pair, [p, H, W, 3]."""
    return np.random.default_rng(3).integers(0, 256, (len(split), split.height, split.width, 3), dtype=np.uint8)


def fill(folder, split, images, scheme: str = "{a}___{b}.png") -> list[str]:
    """Write one image a pair; the files' names."""
    names = []
    for (source, target), image in zip(split.pairs, images, strict=True):
        s, t = split.names[source], split.names[target]
        names.append(scheme.format(s=s, t=t, a=s.rsplit(".", 1)[0], b=t.rsplit(".", 1)[0]))
        Image.fromarray(image).save(folder / names[-1])
    return names


def strips(real: np.ndarray, pairs: np.ndarray, generated: np.ndarray) -> list[np.ndarray]:
    """The five panels of each pair, of the data set's images `real`."""
    rows = zip(pairs, generated, strict=True)
    return [np.concatenate([real[s], real[s] * 0, real[t], real[t] * 0, image], axis=1) for (s, t), image in rows]


SCHEMES = [
    "{a}___{b}.png",
    "{a}_2_{b}.png",
    "{a}_to_{b}.png",
    "{s}___{t}.png",
    "{s}_2_{t}_vis.png",
    "{a}_to_{b}_vis.bmp",
]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_naming_scheme_gives_the_images_in_the_order_of_the_pairs(split, generated, scheme, tmp_path):
    fill(tmp_path, split, generated, scheme)
    (tmp_path / "notes.txt").write_text("no image")
    results = read_results(tmp_path, split, progress=False)
    np.testing.assert_array_equal(results.images, generated)
    assert results.notes == []


def test_of_a_five_panel_strip_the_generated_image_is_read(split, generated, tmp_path):
    fill(tmp_path, split, strips(split.images, split.pairs, generated), "{s}___{t}_vis.png")
    results = read_results(tmp_path, split, progress=False)
    np.testing.assert_array_equal(results.images, generated)
    assert results.notes == [f"{len(split)} images: the last of the 5 panels of a strip was taken"]


def test_a_strip_of_another_pair_is_found_by_its_real_panels(split, generated, tmp_path):
    of_others = np.roll(split.pairs, -3, axis=0)
    fill(tmp_path, split, strips(split.images, of_others, generated), "{s}___{t}_vis.png")
    with pytest.raises(LayoutProblems, match="does not show the pair's source image"):
        read_results(tmp_path, split, progress=False)


def test_a_run_records_folder_is_read_by_its_manifest(split, generated, tmp_path):
    entries = []
    for row in reversed(range(len(split))):
        Image.fromarray(generated[row]).save(tmp_path / f"{row:06d}.png")
        entries.append({"pair_id": split.pair_id(row), "file": f"{row:06d}.png"})
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    np.testing.assert_array_equal(read_results(tmp_path, split, progress=False).images, generated)

    for change, message in (({"sha256": "0" * 64}, "its SHA-256 differs"), ({"file": "../a.png"}, "leaves the folder")):
        (tmp_path / "manifest.json").write_text(json.dumps([{**entries[0], **change}, *entries[1:]]))
        with pytest.raises(LayoutProblems, match=message):
            read_results(tmp_path, split, progress=False)
    (tmp_path / "manifest.json").write_text("{}[")
    with pytest.raises(ValueError, match=r"manifest\.json is not a list"):
        read_results(tmp_path, split, progress=False)


def test_everything_that_is_wrong_is_said_in_one_message(split, generated, tmp_path):
    names = fill(tmp_path, split, generated)
    (tmp_path / names[0]).unlink()
    (tmp_path / names[1]).write_bytes(b"no image at all")
    whole = (tmp_path / names[2]).read_bytes()
    (tmp_path / names[2]).write_bytes(whole[: len(whole) // 2])
    Image.fromarray(generated[3][:-1]).save(tmp_path / names[3])
    Image.fromarray(generated[4][..., 0].astype(np.uint16) * 257).save(tmp_path / names[4])
    twice = names[5].replace("___", "_2_").replace(".png", "_vis.png")
    Image.fromarray(generated[5]).save(tmp_path / twice)
    Image.fromarray(generated[6]).save(tmp_path / "somebody___else.png")
    with pytest.raises(LayoutProblems) as refusal:
        read_results(tmp_path, split, progress=False)
    found = {problem.file: problem.what for problem in refusal.value.problems}
    expected = {
        split.pair_id(0): "no image of this test pair",
        names[1]: "cannot be read",
        names[2]: "cannot be read",
        names[3]: f"{split.width} x {split.height - 1} pixels",
        names[4]: "8 bits a channel",
        "somebody___else.png": "named after no test pair",
    }
    doubled = (set(found) & {twice, names[5]}).pop()
    assert "is there already" in found.pop(doubled)
    assert found.keys() == expected.keys()
    assert all(words in found[file] for file, words in expected.items())
    assert "7 problems in" in str(refusal.value)
    assert "nothing was scored" in str(refusal.value)


def test_images_whose_own_names_end_like_strips_are_found(split, generated, tmp_path):
    names = [f"{name.rsplit('.', 1)[0]}_vis.png" for name in split.names]
    renamed = replace(split, names=names)
    fill(tmp_path, renamed, generated)
    np.testing.assert_array_equal(read_results(tmp_path, renamed, progress=False).images, generated)


def test_a_folder_of_other_names_is_refused_with_the_names_that_are_looked_for(split, tmp_path):
    Image.new("RGB", (16, 32)).save(tmp_path / "0.png")
    with pytest.raises(ValueError, match=r"none of its 1 images.*_2_.*_to_.*_vis\.png"):
        read_results(tmp_path, split, progress=False)
    with pytest.raises(ValueError, match="is not a folder"):
        read_results(tmp_path / "absent", split, progress=False)


@pytest.mark.parametrize("as_strip", [False, True])
def test_other_sizes_are_cropped_or_resized_only_when_asked_and_it_is_said(split, generated, as_strip, tmp_path):
    padded = np.pad(generated, ((0, 0), (2, 2), (4, 4), (0, 0)), constant_values=255)
    real = np.pad(split.images, ((0, 0), (2, 2), (4, 4), (0, 0)), constant_values=255)
    files = strips(real, split.pairs, padded) if as_strip else padded
    fill(tmp_path, split, files, "{a}___{b}_vis.png")
    with pytest.raises(LayoutProblems, match=r"--fit crop.*--fit resize"):
        read_results(tmp_path, split, progress=False)
    cropped = read_results(tmp_path, split, Fit.crop, progress=False)
    np.testing.assert_array_equal(cropped.images, generated)
    assert f"columns 4..{4 + split.width}, rows 2..{2 + split.height}" in cropped.notes[-1]


def test_resizing_keeps_corners_on_corners(split, generated, tmp_path):
    enlarged = generated.repeat(2, axis=1).repeat(2, axis=2)
    fill(tmp_path, split, enlarged)
    resized = read_results(tmp_path, split, Fit.resize, progress=False)
    np.testing.assert_array_equal(resized.images, generated)
    assert "resized from 32 x 64 pixels" in resized.notes[0]
    with pytest.raises(LayoutProblems, match="too few to crop"):
        fill(tmp_path, split, generated[:, ::2])
        read_results(tmp_path, split, Fit.crop, progress=False)
