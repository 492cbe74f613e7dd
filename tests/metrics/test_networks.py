"""LPIPS equals its authors' numbers, and a missing network is a reason, not an exception in the middle of a run."""

import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image

from xinggan.metrics.networks import open_lpips
from xinggan.weights_files import MetricUnavailable


def read(path) -> torch.Tensor:
    """An image file as uint8 [3, H, W]."""
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)


@pytest.fixture(scope="module")
def squeeze(shared):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(shared / "weights" / "torch_home"))
        return open_lpips("squeeze")


def test_lpips_of_the_authors_example_images(shared, squeeze):
    reference, *others = (read(shared / "golden" / f"ex_{name}.png") for name in ("ref", "p0", "p1"))
    distances = squeeze(torch.stack([reference, reference]), torch.stack(others))
    assert distances.tolist() == pytest.approx([0.711, 0.148], abs=6e-4)
    weights = next((shared / "weights" / "torch_home").rglob("squeezenet*.pth"))
    assert squeeze.weights["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert squeeze.weights["weights_file"] == weights.name
    assert len(squeeze.weights["distance_sha256"]) == 64


def test_lpips_of_photographs_is_that_of_the_published_evaluation(shared, squeeze):
    pairs = json.loads((shared / "golden" / "cfld_metrics.json").read_text())["pairs"][:8]
    folder = next((shared / "data").glob("*/test"))
    images = (torch.stack([read(folder / pair[role]) for pair in pairs]) for role in ("source", "target"))
    assert squeeze(*images).tolist() == pytest.approx([pair["lpips_squeeze"] for pair in pairs], abs=1e-5)


@pytest.mark.parametrize(("network", "file"), [("alex", "alexnet-owt-7be5be79.pth"), ("vgg", "vgg16-397923af.pth")])
def test_missing_weights_name_the_file_its_source_and_its_place(network, file, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MetricUnavailable) as raised:
        open_lpips(network)
    for needed in (file, "https://", str(tmp_path / "hub" / "checkpoints"), "weights_files"):
        assert needed in str(raised.value)


def test_a_file_with_other_weights_is_unavailable_and_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    path.parent.mkdir(parents=True)
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(MetricUnavailable, match=r"alexnet-owt-7be5be79\.pth"):
        open_lpips("alex")


def test_an_unknown_network_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="alex, vgg, squeeze"):
        open_lpips("resnet")
