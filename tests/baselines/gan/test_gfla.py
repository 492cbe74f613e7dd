"""GFLA: the published size, sampling by flow fields against one place at a time, stages and losses."""

import numpy as np
import pytest
import torch

from baselines.gan.gfla import GFLA, affine_regularisation, sampling_correctness, style_loss
from baselines.gan.gfla_networks import (
    GflaGenerator,
    LocalAttention,
    image_discriminator,
    sources,
)
from baselines.gan.settings import GFLASettings
from xinggan.data.batch import images_to_float
from xinggan.model.losses import PerceptualLoss, adversarial_loss
from xinggan.model.switches import LossWeights


def test_size_is_the_published_one():
    assert sum(p.numel() for p in GflaGenerator().parameters()) == pytest.approx(14.04e6, abs=0.01e6)


def slow_sample(features, x, y):
    """features: [C, h, w] -> [C], bilinear; an index beyond the border is the border's."""
    _, height, width = features.shape
    left, top = int(np.floor(x)), int(np.floor(y))
    value = 0
    for row in (top, top + 1):
        for column in (left, left + 1):
            inside = features[:, min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
            value = value + (1 - abs(y - row)) * (1 - abs(x - column)) * inside
    return value


def slow_patch(features, x, y, size):
    """[C, n, n] around (x, y)."""
    reach = range(-(size // 2), size // 2 + 1)
    return np.stack([np.stack([slow_sample(features, x + i, y + j) for i in reach], axis=1) for j in reach], axis=1)


def maps(channels=3, height=6, width=5, seed=0):
    """Source and target features and a flow that also leaves the map."""
    random = torch.Generator().manual_seed(seed)
    source, target = torch.randn(2, 2, channels, height, width, generator=random, dtype=torch.float64)
    return source.float(), target.float(), 3 * torch.randn(2, 2, height, width, generator=random)


@pytest.mark.parametrize("size", [3, 5])
def test_local_attention_is_a_loop_over_places(size):
    """Each place alone: both patches through two fully connected layers, softmax, sum of the weighted patch."""
    torch.manual_seed(0)
    source, target, flow = maps()
    attention = LocalAttention(3, size, hidden=7)
    attended = attention(source, target, flow).detach().numpy()
    layers = [attention.target, attention.source, attention.kernel[1]]
    on_target, on_source, last = (layer.weight.detach().flatten(1).numpy() for layer in layers)
    first_bias, last_bias = (layer.bias.detach().numpy() for layer in (layers[0], layers[2]))
    for image, row, column in np.ndindex(2, 6, 5):
        x, y = column + flow[image, 0, row, column].item(), row + flow[image, 1, row, column].item()
        patch = slow_patch(source[image].numpy(), x, y, size)
        own = slow_patch(target[image].numpy(), column, row, size)
        hidden = on_target @ own.reshape(-1) + on_source @ patch.reshape(-1) + first_bias
        logits = last @ np.where(hidden > 0, hidden, 0.1 * hidden) + last_bias
        kernel = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        expected = (patch.reshape(3, -1) * kernel).sum(axis=1)
        np.testing.assert_allclose(attended[image, :, row, column], expected, atol=1e-5)


def test_sampling_correctness_is_the_papers_formula():
    source, target, flow = maps()
    losses = []
    for image, row, column in np.ndindex(2, 6, 5):
        features, wanted = source[image].numpy(), target[image, :, row, column].numpy()

        def cosine(found, wanted=wanted):
            return found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted)

        best = max(cosine(features[:, j, i]) for j, i in np.ndindex(6, 5))
        x, y = column + flow[image, 0, row, column].item(), row + flow[image, 1, row, column].item()
        losses.append(np.exp(-cosine(slow_sample(features, x, y)) / best))
    found = sampling_correctness(source, target, flow)
    assert found.item() == pytest.approx(np.mean(losses) - np.exp(-1), rel=1e-4)
    assert sampling_correctness(source, source, torch.zeros_like(flow)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("wanted", "width"), [(3, 5), (5, 5), (5, 3)])
def test_regularisation_is_the_residual_of_an_affine_fit_of_each_patch(wanted, width):
    """A map that is narrower than a patch has smaller ones."""
    flow, size, residuals = maps()[2][..., :width], min(wanted, width), []
    for image, row, column in np.ndindex(2, 7 - size, width + 1 - size):
        rows, columns = np.mgrid[row : row + size, column : column + size]
        design = np.stack([columns, rows, np.ones_like(rows)], axis=-1).reshape(-1, 3)
        points = sources(flow)[image, row : row + size, column : column + size].reshape(-1, 2).numpy()
        fitted = design @ np.linalg.lstsq(design, points, rcond=None)[0]
        residuals.append(((points - fitted) ** 2).sum())
    assert affine_regularisation(flow, wanted).item() == pytest.approx(np.mean(residuals), rel=1e-4)


def test_style_compares_gram_matrices():
    made, wanted = maps()[:2]
    grams = [np.einsum("bchw,bdhw->bcd", features.numpy(), features.numpy()) for features in (made, wanted)]
    assert style_loss(made, wanted).item() == pytest.approx(np.abs(grams[0] - grams[1]).mean() / (3 * 6 * 5), rel=1e-4)
    assert style_loss(made, made.flip(2, 3)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("size", [(16, 16), (20, 36)])
def test_flows_and_masks_are_those_of_the_padded_image(size):
    with torch.no_grad():
        _, flows = GflaGenerator(width=4).eval()(torch.rand(1, 3, *size), *torch.rand(2, 1, 18, *size))
        scores = image_discriminator(width=2, levels=4)(torch.rand(1, 3, *size))
    padded = [64 * -(-size[0] // 64), 32 * -(-size[1] // 32)]
    for halvings, (flow, mask) in zip((2, 3), flows, strict=True):
        assert [flow.shape[1], mask.shape[1]] == [2, 1]
        assert [*flow.shape[2:]] == [*mask.shape[2:]] == [length // 2**halvings for length in padded]
    assert scores.shape == (1, 1, size[0] // 16, size[1] // 16)


def test_where_the_mask_is_0_the_source_image_does_not_reach_the_image():
    generator = GflaGenerator(width=4).eval()
    source, maps = torch.rand(2, 1, 3, 64, 32), torch.rand(2, 1, 18, 64, 32)
    changes = []
    for logit in (-1e4, 1e4):
        for mask in generator.flow.mask:
            torch.nn.init.constant_(mask.bias, logit)
        with torch.no_grad():
            changes.append((generator(source[0], *maps)[0] - generator(source[1], *maps)[0]).abs().max().item())
    assert changes[0] == 0
    assert changes[1] > 1e-4


def test_losses_are_weighted_as_set(people):
    weights = LossWeights(adversarial=2, l1=3, perceptual=5, adversarial_kind="lsgan")
    method = GFLA(GFLASettings(width=4, losses=weights, style=7))
    batch = people.train.batch(range(4))
    generated = method.generate_pairs(batch, torch.zeros(4, dtype=torch.int64))
    target, look = images_to_float(batch.target_image), PerceptualLoss().features
    terms = method.training_step(batch, 0)
    assert terms["l1"].item() == pytest.approx(3 * (generated - target).abs().mean().item(), rel=1e-4)
    seen, wanted = look(generated), look(target)
    assert terms["perceptual"].item() == pytest.approx(5 * (seen - wanted).abs().mean().item(), rel=1e-4)
    assert terms["style"].item() == pytest.approx(7 * style_loss(seen, wanted).item(), rel=1e-4)
    scores = method.discriminator.eval()(generated)  # after its step, which is the first
    assert terms["adversarial"].item() == pytest.approx(2 * adversarial_loss(scores, True, "lsgan").item(), rel=0.05)
