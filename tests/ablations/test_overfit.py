"""Learning a few photographs by heart: the loss falls, a picture shows the pairs, a reference has nothing to learn."""

import re

from PIL import Image

from ablations.overfit import main


def test_a_method_learns_a_few_photographs_and_shows_them(shared, tmp_path, place, capsys):
    words = ["--root", str(shared / "data" / "pku_reid"), "--pairs", "4", "--out", str(tmp_path), place[1]]
    words += ["preset=smoke", "dataset.height=32", "dataset.width=16", "dataset.resize=true", "dataset.mask_radius=1"]
    assert main([*words, "method=pix2pix", "training.steps=60", "training.log_every=10"]) == 0
    line = capsys.readouterr().out
    first, last = map(float, re.search(r"l1 (\S+) -> (\d+\.?\d*)", line).groups())
    assert last < 0.8 * first
    assert re.search(r"SSIM -?0\.\d{3}, L1 0\.\d{3}, 60 steps", line)
    (folder,) = tmp_path.glob("pix2pix-*-4-pairs")
    with Image.open(folder / "pairs.png") as picture:
        assert picture.height >= 4 * 32  # a row for each pair
    assert main([*words, "method=pix2pix", "training.steps=4", "training.log_every=1"]) == 0
    assert "4 steps" in capsys.readouterr().out  # another experiment is another training
    assert main([*words, "method=copy_source"]) == 2
    assert "method=copy_source is not trained" in capsys.readouterr().err
