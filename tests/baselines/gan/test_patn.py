"""PATN: the published generator's function and size, its files, its training in the suite's harness."""

import math

import numpy as np
import pytest
import torch
from golden import complete_state, golden_inputs
from method_promises import assert_images_do_not_depend_on_their_batch, assert_resumes_exactly

from ablations.config import compose
from baselines.gan.patn import PATN, PatnGenerator, TransferBlock, from_published, load_published
from xinggan.model.published import PublishedMismatch
from xinggan.model.switches import LossWeights, Norm


def patn(**changes):
    return PATN(width=4, blocks=2, history=3, **changes)


def legacy(state):
    """The state as PyTorch before 0.4 saved it: no counters, running statistics for InstanceNorm too."""
    old = {name: tensor for name, tensor in state.items() if not name.endswith("tracked")}
    norms = [(f"model.stream1_down.{layer}", size) for layer, size in ((2, 64), (5, 128), (8, 256))]
    for name, size in norms:
        old.setdefault(f"{name}.running_mean", torch.randn(size))
        old.setdefault(f"{name}.running_var", torch.rand(size))
    return old


@pytest.mark.parametrize(("name", "size", "step"), [("market", (2, 128, 64), 1), ("fashion", (1, 256, 176), 2)])
def test_generator_computes_the_published_images(shared, tmp_path, name, size, step):
    torch.save(complete_state(shared, f"patn_{name}_state.json"), tmp_path / "latest_net_netG.pth")
    generator = load_published(tmp_path / "latest_net_netG.pth")
    with torch.no_grad():
        image = generator(*golden_inputs(*size))[:, :, ::step, ::step].numpy()
    golden = np.load(shared / "golden" / "patn_generator.npz")[f"{name}_output"]
    assert np.abs(image - golden).max() < 1e-4


@pytest.mark.parametrize("name", ["market", "fashion"])
def test_a_file_saved_by_the_pytorch_of_its_time_gives_the_same_generator(shared, tmp_path, name):
    state = complete_state(shared, f"patn_{name}_state.json")
    torch.save(legacy(state), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    old, new = load_published(tmp_path / "old.pth").state_dict(), from_published(state).state_dict()
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in new)


def test_a_file_that_does_not_fit_is_refused_with_every_name(shared):
    state = complete_state(shared, "patn_market_state.json")
    del state["model.att.2.conv_block_stream2.6.weight"]
    state["model.att.0.gamma"] = torch.zeros(1)
    state["model.stream1_up.1.running_mean"] = torch.zeros(4)
    state["model.stream1_up.0.running_mean"] = torch.zeros(4)  # of a convolution
    with pytest.raises(PublishedMismatch, match=r"published PatnGenerator \(batch norm\)") as refusal:
        from_published(state)
    lines = str(refusal.value).splitlines()
    assert lines[1:] == [
        "  missing (our names): blocks.2.shape.6.weight",
        "  unexpected: model.att.0.gamma, model.stream1_up.0.running_mean",
        "  mis-shaped: decoder.1.running_mean (4,) instead of (128,)",
    ]


def test_an_xinggan_checkpoint_is_refused(shared):
    with pytest.raises(PublishedMismatch, match=r"unexpected: .*model\.att\.0\.query_conv\.weight"):
        from_published(complete_state(shared, "xing_market_state.json"))


def test_size_and_cost_are_the_published_ones():
    from torch.utils.flop_counter import FlopCounterMode

    generator = PatnGenerator().eval()
    assert sum(p.numel() for p in generator.parameters()) == pytest.approx(41.4e6, abs=0.05e6)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        generator(*golden_inputs(1, 128, 64))
    assert counter.get_total_flops() / 2 == pytest.approx(22.5e9, abs=0.05e9)


def test_appearance_changes_only_where_the_shape_code_attends():
    block = TransferBlock(8, Norm.instance, dropout=0.0, first=True)
    torch.nn.init.zeros_(block.shape[-1].weight)
    appearance, shape = torch.randn(2, 8, 6, 4), torch.randn(2, 8, 6, 4)
    change = block.appearance(appearance)
    for logit in (-1.0, 3.0):
        torch.nn.init.constant_(block.shape[-1].bias, logit)
        moved, code = block(appearance, shape)
        torch.testing.assert_close(moved, appearance + change / (1 + math.exp(-logit)))
        assert torch.equal(code, torch.cat([torch.full_like(shape, logit), moved], dim=1))


@pytest.mark.parametrize("norm", list(Norm))
def test_training_resumes_exactly(people, tmp_path, norm):
    assert_resumes_exactly(lambda seed: patn(norm=norm, seed=seed), people, tmp_path)


@pytest.fixture(scope="module")
def trained(people):
    """A small PATN after 30 steps on four pairs, and its L1 loss at each."""
    torch.manual_seed(0)
    method = PATN(width=8, blocks=2, dropout=0.0, learning_rate=2e-3, history=3).train()
    batch = people.train.batch(range(4))
    return method, [method.training_step(batch, step)["l1"].item() for step in range(30)]


def test_training_brings_the_generated_image_closer_to_the_target(trained):
    _, losses = trained
    assert losses[-1] < losses[0] / 2


def test_images_do_not_depend_on_their_batch(people, trained):
    assert_images_do_not_depend_on_their_batch(trained[0], people)


def test_loss_terms_are_weighted_as_published(people):
    """Terms with the default weights are 5/2, 5/2, 10 and 10 times those with weights of 1."""
    batch = people.train.batch(range(4))

    def terms(losses):
        torch.manual_seed(0)
        return patn(losses=losses).train().training_step(batch, 0)

    published, plain = terms(None), terms(LossWeights(adversarial=1, l1=1, perceptual=1))
    for name, weight in (("adversarial_appearance", 5), ("adversarial_shape", 5), ("l1", 10), ("perceptual", 10)):
        assert published[name].item() == pytest.approx(weight * plain[name].item(), rel=1e-4)


def test_the_configuration_has_the_published_weights_and_builds_the_method():
    from hydra.utils import instantiate

    market = compose(["method=patn", "preset=paper", "dataset=market1501", "dataset.root=."]).losses
    assert (market.adversarial, market.l1, market.perceptual, market.adversarial_kind) == (5, 10, 10, "bce")
    assert len(instantiate(compose(["method=patn", "preset=smoke"]).method).generator.blocks) == 2


@pytest.mark.parametrize(
    ("wrong", "said"), [({"blocks": 0}, "blocks=0"), ({"width": 3}, "width=3"), ({"dropout": 1.0}, "dropout=1.0")]
)
def test_numbers_out_of_range_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        PatnGenerator(**wrong)
