"""NTED: "Neural Texture Extraction and Distribution for Controllable Person Image Synthesis" (Ren et al., CVPR 2022).

Implemented: the networks (in `nted_networks`), the losses (attention reconstruction, perceptual with style, face,
adversarial with R1) and the training of the published code for 256x176, which trained on DeepFashion alone. Pose maps
are its 20 channels (`limb_maps`).

Departures. Without VGG19's file perceptual, style and face loss look through the suite's embedded network; such a run
is titled "embedded losses". Pairs are taken in the direction that the list has, as many images as the authors' training
in both. R1 has a step of its own, every 16th. Images whose sides are no multiples of 16 are padded by repeating their
last row and column. Chosen here: networks with fewer levels for smaller images, and the face's least side in proportion
to the image's height (published: 32 pixels of 256).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from baselines.gan.feature_losses import RELU1, FeatureLosses
from baselines.gan.image_gan import ImageGAN
from baselines.gan.nted_networks import (
    GROUP,
    Attention,
    Discriminator,
    DiscriminatorBlock,
    EncoderLayer,
    NtedGenerator,
    RendererLayer,
)
from baselines.gan.settings import NTEDSettings
from baselines.geometry import scaled_and_cropped
from baselines.limb_maps import limb_maps
from xinggan.data.batch import PosePair, images_to_float
from xinggan.data.settings import PoseMap
from xinggan.model.blocks import pad_to_multiple
from xinggan.model.published import PublishedGenerator, fill

EYES = (14, 15)  # joints
FACE = 64  # pixels of the face loss's crops
FACE_SIDE = 2.5  # of the face, in distances between the eyes
LEAST_FACE = 32 / 256  # of the image's height
R1_WEIGHT, R1_EVERY = 10.0, 16  # Mescheder et al., ICML 2018, as lazily as StyleGAN2


def attention_reconstruction(source: Tensor, target: Tensor, attention: Attention) -> Tensor:
    """L1 of the source's pixels, moved by extraction and distribution, to the target's; mean over operations, [].

    source, target: [B, 3, H, W], taken at each operation's resolution (nearest neighbour).
    """
    losses = []
    for extraction, distribution in attention:  # [B, K, h, w] each
        there, wanted = (F.interpolate(images, extraction.shape[2:]) for images in (source, target))
        colours = there.flatten(2) @ extraction.flatten(2).mT  # [B, 3, K]
        moved = colours @ distribution.flatten(2).float().softmax(dim=1)
        losses.append(F.l1_loss(moved, wanted.flatten(2)))
    return torch.stack(losses).mean()


def faces(images: Tensor, poses: Tensor) -> Tensor:
    """Squares of 64x64 around the eyes of images [B, 3, H, W]: [B, 3, 64, 64], black where an eye does not show.

    poses: [B, 18, 3] in pixels.
    """
    height, width = images.shape[-2:]
    eyes, known = poses[:, EYES, :2], (poses[:, EYES, 2] > 0).all(dim=1)  # [B, 2, 2], [B]
    side = (FACE_SIDE * (eyes[:, 0] - eyes[:, 1]).norm(dim=-1)).clamp(min=LEAST_FACE * height)  # [B]
    line = torch.linspace(-0.5, 0.5, FACE, device=images.device)
    square = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)  # [64, 64, 2]
    places = eyes.mean(dim=1)[:, None, None] + side[:, None, None, None] * square
    grid = 2 * places / torch.tensor([width - 1, height - 1], device=images.device) - 1
    crops = F.grid_sample(images.float(), grid, align_corners=True)
    return torch.where(known[:, None, None, None], crops, -1.0)


class NTED(ImageGAN):
    """NTED in its published training."""

    checkpointed = (EncoderLayer, RendererLayer, DiscriminatorBlock)
    summed = True
    compared_images = GROUP
    generator: NtedGenerator

    def __init__(self, settings: NTEDSettings | None = None):
        s = settings or NTEDSettings()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(s.seed)
            generator = NtedGenerator(s.channels, s.labels)
            deeper = [s.channels[-1]] * 2
            discriminator = Discriminator([*s.channels, *deeper])
        losses = FeatureLosses(s.losses.perceptual_network, style=RELU1, normalised=True)
        super().__init__(s, generator, discriminator, losses, updates=R1_EVERY / (R1_EVERY + 1))

    def training_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """A step of the generator, then one of the discriminator, every 16th with one more for R1."""
        source, target, pose = self.training_images(batch)
        with self.autocast():
            generated, attention = self.generator(source, self.maps(pose, source))
        with torch.no_grad():
            seen = self.features(target)
        adversarial = step >= self.settings.adversarial_after
        losses = self.image_losses(generated, target, seen)
        there, here = (pad_to_multiple(images, 2**self.generator.halvings) for images in (source, target))
        losses["attention"] = self.settings.attention * attention_reconstruction(there, here, attention)
        losses["face"] = self.settings.face * self.face_loss(generated, target, pose)
        terms = self.update_generator(losses | (self.adversarial(generated) if adversarial else {}))
        if adversarial:
            terms |= self.update_discriminator(generated, target)
            if step % R1_EVERY == 0:
                terms |= self.regularise_discriminator(target)
        return {name: term.detach() for name, term in terms.items()}

    def training_images(self, batch: PosePair) -> tuple[Tensor, Tensor, Tensor]:
        """Source and target image [B, 3, H, W] in [-1, 1], each enlarged and cropped by itself; the target's pose."""
        source, target = images_to_float(batch.source_image), images_to_float(batch.target_image)
        if self.settings.scaling == 1:
            return source, target, batch.target_pose
        source, _ = scaled_and_cropped(source, batch.source_pose, self.settings.scaling)
        return source, *scaled_and_cropped(target, batch.target_pose, self.settings.scaling)

    def image_losses(self, generated: Tensor, target: Tensor, seen_target: dict[str, Tensor]) -> dict[str, Tensor]:
        """As of every ImageGAN; the style loss is a part of the perceptual loss."""
        terms = super().image_losses(generated, target, seen_target)
        return terms | {"style": self.settings.losses.perceptual * terms["style"]}

    def face_loss(self, generated: Tensor, target: Tensor, pose: Tensor) -> Tensor:
        """The content loss around the eyes of the target pose [B, 18, 3]; images [B, 3, H, W]. Returns []."""
        with torch.no_grad():
            wanted = self.features(faces(target, pose))
        return self.feature_losses.content(self.features(faces(generated, pose)), wanted)

    def regularise_discriminator(self, real: Tensor) -> dict[str, Tensor]:
        """One step down R1, the squared gradient of the scores of real images [B, 3, H, W]."""
        if self.discriminator is None:
            return {}
        images = real.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(self.discriminator(images).sum(), images, create_graph=True)
        loss = R1_WEIGHT / 2 * R1_EVERY * gradient.square().flatten(1).sum(dim=1).mean()
        return {"r1": loss, "gradient_r1": self.update("discriminator", loss)}

    def maps(self, pose: Tensor, image: Tensor) -> Tensor:
        """The pose maps [B, 20, H, W] of poses [B, 18, 3], in the size of images [B, 3, H, W]."""
        return limb_maps(pose, *image.shape[-2:])

    def image(self, source: Tensor, source_pose: Tensor, target_pose: Tensor) -> Tensor:
        """The image float [B, 3, H, W] of a float image and poses [B, 18, 3]; the source's is not looked at."""
        return self.generator(source, self.maps(target_pose, source))[0].float()


def _modules(halvings: int) -> dict[str, str]:
    """Published module names -> ours, of a generator with so many halvings."""
    names: dict[str, str] = {}
    for encoder in ("reference_encoder", "skeleton_encoder"):
        names |= {
            rf"{encoder}\.first\.conv": f"{encoder}.first",
            rf"{encoder}\.first\.activate": f"{encoder}.activation",
        }
        layer, own = rf"{encoder}\.convs\.(\d+)", rf"{encoder}.layers.\1"
        names |= {rf"{layer}\.conv": rf"{own}.convolution", rf"{layer}\.activate": rf"{own}.activation"}
        operation = rf"{layer}\.extraction_operations\.(\d)"
        names[rf"{operation}\.value_conv"] = rf"{own}.extractions.\2.values"
        names[rf"{operation}\.semantic_extraction_filter"] = rf"{own}.extractions.\2.labels"
    for level in range(halvings + 1):
        published = rf"target_image_renderer\.convs\.{level}"
        names[rf"{published}\.to_rgb\.conv"] = f"renderer.to_image.{level}"
        for number in (0, 1):
            layer, own = rf"{published}\.conv{number}", f"renderer.layers.{2 * level + number}"
            names |= {rf"{layer}\.conv": f"{own}.convolution", rf"{layer}\.activate": f"{own}.activation"}
            distribution = rf"{layer}\.distribution_operation\.semantic_distribution_filter"
            names[distribution] = f"{own}.distribution.labels"
    return names


def from_published(state: dict[str, Tensor], origin: str = "state dict") -> NtedGenerator:
    """The generator of a published state dict, in eval mode. Raises PublishedMismatch, naming `origin`.

    Its channels and labels are read from the tensors' shapes: the generators for 256x176 and 512x352 differ in them.
    """
    learnt = {name: tensor for name, tensor in state.items() if not name.endswith(".kernel")}  # what blurs is fixed
    first = state.get("reference_encoder.first.conv.weight", torch.empty(128))
    channels, labels = [len(first)], list[int]()
    while (weight := state.get(f"reference_encoder.convs.{len(labels)}.conv.weight")) is not None:
        layer = f"reference_encoder.convs.{len(labels)}"
        looks = state.get(f"{layer}.extraction_operations.0.semantic_extraction_filter.weight", torch.empty(0))
        channels.append(len(weight))
        labels.append(len(looks))
    if not labels:  # not NTED's: refused with all its names
        channels, labels = [128, 256, 512, 512, 512], [64, 64, 32, 16]
    return fill(NtedGenerator(channels, labels), learnt, _modules(len(labels)), origin)


class PublishedNTED(PublishedGenerator):
    """A published checkpoint of NTED: of several state dicts in it the moving average, as its authors' results."""

    from_state = staticmethod(from_published)

    def trained_on(self) -> tuple[str, PoseMap]:
        return "deepfashion", PoseMap.gaussian

    def image(self, source: Tensor, source_pose: Tensor, target_pose: Tensor) -> Tensor:
        return self.generator(source, limb_maps(target_pose, *source.shape[-2:]))[0]
