"""What is written is read back; what does not fit together, or is no such file, is refused with the reason."""

import io
from dataclasses import replace
from zipfile import ZipFile

import numpy as np
import pytest

from xinggan.model.attention_maps import AttentionMaps, read_attention, write_attention


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    weights = rng.random((2, 2, 5, 2 + 6 * 3))
    return AttentionMaps(
        weights=(weights / weights.sum(axis=-1, keepdims=True)).astype(np.float16),
        branches=np.array(["SA", "AS"]),
        blocks=np.array([1, 9]),
        grids=np.array([[2, 1], [6, 3]]),
        pair=np.array([0, 0, 0, 1, 2]),
        joint=np.array([0, 2, 8, 10, 17]),
        target=rng.random((5, 2)).astype(np.float32),
        source=np.full((5, 2), -1, np.float32),
    )


def test_maps_are_read_back_bit_by_bit_and_written_alike_twice(maps, tmp_path):
    write_attention(tmp_path / "attention.npz", maps)
    read = read_attention(tmp_path / "attention.npz")
    for name, array in vars(maps).items():
        assert getattr(read, name).dtype == array.dtype
        assert np.array_equal(getattr(read, name), array)
    write_attention(tmp_path / "again.npz", read)
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "attention.npz").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"attention.npz", "again.npz"}


def test_a_scale_is_the_part_of_the_keys_that_its_grid_names(maps):
    assert maps.scale(0).shape == (2, 2, 5, 2, 1)
    assert maps.scale(1)[1, 0, 3, 4, 2] == maps.weights[1, 0, 3, 2 + 4 * 3 + 2]
    both = maps.scale(0).sum(axis=(-2, -1)) + maps.scale(1).sum(axis=(-2, -1))
    np.testing.assert_allclose(both, 1, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("weights", np.zeros((2, 2, 5, 19), np.float16)),
        ("weights", np.full((2, 2, 5, 20), np.nan, np.float16)),
        ("weights", np.zeros((2, 2, 5, 20), int)),
        ("weights", np.zeros(3)),
        ("weights", np.full((2, 2, 5, 20), -0.05)),
        ("grids", np.array([[2**32, 2**32], [20, 1]])),
        ("blocks", np.array(3)),
        ("blocks", np.zeros((2, 3), int)),
        ("branches", np.array("SA")),
        ("branches", np.array([["SA"], ["AS"]])),
        ("grids", np.array([[2, 1], [-6, -3]])),
        ("grids", np.array([20])),
        ("branches", np.array(["SA", "<b>"])),
        ("joint", np.array([0, 2, 8, 10, 18])),
        ("pair", np.array([0, 0, 0, 1])),
        ("pair", np.array([0, 0, 0, 1, -2])),
        ("target", np.full((5, 2), np.inf)),
        ("source", np.zeros((5, 3))),
        ("source", np.full((5, 2), np.inf)),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(maps, tmp_path, name, array):
    write_attention(tmp_path / "attention.npz", replace(maps, **{name: array}))
    with pytest.raises(
        ValueError, match=r"attention\.npz holds no attention maps: .*(weights|grids|branches|joint|pair|finite)"
    ):
        read_attention(tmp_path / "attention.npz")


def test_files_that_are_none_are_refused_and_nothing_is_unpickled(tmp_path, monkeypatch):
    path = tmp_path / "attention.npz"
    with pytest.raises(FileNotFoundError):
        read_attention(path)
    path.write_bytes(b"PK no archive")
    with pytest.raises(ValueError, match="holds no attention maps"):
        read_attention(path)
    np.savez(path, weights=np.zeros(3))
    with pytest.raises(ValueError, match="branches"):
        read_attention(path)
    np.savez(path, weights=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="pickle"):
        read_attention(path)
    monkeypatch.setattr("xinggan.model.attention_maps.LARGEST_BYTES", 1000)
    np.savez_compressed(path, weights=np.zeros(2000))
    with pytest.raises(ValueError, match="unpack to more than"):
        read_attention(path)


def header(shape) -> bytes:
    """The head of an array's file that says this shape, without any values."""
    written = io.BytesIO()
    np.lib.format.write_array_header_1_0(written, {"descr": "<i8", "fortran_order": False, "shape": shape})
    return written.getvalue()


@pytest.mark.parametrize(
    "damaged",
    [b"no array", header((10**15,)), header((10**24,)), header((7,)), header((7,)).replace(b"}", b"(")],
    ids=["text", "more than memory holds", "more than a number holds", "cut short", "no header"],
)
def test_damaged_arrays_are_refused(maps, tmp_path, damaged):
    write_attention(tmp_path / "whole.npz", maps)
    with ZipFile(tmp_path / "whole.npz") as whole, ZipFile(tmp_path / "attention.npz", "w") as file:
        for name in whole.namelist():
            file.writestr(name, damaged if name == "blocks.npy" else whole.read(name))
    with pytest.raises(ValueError, match=r"attention\.npz holds no attention maps"):
        read_attention(tmp_path / "attention.npz")


def test_damaged_compression_and_encryption_are_refused(maps, tmp_path):
    path = tmp_path / "attention.npz"
    write_attention(path, maps)
    whole = path.read_bytes()
    flags = whole.index(b"PK\x01\x02") + 8
    for at, damage in ((60, b"\xff" * 60), (flags, b"\x01")):
        path.write_bytes(whole[:at] + damage + whole[at + len(damage) :])
        with pytest.raises(ValueError, match="holds no attention maps"):
            read_attention(path)
