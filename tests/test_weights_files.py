"""Weights are looked for in one place, downloaded only when asked for, and then checked and put there whole."""

from pathlib import Path

import pytest

from xinggan import weights_files
from xinggan.files import sha256_of


def test_downloading_is_explicit_checked_and_told(tmp_path, monkeypatch, capsys):
    import torch

    asked = []

    def download(url: str, path: str, hash_prefix: str) -> None:
        asked.append((url, hash_prefix))
        Path(path).write_bytes(b"weights")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert weights_files.main(["squeeze"]) == 0
    assert weights_files.main(["squeeze"]) == 0  # the second time it is there
    path = weights_files.find_weights("squeeze")
    assert path == tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    assert [hash_prefix for _, hash_prefix in asked] == ["b8a52dc0"]
    assert sha256_of(path) in capsys.readouterr().out
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_download_that_fails_is_told_in_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    assert weights_files.main(["alex"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("xinggan.weights_files: alex: https://") and "could not be downloaded" in line
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_unknown_network_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="alex, vgg, squeeze, inception"):
        weights_files.find_weights("resnet")
