"""Latent diffusion (Rombach et al., CVPR 2022) of a person in a pose: what PoCoLD and CFLD have in common.

The first stage of a run trains the autoencoder, unless its weights are from a file. Then the training images are
encoded once, and a denoiser learns to predict the noise in the target's latents from the source and the target pose.
Latents have mean 0 and deviation 1 in each channel, measured on the training images (LDM has one factor for all).
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from baselines.diffusion.autoencoder import (
    AutoencoderKL,
    add_autoencoder,
    decode,
    encode,
    factor_of,
    first_stage_step,
    first_stage_steps,
)
from baselines.diffusion.process import NoiseProcess, Seen, scaled_linear_betas
from baselines.diffusion.samplers import cascaded_branches, guided, sample, trailing_timesteps
from baselines.diffusion.settings import LatentSettings
from baselines.diffusion.texture_unet import SourceEncoder, TextureBlock
from xinggan.data.batch import PosePair, images_to_float
from xinggan.data.packed import PackedSplit
from xinggan.model.method import Method
from xinggan.progress import Progress

BATCH = 32  # images encoded at once


class Denoiser(nn.Module):
    """The networks of a latent method: `conditions` run once a sample, the prediction (`forward`) once a step.

    Made from the method's settings, the latents' channels, and `factor`, the pixels along a side of a latent position.
    """

    sees_latents = True  # whether the source is given as latents; else as an image

    def __init__(self, settings: LatentSettings, channels: int, factor: int):
        super().__init__()
        self.settings, self.factor = settings, factor

    def conditions(self, source: Tensor, target_pose: Tensor) -> list[Tensor]:
        """source: latents [B, C, h, w] or image [B, 3, H, W]; target_pose: [B, 18, 3]. Returns tensors [B, ...]."""
        raise NotImplementedError

    def forward(self, noised: Tensor, timesteps: Tensor, conditions: list[Tensor], seen: Seen) -> Tensor:
        """noised: [B, C, h, w]; timesteps: int64 [B]. Returns the prediction [B, C, h, w]."""
        raise NotImplementedError


class LatentDiffusion(Method):
    """A method around a `Denoiser`. A subclass says what is minimised (`denoising_terms`)."""

    averaged = ("autoencoder", "denoiser")
    checkpointed = (SourceEncoder, TextureBlock)

    autoencoder: AutoencoderKL
    latent_mean: Tensor  # [C, 1, 1]
    latent_std: Tensor  # [C, 1, 1]
    latent_limit: Tensor  # []

    def __init__(self, settings: LatentSettings, denoiser: type[Denoiser]):
        super().__init__()
        self.settings = s = settings
        self.branches = cascaded_branches(s.guidance_source, s.guidance_pose)
        self.process = NoiseProcess(s.prediction, scaled_linear_betas())
        add_autoencoder(self, s)
        channels, self.factor = self.autoencoder.config.latent_channels, factor_of(self.autoencoder)
        self.register_buffer("latent_mean", torch.zeros(channels, 1, 1))
        self.register_buffer("latent_std", torch.ones(channels, 1, 1))
        self.register_buffer("latent_limit", torch.ones(()))
        with torch.random.fork_rng(devices=[]):  # the library's initialisation, but from our seed
            torch.manual_seed(s.seed + 1)
            self.denoiser = denoiser(s, channels, self.factor)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimisers["denoiser"] = torch.optim.AdamW(self.denoiser.parameters(), s.learning_rate, fused=True)
        self._latents: Tensor | None = None  # [n, C, h, w], of the training images once the autoencoder is trained

    def checkpoint_activations(self) -> None:
        """See `Method`; the autoencoder does it in diffusers' own way."""
        super().checkpoint_activations()
        self.autoencoder.enable_gradient_checkpointing()

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
        source, target = self.training_latents(batch.pair)
        with self.autocast():
            terms = self.denoising_terms(batch, source, target)
        terms["gradient_denoiser"] = self.update("denoiser", torch.stack(list(terms.values())).sum())
        return {name: term.detach() for name, term in terms.items()}

    def denoising_terms(self, batch: PosePair, source: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The terms of the second stage's loss, [] each, for normalised latents [B, C, h, w] of a batch."""
        raise NotImplementedError

    def training_latents(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised latents of source and target, [B, C, h, w] each, of the training pairs int64 [B]."""
        if self._latents is None:
            self._encode_training_images()
        source, target = self._pairs[pairs].T
        return self._latents[source], self._latents[target]  # type: ignore[index]

    def _encode_training_images(self) -> None:
        """Encode the training images and measure their latents.

        A resumed training does it again, with the same weights in the same batches, so the latents are the same to the
        bit; in a checkpoint they would take 11 KB for each image of DeepFashion.
        """
        split, device = self.train_split, self.latent_mean.device
        assert split is not None  # set by the trainer
        self._pairs = torch.from_numpy(split.pairs.astype(np.int64)).to(device)  # [p, 2]
        parts, count = [], len(split.images)
        progress = Progress("encoding", count, "images", enabled=self.processes.first)
        # A budget in FLOPs counts those of a step; the encoding is not part of one.
        with _disable_current_modes(), torch.no_grad(), progress:
            for start in range(0, count, BATCH):
                images = torch.tensor(split.images[start : start + BATCH]).permute(0, 3, 1, 2).to(device)
                parts.append(encode(self.autoencoder, images_to_float(images)).float())
                progress.update(len(images))
            latents = torch.cat(parts)  # [n, C, h, w]
            self.latent_mean.copy_(latents.mean(dim=(0, 2, 3))[:, None, None])
            self.latent_std.copy_(latents.std(dim=(0, 2, 3))[:, None, None].clamp(min=1e-6))
            self._latents = self.normalised(latents)
            self.latent_limit.copy_(self._latents.abs().max())

    def normalised(self, latents: Tensor) -> Tensor:
        """The autoencoder's latents [B, C, h, w] -> the denoiser's, of mean 0 and deviation 1."""
        return (latents - self.latent_mean) / self.latent_std

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. The source is encoded once, the denoiser evaluated once a step for all branches."""
        images, (height, width) = images_to_float(source), source.shape[-2:]
        with self.autocast():
            seen = self.normalised(encode(self.autoencoder, images)) if self.denoiser.sees_latents else images
            clean = sample(
                self.process,
                guided(self.denoiser, self.denoiser.conditions(seen, target_pose), self.branches),
                (len(self.latent_mean), -(-height // self.factor), -(-width // self.factor)),
                seeds,
                sampler=self.settings.sampler,
                timesteps=trailing_timesteps(self.settings.steps),
                device=source.device,
                limit=float(self.latent_limit),
            )
            image = decode(self.autoencoder, clean * self.latent_std + self.latent_mean, height, width)
        return image.float().clamp(-1, 1)
