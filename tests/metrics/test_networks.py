"""LPIPS and features are those of the published programs; a missing network is a reason, not an exception."""

import hashlib
import json
from functools import partial

import numpy as np
import pytest
import torch
from golden import SALT, golden_weights, state_shapes
from PIL import Image

from xinggan.metrics.networks import open_imagenet_inception, open_inception, open_lpips
from xinggan.torchvision_operators import import_torchvision
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


LPIPS_FILES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}
OPENERS = [(partial(open_lpips, network), file) for network, file in LPIPS_FILES.items()]
OPENERS += [(open_inception, "weights-inception-2015-12-05-6726825d.pth")]
OPENERS += [(open_imagenet_inception, "inception_v3_google-0cc3c7bd.pth")]


@pytest.mark.parametrize(("open_network", "file"), OPENERS)
def test_missing_and_other_weights_are_reasons_that_name_file_source_and_place(open_network, file, torch_home):
    place = torch_home / "hub" / "checkpoints"
    with pytest.raises(MetricUnavailable) as raised:
        open_network()
    for needed in (file, "https://", str(place), "weights_files"):
        assert needed in str(raised.value)
    place.mkdir(parents=True)
    torch.save({"features.0.weight": torch.zeros(1)}, place / file)
    with pytest.raises(MetricUnavailable, match=rf"{file} does not hold the weights"):
        open_network()


def test_an_unknown_network_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="alex, vgg, squeeze"):
        open_lpips("resnet")


def test_inceptions_features_come_from_the_file_whose_hash_is_recorded(torch_home, monkeypatch):
    import_torchvision()
    from torch_fidelity import feature_extractor_inceptionv3 as module

    with monkeypatch.context() as patch:  # torch-fidelity's network with random weights
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda self, _: None)
        network = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"])
    path = torch_home / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    path.parent.mkdir(parents=True)
    torch.save(network.state_dict(), path)
    opened = open_inception()
    assert opened.description["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    images = torch.randint(0, 256, (2, 3, 128, 64), dtype=torch.uint8)
    with torch.inference_mode():
        for found, expected in zip(opened.extract(images), network(images), strict=True):
            assert torch.allclose(found, expected, atol=1e-5)


@pytest.fixture(scope="module")
def imagenet_network(shared, tmp_path_factory):
    """torchvision's Inception with golden weights in place of ImageNet's."""
    home = tmp_path_factory.mktemp("torch_home")
    path = home / "hub" / "checkpoints" / "inception_v3_google-0cc3c7bd.pth"
    path.parent.mkdir(parents=True)
    torch.save(golden_weights(state_shapes(shared, "inception_state.json"), scale=0.3), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(home))
        return open_imagenet_inception()


def test_imagenet_features_are_those_of_the_published_programs(shared, imagenet_network):
    golden = np.load(shared / "golden" / "inception_features.npz")
    g = torch.Generator().manual_seed(SALT)
    fine = torch.randint(0, 256, (4, 3, 256, 176), generator=g)
    coarse = torch.randint(0, 256, (4, 3, 16, 11), generator=g).repeat_interleave(16, 2).repeat_interleave(16, 3)
    pair = json.loads((shared / "golden" / "cfld_metrics.json").read_text())["pairs"][0]
    folder = next((shared / "data").glob("*/test"))
    photographs = [np.array(Image.open(folder / pair[role]).convert("RGB")) for role in ("source", "target")]
    with torch.inference_mode():
        seeded = [imagenet_network.extract(images.to(torch.uint8))[0] for images in (fine, coarse)]
        pooled = imagenet_network.extract(torch.from_numpy(np.stack(photographs)).permute(0, 3, 1, 2))[0]
    assert np.abs(torch.cat(seeded).numpy() - golden["seeded"]).max() < 1e-4
    assert np.abs(pooled[:, ::8].numpy() - np.stack([golden["generated"][0], golden["target"][0]])).max() < 1e-4
