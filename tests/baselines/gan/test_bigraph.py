"""BiGraphGAN: the published generator's function and size, graph reasoning by sums."""

import numpy as np
import pytest
import torch
from golden import complete_state, golden_inputs

from baselines.gan.bigraph import BipartiteGraphReasoning, from_published


@pytest.mark.parametrize(
    ("name", "size", "step", "parameters"),
    [("market", (2, 128, 64), 1, 42_476_995), ("fashion", (1, 256, 176), 2, 42_100_483)],
)
def test_generator_computes_the_published_images(shared, name, size, step, parameters):
    """DeepFashion's has no image fusion."""
    generator = from_published(complete_state(shared, f"bigraph_{name}_state.json"))
    assert sum(p.numel() for p in generator.parameters()) == parameters
    with torch.no_grad():
        image = generator(*golden_inputs(*size))[:, :, ::step, ::step].numpy()
    golden = np.load(shared / "golden" / "bigraph_generator.npz")[f"{name}_output"]
    assert np.abs(image - golden).max() < 1e-4


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
                normed = (returned - weights["norm.running_mean"]) / np.sqrt(weights["norm.running_var"] + 1e-4)
                change = normed * weights["norm.weight"] + weights["norm.bias"]
                out[side * channels : (side + 1) * channels, *p] = own[:, *p] + change
    return result


def test_graph_reasoning_equals_sums_over_positions_and_nodes():
    torch.manual_seed(0)
    unit = BipartiteGraphReasoning(channels=6, nodes=4).eval()
    unit.norm.running_mean.normal_()
    unit.norm.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(unit.norm.weight)
    code = torch.randn(2, 12, 3, 5)
    with torch.no_grad():
        reasoned = unit(code).double().numpy()
    expected = sums_over_positions_and_nodes(unit, code)
    np.testing.assert_allclose(reasoned, expected, atol=1e-5)
    assert np.abs(expected - code.numpy()).max() > 0.1
