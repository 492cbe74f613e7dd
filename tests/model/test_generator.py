"""Generators: sizes as published, every combination of switches, golden outputs of the published code."""

import itertools

import numpy as np
import pytest
import torch
from golden import SALT, golden_weights, state_shapes

from xinggan.distributed import Processes
from xinggan.model.blocks import Dropout, StochasticDepth, initialise_generator
from xinggan.model.discriminator import APPEARANCE_INPUTS, SHAPE_INPUTS, Discriminator
from xinggan.model.generator import XingGenerator
from xinggan.model.switches import Attention, Branches, Fusion, Norm, Scale, XingGANSettings, xinggan


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def inputs(height=32, width=16, batch=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    image = torch.rand(batch, 3, height, width, generator=g) * 2 - 1
    return image, torch.rand(batch, 18, height, width, generator=g), torch.rand(batch, 18, height, width, generator=g)


def test_xinggan_has_exactly_the_published_number_of_parameters():
    assert parameters(XingGenerator(xinggan())) == 44_853_189
    assert parameters(XingGenerator(xinggan(norm=Norm.instance))) == 44_844_634


def test_xinggan_at_128x64_takes_the_published_multiply_accumulates():
    from torch.utils.flop_counter import FlopCounterMode

    generator = XingGenerator(xinggan()).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        generator(*inputs(128, 64, batch=1))
    assert counter.get_total_flops() / 2 == pytest.approx(28.0e9, rel=0.005)


COMBINATIONS = list(itertools.product(Scale, Attention, Fusion, Branches))


@pytest.mark.parametrize(("scale", "attention", "fusion", "branches"), COMBINATIONS)
def test_every_combination_of_switches_trains_or_is_refused_with_a_reason(scale, attention, fusion, branches):
    switches = {"scale": scale, "attention": attention, "fusion": fusion, "branches": branches}
    small = {"blocks": 2, "width": 4, "candidates": 2, "pyramid": (1, 3), "code_size": (8, 4)}
    if attention == Attention.none and (scale == Scale.single or branches == Branches.appearance):
        with pytest.raises(ValueError, match=r"nothing to act on|never reach the image"):
            XingGANSettings(**switches, **small)
        return
    generator = XingGenerator(XingGANSettings(**switches, **small))
    generated = generator(*inputs())
    assert generated.shape == (2, 3, 32, 16)
    assert generated.abs().max() <= 1
    generated.square().mean().backward()
    unused = [name for name, p in generator.named_parameters() if p.grad is None]
    if branches == Branches.appearance:  # the last shape code is not decoded, but it guided the appearance
        unused = [name for name in unused if "appearance_guided" not in name]
    assert not unused, "every parameter of a variant takes part in its output"


def test_at_initialisation_all_attention_variants_are_the_same_function():
    outputs = []
    for scale, attention in (("single", "plain"), ("single", "enhanced"), ("multi", "plain"), ("multi", "enhanced")):
        chosen = {"scale": Scale(scale), "attention": Attention(attention), "fusion": Fusion.dense}
        generator = XingGenerator(XingGANSettings(**chosen, blocks=2, width=4)).eval()
        plain = XingGenerator(xinggan(fusion=Fusion.dense, blocks=2, width=4))
        initialise_generator(plain, 0)
        generator.load_state_dict(plain.state_dict(), strict=False)
        outputs.append(generator(*inputs()))
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(128, 64), (64, 44), (36, 20), (16, 16), (20, 52)])
def test_any_resolution_divisible_by_four_is_kept(height, width):
    generator = XingGenerator(XingGANSettings(blocks=1, width=4, candidates=1)).eval()
    assert generator(*inputs(height, width)).shape == (2, 3, height, width)


def test_a_resolution_that_does_not_fit_is_refused_with_what_is_accepted():
    with pytest.raises(ValueError, match="30x16: accepted are heights and widths divisible by 4"):
        XingGenerator(XingGANSettings(blocks=1, width=4))(*inputs(30, 16))


def test_all_wrong_numbers_are_named_at_once():
    with pytest.raises(ValueError, match=r"blocks=0.*width=3.*candidates=0.*pyramid"):
        XingGANSettings(blocks=0, width=3, candidates=0, pyramid=())


def test_untied_projections_give_each_attention_its_own():
    tied = XingGenerator(XingGANSettings(blocks=1, width=8))
    untied = XingGenerator(XingGANSettings(blocks=1, width=8, tie_projections=False))
    attention = untied.blocks[0].appearance_guided
    assert attention is not untied.blocks[0].shape_guided
    assert parameters(untied) - parameters(tied) == parameters(attention)


def test_generated_image_is_a_convex_combination_of_candidates_and_source():
    from xinggan.model.fusion import weighted_sum

    g = torch.Generator().manual_seed(0)
    candidates, source = torch.randn(2, 9, 4, 4, generator=g), torch.randn(2, 3, 4, 4, generator=g)
    attention = torch.softmax(torch.randn(2, 4, 4, 4, generator=g), 1)
    expected = source * attention[:, 3:]
    for k in range(3):
        expected = expected + candidates[:, 3 * k : 3 * k + 3] * attention[:, k : k + 1]
    torch.testing.assert_close(weighted_sum(candidates, source, attention), expected)


@pytest.mark.parametrize("kind", [Dropout, StochasticDepth])
def test_shared_dropout_drops_in_parts_what_one_process_would_drop_in_all(kind):
    features = torch.ones(4, 3, 5, 5)
    dropout = kind(0.5)
    torch.manual_seed(0)
    whole = dropout(features)
    parts = []
    for process in range(2):
        torch.manual_seed(0)
        with Processes(process, 2).active():
            parts.append(dropout(features[2 * process : 2 * process + 2]))
    assert torch.equal(torch.cat(parts), whole)
    assert set(whole.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(dropout.eval()(features), features)


@pytest.mark.parametrize("kind", ["market_appearance", "market_shape", "fashion_appearance"])
def test_discriminator_reproduces_the_published_scores(shared, kind):
    dataset, looked_at = kind.split("_")
    weights = golden_weights(state_shapes(shared, f"xing_discriminator_{kind}_state.json"))
    norm = Norm.batch if dataset == "market" else Norm.instance
    inputs_of = {"appearance": APPEARANCE_INPUTS, "shape": SHAPE_INPUTS}
    discriminator = Discriminator(inputs_of[looked_at], width=64, norm=norm, dropout=0.5).eval()
    own = [name for name in discriminator.state_dict() if not name.endswith("num_batches_tracked")]
    discriminator.load_state_dict(dict(zip(own, weights.values(), strict=True)), strict=False)
    image = (
        torch.rand(
            1, (6 if looked_at == "appearance" else 21), 64, 48, generator=torch.Generator().manual_seed(SALT + 1)
        )
        * 2
        - 1
    )
    with torch.no_grad():
        scores = discriminator(image)
    if dataset == "market":
        scores = scores.sigmoid()
    golden = np.load(shared / "golden" / "xing_discriminator.npz")[kind]
    assert np.abs(scores[:, ::4].numpy() - golden).max() < 1e-4
