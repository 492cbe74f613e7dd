"""The first stage of latent diffusion (Rombach et al., CVPR 2022, section 3.1): images become latents and come back.

diffusers' AutoencoderKL, either small and new, to be trained in the first steps of the same run as the second stage,
or from a file as diffusers saves it (`load_model`, which reads U-Nets, too). `training_terms` is its loss: L1 and, with
LDM's weight, the divergence of its posterior from N(0, 1). Departure: LDM's perceptual and adversarial terms are left
out, so that no network from elsewhere is needed.
"""

import inspect
import json
from math import gcd
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from baselines.diffusion import import_diffusers
from baselines.diffusion.latent_settings import TRAINED, WEIGHTS_FILES, VAESettings
from baselines.diffusion.process import draw_noise
from xinggan.data.batch import images_to_float
from xinggan.files import sha256_of, user_path
from xinggan.model.blocks import pad_to_multiple
from xinggan.model.method import Method
from xinggan.model.published import read_published
from xinggan.training.schedule import learning_rate_factor

AutoencoderKL = Any  # diffusers', imported only where it is used

KL_WEIGHT = 1e-6  # beside the sum of all pixels' errors, as LDM counts
RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # of the attention in old files


def make_autoencoder(settings: VAESettings) -> tuple[AutoencoderKL, str]:
    """The autoencoder that `vae` asks for, and its file's SHA-256, "" for one that is to be trained.

    Raises ValueError for a file that is none, naming what differs.
    """
    s = settings
    if s.vae != TRAINED:
        return load_model(user_path(s.vae), "AutoencoderKL", "vae")
    levels = s.vae_factor.bit_length()
    with torch.random.fork_rng(devices=[]):  # the library's initialisation, but from our seed
        torch.manual_seed(s.seed)
        new = import_diffusers().AutoencoderKL(
            block_out_channels=[s.vae_width * min(2**level, 4) for level in range(levels)],
            down_block_types=["DownEncoderBlock2D"] * levels,
            up_block_types=["UpDecoderBlock2D"] * levels,
            latent_channels=s.latent_channels,
            norm_num_groups=gcd(32, s.vae_width // 4) if s.vae_width < 128 else gcd(32, s.vae_width),
        )
    return new, ""


def load_model(path: Path, kind: str, key: str) -> tuple[Any, str]:
    """A model of diffusers, of the class `kind`, from its folder or the weights file in it: frozen, with the weights'
    SHA-256. Raises ValueError, which names the setting `key`, for a file that is none.
    """
    folder = path if path.is_dir() else path.parent
    weights = (
        next((folder / name for name in WEIGHTS_FILES if (folder / name).is_file()), None) if path.is_dir() else path
    )
    if weights is None or not (folder / "config.json").is_file():
        raise ValueError(f"{key}={path}: accepted is a folder with config.json and {' or '.join(WEIGHTS_FILES)}")
    model_class = getattr(import_diffusers(), kind)
    settings = _read_settings(folder / "config.json", model_class)
    try:
        with torch.device("meta"):  # names and shapes alone: a configuration may ask for any size
            model = model_class(**settings)
    except (TypeError, ValueError, ZeroDivisionError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{folder / 'config.json'} does not describe {kind}: {error}") from error
    state = _read_state(weights)
    expected, found = ({name: tuple(value.shape) for name, value in s.items()} for s in (model.state_dict(), state))
    if names := sorted({name for name, _ in expected.items() ^ found.items()}):
        shapes = [f"{name} (expected {expected.get(name)}, found {found.get(name)})" for name in names[:5]]
        raise ValueError(f"{weights} does not fit its config.json: {len(names)} tensors differ: {', '.join(shapes)}")
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(False), sha256_of(weights)


def _read_settings(file: Path, kind: type) -> dict:
    try:
        content = json.loads(file.read_bytes())
        settings = {key: value for key, value in content.items() if not key.startswith("_")}
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{file}: cannot be read as a JSON object: {error}") from error
    known = inspect.signature(kind.__init__).parameters  # type: ignore[misc]
    if content.get("_class_name", kind.__name__) != kind.__name__ or settings.keys() - known.keys():
        unknown = ", ".join(sorted(settings.keys() - known.keys())) or content["_class_name"]
        raise ValueError(f"{file} is not the configuration of {kind.__name__}: {unknown}")
    channels = [settings.get(key, 3) for key in ("in_channels", "out_channels")]
    if kind.__name__ == "AutoencoderKL" and channels != [3, 3]:
        raise ValueError(f"{file}: in_channels and out_channels are to be 3, an RGB image's")
    return settings


def _read_state(file: Path) -> dict[str, Tensor]:
    """The file's tensors, under the names of today's diffusers."""
    renamed = {}
    for name, value in read_published(file).items():
        *path, layer, kind = ["", *name.split(".")]
        if "attentions" in path and layer in RENAMED:
            name, value = ".".join([*path[1:], RENAMED[layer], kind]), value.flatten(1) if kind == "weight" else value
        renamed[name] = value
    return renamed


def factor_of(autoencoder: AutoencoderKL) -> int:
    """Pixels along a side of an image that become one latent position."""
    return 2 ** (len(autoencoder.config.block_out_channels) - 1)


def encode(autoencoder: AutoencoderKL, images: Tensor) -> tuple[Tensor, Tensor]:
    """images: [B, 3, H, W] in [-1, 1] -> the posterior's mean and standard deviation, float32 [B, C, h, w] each.

    H and W are first padded to a multiple.
    """
    posterior = autoencoder.encode(pad_to_multiple(images, factor_of(autoencoder))).latent_dist
    return posterior.mean.float(), posterior.std.float()


def decode(autoencoder: AutoencoderKL, latents: Tensor, height: int, width: int) -> Tensor:
    """latents: [B, C, h, w] -> images [B, 3, height, width], not yet clamped to [-1, 1]."""
    return autoencoder.decode(latents).sample[..., :height, :width]


def training_terms(autoencoder: AutoencoderKL, images: Tensor) -> dict[str, Tensor]:
    """The two terms of the loss, [] each, for images [B, 3, H, W] in [-1, 1], at latents drawn from the posterior."""
    height, width = images.shape[-2:]
    posterior = autoencoder.encode(pad_to_multiple(images, factor_of(autoencoder))).latent_dist
    mean, std = posterior.mean.float(), posterior.std.float()
    rebuilt = decode(autoencoder, mean + std * draw_noise(mean), height, width)
    divergence = posterior.kl().float().mean()  # of an image, summed over its latents
    return {
        "vae_l1": F.l1_loss(rebuilt.float(), images),
        "vae_divergence": KL_WEIGHT * divergence / images[0].numel(),
    }


def add_autoencoder(method: Method, settings: VAESettings) -> None:
    """Give a method its module `autoencoder`, and an optimiser "vae" or, for one from a file, the file's SHA-256."""
    autoencoder, sha256 = make_autoencoder(settings)
    method.autoencoder = autoencoder
    if sha256:
        method.networks["vae"] = sha256
    else:
        method.optimisers["vae"] = torch.optim.Adam(autoencoder.parameters(), settings.vae_learning_rate, fused=True)


def added_steps(method: Method, settings: VAESettings) -> int:
    """Steps of the autoencoder's training that come on top of the planned ones: `vae_steps`, or 0."""
    return settings.vae_steps or 0 if "vae" in method.optimisers else 0


def first_stage_steps(method: Method, settings: VAESettings) -> int:
    """The steps that the autoencoder trains for: those on top, else its share of those planned; 0 from a file."""
    if "vae" not in method.optimisers:
        return 0
    return settings.vae_steps or max(1, round(settings.vae_share * method.planned_steps))


def first_stage_step(method: Method, images: Tensor, step: int, steps: int) -> dict[str, Tensor]:
    """One update of `method.autoencoder` on target images, uint8 [B, 3, H, W]. Returns its losses by name, [] each.

    The learning rate falls to 0 over the second half of the stage, as the trainer's does at the end of the whole run.
    """
    for group in method.optimisers["vae"].param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * learning_rate_factor(step, steps, steps // 2)
    with method.autocast():
        terms = training_terms(method.autoencoder, images_to_float(images))
    gradient = method.update("vae", torch.stack(list(terms.values())).sum())
    return {name: term.detach() for name, term in terms.items()} | {"gradient_vae": gradient}
