"""GFLA: the published networks, operations and losses by golden data; sampling by flow fields one place at a time."""

import numpy as np
import pytest
import torch
from golden import assert_golden, named_state, normalised_discriminator, numbers, picture, vgg19_layers
from torch import nn

from baselines.gan import feature_losses
from baselines.gan.blocks import ImageDiscriminator
from baselines.gan.feature_losses import FeatureLosses, style_loss
from baselines.gan.gfla import GFLA, affine_regularisation, from_published, sample_gaussian, sampling_correctness
from baselines.gan.gfla_networks import GflaGenerator, LocalAttention, local_patches, sources
from baselines.gan.settings import GFLASettings
from xinggan.data.batch import images_to_float
from xinggan.model.losses import PerceptualLoss, adversarial_loss
from xinggan.model.published import PublishedMismatch
from xinggan.model.switches import LossWeights
from xinggan.timing.counts import operations

SETS = [("fashion", (1, 256, 256), 4, 2, 14_047_395, 20.5e9), ("market", (2, 128, 64), 2, 1, 12_926_471, 2.2e9)]


def state_of(shared, name):
    """The published state dict with golden weights; two names of one tensor have the first's."""
    state = named_state(shared, f"gfla_{name}_state.json", f"gfla_{name}")
    twice = {
        key: key.replace(".model.2.", ".conv1.") for key in state if key.split(".")[1] in ("outconv",) or "jump" in key
    }
    return state | {key: state[first] for key, first in twice.items() if key != first}


@pytest.mark.parametrize(("name", "size", "step", "flow_step", "parameters", "macs"), SETS)
def test_generator_computes_the_published_images_flows_and_masks(shared, name, size, step, flow_step, parameters, macs):
    generator = from_published(state_of(shared, name))
    assert sum(p.numel() for p in generator.parameters()) == parameters
    batch, height, width = size
    poses = [
        numbers(f"gfla_{name}/{kind}_pose", (batch, 18, height, width), torch.rand) for kind in ("source", "target")
    ]
    source = picture(f"gfla_{name}/source", *size)
    with torch.no_grad():
        image, flows = generator(source, *poses)
        assert operations(generator, lambda: generator(source, *poses)) / 2 / batch == pytest.approx(macs, rel=0.02)
    golden = np.load(shared / "golden" / "gfla_generator.npz")
    assert_golden(image[..., ::step, ::step], golden[f"{name}_image"])
    for flow, mask in flows:
        kept = flow_step if flow.shape[-1] == 64 else 1
        for kind, found in (("flow", flow), ("mask", mask)):
            where = f"{name}_{kind}_{flow.shape[2]}x{flow.shape[3]}"
            assert_golden(found[..., ::kept, ::kept], golden[where])


@pytest.mark.parametrize(("method", "plain"), [("gfla", False), ("dptn", True)])
@pytest.mark.parametrize(("name", "levels", "size"), [("fashion", 4, (1, 256, 256)), ("market", 3, (2, 128, 64))])
def test_discriminator_computes_the_published_scores(shared, method, plain, name, levels, size):
    state = normalised_discriminator(
        shared, f"{method}_{name}_discriminator_state.json", f"{method}_{name}_discriminator"
    )
    own = {}
    for key, tensor in state.items():
        block, *inner, kind = key.split(".")
        place = {"block0": 0, "conv": levels + 1}.get(block, int(block[-1]) + 1 if block.startswith("encoder") else 0)
        layer = ".".join([str(place), *(part.replace("model", "block") for part in inner)])
        new = {"weight_orig": "parametrizations.weight.original", "weight_u": "parametrizations.weight.0._u"}
        new |= {"weight_v": "parametrizations.weight.0._v", "bias": "bias"}
        own[f"{layer}.{new[kind]}"] = tensor
    discriminator = ImageDiscriminator(levels=levels, plain=plain).eval()
    discriminator.load_state_dict(own)
    with torch.no_grad():
        scores = discriminator(picture(f"{method}_{name}/source", *size))
    assert_golden(scores, np.load(shared / "golden" / f"{method}_generator.npz")[f"{name}_scores"])


def test_operations_are_the_published_ones(shared):
    golden = np.load(shared / "golden" / "gfla_operations.npz")
    source, target = (numbers(f"gfla_ops/{kind}", (1, 8, 12, 10)) for kind in ("source", "target"))
    flow = 3 * numbers("gfla_ops/flow", (1, 2, 12, 10))
    for size in (3, 5):
        patches = local_patches(source[:, :2], flow, size).unflatten(2, (size, size))  # [1, 2, j, i, h, w]
        blocks = patches.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
        assert_golden(blocks, golden[f"op_blocks_{size}"])
        attention = LocalAttention(8, size)
        for layer, place in ((attention.patches, 0), (attention.kernel[1], 2)):
            name = f"gfla_ops.attention_{size}.fully_connect_layer.{place}"
            r = numbers(f"{name}.weight", layer.weight.shape)
            layer.weight.data = r * np.prod(r.shape[1:]) ** -0.5
            layer.bias.data = 0.1 * numbers(f"{name}.bias", layer.bias.shape)
        assert_golden(attention(source, target, flow).detach(), golden[f"op_attention_{size}"])
    assert_golden(sample_gaussian(source, sources(flow)), golden["op_gaussian_4_sigma_2"])

    target, source = (numbers(f"gfla_ops/features_{kind}", (2, 64, 16, 12)).relu() for kind in ("target", "source"))
    flow = 2 * numbers("gfla_ops/feature_flow", (2, 2, 16, 12))
    found = {"op_correctness": sampling_correctness(source, target, flow), "op_style": style_loss(source, target)}
    found |= {f"op_regularisation_{size}": affine_regularisation(flow, size) for size in (3, 5)}
    for name, value in found.items():
        assert value.item() == pytest.approx(float(golden[name]), rel=2e-5), name


@pytest.fixture
def golden_vgg19(monkeypatch):
    monkeypatch.setattr(feature_losses, "vgg19", lambda kind: (vgg19_layers(), "golden"))


def test_losses_look_through_vgg19_like_the_published_ones(shared, golden_vgg19):
    """Each term alone: the weights of the others are 0."""
    golden = np.load(shared / "golden" / "gfla_losses.npz")
    generated, target, source = (
        picture(f"gfla_losses/{kind}", 1, 256, 256) for kind in ("generated", "target", "source")
    )
    flows = [(2 * numbers(f"gfla_losses/flow_{size}", (1, 2, size, size)), None) for size in (64, 32)]
    weights = LossWeights(l1=1, perceptual=1, perceptual_network="vgg19")
    method = GFLA(GFLASettings(width=4, losses=weights, style=1, correctness=1, regularisation=1))
    with torch.no_grad():
        seen_source, seen_target = method.features(source), method.features(target)
        found = method.flow_losses(flows, seen_source, seen_target)
        found |= method.image_losses(generated, target, seen_target)
    for name, of in (("content", "perceptual"), ("style", "style"), ("correctness", "correctness")):
        assert found[of].item() == pytest.approx(float(golden[f"loss_{name}"]), rel=2e-5), name
    assert found["regularisation"].item() == pytest.approx(float(golden["loss_regularisation"]), rel=2e-5)
    assert found["l1"].item() == pytest.approx((generated - target).abs().mean().item(), rel=1e-5)


def test_the_title_says_which_network_the_losses_look_through():
    assert GFLASettings().caveat == "embedded losses"
    assert GFLASettings(losses=LossWeights(perceptual_network="vgg19")).caveat == ""


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


def test_local_attention_is_a_loop_over_places():
    """Each place alone: both patches through two fully connected layers, softmax, mean of the weighted patch."""
    random, size = torch.Generator().manual_seed(0), 3
    torch.manual_seed(0)
    source, target = torch.randn(2, 2, 3, 6, 5, generator=random)
    flow = 3 * torch.randn(2, 2, 6, 5, generator=random)
    attention = LocalAttention(3, size, hidden=7)
    attended = attention(source, target, flow).detach().numpy()
    first, last = (layer.weight.detach().flatten(1).numpy() for layer in (attention.patches, attention.kernel[1]))
    first_bias, last_bias = (layer.bias.detach().numpy() for layer in (attention.patches, attention.kernel[1]))

    def patch(features, x, y):
        reach = range(-(size // 2), size // 2 + 1)
        return np.stack([np.stack([slow_sample(features, x + i, y + j) for i in reach], axis=1) for j in reach], axis=1)

    for image, row, column in np.ndindex(2, 6, 5):
        x, y = column + flow[image, 0, row, column].item(), row + flow[image, 1, row, column].item()
        there, own = patch(source[image].numpy(), x, y), patch(target[image].numpy(), column, row)
        hidden = first @ np.concatenate([own.reshape(-1), there.reshape(-1)]) + first_bias
        logits = last @ np.where(hidden > 0, hidden, 0.1 * hidden) + last_bias
        kernel = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        expected = (there.reshape(3, -1) * kernel).mean(axis=1)
        np.testing.assert_allclose(attended[image, :, row, column], expected, atol=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (20, 36)])
def test_flows_and_masks_are_those_of_the_padded_image(size):
    with torch.no_grad():
        _, flows = GflaGenerator(width=4).eval()(torch.rand(1, 3, *size), *torch.rand(2, 1, 18, *size))
        scores = ImageDiscriminator(width=2, levels=4)(torch.rand(1, 3, *size))
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
            nn.init.constant_(mask.bias, logit)
        with torch.no_grad():
            changes.append((generator(source[0], *maps)[0] - generator(source[1], *maps)[0]).abs().max().item())
    assert changes[0] == 0
    assert changes[1] > 1e-4


def test_embedded_losses_are_weighted_as_set(people):
    """Of the flow's losses the first stage has four times what the second has."""
    weights = LossWeights(adversarial=2, l1=3, perceptual=5, adversarial_kind="lsgan")
    method = GFLA(GFLASettings(width=4, losses=weights, style=7))
    batch = people.train.batch(range(4))
    generated = method.generate_pairs(batch, torch.zeros(4, dtype=torch.int64))
    target, look = images_to_float(batch.target_image), PerceptualLoss().features
    terms = method.training_step(batch, 0)
    assert terms["l1"].item() == pytest.approx(3 * (generated - target).abs().mean().item(), rel=1e-4)
    seen, wanted = look(generated), look(target)
    assert terms["perceptual"].item() == pytest.approx(5 * (seen - wanted).abs().mean().item(), rel=1e-4)
    assert terms["style"].item() == pytest.approx(0.07 * style_loss(seen, wanted).item(), rel=1e-4)
    scores = method.discriminator.eval()(generated)  # after its step, which is the first
    assert terms["adversarial"].item() == pytest.approx(2 * adversarial_loss(scores, True, "lsgan").item(), rel=0.05)
    flow_alone = GFLA(GFLASettings(width=4, losses=weights, flow_share=0.5))
    flow_alone.planned_steps = 2
    assert flow_alone.training_step(batch, 0)["correctness"] == pytest.approx(4 * terms["correctness"].item(), rel=1e-4)


def test_augmentation_moves_source_and_target_by_shares_of_one_draw(people):
    """Joints stay on the pixels they were on."""
    method = GFLA(GFLASettings(width=4, augmentation=True))
    torch.manual_seed(0)
    batch = people.train.batch(range(4))
    source, target, poses = method.training_images(batch)
    assert source.shape == target.shape == batch.source_image.shape
    for before, after in zip((batch.source_pose, batch.target_pose), poses, strict=True):
        assert torch.equal(before[..., 2], after[..., 2])
        moved = (after[..., :2] - before[..., :2])[before[..., 2] > 0]
        assert 0.01 < moved.abs().max() < 9


def test_a_file_that_does_not_fit_is_refused_and_told_whose_it_is(shared):
    state = state_of(shared, "market")
    del state["flow_net.output2.bias"]
    with pytest.raises(PublishedMismatch, match=r"missing \(our names\): flow\.flow\.0\.bias"):
        from_published(state)
    with pytest.raises(PublishedMismatch, match=r"the file's names are those of method=dptn"):
        from_published(named_state(shared, "dptn_state.json", "dptn"))
    assert FeatureLosses("embedded").sha256
