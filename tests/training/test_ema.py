"""The moving average against its recurrence."""

import torch
from torch import nn

from xinggan.model.generator import XingGenerator
from xinggan.model.switches import XingGANSettings
from xinggan.training.ema import MovingAverage


def test_average_equals_the_recurrence():
    module = nn.Linear(1, 1, bias=False)
    average = MovingAverage([module], 0.9)
    expected = module.weight.item()
    for step in range(30):
        module.weight.data.fill_(float(step))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    with average.applied():
        assert abs(module.weight.item() - expected) < 1e-5
    assert module.weight.item() == 29


def test_weights_come_back_bit_for_bit_with_tied_attention_and_batch_statistics():
    generator = XingGenerator(XingGANSettings(blocks=2, width=4))
    average = MovingAverage([generator], 0.5)
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    for parameter in generator.parameters():
        parameter.data += 1
    average.update(1000)
    changed = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    with average.applied():
        halfway = generator.state_dict()
        for name in dict(generator.named_parameters()):
            torch.testing.assert_close(halfway[name], (before[name] + changed[name]) / 2)
    assert all(torch.equal(tensor, changed[name]) for name, tensor in generator.state_dict().items())


def test_decay_zero_evaluates_the_weights_themselves():
    module = nn.Linear(2, 2)
    average = MovingAverage([module], 0.0)
    average.update(0)
    kept = module.weight.clone()
    with average.applied():
        assert torch.equal(module.weight, kept)
    assert average.state() == []
