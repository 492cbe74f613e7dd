"""BiGraphGAN: graph reasoning against a literal version, PATN underneath, image fusion, training in the harness."""

import math

import numpy as np
import pytest
import torch
from method_promises import assert_images_do_not_depend_on_their_batch, assert_resumes_exactly

from ablations.config import ConfigurationError, compose
from baselines.gan.bigraph import BiGraph, BipartiteGraphReasoning, FusionMaps, GraphBlock, GraphGenerator
from baselines.gan.patn import PatnGenerator, TransferBlock
from xinggan.model.switches import LossWeights, Norm


def bigraph(**changes):
    return BiGraph(width=4, blocks=2, history=3, **changes)


def sums_over_positions_and_nodes(unit, code):
    """The reasoning written as sums over single positions and nodes, in double precision. code: [B, 2C, h, w]."""
    weights = {name: tensor.double().numpy() for name, tensor in unit.state_dict().items()}

    def pointwise(name, vector):
        return weights[f"{name}.weight"][:, :, 0, 0] @ vector + weights.get(f"{name}.bias", 0)

    code, result = code.double().numpy(), np.empty(code.shape)
    channels = code.shape[1] // 2
    nodes = len(weights["project.bias"])
    positions = [(row, column) for row in range(code.shape[2]) for column in range(code.shape[3])]
    for image, out in zip(code, result, strict=True):
        for side in range(2):
            own = image[side * channels : (side + 1) * channels]
            other = image[(1 - side) * channels : (2 - side) * channels]
            belongs = {p: pointwise("project", other[:, *p]) for p in positions}  # to each node, by the other side
            graph = [sum(belongs[p][k] * pointwise("state", own[:, *p]) for p in positions) for k in range(nodes)]
            edges, bias = weights[f"reasoning.{side}.adjacency.weight"], weights[f"reasoning.{side}.adjacency.bias"]
            passed = [graph[k] + sum(edges[k, j] * graph[j] for j in range(nodes)) + bias[k] for k in range(nodes)]
            updated = [weights[f"reasoning.{side}.update.weight"] @ np.maximum(state, 0) for state in passed]
            for p in positions:
                returned = pointwise("extend", sum(belongs[p][k] * updated[k] for k in range(nodes)))
                mean, variance = weights["norm.running_mean"], weights["norm.running_var"]
                normed = (returned - mean) / np.sqrt(variance + unit.norm.eps)
                change = normed * weights["norm.weight"] + weights["norm.bias"]
                out[side * channels : (side + 1) * channels, *p] = own[:, *p] + change
    return result


def test_graph_reasoning_equals_sums_over_positions_and_nodes():
    torch.manual_seed(0)
    unit = BipartiteGraphReasoning(channels=6, nodes=4, norm=Norm.batch).eval()
    unit.norm.running_mean.normal_()
    unit.norm.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(unit.norm.weight)
    code = torch.randn(2, 12, 3, 5)
    with torch.no_grad():
        reasoned = unit(code).double().numpy()
    expected = sums_over_positions_and_nodes(unit, code)
    np.testing.assert_allclose(reasoned, expected, atol=1e-5)
    assert np.abs(expected - code.numpy()).max() > 0.1


def test_without_the_graph_a_block_is_patns():
    torch.manual_seed(0)
    block = GraphBlock(8, Norm.batch, dropout=0.0, first=False)
    torch.nn.init.zeros_(block.graph.norm.weight)
    patns = TransferBlock(8, Norm.batch, dropout=0.0, first=False)
    patns.load_state_dict({name: t for name, t in block.state_dict().items() if not name.startswith("graph")})
    appearance, shape = torch.randn(2, 8, 6, 4), torch.randn(2, 16, 6, 4)
    for ours, theirs in zip(block(appearance, shape), patns(appearance, shape), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_graph_has_the_published_size():
    """PATN's generator, a unit of 128 channels and 64 nodes a block, and the three layers of the fusion maps."""
    graph = 2 * (64 * 64 + 64 + 128 * 128)  # one reasoning each way
    unit = (128 * 128 + 128) + (128 * 64 + 64) + graph + 128 * 128 + 2 * 128
    maps = 256 * 128 * 9 + 128 * 64 * 9 + 64 * 2
    sizes = [sum(p.numel() for p in generator().parameters()) for generator in (PatnGenerator, GraphGenerator)]
    assert sizes[1] - sizes[0] == 9 * unit + maps


def test_fusion_weighs_generated_and_source_image():
    torch.manual_seed(0)
    fused, plain = (GraphGenerator(4, 1, Norm.instance, 0.0, image_fusion=fusion) for fusion in (True, False))
    plain.load_state_dict({name: t for name, t in fused.state_dict().items() if not name.startswith("fusion")})
    source, maps = torch.rand(2, 3, 32, 16) * 2 - 1, torch.rand(2, 18, 32, 16)
    generated, last = plain(source, maps, maps), fused.fusion[2]
    torch.nn.init.zeros_(last.weight)
    for logit, share in ((0.0, 0.5), (50.0, 1.0), (-50.0, 0.0), (math.log(3), 0.75)):
        last.bias.data = torch.tensor([logit, 0.0])
        torch.testing.assert_close(fused(source, maps, maps), share * generated + (1 - share) * source)
    assert FusionMaps(16, 4, Norm.batch)(torch.randn(1, 16, 4, 8)).sum(dim=1).allclose(torch.ones(1, 16, 32))


@pytest.mark.parametrize("norm", list(Norm))
def test_training_resumes_exactly(people, tmp_path, norm):
    assert_resumes_exactly(lambda seed: bigraph(norm=norm, seed=seed), people, tmp_path)


@pytest.fixture(scope="module")
def trained(people):
    """A small BiGraphGAN after 30 steps on four pairs, and its L1 loss at each."""
    torch.manual_seed(0)
    method = BiGraph(width=8, blocks=2, dropout=0.0, learning_rate=2e-3, history=3).train()
    batch = people.train.batch(range(4))
    return method, [method.training_step(batch, step)["l1"].item() for step in range(30)]


def test_training_brings_the_generated_image_closer_to_the_target(trained):
    _, losses = trained
    assert losses[-1] < losses[0] / 2


def test_images_do_not_depend_on_their_batch(people, trained):
    assert_images_do_not_depend_on_their_batch(trained[0], people)


@pytest.mark.parametrize("size", [(64, 32), (128, 64), (256, 176), (20, 16)])
def test_images_of_all_sizes_come_back_in_their_size(size):
    with torch.no_grad():
        image = GraphGenerator(4, 1)(torch.zeros(2, 3, *size), *torch.rand(2, 2, 18, *size))
    assert image.shape == (2, 3, *size)


def test_the_configuration_has_the_published_weights_and_builds_the_method():
    from hydra.utils import instantiate

    for dataset, fused in (("market1501", True), ("deepfashion", False)):
        config = compose(["method=bigraph", "preset=paper", f"dataset={dataset}", "dataset.root=."])
        assert (config.losses.adversarial, config.losses.l1, config.losses.perceptual) == (5, 10, 10)
        assert config.method.image_fusion is fused
    smoke = instantiate(compose(["method=bigraph", "preset=smoke", "losses.l1=7"]).method)
    assert (len(smoke.generator.blocks), smoke.losses.l1) == (2, 7)
    assert BiGraph(width=4, blocks=1).settings.losses == LossWeights(adversarial=5, l1=10, perceptual=10)


def test_numbers_out_of_range_are_refused_together():
    with pytest.raises(ValueError, match=r"blocks=0.*width=3.*dropout=1.*fusion=yes: accepted are true"):
        GraphGenerator(width=3, blocks=0, dropout=1.0, image_fusion="yes")


def test_settings_that_it_has_not_are_refused():
    with pytest.raises(ConfigurationError, match=r"fusion: not a setting of method=bigraph"):
        compose(["method=bigraph", "fusion=dense"])
