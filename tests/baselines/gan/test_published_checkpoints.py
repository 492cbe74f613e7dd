"""Published checkpoints of every GAN baseline, found by the method's name, generate without training."""

import pytest
import torch
from golden import complete_state, named_state

from baselines.gan.blocks import without_second_names
from xinggan.trained import load_published_method

FASHION, MARKET = (256, 176), (128, 64)
FILES = [  # method, its state, the formula of its golden weights, size of its training images, prefix of the names
    ("patn", "patn_market_state.json", complete_state, MARKET, ""),
    ("bigraph", "bigraph_fashion_state.json", complete_state, FASHION, "module."),
    ("bigraph", "bigraph_market_state.json", complete_state, MARKET, ""),
    ("gfla", "gfla_fashion_state.json", named_state, FASHION, "module."),
    ("gfla", "gfla_market_state.json", named_state, MARKET, ""),
    ("dptn", "dptn_state.json", named_state, FASHION, ""),
    ("nted", "nted_small_state.json", named_state, FASHION, "module."),
]


@pytest.mark.parametrize(("method", "file", "weights", "size", "prefix"), FILES, ids=[row[1] for row in FILES])
def test_a_published_checkpoint_generates_by_the_methods_name(
    shared, tmp_path, people, method, file, weights, size, prefix
):
    state = weights(shared, file) if weights is complete_state else weights(shared, file, method)
    state = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    torch.save({"net_G_ema": state} if method == "nted" else state, tmp_path / "net.pth")
    trained = load_published_method(tmp_path / "net.pth", method)
    assert (trained.height, trained.width) == size
    seeds = torch.zeros(2, dtype=torch.int64)
    together = trained.method.generate_pairs(people.test.batch([0, 1]), seeds)
    alone = trained.method.generate_pairs(people.test.batch([1]), seeds[:1])
    torch.testing.assert_close(together[1:], alone, atol=1e-3, rtol=0)  # GFLA norms 2 places of these small images
    assert together.shape == (2, 3, 32, 16)
    assert together.std() > 0.01
    assert together.abs().max() <= 1


def test_tensors_with_two_names_are_taken_once(shared):
    names = without_second_names(named_state(shared, "gfla_fashion_state.json", "gfla")).keys()
    assert {"target.outconv.model.2.weight", "flow_net.jump0.model.2.bias"} <= names
    assert not any("conv1" in name for name in names)
