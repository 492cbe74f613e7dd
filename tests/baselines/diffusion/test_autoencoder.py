"""The autoencoder: sizes, its loss in closed form, files as diffusers saves them, and what is refused of a file."""

import json
import shutil

import pytest
import torch

from baselines.diffusion.autoencoder import (
    KL_WEIGHT,
    decode,
    encode,
    load_model,
    make_autoencoder,
    training_terms,
)
from baselines.diffusion.latent_settings import VAESettings

pytest.importorskip("diffusers")


def small(factor=4, seed=0, width=4):
    settings = VAESettings(vae_width=width, vae_factor=factor, latent_channels=3, seed=seed)
    return make_autoencoder(settings)[0].eval()


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_images_of_any_size_become_latents_and_come_back_in_their_size(factor):
    autoencoder = small(factor)
    with torch.no_grad():
        latents, deviation = encode(autoencoder, torch.rand(2, 3, 20, 36) * 2 - 1)
        images = decode(autoencoder, latents, 20, 36)
    assert latents.shape == deviation.shape == (2, 3, -(-20 // factor), -(-36 // factor))
    assert images.shape == (2, 3, 20, 36)


def test_the_loss_is_l1_and_the_divergence_from_a_standard_normal_in_closed_form():
    autoencoder, images = small(), torch.rand(2, 3, 32, 16) * 2 - 1
    with torch.no_grad():
        torch.manual_seed(5)
        terms = training_terms(autoencoder, images)
        moments = autoencoder.quant_conv(autoencoder.encoder(images))
        mean, deviation = moments[:, :3], (moments[:, 3:] / 2).exp()
        torch.manual_seed(5)
        rebuilt = decode(autoencoder, mean + deviation * torch.randn(mean.shape), 32, 16)
    normal = torch.distributions.Normal
    divergence = torch.distributions.kl_divergence(normal(mean, deviation), normal(0.0, 1.0)).sum() / 2
    torch.testing.assert_close(terms["vae_l1"], (rebuilt - images).abs().mean())
    torch.testing.assert_close(terms["vae_divergence"], KL_WEIGHT * divergence / (3 * 32 * 16))


@pytest.fixture
def saved(tmp_path):
    """A folder as diffusers saves an autoencoder, and the autoencoder."""
    autoencoder = small()
    autoencoder.save_pretrained(tmp_path / "vae")
    return tmp_path / "vae", autoencoder


def assert_same_images(one, other):
    images = torch.rand(2, 3, 32, 16) * 2 - 1
    with torch.no_grad():
        rebuilt = [decode(autoencoder, encode(autoencoder, images)[0], 32, 16) for autoencoder in (one, other)]
    torch.testing.assert_close(*rebuilt)


def test_a_folder_or_file_of_diffusers_is_read_and_its_hash_known(saved):
    from xinggan.files import sha256_of

    folder, autoencoder = saved
    for path in (folder, folder / "diffusion_pytorch_model.safetensors"):
        loaded, sha256 = load_model(path, "AutoencoderKL", "vae")
        assert_same_images(loaded, autoencoder)
        assert sha256 == sha256_of(folder / "diffusion_pytorch_model.safetensors")
        assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_file_with_the_attention_names_of_older_diffusers_is_read(saved):
    """Stable Diffusion's autoencoder is published with them; some files hold the projections as 1x1 convolutions."""
    folder, autoencoder = saved
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for name, value in autoencoder.state_dict().items():
        for new_name, old_name in old.items():
            if f"attentions.0.{new_name}." in name:
                name, value = name.replace(new_name, old_name), value[..., None, None] if value.dim() == 2 else value
        state[name] = value
    assert state.keys() != autoencoder.state_dict().keys()
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(state, folder / "diffusion_pytorch_model.bin")
    assert_same_images(load_model(folder, "AutoencoderKL", "vae")[0], autoencoder)


def test_a_file_that_does_not_fit_is_refused_by_name(saved, tmp_path):
    folder, _ = saved
    small(width=8).save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "config.json", folder / "config.json")
    with pytest.raises(ValueError, match=r"does not fit.*decoder\.conv_in\.bias \(expected \(32,\), found \(16,\)\)"):
        load_model(folder, "AutoencoderKL", "vae")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"_class_name": "UNet2DModel"}, "not the configuration of AutoencoderKL: UNet2DModel"),
        ({"colours": 3}, "not the configuration of AutoencoderKL: colours"),
        ({"in_channels": 1}, "in_channels and out_channels are to be 3"),
        ({"down_block_types": ["os.system"]}, "does not describe AutoencoderKL"),
        ({"norm_num_groups": 0}, "does not describe AutoencoderKL"),
    ],
)
def test_a_configuration_that_is_not_an_autoencoders_is_refused(saved, change, said):
    folder, _ = saved
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=said):
        load_model(folder, "AutoencoderKL", "vae")


def test_files_that_are_no_plain_tensors_are_refused(saved):
    folder, _ = saved
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a PyTorch state dict that is safe to load"):
        load_model(folder, "AutoencoderKL", "vae")
    weights.unlink()
    with pytest.raises(ValueError, match=r"accepted is a folder with config\.json and"):
        load_model(folder, "AutoencoderKL", "vae")
    torch.save({"encoder.conv_in.weight": pytest.approx}, folder / "diffusion_pytorch_model.bin")  # pickled code
    with pytest.raises(ValueError, match="not a PyTorch state dict that is safe to load"):
        load_model(folder, "AutoencoderKL", "vae")
