"""PIDM: "Person Image Synthesis via Denoising Diffusion Model" (Bhunia et al., CVPR 2023).

Implemented: the denoising U-Net on the noised image beside the target pose; texture diffusion blocks, in which its
lower levels attend to the source's features; the noise-prediction loss; disentangled guidance, for which pose and
source are each left out now and then in training and have one scale each in sampling. The moving average of the weights
(0.9999) is the trainer's, training.ema. diffusers supplies blocks (see `texture_unet`) and schedulers.

Departures. The variance of a step is fixed instead of learnt, so the variational term of the loss is absent: solvers
other than `ddpm` do not use it. Poses are the 18 joint maps of the suite. A missing source is features of zero rather
than an encoded black image, so that the encoder runs once a sample; pose and source go missing independently, where the
published code, with its one scale, drops them together. Scales of 1 and 1 mean the joint prediction without guidance.
Gradients are not clipped. The published code trains a pair in both directions, which the suite's lists of pairs contain
already. Residual blocks and attention start as diffusers starts them, not at zero: short trainings learn faster so.
"""

import torch
from torch import Tensor

from baselines.diffusion.process import NoiseProcess, Prediction, kept_in_training, prediction_problems
from baselines.diffusion.samplers import (
    disentangled_branches,
    for_branches,
    guidance_problems,
    guided,
    sample,
    sampler_problems,
)
from baselines.diffusion.texture_unet import Size, SourceEncoder, TextureUNet
from xinggan.data.batch import PosePair, images_to_float
from xinggan.data.poses import pose_maps
from xinggan.data.settings import PoseMap
from xinggan.model.method import Method


class PIDM(Method):
    """PIDM at its published size. ValueError for settings out of range, naming all of them."""

    averaged = ("source_encoder", "denoiser")

    def __init__(
        self,
        width: int = 128,
        multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4),
        level_blocks: int = 2,
        attention_levels: int = 3,
        dropout: float = 0.1,
        prediction: Prediction = Prediction.epsilon,
        sampler: str = "ddim",
        steps: int = 50,
        guidance_source: float = 2.0,
        guidance_pose: float = 2.0,
        condition_dropout: float = 0.1,
        learning_rate: float = 2e-5,
        pose_map: PoseMap = PoseMap.gaussian,
        pose_sigma: float = 6.0,
        seed: int = 0,
    ):
        """level_blocks: residual blocks a level. steps: of sampling. pose_sigma: pixels."""
        super().__init__()
        size = Size(width, tuple(multipliers), level_blocks, attention_levels, dropout)
        problems = [
            *size.problems(),
            *prediction_problems(prediction),
            *sampler_problems(sampler, steps),
            *guidance_problems(guidance_source, guidance_pose, condition_dropout),
        ]
        if problems:
            raise ValueError("; ".join(problems))
        self.sampler, self.steps, self.condition_dropout = sampler, steps, condition_dropout
        self.branches = disentangled_branches(guidance_source, guidance_pose)
        self.pose_map, self.pose_sigma = pose_map, pose_sigma
        self.process = NoiseProcess(prediction)
        with torch.random.fork_rng(devices=[]):  # the library's initialisation, but from our seed
            torch.manual_seed(seed)
            self.source_encoder, self.denoiser = SourceEncoder(size), TextureUNet(size)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        weights = [*self.source_encoder.parameters(), *self.denoiser.parameters()]
        self.optimisers["denoiser"] = torch.optim.Adam(weights, lr=learning_rate, fused=True)

    def training_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """One update on the error of the predicted noise; source and pose are each left out now and then."""
        with self.autocast():
            loss = self.denoising_loss(batch)
        gradient = self.update("denoiser", loss)
        return {"denoising": loss.detach(), "gradient_denoiser": gradient}

    def denoising_loss(self, batch: PosePair) -> Tensor:
        """Mean squared error of the prediction for a draw of timesteps, noise and missing conditions. Returns []."""
        target = images_to_float(batch.target_image)
        features, maps = self.conditions(batch.source_image, batch.target_pose)
        rows, device = len(target), target.device
        source_kept = kept_in_training(rows, self.condition_dropout, device).view(-1, 1, 1)
        pose_kept = kept_in_training(rows, self.condition_dropout, device).view(-1, 1, 1, 1)
        features, maps = [level * source_kept for level in features], maps * pose_kept
        return self.process.loss(lambda noised, timesteps: self.denoiser(noised, timesteps, maps, features), target)

    def conditions(self, source: Tensor, target_pose: Tensor) -> tuple[list[Tensor], Tensor]:
        """The source's features [B, S, C] a level and the target's pose maps [B, 18, H, W]."""
        image = images_to_float(source)
        return self.source_encoder(image), pose_maps(target_pose, image, self.pose_map, self.pose_sigma)

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. The source is encoded once, the denoiser evaluated once a step for all branches."""
        with self.autocast():
            features, maps = self.conditions(source, target_pose)
            features = [for_branches(level, [branch.source for branch in self.branches]) for level in features]
            maps = for_branches(maps, [branch.pose for branch in self.branches])
            return sample(
                self.process,
                guided(lambda noised, timesteps: self.denoiser(noised, timesteps, maps, features), self.branches),
                tuple(source.shape[1:]),
                seeds,
                sampler=self.sampler,
                steps=self.steps,
                device=source.device,
                limit=1.0,
            )
