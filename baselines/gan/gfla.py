"""GFLA: "Deep Image Spatial Transformation for Person Image Generation" (Ren et al., CVPR 2020).

Implemented: the global flow field estimator and the local neural texture renderer (in `gfla_networks`), with
content-aware sampling at a quarter and an eighth of the resolution, the losses (sampling correctness, regularisation,
L1, adversarial, perceptual, style) and the training in two stages, the flow estimator alone first. Networks, weights
and optimisers are those of the published code for DeepFashion; for Market-1501 it had one attention, of 3x3 patches at
a quarter of the resolution, which is `patches=[3]`.

Departures. Sampling correctness, perceptual and style loss look through the suite's perceptual network, one early layer
at full resolution (pooled to the flow's for sampling correctness), where the paper has deeper layers of VGG19. Sampling
for the correctness loss is bilinear as in the paper (the code: a Gaussian of 4x4). The style weight is a hundredth of
the published 500: Gram matrices of an early layer have larger entries, and a large weight draws stripes. A kernel's
weighted patch is summed, not averaged (see `LocalAttention`). Weights have the library's default initialisation
(published: orthogonal). Both stages weigh their losses alike (published: the first four times as much, which Adam's
normalisation cancels). Images are padded to a multiple of 64 x 32 by repeating their last row and column. Chosen here,
where the paper is silent: the first stage's share of the steps.
"""

from functools import cache
from math import exp

import torch
from torch import Tensor
from torch.nn import functional as F

from baselines.gan.gfla_networks import (
    EPSILON,
    FINEST,
    Doubling,
    Flows,
    GflaGenerator,
    Halving,
    LocalAttention,
    Residual,
    image_discriminator,
    sample,
    sources,
)
from baselines.gan.settings import GFLASettings
from xinggan.data.batch import PosePair, images_to_float
from xinggan.model.losses import PerceptualLoss, adversarial_loss
from xinggan.model.method import Method


def sampling_correctness(source: Tensor, target: Tensor, flow: Tensor) -> Tensor:
    """exp(-cosine / best cosine) at each place of the target, averaged, less its least value of 1 / e. Returns [].

    The cosine is that of the target's features [B, C, h, w] with the source's where the flow points, the best that with
    the most similar place anywhere in the source.
    """
    wanted = F.normalize(target.flatten(2), dim=1, eps=EPSILON)  # [B, C, h * w]
    best = (F.normalize(source.flatten(2), dim=1, eps=EPSILON).mT @ wanted).amax(dim=1)  # [B, h * w]
    cosine = F.cosine_similarity(sample(source, sources(flow)).flatten(2), target.flatten(2), dim=1, eps=EPSILON)
    return torch.exp(-cosine / (best + EPSILON)).mean() - exp(-1)


def affine_regularisation(flow: Tensor, size: int) -> Tensor:
    """The flow's distance from affine: squared residuals of the best affine map of each size x size patch.

    flow: [B, 2, h, w]; smaller maps have smaller patches. Returns [], summed over the patch and averaged over patches.
    """
    size = min(size, *flow.shape[-2:])
    patches = F.unfold(flow.float().flatten(0, 1)[:, None], size)  # [2 B, n * n, number of patches]
    residual = _residual_of_affine(size).to(flow.device) @ patches
    return 2 * residual.square().sum(dim=1).mean()


@cache
def _residual_of_affine(size: int) -> Tensor:
    """[n * n, n * n]: takes the values on a patch to what is left of them after the least-squares affine function."""
    rows, columns = torch.meshgrid(*2 * [torch.arange(size, dtype=torch.float64)], indexing="ij")
    design = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).flatten(0, 1)  # [n * n, 3]
    return (torch.eye(size**2, dtype=torch.float64) - design @ torch.linalg.pinv(design)).float()


def style_loss(generated: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of the Gram matrices of two feature maps [B, C, H, W], divided by C * H * W."""
    made, wanted = (features.flatten(2) @ features.flatten(2).mT for features in (generated, target))  # [B, C, C]
    return F.l1_loss(made, wanted) / target[0].numel()


class GFLA(Method):
    """GFLA in its own training: the flow estimator alone in the first `flow_share` of the steps, then everything."""

    averaged = ("generator",)
    checkpointed = (Halving, Residual, Doubling, LocalAttention)

    def __init__(self, settings: GFLASettings | None = None):
        super().__init__()
        self.settings = s = settings or GFLASettings()
        with torch.random.fork_rng(devices=[]):  # the library's default initialisation, but from our seed
            torch.manual_seed(s.seed)
            self.generator = GflaGenerator(s.width, s.patches)
            adversarial = bool(s.losses.adversarial)
            self.discriminator = image_discriminator(s.width // 2, s.discriminator_levels) if adversarial else None
        rates = {"generator": s.learning_rate, "discriminator": s.learning_rate * s.discriminator_rate}
        for name, rate in rates.items():
            if (network := getattr(self, name)) is not None:
                adam = torch.optim.Adam(network.parameters(), rate, betas=(s.beta1, 0.999), fused=True)
                self.optimisers[name] = adam
        # In a list, so that the frozen network's weights stay out of this method's checkpoints.
        self._perceptual = [PerceptualLoss(s.losses.perceptual_network)]
        self.networks = {str(s.losses.perceptual_network): self._perceptual[0].sha256}
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def training_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """In the first stage a step of the flow estimator, else one of the discriminator, then of the generator."""
        inputs = self.inputs(batch.source_image, batch.source_pose, batch.target_pose)
        source, target = inputs[0], images_to_float(batch.target_image)
        perceptual = self._perceptual[0].to(source.device)
        with torch.no_grad(), self.autocast():
            seen_source, seen_target = (perceptual.features(image).float() for image in (source, target))
        terms: dict[str, Tensor] = {}
        if step < self.settings.flow_share * self.planned_steps:
            with self.autocast():
                flows = self.generator.flow_fields(*inputs)
            losses = self._flow_losses(flows, seen_source, seen_target)
        else:
            with self.autocast():
                generated, flows = self.generator(*inputs)  # [B, 3, H, W]
            if self.discriminator is not None:
                terms = self._update_discriminator(generated.detach(), target)
            losses = self._flow_losses(flows, seen_source, seen_target)
            losses |= self._image_losses(generated, target, seen_target)
        terms |= losses | {"gradient_generator": self.update("generator", torch.stack(list(losses.values())).sum())}
        return {name: term.detach() for name, term in terms.items()}

    def _flow_losses(self, flows: Flows, source: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Correctness and regularisation, summed over the flows; source, target: features [B, C, H, W].

        The features are pooled to each flow's resolution; the flow of the padding is left out of the correctness.
        """
        correctness, regularisation = [], []
        for level, ((flow, _), size) in enumerate(zip(flows, self.settings.patches, strict=True)):
            height, width = (-(-length // 2 ** (FINEST + level)) for length in target.shape[-2:])
            here, there = (F.adaptive_avg_pool2d(features, (height, width)) for features in (target, source))
            correctness.append(sampling_correctness(there, here, flow[..., :height, :width]))
            regularisation.append(affine_regularisation(flow, size))
        return {
            "correctness": self.settings.correctness * torch.stack(correctness).sum(),
            "regularisation": self.settings.regularisation * torch.stack(regularisation).sum(),
        }

    def _image_losses(self, generated: Tensor, target: Tensor, seen_target: Tensor) -> dict[str, Tensor]:
        with self.autocast():
            seen = self._perceptual[0].features(generated).float()
        terms = {
            "l1": self.settings.losses.l1 * F.l1_loss(generated.float(), target),
            "perceptual": self.settings.losses.perceptual * F.l1_loss(seen, seen_target),
            "style": self.settings.style * style_loss(seen, seen_target),
        }
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)  # the generator's update needs no gradient of its weights
            with self.autocast():
                scores = self.discriminator(generated)
            weights = self.settings.losses
            terms["adversarial"] = weights.adversarial * adversarial_loss(scores, True, weights.adversarial_kind)
        return terms

    def _update_discriminator(self, generated: Tensor, target: Tensor) -> dict[str, Tensor]:
        assert self.discriminator is not None
        self.discriminator.requires_grad_(True)
        with self.autocast():
            real, fake = self.discriminator(target), self.discriminator(generated)
        kind = self.settings.losses.adversarial_kind
        loss = (adversarial_loss(real, True, kind) + adversarial_loss(fake, False, kind)) / 2
        return {"discriminator": loss, "gradient_discriminator": self.update("discriminator", loss)}

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. The generator has no noise input, so the seeds change nothing."""
        with self.autocast():
            generated, _ = self.generator(*self.inputs(source, source_pose, target_pose))
        return generated.float()

    def inputs(self, source: Tensor, source_pose: Tensor, target_pose: Tensor) -> list[Tensor]:
        """Source image [B, 3, H, W] and both poses' maps [B, 18, H, W], of uint8 images and poses [B, 18, 3]."""
        image = images_to_float(source)
        return [image, *(self.pose_maps(pose, image) for pose in (source_pose, target_pose))]
