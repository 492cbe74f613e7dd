"""X-MDPT: the published transformer's function and sizes, its guidance, masking, DINOv2, its published checkpoints."""

import math

import numpy as np
import pytest
import torch
from golden import numbers, state_shapes
from torch.nn import functional as F

from baselines.diffusion.autoencoder import make_autoencoder
from baselines.diffusion.dinov2 import VisionTransformer, load_dinov2
from baselines.diffusion.latent_settings import VAESettings, XMDPTSettings
from baselines.diffusion.process import Seen
from baselines.diffusion.samplers import guided
from baselines.diffusion.xmdpt import XMDPT, PublishedXMDPT, cosine_branches, kept_places, named_as_ours, skeletons
from baselines.diffusion.xmdpt_network import XMDPTTransformer
from xinggan.model.published import PublishedMismatch, load_named
from xinggan.model.switches import PublishedSettings


def published_state(shared):
    """A state dict as published, with golden weights."""
    state = {}
    for key, shape in state_shapes(shared, "xmdpt_s2_state.json"):
        r = numbers(f"xmdpt.{key}", shape)
        if key.endswith(("pos_embed", "mask_token", "relative_position_bias_table")):
            r = 0.5 * r
        elif key.endswith("relative_position_index"):
            r = torch.zeros(shape, dtype=torch.long)
        elif len(shape) > 1:
            r = r * (1 / math.prod(shape[1:])) ** 0.5
        else:
            r = 1 + 0.1 * r if key.endswith("weight") else 0.1 * r
        state[key] = r
    return state


def test_transformer_computes_what_the_published_one_does(shared):
    transformer = load_named(XMDPTTransformer(384, 12, 6), named_as_ours(published_state(shared)), "golden")
    golden = np.load(shared / "golden" / "xmdpt_denoiser.npz")
    noised, source = numbers("xmdpt/noised", (2, 4, 32, 32)), numbers("xmdpt/source", (2, 4, 32, 32))
    tokens = numbers("xmdpt/pose_tokens", (2, 257, 768)), numbers("xmdpt/image_tokens", (2, 257, 1536))
    timesteps, yes, no = torch.tensor([500, 20]), torch.tensor([True] * 2), torch.tensor([False] * 2)
    with torch.no_grad():
        conditions = [transformer.condition(source, *tokens)]
        kept = kept_places(numbers("xmdpt/masking", (2, 256), torch.rand), 0.3)
        assert kept.shape == (2, 179)
        found = {
            "conditional": transformer(noised, timesteps, conditions, Seen(yes, yes)),
            "unconditional": transformer(noised, timesteps, conditions, Seen(no, no)),
            "masked": transformer(noised, timesteps, conditions, Seen(yes, yes), kept, source),
        }
        for power in (0.01, 4):
            prediction = guided(transformer, conditions, cosine_branches(2.0, power))(noised, timesteps)
            found[f"guided_scale_2_power_{power}"] = prediction
        embedding = transformer.time(transformer.time_features(timesteps))
    assert np.abs(embedding.numpy() - golden["timestep_embedding"]).max() < 1e-4
    for name, prediction in found.items():
        assert np.abs(prediction[:, :, ::2, ::2].numpy() - golden[name]).max() < 1e-4, name


@pytest.mark.parametrize(
    ("width", "depth", "heads", "expected"),
    [(384, 12, 6, 39_117_301), (768, 12, 12, 153_731_269), (1024, 24, 16, 498_945_445)],
)
def test_sizes_are_the_published_ones(width, depth, heads, expected):
    with torch.device("meta"):
        transformer = XMDPTTransformer(width, depth, heads)
    assert sum(p.numel() for p in transformer.parameters()) == expected


SMALL = {"size": 32, "width": 16, "depth": 3, "heads": 2, "encoder_width": 16, "encoder_depth": 1}
SMALL |= {"vae_width": 4, "vae_factor": 4}


def test_a_masked_pass_hides_what_is_masked_and_predicts_it_from_the_source():
    torch.manual_seed(0)
    transformer = XMDPTTransformer(16, 3, 2, grid=4, pose_tokens=(5, 8), image_tokens=(5, 8)).double()
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    noised, source = torch.randn(1, 4, 8, 8).double(), torch.randn(1, 4, 8, 8).double()
    conditions, seen = [torch.randn(1, 16).double()], Seen(torch.tensor([True]), torch.tensor([True]))
    kept = kept_places(torch.rand(1, 16), 0.5)
    hidden = next(place for place in range(16) if place not in kept[0])
    changed = noised.clone()
    changed[:, :, 2 * (hidden // 4) : 2 * (hidden // 4) + 2, 2 * (hidden % 4) : 2 * (hidden % 4) + 2] += 1
    timesteps = torch.tensor([100])
    with torch.no_grad():
        first, again, other = (
            transformer(x, timesteps, conditions, seen, kept, s)
            for x, s in ((noised, source), (changed, source), (noised, source + 1))
        )
    torch.testing.assert_close(first, again)
    assert (first - other).abs().max() > 1e-3


def test_sampling_visits_the_published_timesteps():
    visited = XMDPT(XMDPTSettings(**SMALL)).sampling_timesteps()
    assert (len(visited), visited[0], visited[1], visited[-2], visited[-1]) == (50, 999, 979, 20, 0)
    assert XMDPT(XMDPTSettings(**SMALL, steps=1)).sampling_timesteps() == [999]


def test_both_passes_train_and_the_same_pair_is_seen_in_both_directions(people):
    method = XMDPT(XMDPTSettings(**SMALL))
    method.begin(people.train)
    sources = set()
    method.denoiser.dino_image.register_forward_pre_hook(
        lambda module, inputs: sources.add(inputs[0].abs().sum().item())
    )
    for step in range(12):
        torch.manual_seed(step)
        terms = method.denoising_terms(people.train.batch([0]))
        assert terms.keys() == {"denoising", "variational", "masked_denoising", "masked_variational"}
    assert len({round(value, 1) for value in sources}) == 2, "an image and its mirror image have the same sum"
    method.settings.mask_ratio = 0.0
    assert method.denoising_terms(people.train.batch([0])).keys() == {"denoising", "variational"}


def test_skeletons_are_as_bright_as_can_be(people):
    drawn = skeletons(people.train.batch(range(4)).target_pose, 32)
    assert drawn.shape == (4, 3, 32, 32)
    assert drawn.amax((1, 2, 3)).tolist() == [1.0] * 4


def reference_dinov2(encoder, images):
    """The published computation in plain matrix products, for a grid that is the position embedding's own."""
    patches = F.unfold(images, encoder.patch, stride=encoder.patch).transpose(1, 2)  # [B, N, 3 p p]
    projection = encoder.patch_embed["proj"]
    x = patches @ projection.weight.flatten(1).T + projection.bias
    x = torch.cat([encoder.cls_token.expand(len(x), -1, -1), x], 1) + encoder.pos_embed
    for block in encoder.blocks:
        y, heads = block.norm1(x), block.attn.heads
        q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in block.attn.qkv(y).chunk(3, -1))
        weights = torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, dim=-1)
        x = x + block.ls1.gamma * block.attn.proj((weights @ v).transpose(1, 2).flatten(2))
        x = x + block.ls2.gamma * block.mlp(block.norm2(x))
    return encoder.norm(x)


@pytest.mark.parametrize("gated", [False, True])
def test_a_file_of_dinov2_is_read_whatever_its_size(tmp_path, gated):
    torch.manual_seed(0)
    published = VisionTransformer(128, 2, 2, gated, patch=4, grid=3)
    for parameter in published.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    state = {name: tensor.half() for name, tensor in published.state_dict().items()}
    torch.save(state | {"mask_token": torch.zeros(1, 128)}, tmp_path / "dinov2.pth")
    encoder, sha256 = load_dinov2(tmp_path / "dinov2.pth", "dino_pose")
    images = torch.randn(2, 3, 12, 12)
    torch.testing.assert_close(encoder(images), reference_dinov2(encoder, images))
    assert encoder(torch.randn(1, 3, 16, 20)).shape == (1, 1 + 4 * 5, 128)
    assert len(sha256) == 64 and not any(p.requires_grad for p in encoder.parameters())
    torch.save({"weights": torch.zeros(1)}, tmp_path / "dinov2.pth")
    with pytest.raises(ValueError, match=r"dino_pose=.*accepted is a file of DINOv2"):
        load_dinov2(tmp_path / "dinov2.pth", "dino_pose")


@pytest.fixture
def checkpoint(shared, tmp_path):
    """A published checkpoint in half precision; beside it an autoencoder and shallow encoders of DINOv2's kind."""
    state = {key: t.half() if t.is_floating_point() else t for key, t in published_state(shared).items()}
    torch.save(state, tmp_path / "ema_0.9999_300000.pt")
    make_autoencoder(VAESettings(vae_width=4))[0].save_pretrained(tmp_path / "vae")
    for name, width in (("dinov2_vitb14", 768), ("dinov2_vitg14", 1536)):
        torch.save(VisionTransformer(width, 1, width // 64).state_dict(), tmp_path / f"{name}_pretrain.pth")
    return tmp_path / "ema_0.9999_300000.pt"


def test_a_published_checkpoint_generates_in_the_data_sets_size(checkpoint, people):
    method = PublishedXMDPT(PublishedSettings(path=str(checkpoint)))
    assert (method.settings.width, method.settings.depth, method.settings.heads) == (384, 12, 6)
    method.settings.steps = 1
    assert method.generate_pairs(people.test.batch([0]), torch.tensor([1])).shape == (1, 3, 32, 16)


def test_a_checkpoint_that_does_not_fit_is_refused_with_every_name(checkpoint, shared):
    state = published_state(shared)
    del state["final_layer.linear.bias"]
    state["pose_guider.weight"] = torch.zeros(1)
    torch.save(state, checkpoint)
    with pytest.raises(PublishedMismatch) as refusal:
        PublishedXMDPT(PublishedSettings(path=str(checkpoint)))
    assert "missing (our names): last.bias" in str(refusal.value)
    assert "unexpected: pose_guider.weight" in str(refusal.value)
    (checkpoint.parent / "dinov2_vitg14_pretrain.pth").unlink()
    with pytest.raises(ValueError, match=r"dinov2_vitg14_pretrain\.pth beside it"):
        PublishedXMDPT(PublishedSettings(path=str(checkpoint)))
