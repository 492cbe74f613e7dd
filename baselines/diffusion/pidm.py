"""PIDM: "Person Image Synthesis via Denoising Diffusion Model" (Bhunia et al., CVPR 2023).

Implemented after the published code: the networks (see `pidm_unet`); the pose as 20 maps, three of a drawn skeleton and
the distance to each of 17 limbs; the loss, the squared error of the noise plus the variational bound of a learnt
variance; training with the source image left out (a mid-grey image, 10 %), mirrored pairs, and images enlarged by up to
5 % and cropped; Adam with warm-up and gradients clipped to a norm of 1; DDIM without clamping, guided by the source
alone with one scale. `guidance=paper` is the formula of the paper's section 3.3 instead, with a scale for the source
and one for the pose, for which training leaves each of them out on its own.

Departures. Limbs are drawn as exact ellipses where the code has polygons of whole pixels. The crop is placed between
pixels. The missing source is encoded once a batch instead of once an image. The moving average (0.9999) is the
trainer's, whose decay rises from the first step; there it equals the weights for 5,000 steps. The code trains each pair
of its list in both directions, this suite in those that the list holds. Learnt variance serves the sampler `ddpm`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from baselines.diffusion.pidm_unet import PIDMUNet, SourceEncoder, TextureBlock
from baselines.diffusion.process import NoiseProcess, Seen, draw_seen, draw_true
from baselines.diffusion.samplers import (
    disentangled_branches,
    guided,
    leading_timesteps,
    sample,
    source_branches,
    trailing_timesteps,
)
from baselines.diffusion.settings import (
    Guidance,
    PIDMNetworkSettings,
    PIDMPoseMap,
    PIDMSettings,
    Sampler,
    Spacing,
)
from baselines.geometry import mirrored, mirrored_poses, resized, scaled_and_cropped, scaled_poses
from baselines.limb_maps import CHANNELS, limb_maps
from xinggan.data.batch import PosePair, images_to_float
from xinggan.data.poses import JOINTS, pose_maps
from xinggan.data.settings import PoseMap
from xinggan.model.method import Method

FIRST_RATE = 0.04  # of the learning rate, at the first step of the warm-up
LONGEST_GRADIENT = 1.0


class PIDM(Method):
    """PIDM in its own training."""

    averaged = ("source_encoder", "denoiser")
    checkpointed = (SourceEncoder, TextureBlock)

    def __init__(self, settings: PIDMNetworkSettings | None = None):
        super().__init__()
        self.settings = s = settings or PIDMSettings()
        self.branches = (source_branches if s.guidance == Guidance.released else disentangled_branches)(*s.scales)
        self.process = NoiseProcess(s.prediction, learnt_variance=s.learn_variance, weighting=s.weighting)
        self.maps = CHANNELS if s.pose_map == PIDMPoseMap.limbs else len(JOINTS)
        with torch.random.fork_rng(devices=[]):  # the library's initialisation, but from our seed
            torch.manual_seed(s.seed)
            self.source_encoder = SourceEncoder(s)
            self.denoiser = PIDMUNet(s, inputs=3 + self.maps, outputs=6 if s.learn_variance else 3)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        weights = [*self.source_encoder.parameters(), *self.denoiser.parameters()]
        self.optimisers["denoiser"] = adam = torch.optim.Adam(weights, lr=s.learning_rate, fused=True)
        adam.register_step_pre_hook(clip_gradients)

    def training_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """One update on the error of the predicted noise and on the bound of the learnt variance."""
        with self.autocast():
            terms = self.losses(batch)
        with self.warm_up(step):
            gradient = self.update("denoiser", torch.stack(list(terms.values())).sum())
        return {name: term.detach() for name, term in terms.items()} | {"gradient_denoiser": gradient}

    @contextmanager
    def warm_up(self, step: int) -> Iterator[None]:
        """Context with a lower learning rate than the trainer has set, in the first steps."""
        factor = FIRST_RATE + (1 - FIRST_RATE) * min(1.0, step / max(self.settings.warmup_steps, 1))
        (group,) = self.optimisers["denoiser"].param_groups
        usual = group["lr"]
        group["lr"] = usual * factor
        yield
        group["lr"] = usual

    def losses(self, batch: PosePair) -> dict[str, Tensor]:
        """The loss's terms for a draw of views, timesteps, noise and missing conditions, [] each."""
        source, target, pose = self.training_views(batch)
        seen = draw_seen(target, self.settings.condition_dropout)
        source = source * seen.source.view(-1, 1, 1, 1)
        maps = self.pose_maps(pose, target)
        if self.settings.guidance == Guidance.paper:
            maps = maps * seen.pose.view(-1, 1, 1, 1)
        features = self.features(source)
        return self.process.terms(lambda noised, t: self.denoiser(noised, t, maps, features), target)

    def training_views(self, batch: PosePair) -> tuple[Tensor, Tensor, Tensor]:
        """Source and target [B, 3, h, w] in [-1, 1] and the target's pose [B, 18, 3], as training sees them.

        Both images of a pair are mirrored or neither; the joints keep their names, as in the published code.
        """
        rows, views = draw_true(batch.target_image, self.settings.flip), []
        for image, pose in ((batch.source_image, batch.source_pose), (batch.target_image, batch.target_pose)):
            image, pose = self.stretched(images_to_float(image), pose)
            if self.settings.zoom:
                image, pose = scaled_and_cropped(image, pose, most=1 + self.settings.zoom)
            views.append((mirrored(image, rows), mirrored_poses(pose, rows, image.shape[-1])))
        (source, _), (target, pose) = views
        return source, target, pose

    def stretched(self, images: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W] in [-1, 1] at the networks' size, and their poses [B, 18, 3]."""
        factor = 2 ** (len(self.settings.multipliers) - 1)
        size = self.settings.size or [-(-side // factor) * factor for side in images.shape[-2:]]
        return resized(images, size).clamp(-1, 1), scaled_poses(poses, images, size)

    def pose_maps(self, poses: Tensor, image: Tensor) -> Tensor:
        """See `Method.pose_maps`; as published [B, 20, H, W], limbs as wide as published at a height of 256 pixels."""
        if self.settings.pose_map == PIDMPoseMap.limbs:
            return limb_maps(poses, *image.shape[-2:])
        return pose_maps(poses, image, PoseMap(self.settings.pose_map), self.settings.pose_sigma)

    def features(self, source: Tensor) -> list[Tensor]:
        """What the denoiser attends to of source images [B, 3, h, w]: [B, C, h', w'] for each of its places."""
        features = self.source_encoder(source)
        return [features[place] for place in self.denoiser.places]

    def conditions(self, source: Tensor, pose: Tensor) -> list[Tensor]:
        """For images [B, 3, h, w] and poses [B, 18, 3]: pose maps [B, P, h, w], the source's features, and where a
        branch of guidance has no source as many features of a missing one.
        """
        count, missing = len(source), not all(branch.source for branch in self.branches)
        features = self.features(torch.cat([source, torch.zeros_like(source[:1])]) if missing else source)
        empty = [level[count:].expand_as(level[:count]) for level in features if missing]
        return [self.pose_maps(pose, source), *(level[:count] for level in features), *empty]

    def predicted(
        self, noised: Tensor, timesteps: Tensor, conditions: list[Tensor], seen: Seen | None = None
    ) -> Tensor:
        """The denoiser's output [B, 3 or 6, h, w] from `conditions()`, of which rows see what `seen` says, or all."""
        maps, places = conditions[0], len(self.denoiser.places)
        features, missing = conditions[1 : places + 1], conditions[places + 1 :]
        if seen is not None:
            maps = maps * seen.pose.view(-1, 1, 1, 1)
            shown = seen.source.view(-1, 1, 1, 1)
            if missing:
                features = [torch.where(shown, *pair) for pair in zip(features, missing, strict=True)]
        return self.denoiser(noised, timesteps, maps, features)

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. The source is encoded once, the denoiser evaluated once a step for all branches."""
        s, (image, pose) = self.settings, self.stretched(images_to_float(source), target_pose)
        released = s.spacing == Spacing.released
        leading = released and s.sampler in (Sampler.ddim, Sampler.ddpm)
        unclamped = released and s.sampler == Sampler.ddim
        with self.autocast():
            generated = sample(
                self.process,
                guided(self.predicted, self.conditions(image, pose), self.branches),
                tuple(image.shape[1:]),
                seeds,
                sampler=s.sampler,
                timesteps=(leading_timesteps if leading else trailing_timesteps)(s.steps),
                device=source.device,
                limit=torch.inf if unclamped else 1.0,
            )
        return resized(generated.clamp(-1, 1), source.shape[-2:]).clamp(-1, 1)


def clip_gradients(optimiser: torch.optim.Optimizer, *_: object) -> None:
    """Shorten the gradient of all parameters to a norm of 1 where it is longer; a hook before the optimiser's step."""
    nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], LONGEST_GRADIENT)
