"""Published checkpoints: read as data, refused by name where they do not fit, and the function they compute."""

import numpy as np
import pytest
import torch
from golden import complete_state, golden_inputs
from plain_xinggan import plain_generator

from xinggan.model.generator import XingGenerator, initialise_generator, xinggan
from xinggan.model.published import PublishedMismatch, from_published, load_published
from xinggan.model.switches import Norm


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


@pytest.mark.parametrize("norm", list(Norm))
def test_generator_equals_the_published_formulation_in_double_precision(norm):
    generator = XingGenerator(xinggan(norm=norm, width=8, blocks=3)).double().eval()
    initialise_generator(generator, 0)
    for name, parameter in generator.named_parameters():
        if name.endswith("gamma"):
            parameter.data.fill_(0.5)
        elif parameter.dim() > 1:
            parameter.data.mul_(10)
    inputs = [tensor.double() for tensor in golden_inputs(1, 64, 32)]
    torch.testing.assert_close(generator(*inputs), plain_generator(generator)(*inputs), atol=1e-10, rtol=0)


def test_a_saved_checkpoint_loads(market, tmp_path):
    torch.save(market, tmp_path / "latest_net_netG.pth")
    generator = load_published(tmp_path / "latest_net_netG.pth")
    assert not generator.training
    assert torch.equal(
        generator.blocks[3].shape.get_submodule("0").weight, market["model.att.3.conv_block_stream2.1.weight"]
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
        "appearance_encoder.0.weight (64, 4, 7, 7)",
    ):
        assert said in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\x80\x04\x95"])
def test_a_file_that_is_no_state_dict_is_refused(tmp_path, content):
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(PublishedMismatch, match=r"file\.pth: not a PyTorch state dict"):
        load_published(tmp_path / "file.pth")


def test_a_pickle_with_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"weights": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(PublishedMismatch, match="safe to load"):
        load_published(tmp_path / "trap.pth")


@pytest.mark.parametrize("content", [{"epoch": 3}, {0: torch.zeros(1)}, [torch.zeros(1)]])
def test_anything_but_names_and_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(PublishedMismatch, match="names to tensors"):
        load_published(tmp_path / "file.pth")
