"""DPTN: "Exploring Dual-task Correlation for Pose Guided Person Image Generation" (Zhang et al., CVPR 2022).

Implemented: the siamese generator that makes the target from source image and poses and, with the same layers, the
source from itself (section 3.1), the pose transformer that takes the second task's features to the first (3.2), losses
and training (3.3). Networks, losses, weights, initialisation and optimisers are those of the published code.

Departures. Without VGG19's file content and style losses look through the suite's embedded network; such a run is
titled "embedded losses". The learning rate falls every step (published: every epoch). Images whose sides are no
multiples of 8 are padded by repeating their last row and column.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from baselines.gan.blocks import (
    DecoderBlock,
    EncoderBlock,
    ImageDiscriminator,
    ResidualBlock,
    initialise_orthogonally,
    reflected,
    without_second_names,
)
from baselines.gan.feature_losses import FeatureLosses
from baselines.gan.image_gan import ImageGAN, network_inputs, stretched, stretching_image
from baselines.gan.settings import DPTNSettings
from xinggan.data.batch import PosePair, images_to_float
from xinggan.data.poses import JOINTS
from xinggan.data.settings import PoseMap
from xinggan.model.blocks import check_resolution, pad_to_multiple
from xinggan.model.published import PublishedGenerator, fill

HEADS = 2  # of every attention
BLOCKS = 2  # context blocks, and texture blocks


def attention(module: nn.MultiheadAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Multi-head attention [B, N, C] that keeps its probabilities, as the published code does.

    Without them the fused kernel computes them again when it goes back, as exp(q k - log-sum-exp): logits of 1e8, which
    nothing here holds down, become gradients of 1e17 and then no numbers at all.
    """
    return module(queries, keys, values, need_weights=True)[0]


class PositionNorm(nn.InstanceNorm1d):
    """Instance normalisation of tokens [B, N, C]: of each channel over the positions, with learnt scales."""

    def __init__(self, channels: int):
        super().__init__(channels, affine=True)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: [B, N, C]."""
        return super().forward(tokens.mT).mT


class TransformerBlock(nn.Module):
    """Self-attention and a feed-forward network, each added to its input and normalised: tokens [B, N, C]."""

    def __init__(self, channels: int):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(channels, HEADS, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.activation = nn.LeakyReLU(0.1)
        self.norm1, self.norm2 = PositionNorm(channels), PositionNorm(channels)

    def attended(self, tokens: Tensor) -> Tensor:
        """The tokens after self-attention."""
        return self.norm1(tokens + attention(self.self_attn, tokens, tokens, tokens))

    def feed_forward(self, tokens: Tensor) -> Tensor:
        """What the feed-forward network makes of each token."""
        return self.linear2(self.activation(self.linear1(tokens)))


class ContextBlock(TransformerBlock):
    """What is at each place of the source, seen by the task whose answer is known."""

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: [B, N, C] of the source-to-source task."""
        tokens = self.attended(tokens)
        return self.norm2(tokens + self.feed_forward(tokens))


class TextureBlock(TransformerBlock):
    """Takes textures of the source to where the target's features find their like in the context."""

    def __init__(self, channels: int):
        super().__init__(channels)
        self.multihead_attn = nn.MultiheadAttention(channels, HEADS, batch_first=True)
        self.norm3 = PositionNorm(channels)

    def forward(self, tokens: Tensor, context: Tensor, source: Tensor) -> Tensor:
        """tokens: [B, N, C] of the source-to-target task; context: keys, source: values, [B, N, C] each."""
        tokens = self.attended(tokens)
        tokens = self.norm2(tokens + attention(self.multihead_attn, tokens, context, source))
        return self.norm3(tokens + self.feed_forward(tokens))


class PoseTransformer(nn.Module):
    """The pose transformer module (section 3.2), without position embeddings."""

    def __init__(self, channels: int):
        super().__init__()
        self.context = nn.ModuleList(ContextBlock(channels) for _ in range(BLOCKS))
        self.texture = nn.ModuleList(TextureBlock(channels) for _ in range(BLOCKS))
        self.norm = PositionNorm(channels)

    def forward(self, to_source: Tensor, to_target: Tensor, source: Tensor) -> Tensor:
        """Features [B, C, h, w] of the source-to-source and source-to-target task and of the source. Returns
        [B, C, h, w]."""
        context, tokens, values = (features.flatten(2).mT for features in (to_source, to_target, source))  # [B, N, C]
        for block in self.context:
            context = block(context)
        for block in self.texture:
            tokens = block(tokens, context, values)
        return self.norm(tokens).mT.unflatten(2, to_target.shape[2:])


class DptnGenerator(nn.Module):
    """Generates the person of the source image in the target pose and, if asked to, in the source's own."""

    def __init__(self, width: int = 64):
        super().__init__()
        channels = [width, 2 * width, 4 * width]  # at 1/2, 1/4, 1/8 of the resolution

        def encoder(inputs: int) -> list[nn.Module]:
            return [EncoderBlock(inputs, width, plain=True), *(EncoderBlock(*step) for step in pairwise(channels))]

        residual = [ResidualBlock(4 * width, projected=True) for _ in range(3)]
        self.encoder = nn.Sequential(*encoder(3 + 2 * len(JOINTS)), *residual)
        self.source_encoder = nn.Sequential(*encoder(3))
        self.transformer = PoseTransformer(4 * width)
        up = [4 * width, 2 * width, width, width]
        self.decoder = nn.Sequential(*(DecoderBlock(a, b, b) for a, b in pairwise(up)))
        self.to_image = nn.Sequential(*reflected(width, 3), nn.Tanh())

    def forward(
        self, source: Tensor, source_pose_maps: Tensor, target_pose_maps: Tensor, reconstruct: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """source: [B, 3, H, W] in [-1, 1]; pose maps: [B, 18, H, W].

        Returns the target image [B, 3, H, W] in [-1, 1] and, if `reconstruct`, the source made by the second task.
        Raises ValueError unless H and W are divisible by 4 and at least 16.
        """
        check_resolution(source)
        height, width = source.shape[-2:]
        tasks = [torch.cat([source, source_pose_maps, to], dim=1) for to in (source_pose_maps, target_pose_maps)]
        both = self.encoder(pad_to_multiple(torch.cat(tasks), 8))  # [2 B, C, H/8, W/8]
        to_source, to_target = both.chunk(2)
        features = self.transformer(to_source, to_target, self.source_encoder(pad_to_multiple(source, 8)))
        if not reconstruct:
            return self.to_image(self.decoder(features))[..., :height, :width], None
        image, reconstruction = self.to_image(self.decoder(torch.cat([features, to_source]))).chunk(2)
        return image[..., :height, :width], reconstruction[..., :height, :width]


class DPTN(ImageGAN):
    """DPTN in its published training."""

    checkpointed = (EncoderBlock, ResidualBlock, DecoderBlock, ContextBlock, TextureBlock)

    def __init__(self, settings: DPTNSettings | None = None):
        s = settings or DPTNSettings()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(s.seed)
            generator = DptnGenerator(s.width)  # PyTorch draws the attentions' projections as published, Xavier's
            initialise_orthogonally(generator)
            discriminator = ImageDiscriminator(s.width // 2, s.discriminator_levels, plain=True)
        super().__init__(s, generator, discriminator, FeatureLosses(s.losses.perceptual_network))

    def training_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """A step of the discriminator, on the target images alone, then one of the generator, on both tasks."""
        share, size = self.settings.target_share, self.settings.size
        source = images_to_float(batch.source_image)
        target = stretched(images_to_float(batch.target_image), size)
        inputs = network_inputs(self, source, batch.source_pose, batch.target_pose, size)
        with self.autocast():
            generated, reconstruction = self.generator(*inputs, reconstruct=True)  # [B, 3, H, W] each
        terms = self.update_discriminator(generated, target)
        losses: dict[str, Tensor] = {}
        for name, made, wanted, weight in (
            ("", generated, target, share),
            ("_source", reconstruction, inputs[0], 1 - share),
        ):
            with torch.no_grad():
                seen = self.features(wanted)
            losses |= {f"{key}{name}": weight * loss for key, loss in self.image_losses(made, wanted, seen).items()}
        terms |= self.update_generator(losses | self.adversarial(generated))
        return {name: term.detach() for name, term in terms.items()}


def _modules() -> dict[str, str]:
    """Published module names -> ours."""
    names: dict[str, str] = {}
    for prefix, own in (("", "encoder"), (r"source_encoder\.", "source_encoder")):
        blocks = ("block0", "encoder0", "encoder1")
        names |= {rf"{prefix}{block}\.model": f"{own}.{i}" for i, block in enumerate(blocks)}
    for published, own in (("mblock", "encoder.{}"), ("decoder", "decoder.{}")):
        for i in range(3):
            place = own.format(i + 3 if published == "mblock" else i)
            names |= {f"{published}{i}.model": f"{place}.block", f"{published}{i}.shortcut.0": f"{place}.shortcut"}
    names |= {r"PTM\.encoder\.layers": "transformer.context", r"PTM\.decoder\.layers": "transformer.texture"}
    return names | {r"PTM\.decoder\.norm": "transformer.norm", r"outconv\.model": "to_image"}


def from_published(state: dict[str, Tensor], origin: str = "state dict") -> DptnGenerator:
    """The generator of a published state dict, in eval mode. Raises PublishedMismatch, naming `origin`."""
    return fill(DptnGenerator(), without_second_names(state), _modules(), origin)


class PublishedDPTN(PublishedGenerator):
    """A published checkpoint of DPTN. Both data sets have the same network, so the images' shape tells them apart."""

    from_state = staticmethod(from_published)

    def trained_on(self) -> tuple[str, PoseMap]:
        return "deepfashion", PoseMap.gaussian

    def image(self, source: Tensor, source_pose: Tensor, target_pose: Tensor) -> Tensor:
        """Images twice as high as wide are Market-1501's and stay; others are stretched to a square, as published."""
        height, width = source.shape[-2:]
        size = None if height == 2 * width else (height, height)
        return stretching_image(self, self.generator, source, source_pose, target_pose, size)
