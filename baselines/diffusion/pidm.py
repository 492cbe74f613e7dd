"""PIDM: "Person Image Synthesis via Denoising Diffusion Model" (Bhunia et al., CVPR 2023).

Implemented: the denoising U-Net on the noised image beside the target pose; texture diffusion blocks, in which its
lower levels attend to the source's features; the noise-prediction loss; disentangled guidance, for which training
leaves out pose and source now and then, and sampling has one scale for each. The moving average of the weights
(0.9999) is the trainer's, training.ema. diffusers supplies blocks (see `texture_unet`) and schedulers.

Departures. The variance of a step is fixed instead of learnt, so the variational term of the loss is absent: solvers
other than `ddpm` do not use it. Poses are the 18 joint maps of the suite. A missing source is features of zero rather
than an encoded black image, so that the encoder runs once a sample. Pose and source go missing independently and have a
scale each, as in the paper's formula; the published code leaves out the source alone and has one scale. Scales of 1 and
1 mean the joint prediction without guidance. Gradients are not clipped. The published code trains a pair in both
directions; the suite's lists of pairs contain both. Residual blocks and attention have diffusers' initialisation
instead of zeros, with which short trainings learn faster.
"""

import torch
from torch import Tensor

from baselines.diffusion.process import NoiseProcess, Seen, draw_seen
from baselines.diffusion.samplers import disentangled_branches, guided, sample, trailing_timesteps
from baselines.diffusion.settings import PIDMFewStepSettings, PIDMSettings
from baselines.diffusion.texture_unet import SourceEncoder, TextureBlock, TextureUNet
from xinggan.data.batch import PosePair, images_to_float
from xinggan.model.method import Method


class PIDM(Method):
    """PIDM in its own training."""

    averaged = ("source_encoder", "denoiser")
    checkpointed = (SourceEncoder, TextureBlock)

    def __init__(self, settings: PIDMSettings | PIDMFewStepSettings | None = None):
        super().__init__()
        self.settings = s = settings or PIDMSettings()
        self.branches = disentangled_branches(s.guidance_source, s.guidance_pose)
        self.process = NoiseProcess(s.prediction)
        with torch.random.fork_rng(devices=[]):  # the library's initialisation, but from our seed
            torch.manual_seed(s.seed)
            self.source_encoder, self.denoiser = SourceEncoder(s), TextureUNet(s)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        weights = [*self.source_encoder.parameters(), *self.denoiser.parameters()]
        self.optimisers["denoiser"] = torch.optim.Adam(weights, lr=s.learning_rate, fused=True)

    def training_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """One update on the error of the predicted noise; source and pose are each left out now and then."""
        with self.autocast():
            loss = self.denoising_loss(batch)
        gradient = self.update("denoiser", loss)
        return {"denoising": loss.detach(), "gradient_denoiser": gradient}

    def denoising_loss(self, batch: PosePair) -> Tensor:
        """Mean squared error of the prediction for a draw of timesteps, noise and missing conditions. Returns []."""
        target = images_to_float(batch.target_image)
        conditions = self.conditions(batch.source_image, batch.target_pose)
        seen = draw_seen(target, self.settings.condition_dropout)
        return self.process.loss(lambda noised, timesteps: self.predicted(noised, timesteps, conditions, seen), target)

    def conditions(self, source: Tensor, target_pose: Tensor) -> list[Tensor]:
        """The target's pose maps [B, 18, H, W], then the source's features [B, S, C] of each level that attends."""
        image = images_to_float(source)
        return [self.pose_maps(target_pose, image), *self.source_encoder(image)]

    def predicted(
        self, noised: Tensor, timesteps: Tensor, conditions: list[Tensor], seen: Seen | None = None
    ) -> Tensor:
        """The prediction [B, 3, H, W] from `conditions()`, of which each row sees what `seen` says, or all."""
        maps, *features = conditions
        if seen is not None:
            maps = maps * seen.pose.view(-1, 1, 1, 1)
            features = [level * seen.source.view(-1, 1, 1) for level in features]
        return self.denoiser(noised, timesteps, maps, features)

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. The source is encoded once, the denoiser evaluated once a step for all branches."""
        with self.autocast():
            return sample(
                self.process,
                guided(self.predicted, self.conditions(source, target_pose), self.branches),
                tuple(source.shape[1:]),
                seeds,
                sampler=self.settings.sampler,
                timesteps=trailing_timesteps(self.settings.steps),
                device=source.device,
                limit=1.0,
            )
