"""With a weights file in its place, set metrics read torch-fidelity's Inception network and record the file's hash."""

import numpy as np
import pytest
import torch

from xinggan.files import sha256_of
from xinggan.metrics.extractors import extract, open_inception
from xinggan.metrics.images import ImageSet
from xinggan.torchvision_operators import import_torchvision
from xinggan.weights_files import MetricUnavailable

FILE = "weights-inception-2015-12-05-6726825d.pth"


def random_inception(monkeypatch) -> torch.nn.Module:
    """torch-fidelity's network with random weights."""
    import_torchvision()
    from torch_fidelity import feature_extractor_inceptionv3 as module

    monkeypatch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
    monkeypatch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda self, _: None)
    torch.manual_seed(0)
    network = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"])
    monkeypatch.undo()
    return network


def test_features_come_from_the_file_and_in_the_order_of_the_set(tmp_path, monkeypatch):
    network = random_inception(monkeypatch)
    path = tmp_path / "hub" / "checkpoints" / FILE
    path.parent.mkdir(parents=True)
    torch.save(network.state_dict(), path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    extractor = open_inception()
    assert extractor.description["weights_sha256"] == sha256_of(path)

    images = np.random.default_rng(0).integers(0, 256, (4, 128, 64, 3), dtype=np.uint8)
    features = extract(extractor, ImageSet(images, np.array([2, 0])), "cpu", "two images")
    with torch.inference_mode():
        pooled, logits = network(torch.from_numpy(images[[2, 0]]).permute(0, 3, 1, 2))
    assert features.pooled.shape == (2, 2048)
    assert torch.allclose(features.pooled, pooled, atol=1e-5)
    assert torch.allclose(features.logits, logits, atol=1e-5)


def test_missing_and_wrong_weights_are_reasons_that_name_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MetricUnavailable, match=FILE):
        open_inception()
    path = tmp_path / "hub" / "checkpoints" / FILE
    path.parent.mkdir(parents=True)
    torch.save({"fc.weight": torch.zeros(2)}, path)
    with pytest.raises(MetricUnavailable, match="does not hold the weights"):
        open_inception()
