"""NTED: the published networks and losses by golden data, its training's stages."""

import numpy as np
import pytest
import torch
from golden import assert_golden, named_state, numbers, picture, vgg19_layers
from torch.nn.functional import softplus

from baselines.gan import feature_losses
from baselines.gan.feature_losses import RELU1, FeatureLosses
from baselines.gan.nted import NTED, attention_reconstruction, faces, from_published
from baselines.gan.nted_networks import Discriminator
from baselines.gan.settings import NTEDSettings
from baselines.limb_maps import limb_maps
from xinggan.timing.counts import operations


def scale(name, shape):
    return 16 if "semantic_extraction_filter" in name else 1


def small(**changes):
    return NTED(NTEDSettings(**{"channels": (4, 8, 8), "labels": (4, 4), "adversarial_after": 0} | changes))


@pytest.mark.parametrize(
    ("file", "size", "steps", "parameters"),
    [("nted", (1, 256, 176), 4, 42_353_519), ("nted_small", (2, 64, 48), 1, None)],
)
def test_generator_computes_the_published_images_and_attention(shared, file, size, steps, parameters):
    generator = from_published(named_state(shared, f"{file}_state.json", "nted", scale))
    golden = np.load(shared / "golden" / f"{'nted_generator' if parameters else file}.npz")
    batch, height, width = size
    source, target = (picture(f"{file}/{kind}", *size) for kind in ("source", "target"))
    pose = numbers(f"{file}/pose", (batch, 20, height, width), torch.rand)
    with torch.no_grad():
        image, attention = generator(source, pose)
    if parameters:
        assert sum(p.numel() for p in generator.parameters()) == parameters
        with torch.no_grad():
            assert operations(generator, lambda: generator(source, pose)) / 2 == pytest.approx(91.0e9, rel=0.02)
    assert_golden(image[..., ::steps, ::steps], golden["image"])
    for i, (extraction, distribution) in enumerate(attention):
        h, w = extraction.shape[2:]
        kept = (
            slice(None),
            slice(None, None, 4),
            slice(None, None, max(1, h // 16)),
            slice(None, None, max(1, h // 16)),
        )
        assert_golden((extraction * h * w)[kept], golden[f"extraction_{i}"])
        assert_golden(distribution[kept], golden[f"distribution_{i}"])
    loss = attention_reconstruction(source, target, attention)
    assert loss.item() == pytest.approx(float(golden["loss_attention_reconstruction"]), rel=1e-4)


def test_discriminator_computes_the_published_scores(shared):
    state = named_state(shared, "nted_discriminator_state.json", "nted_discriminator", scale=lambda *_: 1)
    own = {}
    names = {
        "conv1.0": "block.0",
        "conv1.1": "block.1",
        "conv2.1": "block.3",
        "conv2.2": "block.4",
        "skip.1": "shortcut.1",
    }
    for key, tensor in state.items():
        part, rest = key.split(".", 1)
        if key.endswith("kernel"):
            continue
        if part == "convs":
            number, _, inner = rest.partition(".")
            layer, _, kind = inner.rpartition(".")
            own[f"blocks.{layer}.{kind}" if number == "0" else f"blocks.{int(number) + 1}.{names[layer]}.{kind}"] = (
                tensor
            )
        elif part == "final_conv":
            own[f"last.{rest}"] = tensor
        else:
            own[{"0.weight": "score.1.weight", "0.bias": "score.2.bias"}.get(rest, rest.replace("1.", "score.3."))] = (
                tensor
            )
    discriminator = Discriminator().eval()
    discriminator.load_state_dict(own)
    assert sum(p.numel() for p in discriminator.parameters()) == 26_766_977
    with torch.no_grad():
        scores = discriminator(torch.cat([picture(f"nted/{kind}", 1, 256, 176) for kind in ("source", "target")]))
    assert_golden(scores, np.load(shared / "golden" / "nted_generator.npz")["scores"])


def test_perceptual_and_style_loss_look_through_vgg19_like_the_published_ones(shared, monkeypatch):
    monkeypatch.setattr(feature_losses, "vgg19", lambda kind: (vgg19_layers(), "golden"))
    golden, losses = (
        np.load(shared / "golden" / "nted_generator.npz"),
        FeatureLosses("vgg19", style=RELU1, normalised=True),
    )
    with torch.no_grad():
        seen = [losses(picture(f"nted_losses/{kind}", 1, 256, 176)) for kind in ("generated", "target")]
    content, style = losses.content(*seen).item(), losses.style(*seen).item()
    assert content == pytest.approx(float(golden["loss_perceptual"]), rel=2e-5)
    assert content + 500 * style == pytest.approx(float(golden["loss_perceptual_and_style"]), rel=2e-5)


def test_faces_are_squares_around_the_eyes_and_black_without_them():
    images = torch.linspace(-1, 1, 128).expand(2, 3, 96, 128).clone()  # brighter to the right
    poses = torch.zeros(2, 18, 3)
    poses[:, 14], poses[:, 15] = torch.tensor([40.0, 30, 1]), torch.tensor([60.0, 30, 1])
    poses[1, 15, 2] = 0
    seen, missing = faces(images, poses)
    assert (missing == -1).all()
    assert seen.shape == (3, 64, 64)
    columns = (seen[0, 0] + 1) / 2 * 127
    torch.testing.assert_close(columns, torch.linspace(50 - 25, 50 + 25, 64), atol=1e-3, rtol=0)


def test_the_discriminator_comes_in_late_and_is_regularised_every_16th_step(people):
    method, batch = small(adversarial_after=15), people.train.batch(range(4))
    before = {name: weights.clone() for name, weights in method.discriminator.state_dict().items()}
    assert not {"adversarial", "discriminator", "r1"} & method.training_step(batch, 14).keys()
    assert all(torch.equal(before[name], weights) for name, weights in method.discriminator.state_dict().items())
    assert {"adversarial", "discriminator"} <= (late := method.training_step(batch, 15).keys())
    assert "r1" not in late
    terms = method.training_step(batch, 16)
    assert terms["r1"] > 0


def test_the_discriminators_loss_is_the_published_sum(people):
    method = small()
    real, generated = torch.rand(2, 4, 3, 32, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        scores = [method.discriminator(images) for images in (real, generated)]
    expected = (softplus(-scores[0]) + softplus(scores[1])).mean().item()
    assert method.update_discriminator(generated, real)["discriminator"].item() == pytest.approx(expected, rel=1e-5)


def test_r1_is_the_squared_gradient_of_the_scores(people):
    """By finite differences along the gradient itself."""
    method = small()
    images = 0.1 * torch.randn(2, 3, 32, 16, generator=torch.Generator().manual_seed(0)).double()
    method.discriminator.double()
    gradient = torch.func.grad(lambda x: method.discriminator(x).sum())(images)
    step = 1e-5
    rise = method.discriminator(images + step * gradient).sum() - method.discriminator(images - step * gradient).sum()
    expected = 10 / 2 * 16 * rise.item() / (2 * step) / 2  # |g|^2 summed over two images
    assert method.regularise_discriminator(images)["r1"].item() == pytest.approx(expected, rel=1e-3)


def test_the_target_pose_reaches_the_network_as_limb_maps(people):
    method, batch = small().eval(), people.test.batch([0, 1])
    source = batch.source_image.float() / 127.5 - 1
    with torch.no_grad():
        expected = method.generator(source, limb_maps(batch.target_pose, 32, 16))[0].clamp(-1, 1)
    found = method.generate_pairs(batch, torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
