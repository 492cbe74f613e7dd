"""DPTN: the published networks by golden data, its losses over both tasks."""

import numpy as np
import pytest
import torch
from golden import assert_golden, named_state, numbers, picture

from baselines.gan.dptn import DPTN, PublishedDPTN, attention, from_published
from baselines.gan.settings import DPTNSettings
from xinggan.data.batch import images_to_float
from xinggan.model.losses import PerceptualLoss
from xinggan.model.switches import LossWeights, PublishedSettings
from xinggan.timing.counts import operations


def published_state(shared):
    """With golden weights; two names of one tensor have the first's."""
    state = named_state(shared, "dptn_state.json", "dptn")
    same = {"model.2": "conv1", "model.5": "conv2", "shortcut.0": "bypass"}
    for name in state:
        block, _, rest = name.partition(".")
        layer, _, kind = rest.rpartition(".")
        if (block.startswith("mblock") or block == "outconv") and layer in same:
            state[name] = state[f"{block}.{same[layer]}.{kind}"]
    return state


@pytest.mark.parametrize(
    ("name", "size", "step", "macs"), [("fashion", (1, 256, 256), 4, 26.5e9), ("market", (2, 128, 64), 2, 2.96e9)]
)
def test_generator_computes_the_published_images(shared, name, size, step, macs):
    generator = from_published(published_state(shared))
    assert sum(p.numel() for p in generator.parameters()) == 9_794_371
    batch, height, width = size
    poses = [
        numbers(f"dptn_{name}/{kind}_pose", (batch, 18, height, width), torch.rand) for kind in ("source", "target")
    ]
    source = picture(f"dptn_{name}/source", *size)
    with torch.no_grad():
        image, reconstruction = generator(source, *poses, reconstruct=True)
        alone, _ = generator(source, *poses)
        assert operations(generator, lambda: generator(source, *poses)) / 2 / batch == pytest.approx(macs, rel=0.02)
    golden = np.load(shared / "golden" / "dptn_generator.npz")
    assert_golden(image[..., ::step, ::step], golden[f"{name}_image"])
    assert_golden(alone[..., ::step, ::step], golden[f"{name}_image"])
    assert_golden(reconstruction[..., ::step, ::step], golden[f"{name}_reconstruction"])


def test_pose_transformer_is_the_published_one(shared):
    transformer = from_published(published_state(shared)).transformer
    inputs = [
        numbers(f"dptn_ptm/{kind}", (2, 256, 8, 4)) for kind in ("source_to_source", "source_to_target", "source")
    ]
    with torch.no_grad():
        found = transformer(*inputs)[:, ::4]
    assert_golden(found, np.load(shared / "golden" / "dptn_generator.npz")["transformer"])


def test_gradients_of_attention_with_huge_logits_are_those_of_double_precision():
    gradients = {}
    for precision in (torch.float64, torch.float32):
        torch.manual_seed(0)
        module = torch.nn.MultiheadAttention(32, 2, batch_first=True, dtype=torch.float64)
        tokens = 2e4 * torch.randn(2, 32, 32, dtype=torch.float64)  # logits of 1e8
        tokens = tokens.to(precision).requires_grad_()
        attention(module.to(precision), tokens, tokens, tokens).square().mean().backward()
        gradients[precision] = module.in_proj_weight.grad.double()
    largest = gradients[torch.float64].abs().max()
    assert (gradients[torch.float32] - gradients[torch.float64]).abs().max() < 1e-2 * largest


def test_losses_weigh_target_and_reconstruction_as_set(people):
    weights = LossWeights(adversarial=2, l1=3, perceptual=5, adversarial_kind="lsgan")
    method = DPTN(DPTNSettings(width=4, losses=weights, target_share=0.8))
    batch = people.train.batch(range(4))
    source, target = images_to_float(batch.source_image), images_to_float(batch.target_image)
    poses = [
        method.pose_maps(torch.cat([p[..., :2].trunc(), p[..., 2:]], -1), source)
        for p in (batch.source_pose, batch.target_pose)
    ]
    with torch.no_grad():
        images = method.generator(source, *poses, reconstruct=True)
    look, terms = PerceptualLoss().features, method.training_step(batch, 0)
    for name, made, wanted, share in (("", images[0], target, 0.8), ("_source", images[1], source, 0.2)):
        assert terms[f"l1{name}"].item() == pytest.approx(share * 3 * (made - wanted).abs().mean().item(), rel=1e-4)
        seen = (look(made) - look(wanted)).abs().mean().item()
        assert terms[f"perceptual{name}"].item() == pytest.approx(share * 5 * seen, rel=1e-4)
    assert {"adversarial", "discriminator", "style", "style_source"} <= terms.keys()


def test_a_published_checkpoint_stretches_images_that_are_not_market_1501s(shared, tmp_path, people):
    """In half precision, and saved from several devices."""
    state = {f"module.{name}": tensor.half() for name, tensor in published_state(shared).items()}
    torch.save(state, tmp_path / "net.pth")
    method = PublishedDPTN(PublishedSettings(path=str(tmp_path / "net.pth"))).eval()
    assert method.size == (256, 176)
    for height, width, network in ((32, 16, (32, 16)), (32, 24, (32, 32))):
        seen = []
        method.generator.encoder.register_forward_hook(
            lambda module, inputs, _, seen=seen: seen.append(inputs[0].shape)
        )
        source = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8)
        poses = people.test.batch([0]).source_pose
        image = method.generate(source, poses, poses, torch.zeros(1, dtype=torch.int64))
        assert image.shape == source.shape
        assert seen == [(2, 39, *network)]
        method.generator.encoder._forward_hooks.clear()
