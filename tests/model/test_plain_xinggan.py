"""The generator and training step against the plain ones of `plain_xinggan`, which follow the published code."""

import pytest
import torch
from golden import golden_inputs
from plain_xinggan import PlainTraining, plain_generator
from torch import nn

from xinggan.data.batch import images_to_float
from xinggan.model.chain import InstanceNorm
from xinggan.model.generator import XingGenerator, initialise_generator, xinggan
from xinggan.model.switches import LossWeights, Norm
from xinggan.model.xing import XingGAN


def attentive(generator):
    """Weights drawn as for training, but with gammas at which attention counts."""
    initialise_generator(generator, 0)
    for name, parameter in generator.named_parameters():
        if name.endswith("gamma"):
            parameter.data.fill_(0.5)
    return generator.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("norm", list(Norm))
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_generator_equals_the_plain_one(norm, tied, training):
    generator = attentive(XingGenerator(xinggan(norm=norm, tie_projections=tied, width=8, blocks=3, dropout=0.0)))
    generator.train(training)
    inputs = golden_inputs(2, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(plain_generator(generator)(*inputs), generator(*inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", list(Norm))
def test_generator_in_bfloat16_is_as_near_to_float32_as_the_plain_one_is(norm):
    """An instance norm makes much of small differences: here the plain images are 0.06 apart in the mean."""
    generator = attentive(XingGenerator(xinggan(norm=norm, width=16, blocks=3))).eval()
    inputs, plain = golden_inputs(2, 64, 32), plain_generator(generator)
    with torch.no_grad():
        wanted = plain(*inputs)
        with torch.autocast("cpu", torch.bfloat16):
            ours, theirs = ((images.float() - wanted).abs().mean() for images in (generator(*inputs), plain(*inputs)))
    assert 0 < ours < 1.1 * theirs


@pytest.mark.parametrize("norm", list(Norm))
def test_three_training_steps_equal_the_plain_ones(people, norm):
    architecture = xinggan(norm=norm, width=8, blocks=2, dropout=0.0)
    method = XingGAN(architecture, LossWeights(), history=0, learning_rate=1e-4).train()
    attentive(method.generator)
    plain = PlainTraining(method)
    for step in range(3):
        batch = people.train.batch(range(4 * step, 4 * step + 4))
        source, target = images_to_float(batch.source_image), images_to_float(batch.target_image)
        maps = [method._maps(pose, source) for pose in (batch.source_pose, batch.target_pose)]
        expected, found = plain.step(source, *maps, target), method.training_step(batch, step)
        for name, loss in expected.items():
            torch.testing.assert_close(found[name], loss, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [(1, 6, 8, 4), (3, 6, 5, 7)])
def test_instance_norm_is_the_librarys_and_keeps_channels_last(shape):
    features = torch.randn(shape).to(memory_format=torch.channels_last).requires_grad_()
    ours, library = InstanceNorm(6)(features), nn.InstanceNorm2d(6)(features)
    torch.testing.assert_close(ours, library, atol=1e-5, rtol=1e-5)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    weights = torch.linspace(-1, 1, ours.numel()).view(shape)
    found, expected = (torch.autograd.grad((out * weights).sum(), features)[0] for out in (ours, library))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
