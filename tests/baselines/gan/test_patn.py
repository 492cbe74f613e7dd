"""PATN: the published generator's function and size, its files, its losses' weights."""

import math

import numpy as np
import pytest
import torch
from golden import complete_state, golden_inputs

from baselines.gan.patn import PATN, PatnGenerator, TransferBlock, from_published
from baselines.gan.settings import PATNSettings
from xinggan.model.published import PublishedMismatch, read_published
from xinggan.model.switches import LossWeights, Norm


def legacy(state):
    """The state as PyTorch before 0.4 saved it: no counters, running statistics for InstanceNorm too."""
    old = {name: tensor for name, tensor in state.items() if not name.endswith("tracked")}
    for name, size in ((f"model.stream1_down.{layer}", size) for layer, size in ((2, 64), (5, 128), (8, 256))):
        old.setdefault(f"{name}.running_mean", torch.randn(size))
        old.setdefault(f"{name}.running_var", torch.rand(size))
    return old


@pytest.mark.parametrize(("name", "size", "step"), [("market", (2, 128, 64), 1), ("fashion", (1, 256, 176), 2)])
def test_generator_computes_the_published_images_from_a_file_of_any_age(shared, tmp_path, name, size, step):
    state = complete_state(shared, f"patn_{name}_state.json")
    torch.save(legacy(state), tmp_path / "latest_net_netG.pth", _use_new_zipfile_serialization=False)
    generator = from_published(read_published(tmp_path / "latest_net_netG.pth"))
    with torch.no_grad():
        image = generator(*golden_inputs(*size))[:, :, ::step, ::step].numpy()
    golden = np.load(shared / "golden" / "patn_generator.npz")[f"{name}_output"]
    assert np.abs(image - golden).max() < 1e-4
    new = from_published(state).state_dict()
    assert all(torch.equal(tensor, new[key]) for key, tensor in generator.state_dict().items())


def test_a_file_that_does_not_fit_is_refused_with_every_name(shared):
    state = complete_state(shared, "patn_market_state.json")
    del state["model.att.2.conv_block_stream2.6.weight"]
    state["model.att.0.gamma"] = torch.zeros(1)
    state["model.stream1_up.1.running_mean"] = torch.zeros(4)
    with pytest.raises(PublishedMismatch, match=r"published PatnGenerator \(batch norm\)") as refusal:
        from_published(state)
    assert str(refusal.value).splitlines()[1:] == [
        "  missing (our names): blocks.2.shape.6.weight",
        "  unexpected: model.att.0.gamma",
        "  mis-shaped: decoder.1.running_mean (4,) instead of (128,)",
    ]
    with pytest.raises(PublishedMismatch, match=r"unexpected: .*model\.att\.0\.query_conv\.weight"):
        from_published(complete_state(shared, "xing_market_state.json"))


def test_size_and_cost_are_the_published_ones():
    from torch.utils.flop_counter import FlopCounterMode

    generator = PatnGenerator(PATNSettings()).eval()
    assert sum(p.numel() for p in generator.parameters()) == pytest.approx(41.4e6, abs=0.05e6)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        generator(*golden_inputs(1, 128, 64))
    assert counter.get_total_flops() / 2 == pytest.approx(22.5e9, abs=0.05e9)


def test_appearance_changes_only_where_the_shape_code_attends():
    block = TransferBlock(PATNSettings(width=4, norm=Norm.instance, dropout=0.0), first=True)
    torch.nn.init.zeros_(block.shape[-1].weight)
    appearance, shape = torch.randn(2, 16, 6, 4), torch.randn(2, 16, 6, 4)
    change = block.appearance(appearance)
    for logit in (-1.0, 3.0):
        torch.nn.init.constant_(block.shape[-1].bias, logit)
        moved, code = block(appearance, shape)
        torch.testing.assert_close(moved, appearance + change / (1 + math.exp(-logit)))
        assert torch.equal(code, torch.cat([torch.full_like(shape, logit), moved], dim=1))


def test_loss_terms_are_weighted_by_the_published_weights(people):
    """Terms with the default weights are 5/2, 5/2, 10 and 10 times those with weights of 1."""
    batch = people.train.batch(range(4))

    def terms(**changes):
        torch.manual_seed(0)
        return PATN(PATNSettings(width=4, blocks=2, **changes)).train().training_step(batch, 0)

    published, plain = terms(), terms(losses=LossWeights(adversarial=1, l1=1, perceptual=1))
    for name, weight in (("adversarial_appearance", 5), ("adversarial_shape", 5), ("l1", 10), ("perceptual", 10)):
        assert published[name].item() == pytest.approx(weight * plain[name].item(), rel=1e-4)
