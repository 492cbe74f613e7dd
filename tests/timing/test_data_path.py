"""Both ways to the device bring the same pairs in the same order, up to what JPEG loses."""

from argparse import Namespace

import pytest
import torch

from xinggan.timing.data_path import compare, main, packed_batches, published_batches, report, write_published

OPTIONS = Namespace(batch=3, batches=1, rounds=2, workers=0, device="cpu", height=32, width=16)


def test_both_ways_give_the_same_images_and_joint_maps(people, tmp_path):
    write_published(people.train, tmp_path)
    ways = packed_batches(people.train, OPTIONS), published_batches(people.train, tmp_path, OPTIONS)
    for _ in range(3):
        (images, maps), (read_images, read_maps) = (next(way) for way in ways)
        torch.testing.assert_close(read_maps, maps)
        for image, read in zip(images, read_images, strict=True):
            assert image.shape == read.shape == (3, 3, 32, 16)
            assert (image - read).abs().mean() < 0.1


def test_each_way_is_measured_in_every_round_and_the_ratio_printed(people, tmp_path, capsys):
    write_published(people.train, tmp_path)
    speeds = compare(people.train, tmp_path, OPTIONS)
    assert {name: len(values) for name, values in speeds.items()} == {"packed": 2, "published": 2}
    report({"packed": [300.0, 500.0, 400.0], "published": [50.0, 40.0, 60.0]}, OPTIONS)
    assert "packed is 8.0 times as fast" in capsys.readouterr().out


def test_impossible_numbers_are_refused():
    with pytest.raises(SystemExit) as refused:
        main(["--batch", "0"])
    assert refused.value.code == 2
