"""GFLA: "Deep Image Spatial Transformation for Person Image Generation" (Ren et al., CVPR 2020).

Implemented: the global flow field estimator, the local neural texture renderer with content-aware sampling at a quarter
and an eighth of the resolution, the losses (sampling correctness, regularisation, L1, adversarial, perceptual, style)
and the training in two stages, the flow estimator alone first. Networks, weights and optimisers are those of the
published code for DeepFashion; for Market-1501 it had one attention, of 3x3 patches at a quarter of the resolution,
which is `patches=[3]`.

Departures. Sampling correctness, perceptual and style loss look through the suite's perceptual network, one early layer
at full resolution (pooled to the flow's for sampling correctness), where the paper has deeper layers of VGG19. Sampling
for the correctness loss is bilinear as in the paper (the code: a Gaussian of 4x4). The style weight is a hundredth of
the published 500: Gram matrices of an early layer have larger entries, and draw stripes where they weigh much. A
kernel's weighted patch is summed, not averaged (`LocalAttention`). Weights are drawn as the library does (published:
orthogonal). Both stages weigh their losses alike (published: the first four times as much, which Adam does not notice).
Images are padded to a multiple of 64 x 32 by repeating their last row and column. Chosen here, where the paper is
silent: the first stage's share of the steps.
"""

from collections.abc import Sequence
from functools import cache
from math import exp, inf

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.gan.gfla_networks import EPSILON, FINEST, Flows, GflaGenerator, image_discriminator, sample, sources
from xinggan.data.batch import PosePair, images_to_float
from xinggan.data.poses import pose_maps
from xinggan.data.settings import PoseMap
from xinggan.model.losses import PerceptualLoss, adversarial_loss
from xinggan.model.method import Method
from xinggan.model.switches import AdversarialLoss, LossWeights, TransferSettings


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
    """How far the flow is from affine: squared residuals of the best affine map of each size x size patch.

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
    """GFLA in its own training. `losses.perceptual` is the weight of the perceptual loss, `style` that of the style's.

    In the first `flow_share` of the planned steps the flow estimator alone is trained, then everything.
    """

    averaged = ("generator",)

    def __init__(
        self,
        width: int = 64,
        patches: Sequence[int] = (5, 3),
        discriminator_levels: int = 3,
        flow_share: float = 0.25,
        correctness: float = 5.0,
        regularisation: float = 0.0025,
        style: float = 5.0,
        losses: LossWeights | None = None,
        learning_rate: float = 1e-4,
        discriminator_rate: float = 0.1,
        beta1: float = 0.0,
        pose_map: PoseMap = PoseMap.gaussian,
        pose_sigma: float = 6.0,
        seed: int = 0,
    ):
        """discriminator_rate: the discriminator's learning rate as a share of `learning_rate`. beta1: of Adam."""
        super().__init__()
        self.losses = losses or LossWeights(adversarial=2, l1=5, perceptual=0.5, adversarial_kind=AdversarialLoss.lsgan)
        weights = {"correctness": correctness, "regularisation": regularisation, "style": style}
        _check(width, patches, discriminator_levels, flow_share, discriminator_rate, beta1, weights, self.losses)
        self.patches, self.flow_share, self.weights = patches, flow_share, weights
        self.pose_map, self.pose_sigma = pose_map, pose_sigma
        with torch.random.fork_rng(devices=[]):  # the library's default initialisation, but from our seed
            torch.manual_seed(seed)
            self.generator = GflaGenerator(width, patches)
            judged = bool(self.losses.adversarial)
            self.discriminator = image_discriminator(width // 2, discriminator_levels) if judged else None
        self.optimisers["generator"] = _adam(self.generator, learning_rate, beta1)
        if self.discriminator is not None:
            self.optimisers["discriminator"] = _adam(self.discriminator, learning_rate * discriminator_rate, beta1)
        # In a list, so that the frozen network's weights stay out of this method's checkpoints.
        self._perceptual = [PerceptualLoss(self.losses.perceptual_network)]
        self.networks = {str(self.losses.perceptual_network): self._perceptual[0].sha256}
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def training_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """In the first stage a step of the flow estimator, else one of the discriminator, then of the generator."""
        source, target = images_to_float(batch.source_image), images_to_float(batch.target_image)
        inputs = (source, self._maps(batch.source_pose, source), self._maps(batch.target_pose, source))
        perceptual = self._perceptual[0].to(source.device)
        with torch.no_grad(), self.autocast():
            seen_source, seen_target = (perceptual.features(image).float() for image in (source, target))
        flow_only = step < self.flow_share * self.planned_steps
        terms: dict[str, Tensor] = {}
        with self.autocast():
            if flow_only:
                flows = self.generator.flow_fields(*inputs)
            else:
                generated, flows = self.generator(*inputs)  # [B, 3, H, W]
        if not flow_only and self.discriminator is not None:
            terms |= self._judge(generated.detach(), target)
        losses = self._flow_losses(flows, seen_source, seen_target)
        if not flow_only:
            losses |= self._image_losses(generated, target, seen_target)
        gradient = self.update("generator", torch.stack(list(losses.values())).sum())
        terms |= losses | {"gradient_generator": gradient}
        return {name: term.detach() for name, term in terms.items()}

    def _flow_losses(self, flows: Flows, source: Tensor, target: Tensor) -> dict[str, Tensor]:
        """source, target: features [B, C, H, W], pooled to each flow's resolution, padding left out."""
        correctness, regularisation = [], []
        for level, ((flow, _), size) in enumerate(zip(flows, self.patches, strict=True)):
            height, width = (-(-length // 2 ** (FINEST + level)) for length in target.shape[-2:])
            here, there = (F.adaptive_avg_pool2d(features, (height, width)) for features in (target, source))
            correctness.append(sampling_correctness(there, here, flow[..., :height, :width]))
            regularisation.append(affine_regularisation(flow, size))
        levels = {"correctness": correctness, "regularisation": regularisation}
        return {name: self.weights[name] * torch.stack(losses).sum() for name, losses in levels.items()}

    def _image_losses(self, generated: Tensor, target: Tensor, seen_target: Tensor) -> dict[str, Tensor]:
        with self.autocast():
            seen = self._perceptual[0].features(generated).float()
        terms = {
            "l1": self.losses.l1 * F.l1_loss(generated.float(), target),
            "perceptual": self.losses.perceptual * F.l1_loss(seen, seen_target),
            "style": self.weights["style"] * style_loss(seen, seen_target),
        }
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)  # the generator's update needs no gradient of its weights
            with self.autocast():
                scores = self.discriminator(generated)
            self.discriminator.requires_grad_(True)
            fooled = adversarial_loss(scores, True, self.losses.adversarial_kind)
            terms["adversarial"] = self.losses.adversarial * fooled
        return terms

    def _judge(self, generated: Tensor, target: Tensor) -> dict[str, Tensor]:
        assert self.discriminator is not None
        with self.autocast():
            real, fake = self.discriminator(target), self.discriminator(generated)
        kind = self.losses.adversarial_kind
        loss = (adversarial_loss(real, True, kind) + adversarial_loss(fake, False, kind)) / 2
        return {"discriminator": loss, "gradient_discriminator": self.update("discriminator", loss)}

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. The generator has no noise input, so the seeds change nothing."""
        image = images_to_float(source)
        with self.autocast():
            generated, _ = self.generator(image, self._maps(source_pose, image), self._maps(target_pose, image))
        return generated.float()

    def _maps(self, poses: Tensor, image: Tensor) -> Tensor:
        return pose_maps(poses, image, self.pose_map, self.pose_sigma)


def _adam(module: nn.Module, learning_rate: float, beta1: float) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), learning_rate, betas=(beta1, 0.999), fused=True)


def _check(
    width: int,
    patches: Sequence[int],
    discriminator_levels: int,
    flow_share: float,
    discriminator_rate: float,
    beta1: float,
    weights: dict[str, float],
    losses: LossWeights,
) -> None:
    """Raise ValueError naming every number out of range."""
    reasons = []
    try:
        TransferSettings(width=width)  # refuses what is out of range
    except ValueError as error:
        reasons.append(str(error))
    if len(patches) not in (1, 2) or not all(size in (3, 5, 7) for size in patches):
        reasons.append(f"method.patches={list(patches)}: accepted are one or two of 3, 5 and 7, such as [5,3]")
    if discriminator_levels not in range(1, 5):
        reasons.append(f"method.discriminator_levels={discriminator_levels}: accepted are 1 to 4")
    if not 0 <= flow_share < 1:
        reasons.append(f"method.flow_share={flow_share}: accepted is 0 up to, not including, 1")
    if not 0 < discriminator_rate < inf:
        reasons.append(f"method.discriminator_rate={discriminator_rate}: accepted is more than 0")
    if not 0 <= beta1 < 1:
        reasons.append(f"method.beta1={beta1}: accepted is 0 up to, not including, 1")
    for name, weight in weights.items():
        if not 0 <= weight < inf:
            reasons.append(f"method.{name}={weight}: accepted is 0 or more")
    if not losses.perceptual:
        reasons.append("losses.perceptual=0: accepted is more than 0, as the flow is learnt through that network")
    if reasons:
        raise ValueError("; ".join(reasons))
