"""CFLD: "Coarse-to-Fine Latent Diffusion for Pose-Guided Person Image Synthesis" (Lu et al., CVPR 2024).

Implemented: the networks (see `cfld_network`), of which a U-Net from a file (`unet`) trains the keys and values of the
cross-attentions on the way up alone, a new one is trained whole; the loss with the source's reconstruction from itself
and cubic sampling of timesteps (section 3.4); guidance by the pose, then by the source. The source encoder is a Swin,
read from a file (`swin`) or new; its input is the source in four times the latents' size, as published, so that its
stages have the grids of the U-Net's levels. Training leaves out the prompt alone, so the branch that guidance calls
"neither" was never trained as such, as in the published code.

Departures. Where the published code has a position embedding for 8 x 8 source features, other grids take an
interpolated one. Equal scales need two branches, where the published code evaluates three. Latents are drawn in single
precision, where the published training is in half precision.
"""

import re

import torch
from torch import Tensor, nn

from baselines.diffusion.autoencoder import load_model
from baselines.diffusion.cfld_network import SKELETON, CFLDDenoiser, FineFeatures, RefiningBlock
from baselines.diffusion.latent_diffusion import LatentDiffusion
from baselines.diffusion.latent_settings import TRAINED, CFLDSettings
from baselines.diffusion.process import Seen, draw_noise, draw_true
from baselines.diffusion.samplers import cascaded_branches, leading_timesteps
from baselines.diffusion.settings import TIMESTEPS, Sampler
from baselines.geometry import mirrored, resized, scaled_poses, uniform
from baselines.limb_maps import limb_maps
from xinggan.data.batch import PosePair, images_to_float
from xinggan.data.poses import heatmaps
from xinggan.files import sha256_of, user_path

TRAINED_PARTS = re.compile(r"up_blocks\..*\.attn2\.to_[kv]\.")  # of a U-Net from a file


class CFLD(LatentDiffusion):
    """CFLD in its own training."""

    settings: CFLDSettings
    denoiser: CFLDDenoiser
    checkpointed = (RefiningBlock, FineFeatures)

    def __init__(self, settings: CFLDSettings | None = None):
        super().__init__(settings or CFLDSettings())
        self.branches = cascaded_branches(self.settings.guidance_source, self.settings.guidance_pose)

    def make_denoiser(self, channels: int) -> nn.Module:
        """See `LatentDiffusion`. Raises ValueError for files that do not fit."""
        s = self.settings
        unet = None
        if s.unet != TRAINED:
            unet, self.networks["unet"] = load_model(user_path(s.unet), "UNet2DConditionModel", "unet")
            for name, weights in unet.named_parameters():
                weights.requires_grad_(TRAINED_PARTS.search(name) is not None)
        denoiser = CFLDDenoiser(s, channels, unet)
        if s.swin != TRAINED:
            denoiser.source_encoder.load(user_path(s.swin))
            self.networks["swin"] = sha256_of(user_path(s.swin))
        return denoiser

    def make_optimiser(self, weights: list[nn.Parameter]) -> torch.optim.Optimizer:
        """See `LatentDiffusion`."""
        return torch.optim.Adam(weights, self.settings.learning_rate, fused=True)

    def rate_factor(self, step: int, steps: int) -> float:
        """See `LatentDiffusion`: after the warm-up, which begins at a tenth, a tenth from half way on."""
        warmup = self.settings.warmup_steps
        if not warmup:
            return 1.0
        return 0.1 + 0.9 * (step + 1) / warmup if step < warmup else 1.0 if step < steps / 2 else 0.1

    def conditions(self, images: Tensor, poses: Tensor, sigma: float, seeds: Tensor) -> list[Tensor]:
        """See `CFLDDenoiser.conditions`."""
        return self.denoiser.conditions(self.encoder_input(images), self.adapter_input(images, poses, sigma))

    def sampling_timesteps(self) -> list[int]:
        """See `LatentDiffusion`: of `ddpm` those of Stable Diffusion's scheduler, which end at 1."""
        if self.settings.sampler != Sampler.ddpm:
            return super().sampling_timesteps()
        return [min(timestep + 1, TIMESTEPS - 1) for timestep in leading_timesteps(self.settings.steps)]

    def encoder_input(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] -> [B, 3, 4 h, 4 w], four times the latents' size, by antialiased bicubic."""
        return resized(images, self._input_size(images)).clamp(-1, 1)

    def adapter_input(self, images: Tensor, poses: Tensor, sigma: float) -> Tensor:
        """Maps [B, 21, 4 h, 4 w] of the drawn skeleton and the joints of poses [B, 18, 3] in images [B, 3, H, W]."""
        height, width = self._input_size(images)
        poses = scaled_poses(poses, images, (height, width))
        drawn = limb_maps(poses, height, width, max(1.0, height / 64))[:, :SKELETON]
        return torch.cat(
            [drawn, heatmaps(poses, height, width, sigma * height / images.shape[-2], self.settings.pose_map)], 1
        )

    def _input_size(self, images: Tensor) -> tuple[int, int]:
        return 4 * -(-images.shape[-2] // self.factor), 4 * -(-images.shape[-1] // self.factor)

    def denoising_terms(self, batch: PosePair) -> dict[str, Tensor]:
        """The errors of the noise predicted in the target's and in the source's latents, in one evaluation.

        The source encoder is given the source image mirrored with probability `flip`, as published; latents are not.
        """
        source, target = self.training_latents(batch.pair, self.draw_flips(batch))
        image = self.sized(images_to_float(batch.source_image))
        weight, latents, poses = self.settings.reconstruction, [target], [batch.target_pose]
        if weight:
            latents.append(source)
            poses.append(batch.source_pose)
        sized, sigma = self.sized_pose(torch.cat(poses), batch.source_image)
        pose_maps = self.adapter_input(image, sized, sigma)
        seen_image = mirrored(self.encoder_input(image), draw_true(batch.pair, self.settings.flip))
        conditions = self.denoiser.conditions(seen_image, pose_maps)
        count = 1 + len(self.denoiser.fine)
        conditions[:count] = [torch.cat([condition] * len(latents)) for condition in conditions[:count]]

        prompted = torch.cat([~draw_true(clean, self.settings.condition_dropout) for clean in latents])
        noise = [draw_noise(clean) for clean in latents]
        timesteps = [cubic_timesteps(clean) for clean in latents]
        noised = [self.process.noised(*drawn) for drawn in zip(latents, noise, timesteps, strict=True)]
        wanted = [self.process.target(*drawn) for drawn in zip(latents, noise, timesteps, strict=True)]
        everything = torch.ones_like(prompted)
        predicted = self.denoiser(
            torch.cat(noised), torch.cat(timesteps), conditions, Seen(everything, everything), prompted
        ).float()
        parts = zip(predicted.chunk(len(latents)), wanted, timesteps, strict=True)
        errors = [self.process.error(*part) for part in parts]
        terms = {"denoising": errors[0] / (1 + weight)}  # of weight 1 the mean of both halves, as published
        if weight:
            terms["reconstruction"] = weight * errors[1] / (1 + weight)
        return terms


def cubic_timesteps(batch: Tensor) -> Tensor:
    """Timesteps floor((1 - u^3) T), int64 [B], u uniform in [0, 1), for a training batch [B, ...]: often noisy ones."""
    return ((1 - uniform(batch) ** 3) * TIMESTEPS).long().clamp(max=TIMESTEPS - 1)
