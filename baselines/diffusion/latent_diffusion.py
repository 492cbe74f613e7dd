"""Latent diffusion (Rombach et al., CVPR 2022) of a person in a pose: what PoCoLD, CFLD and X-MDPT have in common.

The first stage of a run trains the autoencoder, unless its weights are from a file. Then the training images are
encoded once, and a denoiser learns to predict the noise in the target's latents from the source and the target pose.
As published, latents are drawn from the autoencoder's posterior anew in every step. Those of an autoencoder from a file
are multiplied by its own factor; those of one that was trained have mean 0 and deviation 1 in each channel, measured on
the training images.
"""

from math import inf
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from baselines.diffusion.autoencoder import (
    AutoencoderKL,
    add_autoencoder,
    added_steps,
    decode,
    encode,
    factor_of,
    first_stage_step,
    first_stage_steps,
)
from baselines.diffusion.latent_settings import LatentSettings
from baselines.diffusion.process import NoiseProcess, draw_noise, draw_true, scaled_linear_betas
from baselines.diffusion.samplers import Branch, ImageNoise, guided, sample, trailing_timesteps
from baselines.geometry import resized, scaled_poses
from xinggan.data.batch import PosePair, images_to_float
from xinggan.data.packed import PackedSplit
from xinggan.model.method import Method
from xinggan.progress import Progress

BATCH = 32  # images encoded at once


class LatentDiffusion(Method):
    """A method around a `denoiser`, a network that predicts the noise in latents from conditions.

    A subclass makes the denoiser (`make_denoiser`) and its conditions (`conditions`), which run once a sample, and says
    what is minimised (`denoising_terms`). `flipping` says which training latents are mirrored, with the probability
    `settings.flip`: "none" of them, source and target "together", or "each" by itself.
    """

    averaged = ("autoencoder", "denoiser")
    flipping: ClassVar[str] = "none"

    settings: Any  # LatentSettings
    denoiser: Any  # called with noised latents [B, C, h, w], timesteps int64 [B], the conditions, and a `Seen`
    branches: tuple[Branch, ...]  # of guidance
    autoencoder: AutoencoderKL
    latent_mean: Tensor  # [C, 1, 1]
    latent_std: Tensor  # [C, 1, 1]
    latent_limit: Tensor  # [], of what is predicted of clean latents

    def __init__(self, settings: LatentSettings):
        super().__init__()
        self.settings = s = settings
        self.process = self.make_process()
        add_autoencoder(self, s)
        self.added_steps = added_steps(self, s)
        channels, self.factor = self.autoencoder.config.latent_channels, factor_of(self.autoencoder)
        factor = 1.0 if "vae" in self.optimisers else self.autoencoder.config.scaling_factor
        self.register_buffer("latent_mean", torch.zeros(channels, 1, 1))
        self.register_buffer("latent_std", torch.full((channels, 1, 1), 1 / factor))
        self.register_buffer("latent_limit", torch.tensor(inf))
        with torch.random.fork_rng(devices=[]):  # the library's initialisation, but from our seed
            torch.manual_seed(s.seed + 1)
            self.denoiser = self.make_denoiser(channels)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimisers["denoiser"] = self.make_optimiser([p for p in self.denoiser.parameters() if p.requires_grad])
        self._moments: Tensor | None = None  # [n, 1 or 2, 2, C, h, w], of the training images

    def make_process(self) -> NoiseProcess:
        """The diffusion process: Stable Diffusion's."""
        return NoiseProcess(self.settings.prediction, scaled_linear_betas(), weighting=self.settings.weighting)

    def make_denoiser(self, channels: int) -> nn.Module:
        """The denoiser, for latents of so many channels."""
        raise NotImplementedError

    def make_optimiser(self, weights: list[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser of the denoiser."""
        return torch.optim.AdamW(weights, self.settings.learning_rate, fused=True)

    def checkpoint_activations(self) -> None:
        """See `Method`; diffusers' models do it in their own way."""
        super().checkpoint_activations()
        for module in self.modules():
            if enable := getattr(module, "enable_gradient_checkpointing", None):
                enable()

    def begin(self, train: PackedSplit) -> None:
        """With an autoencoder from a file, encode the training images now."""
        self.train_split = train
        if first_stage_steps(self, self.settings) == 0:
            self._encode_training_images()

    def training_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """One update of the autoencoder in its stage, of the denoiser after it."""
        steps = first_stage_steps(self, self.settings)
        if step < steps:
            return first_stage_step(self, batch.target_image, step, steps)
        for group in self.optimisers["denoiser"].param_groups:
            group["lr"] *= self.rate_factor(step - steps, self.planned_steps + self.added_steps - steps)
        with self.autocast():
            terms = self.denoising_terms(batch)
        terms["gradient_denoiser"] = self.update("denoiser", torch.stack(list(terms.values())).sum())
        return {name: term.detach() for name, term in terms.items()}

    def rate_factor(self, step: int, steps: int) -> float:
        """Factor of the trainer's learning rate in `step` of the `steps` of the second stage: the warm-up."""
        return min(1.0, (step + 1) / max(1, self.settings.warmup_steps))

    def denoising_terms(self, batch: PosePair) -> dict[str, Tensor]:
        """The terms of the second stage's loss, [] each."""
        raise NotImplementedError

    @property
    def mirrors(self) -> bool:
        """Whether training mirrors latents."""
        return self.flipping != "none" and self.settings.flip > 0

    def draw_flips(self, batch: PosePair) -> tuple[Tensor, Tensor]:
        """The rows whose source and whose target are mirrored in this step: bool [B] each."""
        if not self.mirrors:
            nobody = torch.zeros(len(batch), dtype=torch.bool, device=batch.pair.device)
            return nobody, nobody
        source = draw_true(batch.pair, self.settings.flip)
        return source, source if self.flipping == "together" else draw_true(batch.pair, self.settings.flip)

    def training_latents(self, pairs: Tensor, flips: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Latents of source and target, [B, C, h, w] each, of the training pairs int64 [B], mirrored where asked."""
        if self._moments is None:
            self._encode_training_images()
        assert self._moments is not None
        latents = []
        for images, flipped in zip(self._pairs[pairs].T, flips, strict=True):
            mean, deviation = self._moments[images, flipped.long()].unbind(1)
            latents.append(mean + deviation * draw_noise(mean))
        return latents[0], latents[1]

    def _encode_training_images(self) -> None:
        """Encode the images of the training pairs, and measure their latents where the autoencoder was trained.

        A resumed training does it again, with the same weights in the same batches, so the moments are the same to the
        bit; in a checkpoint they would take up to 44 KB for each image of DeepFashion.
        """
        split, device = self.train_split, self.latent_mean.device
        assert split is not None  # set by the trainer
        used, places = np.unique(split.pairs, return_inverse=True)
        self._pairs = torch.from_numpy(places.reshape(split.pairs.shape).astype(np.int64)).to(device)  # [p, 2]
        parts = []
        progress = Progress("encoding", len(used), "images", enabled=self.processes.first)
        # A budget in FLOPs counts those of a step; the encoding is not part of one.
        exact = torch.autocast(device.type, enabled=False)  # in a step, too, where a resumed training encodes
        with _disable_current_modes(), torch.no_grad(), exact, progress:
            for start in range(0, len(used), BATCH):
                images = torch.from_numpy(split.images[used[start : start + BATCH]]).permute(0, 3, 1, 2).to(device)
                image = self.sized(images_to_float(images))
                both = (image, image.flip(-1)) if self.mirrors else (image,)
                parts.append(torch.stack([torch.stack(encode(self.autoencoder, one), 1) for one in both], 1))
                progress.update(len(images))
            moments = torch.cat(parts)  # [n, 1 or 2, 2, C, h, w]
            if "vae" in self.optimisers:
                means = moments[:, :, 0].flatten(0, 1)
                self.latent_mean.copy_(means.mean(dim=(0, 2, 3))[:, None, None])
                self.latent_std.copy_(means.std(dim=(0, 2, 3))[:, None, None].clamp(min=1e-6))
                self.latent_limit.copy_(((means - self.latent_mean) / self.latent_std).abs().max())
            moments[:, :, 0] -= self.latent_mean
            self._moments = moments / self.latent_std

    def sized(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] of the data set -> in the size that the networks see, by antialiased bicubic."""
        return resized(images, self.settings.working_size(*images.shape[-2:]))

    def sized_pose(self, poses: Tensor, images: Tensor) -> tuple[Tensor, float]:
        """Poses [B, 18, 3] in images [B, 3, H, W] of the data set -> those in the size that the networks see, and the
        deviation of a joint's Gaussian there, pixels.
        """
        height, width = images.shape[-2:]
        size = self.settings.working_size(height, width)
        return scaled_poses(poses, images, size), self.settings.pose_sigma * size[0] / height

    def source_latents(self, images: Tensor, seeds: Tensor) -> Tensor:
        """Latents [B, C, h, w] of the sized source images, drawn from the posterior with each image's own seed."""
        mean, deviation = encode(self.autoencoder, images)
        noise = ImageNoise(~seeds, tuple(mean.shape[1:]), mean.device).draw()  # another stream than the sampler's
        return (mean + deviation * noise - self.latent_mean) / self.latent_std

    def conditions(self, images: Tensor, poses: Tensor, sigma: float, seeds: Tensor) -> list[Tensor]:
        """What the denoiser is given beside noised latents, tensors [B, ...]; it runs once a sample.

        images: sized source images [B, 3, H, W] in [-1, 1]; poses: [B, 18, 3] and sigma, as `sized_pose` gives them.
        """
        raise NotImplementedError

    def sampling_timesteps(self) -> list[int]:
        """The timesteps of sampling, from the noisiest down."""
        return trailing_timesteps(self.settings.steps)

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. The source is encoded once, the denoiser evaluated once a step for all branches."""
        image = images_to_float(source)
        poses, sigma = self.sized_pose(target_pose, image)
        sized = self.sized(image)
        height, width = sized.shape[-2:]
        with self.autocast():
            clean = sample(
                self.process,
                guided(self.denoiser, self.conditions(sized, poses, sigma, seeds), self.branches),
                (len(self.latent_mean), -(-height // self.factor), -(-width // self.factor)),
                seeds,
                sampler=self.settings.sampler,
                timesteps=self.sampling_timesteps(),
                device=source.device,
                limit=float(self.latent_limit),
            )
            generated = decode(self.autoencoder, clean * self.latent_std + self.latent_mean, height, width)
        return resized(generated.float(), source.shape[-2:]).clamp(-1, 1)


def beside(file: str, name: str, source: str) -> str:
    """The path of what a published checkpoint needs beside it. Raises ValueError, which says where it is from."""
    if not (path := Path(file).parent / name).exists():
        raise ValueError(f"{file}: needs {path} beside it, {source}")
    return str(path)
