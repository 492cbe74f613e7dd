"""GFLA: "Deep Image Spatial Transformation for Person Image Generation" (Ren et al., CVPR 2020).

Implemented: the global flow field estimator and the local neural texture renderer (in `gfla_networks`), the losses
(sampling correctness, regularisation, L1, adversarial, content, style) and the training in two stages, the flow
estimator alone first, at four times its weights. Networks, losses, weights, initialisation and optimisers are those of
the published code; where it differs from the paper (sampling for the correctness loss by a Gaussian over 4x4 features,
the weighted patch averaged), this is the code.

Departures. Without VGG19's file the losses look through the suite's embedded network, which has one early layer at full
resolution, pooled to the flow's for sampling correctness; such a run is titled "embedded losses". Images whose sides
are no multiples of 64 and 32 are padded by repeating their last row and column. The gradient of the Gaussian sampling
is that of its formula (published: another one at negative coordinates). Chosen here: the first stage's share of the
steps, as the published code limits both stages to 5,000,000 and does not say where it stopped.
"""

from functools import cache
from math import exp

import torch
from torch import Tensor
from torch.nn import functional as F

from baselines.gan.blocks import (
    DecoderBlock,
    EncoderBlock,
    ImageDiscriminator,
    ResidualBlock,
    initialise_orthogonally,
    without_second_names,
)
from baselines.gan.feature_losses import EMBEDDED, FeatureLosses
from baselines.gan.gfla_networks import FINEST, Flows, GflaGenerator, LocalAttention, sources
from baselines.gan.image_gan import ImageGAN, network_inputs, stretched, stretching_image
from baselines.gan.settings import GFLASettings
from baselines.geometry import moved, uniform
from xinggan.data.batch import PosePair, images_to_float
from xinggan.data.settings import PoseMap
from xinggan.model.published import PublishedGenerator, fill

EPSILON = 1e-8  # added to what divides
SIGMA = 2.0  # of the Gaussian sampling, features
CORRECTNESS_LAYERS = ("relu3_1", "relu4_1")  # at the flows' resolutions, 1/4 and 1/8
FLOW_STAGE = 4.0  # the flow's losses weigh so much more in the first stage
GREY = 128 / 127.5 - 1  # what comes into a training image from outside


def sample_gaussian(features: Tensor, places: Tensor) -> Tensor:
    """features: [B, C, h, w]; places: [B, h', w', 2], x and y counted in features. Returns [B, C, h', w'].

    A mean over 4x4 features around each place, weighted by a Gaussian; beyond the border the nearest is taken.
    """
    height, width = features.shape[-2:]
    base, flat = places.detach().floor(), features.flatten(2)
    sampled = torch.zeros_like(features[:, :, :1, :1])
    reach = range(-1, 3)
    weights = torch.stack([torch.exp(-(places - base - offset).square() / (2 * SIGMA**2)) for offset in reach])
    across, down = (weights / weights.sum(dim=0)).unbind(-1)  # [4, B, h', w'] each
    for j, row in enumerate(reach):
        for i, column in enumerate(reach):
            x, y = (base[..., 0] + column).clamp(0, width - 1), (base[..., 1] + row).clamp(0, height - 1)
            index = (y * width + x).long().flatten(1)[:, None].expand(-1, flat.shape[1], -1)  # [B, C, h' * w']
            there = flat.gather(2, index).unflatten(2, places.shape[1:3])
            sampled = sampled + (across[i] * down[j])[:, None] * there
    return sampled


def sampling_correctness(source: Tensor, target: Tensor, flow: Tensor) -> Tensor:
    """exp(-cosine / best cosine) at each place of the target, averaged, less its least value of 1 / e. Returns [].

    The cosine is that of the target's features [B, C, h, w] with the source's where the flow points, the best that with
    the most similar place anywhere in the source.
    """
    here, there = (f.flatten(2) / (f.flatten(2).norm(dim=1, keepdim=True) + EPSILON) for f in (target, source))
    best = (there.mT @ here).amax(dim=1)  # [B, h * w]
    cosine = F.cosine_similarity(sample_gaussian(source, sources(flow)), target, dim=1, eps=EPSILON).flatten(1)
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


class GFLA(ImageGAN):
    """GFLA in its own training: the flow estimator alone in the first `flow_share` of the steps, then everything."""

    checkpointed = (EncoderBlock, ResidualBlock, DecoderBlock, LocalAttention)
    generator: GflaGenerator

    def __init__(self, settings: GFLASettings | None = None):
        s = settings or GFLASettings()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(s.seed)
            generator = GflaGenerator(s.width, s.patches)
            initialise_orthogonally(generator)
            discriminator = ImageDiscriminator(s.width // 2, s.discriminator_levels)
        super().__init__(s, generator, discriminator, FeatureLosses(s.losses.perceptual_network))

    def training_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """In the first stage a step of the flow estimator, else one of the discriminator, then of the generator."""
        source, target, poses = self.training_images(batch)
        inputs = network_inputs(self, source, *poses, self.settings.size)
        source, target = inputs[0], stretched(target, self.settings.size)
        with torch.no_grad():
            seen_source, seen_target = self.features(source), self.features(target)
        if step < self.settings.flow_share * self.planned_steps:
            with self.autocast():
                flows = self.generator.flow_fields(*inputs)
            terms = self.update_generator(self.flow_losses(flows, seen_source, seen_target, FLOW_STAGE))
        else:
            with self.autocast():
                generated, flows = self.generator(*inputs)  # [B, 3, H, W]
            terms = self.update_discriminator(generated, target)
            losses = self.flow_losses(flows, seen_source, seen_target)
            losses |= self.image_losses(generated, target, seen_target) | self.adversarial(generated)
            terms |= self.update_generator(losses)
        return {name: term.detach() for name, term in terms.items()}

    def training_images(self, batch: PosePair) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Source and target image [B, 3, H, W] in [-1, 1] and their poses [B, 18, 3].

        With augmentation the source is turned by up to 5 degrees, shifted by up to 5 pixels and scaled by up to a
        twentieth, the target by a fifth of the angle and half of the shift.
        """
        source, target = images_to_float(batch.source_image), images_to_float(batch.target_image)
        poses = batch.source_pose, batch.target_pose
        if not self.settings.augmentation:
            return source, target, poses
        draws = 2 * uniform(source, 4) - 1  # [B, 4] in [-1, 1)
        degrees, shift, scale = 5 * draws[:, 0], 5 * draws[:, 1:3], 1 + 0.05 * draws[:, 3]
        source, source_pose = moved(source, poses[0], degrees, shift, scale, GREY)
        target, target_pose = moved(target, poses[1], degrees / 5, shift / 2, torch.ones_like(scale), GREY)
        return source, target, (source_pose, target_pose)

    def flow_losses(
        self, flows: Flows, source: dict[str, Tensor], target: dict[str, Tensor], times: float = 1.0
    ) -> dict[str, Tensor]:
        """Correctness and regularisation at their weights and `times`, summed over the flows; features by layer.

        The flow of the padding is left out of the correctness.
        """
        correctness, regularisation = [], []
        for level, ((flow, _), size) in enumerate(zip(flows, self.settings.patches, strict=True)):
            there, here = (correctness_features(features, level) for features in (source, target))
            height, width = here.shape[-2:]
            correctness.append(sampling_correctness(there, here, flow[..., :height, :width]))
            regularisation.append(affine_regularisation(flow, size))
        return {
            "correctness": times * self.settings.correctness * torch.stack(correctness).sum(),
            "regularisation": times * self.settings.regularisation * torch.stack(regularisation).sum(),
        }


def correctness_features(features: dict[str, Tensor], level: int) -> Tensor:
    """The features [B, C, h, w] at the resolution of flow `level`: VGG19's, or the embedded network's, pooled."""
    if EMBEDDED in features:
        return F.avg_pool2d(features[EMBEDDED], 2 ** (FINEST + level))
    return features[CORRECTNESS_LAYERS[level]]


def _block(published: str, own: str, inner: str = ".block") -> dict[str, str]:
    """Published module names -> ours, of a residual or decoder block."""
    return {rf"{published}\.model": own + inner, rf"{published}\.shortcut\.0": f"{own}.shortcut"}


def modules(attentions: int) -> dict[str, str]:
    """Published module names -> ours, of a generator with so many attentions."""
    names = {r"flow_net\.block0\.model": "flow.encoder.0"}
    names |= {rf"flow_net\.encoder{i}\.model": f"flow.encoder.{i + 1}" for i in range(4)}
    for part in ("source", "target"):
        encoder = [f"{part}.block0.model", f"{part}.encoder0.model", f"{part}.encoder1.model"]
        names |= {name: f"{part}.{i}" for i, name in enumerate(encoder)}
    for i in range(3):
        names |= _block(f"flow_net.decoder{i}", f"flow.decoder.{i}") | {f"flow_net.jump{i}.model": f"flow.skips.{i}"}
        names |= {f"target.decoder{i}.0.model.0.model": f"decoder.{i}.0.block"}
        names |= _block(f"target.decoder{i}.1", f"decoder.{i}.1")
    for level in range(attentions):  # published: from coarse to fine, and always up to output2, mask2, attn1
        number = 2 - level
        names |= {f"flow_net.output{number}": f"flow.flow.{level}", f"flow_net.mask{number}.0": f"flow.mask.{level}"}
        attention = f"target.attn{number - 1}.fully_connect_layer"
        names |= {f"{attention}.0": f"attention.{level}.patches", f"{attention}.2": f"attention.{level}.kernel.1"}
    return names | {"target.outconv.model": "image"}


def from_published(state: dict[str, Tensor], origin: str = "state dict") -> GflaGenerator:
    """The generator of a published state dict, in eval mode. Raises PublishedMismatch, naming `origin`.

    DeepFashion's has two flow fields, Market-1501's one.
    """
    patches = (5, 3) if any("flow_net.output1." in name for name in state) else (3,)
    return fill(GflaGenerator(patches=patches), without_second_names(state), modules(len(patches)), origin)


class PublishedGFLA(PublishedGenerator):
    """A published checkpoint of GFLA; DeepFashion's works on images stretched to 256x256."""

    generator: GflaGenerator
    from_state = staticmethod(from_published)

    def trained_on(self) -> tuple[str, PoseMap]:
        return "deepfashion" if len(self.generator.attention) == 2 else "market1501", PoseMap.gaussian

    def image(self, source: Tensor, source_pose: Tensor, target_pose: Tensor) -> Tensor:
        size = (256, 256) if len(self.generator.attention) == 2 else None
        return stretching_image(self, self.generator, source, source_pose, target_pose, size)
