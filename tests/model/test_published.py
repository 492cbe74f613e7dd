"""Published checkpoints: read as data, refused by name where they do not fit, and the function they compute."""

import hashlib

import numpy as np
import pytest
import torch
from golden import complete_state, golden_inputs

from xinggan.data.batch import images_to_float
from xinggan.data.poses import heatmaps
from xinggan.data.settings import PoseMap
from xinggan.model.blocks import initialise_generator
from xinggan.model.generator import XingGenerator
from xinggan.model.published import (
    PublishedGenerator,
    PublishedMismatch,
    from_published,
    read_published,
)
from xinggan.model.switches import Norm, PublishedSettings, xinggan


@pytest.fixture
def market(shared):
    return complete_state(shared, "xing_market_state.json")


@pytest.mark.parametrize(("name", "size", "step"), [("market", (2, 128, 64), 1), ("fashion", (1, 256, 176), 2)])
def test_generator_computes_the_golden_images(shared, name, size, step):
    generator = from_published(complete_state(shared, f"xing_{name}_state.json"))
    with torch.no_grad():
        image = generator(*golden_inputs(*size))[:, :, ::step, ::step].numpy()
    golden = np.load(shared / "golden" / "xing_generator.npz")[f"{name}_output"]
    assert np.abs(image - golden).max() < 1e-4


def test_a_saved_checkpoint_loads(market, tmp_path):
    torch.save(market, tmp_path / "latest_net_netG.pth")
    generator = from_published(read_published(tmp_path / "latest_net_netG.pth"))
    assert not generator.training
    assert torch.equal(
        generator.blocks[3].shape.get_submodule("1").weight, market["model.att.3.conv_block_stream2.1.weight"]
    )


def test_a_file_that_does_not_fit_is_refused_with_every_name(market, tmp_path):
    del market["model.att.2.gamma"]
    market["model.extra.weight"] = torch.zeros(1)
    market["module.model.att.4.gamma"] = market["model.att.4.gamma"]
    market["model.stream1_down.1.weight"] = torch.zeros(64, 4, 7, 7)
    with pytest.raises(PublishedMismatch) as refusal:
        from_published(market)
    for said in (
        "blocks.2.shape_guided.gamma",
        "model.extra.weight",
        "module.model.att.4.gamma (there already",
        "appearance_encoder.1.weight (64, 4, 7, 7)",
    ):
        assert said in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\x80\x04\x95"])
def test_a_file_that_is_no_state_dict_is_refused(tmp_path, content):
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(PublishedMismatch, match=r"file\.pth: not a PyTorch state dict"):
        read_published(tmp_path / "file.pth")


def test_a_pickle_with_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"weights": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(PublishedMismatch, match="safe to load"):
        read_published(tmp_path / "trap.pth")


@pytest.mark.parametrize("content", [{"epoch": 3}, {0: torch.zeros(1)}, [torch.zeros(1)]])
def test_anything_but_names_and_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(PublishedMismatch, match="names to tensors"):
        read_published(tmp_path / "file.pth")


WEIGHTS = torch.tensor([[1.0, 2.0]])


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("layer.weight", torch.tensor([1.0, torch.nan]), "has values that are NaN or infinite"),
        ("layer.weight", torch.tensor([1.0, torch.inf]).half(), "has values that are NaN or infinite"),
        ("norm.running_var", torch.tensor([1.0, -0.1]), "has negative variances"),
        ("layer.weight", WEIGHTS.to(torch.int8), "is of torch.int8"),
        ("layer.weight", torch.quantize_per_tensor(WEIGHTS, 0.1, 0, torch.qint8), "is of torch.qint8"),
        ("layer.weight", WEIGHTS.to(torch.complex64), "is of torch.complex64"),
        ("layer.weight", WEIGHTS.to("meta"), "has no values"),
        ("layer.weight", WEIGHTS.to_sparse(), "is sparse"),
    ],
    ids=["NaN", "infinite", "variance", "int8", "quantised", "complex", "meta", "sparse"],
)
def test_tensors_that_are_no_weights_are_refused_by_name(tmp_path, name, tensor, said):
    torch.save({"first.weight": WEIGHTS, name: tensor}, tmp_path / "file.pth")
    with pytest.raises(PublishedMismatch, match=f"file.pth: tensors that are no weights of a network: {name} {said}"):
        read_published(tmp_path / "file.pth")


def test_half_precision_is_said(tmp_path, capsys):
    torch.save({"layer.weight": WEIGHTS.half(), "layer.num_batches_tracked": torch.tensor(3)}, tmp_path / "file.pth")
    assert read_published(tmp_path / "file.pth")["layer.weight"].dtype == torch.float32
    assert "file.pth: weights in half precision" in capsys.readouterr().err


def test_a_prefix_that_all_names_share_is_dropped(market):
    plain = from_published(market).state_dict()
    for prefix in ("netG.", "module.generator."):
        found = from_published({prefix + name: tensor for name, tensor in market.items()}).state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in plain.items())
    with pytest.raises(PublishedMismatch, match=r"all of them begin with other\.\n"):
        from_published({f"other.{name}": torch.zeros(1) for name in ("a.weight", "b.weight")})


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (lambda saved: saved[: len(saved) // 2], "it is damaged or was cut short"),
        (lambda saved: saved[:300] + bytes(100) + saved[400:], "it is damaged or was cut short"),
        (lambda saved: b"", "the file is empty"),
        (lambda saved: b"<html>404</html>", "it is no file that torch.save writes"),
    ],
    ids=["cut", "damaged", "empty", "a page"],
)
def test_why_a_file_cannot_be_read_is_a_sentence(tmp_path, spoilt, said):
    torch.save({"layer.weight": torch.randn(50, 50)}, tmp_path / "whole.pth")
    (tmp_path / "file.pth").write_bytes(spoilt((tmp_path / "whole.pth").read_bytes()))
    with pytest.raises(PublishedMismatch, match=f"safe to load: {said}"):
        read_published(tmp_path / "file.pth")


class Conf:
    """What a training program puts into its checkpoints beside the weights."""


@pytest.mark.parametrize(
    "content",
    [
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"net_G": {name: -tensor for name, tensor in state.items()}, "net_G_ema": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}, "conf": Conf()},
        lambda state: state | {"layer.weight": state["layer.weight"].bfloat16()},
    ],
    ids=["several devices", "moving average", "configuration", "half precision"],
)
def test_a_state_dict_is_found_however_it_was_saved(tmp_path, content):
    """Nothing of the configuration's class is imported or called."""
    state = {"layer.weight": torch.tensor([1.0, 2.0]), "layer.count": torch.tensor(3)}
    torch.save(content(state), tmp_path / "file.pth")
    found = read_published(tmp_path / "file.pth")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in state.items())


def small_generator(norm: Norm) -> XingGenerator:
    generator = XingGenerator(xinggan(width=4, blocks=2, norm=norm))
    initialise_generator(generator, 0)
    return generator.eval()


class SmallBatchNorm(PublishedGenerator):
    from_state = staticmethod(lambda *_: small_generator(Norm.batch))


class SmallInstanceNorm(PublishedGenerator):
    from_state = staticmethod(lambda *_: small_generator(Norm.instance))


@pytest.mark.parametrize(
    ("kind", "norm", "maps", "size"),
    [
        (SmallBatchNorm, Norm.batch, PoseMap.gaussian, (128, 64)),
        (SmallInstanceNorm, Norm.instance, PoseMap.onehot, (256, 176)),
    ],
)
def test_the_method_is_the_files_generator_on_the_maps_it_was_trained_with(kind, norm, maps, size, people, tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "file.pth")
    method = kind(PublishedSettings(path=str(tmp_path / "file.pth"), pose_sigma=3.0))
    assert (method.size, method.settings.pose_map) == (size, maps)
    batch = people.test.batch([0, 1, 2])
    seeds = torch.zeros(3, dtype=torch.int64)
    image = images_to_float(batch.source_image)
    source, target = (heatmaps(poses, 32, 16, 3.0, maps.value) for poses in (batch.source_pose, batch.target_pose))
    with torch.no_grad():
        expected = small_generator(norm)(image, source, target)
    torch.testing.assert_close(method.generate_pairs(batch, seeds), expected, rtol=0, atol=1e-5)


def test_another_file_than_the_recorded_one_is_refused(tmp_path):
    file = tmp_path / "generator.pth"
    torch.save({"weight": torch.zeros(1)}, file)
    recorded = hashlib.sha256(file.read_bytes()).hexdigest()
    SmallBatchNorm(PublishedSettings(path=str(file), sha256=recorded))
    file.write_bytes(b"what it has become")
    with pytest.raises(ValueError, match=rf"the file has changed.*{recorded}"):
        SmallBatchNorm(PublishedSettings(path=str(file), sha256=recorded))
