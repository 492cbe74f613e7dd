"""CFLD: its attention against the plain formula, its timesteps, the two halves of a step, networks from files."""

import pytest
import torch
from method_promises import calls_of, steps_of

from baselines.diffusion import import_diffusers
from baselines.diffusion.autoencoder import make_autoencoder
from baselines.diffusion.cfld import CFLD, TRAINED_PARTS, cubic_timesteps
from baselines.diffusion.cfld_network import BiasedQueries, CFLDDenoiser, PerceptionRefinedDecoder
from baselines.diffusion.latent_settings import CFLDSettings, VAESettings
from xinggan.torchvision_operators import import_torchvision

SMALL = {"width": 8, "multipliers": (1, 2), "level_blocks": 1, "vae_width": 4, "vae_factor": 4}
SMALL |= {"prompt_queries": 3, "prompt_channels": 8, "prompt_blocks": 1, "fine_blocks": 1}
SMALL |= {"swin_width": 4, "swin_blocks": (1, 1), "swin_window": 2}


def test_hybrid_attention_is_softmax_attention_with_the_bias_on_its_queries():
    torch.manual_seed(0)
    layer = import_diffusers("models.attention_processor").Attention(16, 8, heads=4, dim_head=4).double()
    layer.set_processor(BiasedQueries(1))
    x, prompt, bias = torch.randn(2, 5, 16).double(), torch.randn(2, 3, 8).double(), torch.randn(2, 5, 16).double()
    result = layer(x, encoder_hidden_states=prompt, biases=[bias + 1, bias])
    expected = torch.zeros(2, 5, 16).double()
    query, key, value = x @ layer.to_q.weight.T + bias, prompt @ layer.to_k.weight.T, prompt @ layer.to_v.weight.T
    for head in range(4):
        own = slice(4 * head, 4 * head + 4)
        weights = torch.softmax(query[..., own] @ key[..., own].transpose(1, 2) / 2, dim=-1)
        expected[..., own] = weights @ value[..., own]
    torch.testing.assert_close(result, layer.to_out[0](expected))


def test_fine_features_of_each_level_reach_the_attentions_on_the_way_up_alone_and_begin_as_none(people):
    torch.manual_seed(0)
    denoiser = CFLDDenoiser(CFLDSettings(**SMALL | {"multipliers": (1, 2, 2), "swin_blocks": (1, 1, 1)}), 4)
    assert denoiser.fine_levels == [1, 1, 0, 0]  # the smallest level has no attention
    conditions = denoiser.conditions(torch.randn(1, 3, 32, 16), torch.randn(1, 21, 32, 16))
    assert [tuple(bias.shape) for bias in conditions[1:5]] == [(1, 8, 16), (1, 8, 16), (1, 32, 8), (1, 32, 8)]
    assert [tuple(pose.shape) for pose in conditions[5:]] == [(1, 8, 8, 4), (1, 16, 4, 2)]
    assert all(bias.abs().max() == 0 for bias in conditions[1:5])
    numbered = {name: processor.number for name, processor in denoiser.unet.attn_processors.items()}
    biased = [name for name, number in numbered.items() if number is not None]
    assert len(biased) == 4 and all(name.startswith("up_blocks") and ".attn2." in name for name in biased)


def test_the_prompt_knows_where_in_the_source_a_feature_is():
    torch.manual_seed(0)
    decoder = PerceptionRefinedDecoder(queries=4, channels=8, blocks=2, source_channels=16)
    source = torch.randn(1, 16, 3, 2)
    prompt, moved = decoder(source), decoder(source.flip(2))
    assert prompt.shape == (1, 4, 8)
    assert (prompt - moved).abs().max() > 1e-4


def test_timesteps_are_distributed_as_the_cube_says():
    """P(t < k) = P((1 - u^3) T < k) = 1 - (1 - k / T)^(1/3)."""
    torch.manual_seed(0)
    timesteps = cubic_timesteps(torch.empty(100_000, 1))
    assert timesteps.min() >= 0
    assert timesteps.max() == 999
    for k in (100, 500, 900):
        share = (timesteps < k).float().mean().item()
        assert share == pytest.approx(1 - (1 - k / 1000) ** (1 / 3), abs=0.006)


def test_without_the_sources_reconstruction_a_step_evaluates_half_as_much(people):
    batches = []
    for weight in (1.0, 0.0):
        method = CFLD(CFLDSettings(**SMALL, reconstruction=weight, vae_share=0.1)).train()
        method.planned_steps = 2
        method.begin(people.train)
        with calls_of(method.denoiser) as counted:
            terms = method.training_step(people.train.batch(range(4)), 1)
        batches.append(counted)
        assert ("reconstruction" in terms) == (weight > 0)
    assert batches == [[8], [4]]


def test_the_loss_is_the_mean_of_both_halves(people):
    """A network that predicts 0 is wrong by the noise's square in each half."""
    method = CFLD(CFLDSettings(**SMALL))
    method.begin(people.train)
    torch.nn.init.zeros_(method.denoiser.unet.conv_out.weight)
    torch.nn.init.zeros_(method.denoiser.unet.conv_out.bias)
    terms = method.denoising_terms(people.train.batch(range(16)))
    assert terms["denoising"].item() == pytest.approx(0.5, abs=0.05)
    assert terms["reconstruction"].item() == pytest.approx(0.5, abs=0.05)


def test_training_leaves_out_the_prompt_alone(people):
    method = CFLD(CFLDSettings(**SMALL, condition_dropout=0.5))
    method.begin(people.train)
    given = []
    method.denoiser.register_forward_pre_hook(lambda module, inputs: given.append(inputs[3:]))
    method.denoising_terms(people.train.batch(range(16)))
    ((seen, prompted),) = given
    assert seen.source.all() and seen.pose.all()
    assert 0 < prompted.sum() < 32


def test_the_rate_warms_up_and_falls_to_a_tenth_half_way():
    method = CFLD(CFLDSettings(**SMALL, warmup_steps=10))
    factors = [method.rate_factor(step, 100) for step in (0, 9, 10, 49, 50, 99)]
    assert factors == pytest.approx([0.19, 1, 1, 1, 0.1, 0.1])


def test_the_published_sampler_visits_the_timesteps_of_stable_diffusions_scheduler():
    assert CFLD(CFLDSettings(**SMALL, sampler="ddpm")).sampling_timesteps() == [t + 1 for t in range(980, -1, -20)]
    assert CFLD(CFLDSettings(**SMALL)).sampling_timesteps()[0] == 999


def test_the_published_number_of_weights_is_trained_beside_a_unet_from_a_file():
    """The paper's table 1: 248.2 M."""
    with torch.device("meta"):
        denoiser = CFLDDenoiser(CFLDSettings(), 4)
    for name, weights in denoiser.unet.named_parameters():
        weights.requires_grad_(TRAINED_PARTS.search(name) is not None)
    assert sum(p.numel() for p in denoiser.unet.parameters()) == 859_520_964  # Stable Diffusion 1.5's
    assert sum(p.numel() for p in denoiser.parameters() if p.requires_grad) == pytest.approx(248.2e6, abs=0.1e6)


@pytest.fixture
def files(tmp_path):
    """Autoencoder and U-Net as diffusers saves them, and a Swin as its authors save it, for another window."""
    make_autoencoder(VAESettings(vae_width=4, vae_factor=4))[0].save_pretrained(tmp_path / "vae")
    settings = CFLDSettings(**SMALL)
    CFLDDenoiser.new_unet(settings, 4).save_pretrained(tmp_path / "unet")
    swin = import_torchvision().models.swin_transformer.SwinTransformer([4, 4], 4, [1, 1], [1, 1], [3, 3])
    renamed = {}
    for name, tensor in swin.state_dict().items():
        part, number, *rest = name.split(".") if name.startswith("features") else (name, "", "")
        if part != "features":
            renamed[name] = tensor
        elif number == "0":
            renamed[f"patch_embed.{'proj' if rest[0] == '0' else 'norm'}.{rest[1]}"] = tensor
        elif int(number) % 2:
            inner = ".".join(rest[1:]).replace("mlp.0", "mlp.fc1").replace("mlp.3", "mlp.fc2")
            renamed[f"layers.{int(number) // 2}.blocks.{rest[0]}.{inner}"] = tensor
        else:
            renamed[f"layers.{int(number) // 2 - 1}.downsample.{'.'.join(rest)}"] = tensor
    torch.save({"model": renamed}, tmp_path / "swin.pth")
    torch.save(swin.state_dict(), tmp_path / "torchvision.pth")
    return {"vae": str(tmp_path / "vae"), "unet": str(tmp_path / "unet"), "swin": str(tmp_path / "swin.pth")}


def test_of_a_unet_from_a_file_only_keys_and_values_on_the_way_up_are_trained(files, people):
    method = CFLD(CFLDSettings(**SMALL | files))
    assert method.settings.caveat == "" and CFLDSettings(**SMALL).caveat == "from scratch"
    assert method.networks.keys() == {"vae", "unet", "swin"}
    before = {name: weights.clone() for name, weights in method.named_parameters()}
    steps_of(method, people, 6)
    moved = {name for name, weights in method.named_parameters() if not torch.equal(weights, before[name])}
    inside = {name for name in moved if name.startswith("denoiser.unet.")}
    assert inside and all(".attn2.to_" in name and "up_blocks" in name and "to_q" not in name for name in inside)
    assert any(name.startswith("denoiser.source_encoder.") for name in moved)
    assert not any(name.startswith("autoencoder.") for name in moved)


def test_swins_of_both_kinds_of_files_are_read_and_another_is_refused(files, tmp_path):
    theirs, torchvisions = (
        CFLDDenoiser(CFLDSettings(**SMALL | {"swin_window": 3}), 4).source_encoder for _ in range(2)
    )
    theirs.load(tmp_path / "swin.pth")
    torchvisions.load(tmp_path / "torchvision.pth")
    image = torch.randn(1, 3, 32, 16)
    theirs.eval(), torchvisions.eval()
    for one, other in zip(theirs(image), torchvisions(image), strict=True):
        assert torch.equal(one, other)
    torch.save({"model": {}}, tmp_path / "swin.pth")
    with pytest.raises(ValueError, match=r"swin=(?s:.)*missing \(our names\): stages\.0\.0\.bias"):
        theirs.load(tmp_path / "swin.pth")
