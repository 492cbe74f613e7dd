"""PoCoLD: "Controllable Person Image Synthesis with Pose-Constrained Latent Diffusion" (Han et al., ICCV 2023).

Implemented: latent diffusion with the target pose beside the noised latents, a multi-scale encoder of the source's
latents, pose-constrained attention (double attention through a few filters, with a penalty where a target position
takes from a source position of another body part), guidance by the pose, then by the source, with decaying scales. The
networks are those of the published code, and its checkpoints can be read; diffusers' U-Net supplies all but attention.

Departures. The suite has joints and no DensePose: `densepose_labels` draws its 25 labels from ten rectangles around the
joints, and in our own training the 18 joint maps go in beside them (72 weights more). The weighted sum over positions
is taken filter by filter, so the matrix of all pairs of positions is formed for the penalty alone; rows that see no
source compute the attention and drop it. Equal scales need two branches, where the published code evaluates three.
The published sampler is PNDM; here `sampler` is one of the suite's.
"""

from dataclasses import dataclass
from math import gcd
from typing import Any

import torch
from torch import Tensor, nn

from baselines.body_parts import part_labels
from baselines.diffusion import import_diffusers
from baselines.diffusion.latent_diffusion import LatentDiffusion, beside
from baselines.diffusion.latent_settings import PoCoLDSettings, Resolution
from baselines.diffusion.process import Seen
from baselines.diffusion.samplers import cascaded_branches
from baselines.geometry import mirrored_poses
from xinggan.data.batch import PosePair, images_to_float
from xinggan.data.poses import JOINTS, heatmaps
from xinggan.data.settings import PUBLISHED_SIZES, PoseMap
from xinggan.model.blocks import use_exact_norms
from xinggan.model.method import Method
from xinggan.model.published import checked_file, load_named, read_published
from xinggan.model.switches import PublishedSettings

LONGEST_GRADIENT = 1.0  # norm
LABELS = 25  # of DensePose, the background's 0 among them
# Labels of head, torso, right and left upper and lower arm, right and left upper and lower leg, and of the background,
# in a person who faces the camera and in one who turns the back to it.
FRONT = (23, 2, 18, 22, 17, 21, 9, 13, 10, 14, 0)
BACK = (24, 1, 16, 20, 15, 19, 7, 11, 8, 12, 0)


def densepose_labels(poses: Tensor, factor: int, grid: tuple[int, int], mirrored_rows: Tensor | None = None) -> Tensor:
    """The label at each latent position of a grid (h, w), one every `factor` pixels: int64 [B, h, w], 0 to 24.

    poses: [B, 18, 3] in pixels; mirrored_rows: those that were flipped, bool [B], None: none. A person faces the camera
    whose right shoulder is left of the left one in the image, or who does not show both.
    """
    parts = part_labels(poses, factor, grid)
    shown, x = (poses[:, [2, 5], 2] > 0).all(1), poses[..., 0]
    turned = x[:, 2] > x[:, 5]  # [B]
    back = shown & (turned if mirrored_rows is None else turned != mirrored_rows)
    front_label, back_label = (torch.tensor(labels, device=poses.device)[parts] for labels in (FRONT, BACK))
    return torch.where(back[:, None, None], back_label, front_label)


def latent_joint_maps(poses: Tensor, factor: int, grid: tuple[int, int], kind: PoseMap, sigma: float) -> Tensor:
    """poses: [B, 18, 3] and sigma in pixels of the image; grid: h and w of the latents. Returns [B, 18, h, w]."""
    places = (poses[..., :2].float() + 0.5) / factor - 0.5
    return heatmaps(torch.cat([places, poses[..., 2:].float()], dim=-1), *grid, sigma / factor, kind)


@dataclass(frozen=True)
class Texture:
    """Inputs of a level's attentions."""

    features: Tensor  # [B, S, C]: of the source
    seen: Tensor  # [B] bool: the rows that see them
    elsewhere: Tensor | None = None  # [B, N, S] bool: source positions of another part than each target position
    penalties: list[Tensor] | None = None  # to which every attention appends its own, []


class PoseConstrainedAttention(nn.Module):
    """Attention through K filters: each target position reads from them, and each gathers from the source's positions.

    The attention is A = D E with D [N, K] and E [K, S], rows of both summing to 1, at a cost of K (N + S) instead of
    N S. The penalty is the mean of A squared where positions are of different parts, 0 elsewhere. One learnt number
    multiplies the logits and the residual alike.
    """

    def __init__(self, channels: int, filters: int, level: int):
        super().__init__()
        self.level, self.heads = level, gcd(8, max(1, channels // 4))
        self.extraction_filters = nn.Parameter(torch.randn(filters, channels))
        self.distribution_filters = nn.Parameter(torch.randn(filters, channels))
        self.scale = nn.Parameter(torch.ones(1))
        self.norm = nn.LayerNorm(channels)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels, bias=False) for _ in range(3))
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, encoder_hidden_states: list[Texture], **unused: Any) -> tuple[Tensor]:
        """x: [B, C, h, w], N = h w; encoder_hidden_states: a texture for each level, as diffusers passes them on.

        Returns one [B, C, h, w]: what is attended to plus the scaled x, and x itself for rows that see no source.
        """
        texture = encoder_hidden_states[self.level]
        tokens, source = x.flatten(2).transpose(1, 2), self.norm(texture.features)  # [B, N, C], [B, S, C]
        query, key, value = (self._heads(t) for t in (self.to_q(tokens), self.to_k(source), self.to_v(source)))
        extraction, distribution = self._heads(self.extraction_filters), self._heads(self.distribution_filters)
        gathered = torch.softmax(self.scale * extraction @ key.mT, dim=-1)  # [B, heads, K, S]
        distributed = torch.softmax(self.scale * query @ distribution.mT, dim=-1)  # [B, heads, N, K]
        if texture.elsewhere is not None and texture.penalties is not None:
            attention = (distributed @ gathered).float()  # [B, heads, N, S]
            texture.penalties.append((attention.square() * texture.elsewhere[:, None]).mean())
        taken = (distributed @ (gathered @ value)).transpose(1, 2).flatten(2)  # [B, N, C]
        result = (self.to_out(taken) + self.scale * tokens).transpose(1, 2).unflatten(2, x.shape[-2:])
        return (torch.where(texture.seen.view(-1, 1, 1, 1), result, x),)

    def _heads(self, tokens: Tensor) -> Tensor:
        """[..., N, C] -> [..., heads, N, c]."""
        return tokens.unflatten(-1, (self.heads, -1)).transpose(-2, -3)


class SourceEncoder(nn.Module):
    """The source's latents -> its features at every level of the U-Net, from large to small."""

    def __init__(self, channels: int, widths: tuple[int, ...], groups: int):
        super().__init__()
        block = import_diffusers("models.unets.unet_2d_blocks").DownBlock2D
        options = {"temb_channels": None, "num_layers": 1, "resnet_eps": 1e-5, "resnet_groups": groups}
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            block(widths[max(level - 1, 0)], width, add_downsample=level > 0, **options)
            for level, width in enumerate(widths)
        )
        use_exact_norms(self)

    def forward(self, source: Tensor) -> list[Tensor]:
        """source: [B, channels, h, w]. Returns [B, S, C] for each level."""
        x, features = self.conv_in(source), []
        for block in self.down_blocks:
            x, _ = block(x)
            features.append(x.flatten(2).transpose(1, 2))
        return features


class PoCoLDDenoiser(nn.Module):
    """The published networks: U-Net, source encoder, and the convolution that takes the pose to the latents' channels.

    channels: of the latents; pose_channels: LABELS as published, and the joints' where they go in beside them.
    """

    def __init__(self, settings: PoCoLDSettings, channels: int, pose_channels: int):
        super().__init__()
        s, levels = settings, len(settings.channels)
        groups = gcd(32, s.width // 2)
        self.pose = nn.Conv2d(pose_channels, channels, 1)
        self.source_encoder = SourceEncoder(channels, s.channels, groups)
        self.unet = import_diffusers().UNet2DConditionModel(
            in_channels=2 * channels,
            out_channels=channels,
            block_out_channels=s.channels,
            layers_per_block=s.level_blocks,
            down_block_types=["CrossAttnDownBlock2D"] * levels,
            up_block_types=["CrossAttnUpBlock2D"] * levels,
            norm_num_groups=groups,
            attention_head_dim=1,
            transformer_layers_per_block=0,  # the attentions are replaced
        )
        placed = [*enumerate(self.unet.down_blocks), (levels - 1, self.unet.mid_block)]
        for level, block in [*placed, *zip(reversed(range(levels)), self.unet.up_blocks, strict=True)]:
            for number in range(len(block.attentions)):
                block.attentions[number] = PoseConstrainedAttention(s.channels[level], s.filters, level)

    def forward(
        self,
        noised: Tensor,
        timesteps: Tensor,
        conditions: list[Tensor],
        seen: Seen,
        elsewhere: list[Tensor] | None = None,
        penalties: list[Tensor] | None = None,
    ) -> Tensor:
        """noised: [B, C, h, w]; timesteps: int64 [B]; conditions: pose maps [B, pose_channels, h, w], then what the
        source encoder gives. Returns the prediction [B, C, h, w].

        With masks `elsewhere`, one a level, every attention appends its penalty to `penalties`.
        """
        maps, *features = conditions
        masks: list = elsewhere or [None] * len(features)
        textures = [Texture(level, seen.source, mask, penalties) for level, mask in zip(features, masks, strict=True)]
        pose = self.pose(maps * seen.pose.view(-1, 1, 1, 1))  # [B, C, h, w]; a missing pose leaves the bias
        return self.unet(torch.cat([noised, pose], dim=1), timesteps, textures, return_dict=False)[0]


class PoCoLD(LatentDiffusion):
    """PoCoLD in its own training."""

    settings: PoCoLDSettings
    denoiser: PoCoLDDenoiser
    checkpointed = (PoseConstrainedAttention, SourceEncoder)
    flipping = "each"
    joints = True  # whether the joint maps go in beside the labels

    def __init__(self, settings: PoCoLDSettings | None = None):
        super().__init__(settings or PoCoLDSettings())
        s = self.settings
        self.branches = cascaded_branches(s.guidance_source, s.guidance_pose, s.guidance_start)

    def make_denoiser(self, channels: int) -> nn.Module:
        """See `LatentDiffusion`."""
        return PoCoLDDenoiser(self.settings, channels, LABELS + len(JOINTS) * self.joints)

    def make_optimiser(self, weights: list[nn.Parameter]) -> torch.optim.Optimizer:
        """See `LatentDiffusion`; the gradient of U-Net and pose convolution together is clipped, as published."""
        optimiser = super().make_optimiser(weights)
        clipped = [*self.denoiser.unet.parameters(), *self.denoiser.pose.parameters()]

        def clip(*_: object) -> None:
            nn.utils.clip_grad_norm_(clipped, LONGEST_GRADIENT)

        optimiser.register_step_pre_hook(clip)
        return optimiser

    def conditions(self, images: Tensor, poses: Tensor, sigma: float, seeds: Tensor) -> list[Tensor]:
        """The target pose's maps beside the noised latents, then the source's features [B, S, C] of each level."""
        latents = self.source_latents(images, seeds)
        grid = (latents.shape[2], latents.shape[3])
        labels = densepose_labels(poses, self.factor, grid)
        return [self.maps(labels, poses, sigma), *self.denoiser.source_encoder(latents)]

    def maps(self, labels: Tensor, poses: Tensor, sigma: float) -> Tensor:
        """Labels [B, h, w] and, where they go in, poses [B, 18, 3] -> maps [B, 25 or 43, h, w]."""
        parts = nn.functional.one_hot(labels, LABELS).permute(0, 3, 1, 2).float()
        if not self.joints:
            return parts
        grid = (labels.shape[1], labels.shape[2])
        return torch.cat([parts, latent_joint_maps(poses, self.factor, grid, self.settings.pose_map, sigma)], dim=1)

    def denoising_terms(self, batch: PosePair) -> dict[str, Tensor]:
        """The error of the predicted noise and, where pose and source are seen, the attention to other parts.

        One draw for the whole batch leaves out the pose, the source or nothing, never both.
        """
        flips = self.draw_flips(batch)
        source, target = self.training_latents(batch.pair, flips)
        image = images_to_float(batch.source_image)
        grid = (target.shape[2], target.shape[3])
        labels = []
        for pose, rows in zip((batch.source_pose, batch.target_pose), flips, strict=True):
            poses, sigma = self.sized_pose(mirrored_poses(pose, rows, image.shape[-1]), image)
            labels.append(densepose_labels(poses, self.factor, grid, rows))
        conditions = [self.maps(labels[1], poses, sigma), *self.denoiser.source_encoder(source)]  # poses: the target's

        dropout, draw = self.settings.condition_dropout, torch.rand((), device=target.device)
        seen = Seen((draw < dropout) | (draw >= 2 * dropout), draw >= dropout)
        seen = Seen(seen.source.expand(len(target)), seen.pose.expand(len(target)))
        masks: list[Tensor] = []
        penalties: list[Tensor] = []
        if self.settings.constraint:
            both = (seen.source & seen.pose)[:, None, None]
            masks = [mask & both for mask in elsewhere(labels[0], labels[1], len(conditions) - 1)]
        terms = self.process.terms(lambda x, t: self.denoiser(x, t, conditions, seen, masks, penalties), target)
        if penalties:
            terms["constraint"] = self.settings.constraint * torch.stack(penalties).sum()
        return terms


def elsewhere(source: Tensor, target: Tensor, levels: int) -> list[Tensor]:
    """For each level, which source position is of another part than which target position: bool [B, N, S].

    source, target: labels [B, h, w]. A level's labels are every second of the level above, from the first.
    """
    masks = []
    for _ in range(levels):
        masks.append(target.flatten(1)[:, :, None] != source.flatten(1)[:, None])
        target, source = target[:, ::2, ::2], source[:, ::2, ::2]
    return masks


def fill_published(denoiser: PoCoLDDenoiser, state: dict[str, Tensor], origin: str) -> None:
    """Load a published state dict. Raises PublishedMismatch, beginning with `origin`, with all names that differ."""
    modules = {"rie.": "source_encoder.", "channel_mapper.cond_conv.": "pose."}
    named = {}
    for name, tensor in state.items():
        prefix = next((prefix for prefix in modules if name.startswith(prefix)), "")
        named[modules.get(prefix, "") + name.removeprefix(prefix)] = tensor
    load_named(denoiser, named, f"{origin}: does not fit the published networks of PoCoLD")


class PublishedPoCoLD(PoCoLD):
    """A published checkpoint of PoCoLD at its authors' resolution, which generates without training.

    The folder `vae` beside the file is the autoencoder, stabilityai/sd-vae-ft-mse as diffusers saves it. DensePose's
    labels are drawn from joints here, so its scores are not quite those of its authors.
    """

    joints = False
    begin = Method.begin

    def __init__(self, settings: PublishedSettings):
        """Raises ValueError for a file that is not the published network or has another hash, or without `vae`."""
        file = checked_file(settings)
        native = Resolution.native
        super().__init__(
            PoCoLDSettings(
                vae=beside(file, "vae", "the folder of huggingface.co/stabilityai/sd-vae-ft-mse"), resolution=native
            )
        )
        fill_published(self.denoiser, read_published(file), str(file))
        self.size = PUBLISHED_SIZES["deepfashion"]
        self.eval()
