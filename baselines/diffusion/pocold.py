"""PoCoLD: "Controllable Person Image Synthesis with Pose-Constrained Latent Diffusion" (Han et al., ICCV 2023).

Implemented: latent diffusion with the target pose beside the noised latents, a multi-scale encoder of the source's
latents, pose-constrained attention (double attention through a few filters, with a penalty where a target position
takes from a source position of another body part), and guidance by the pose, then by the source.

Departures. The suite has joints and no DensePose: ten rectangles around the joints are the parts, and the 18 joint maps
go in beside them. The source encoder does not know the timestep, so it runs once a sample. Attention logits are divided
by the root of a head's channels; the published code has a learnt factor in that place. Pose and source go missing
independently of each other (there: one or the other, for the whole batch). No clipping of gradients and no warm-up.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from baselines.body_parts import LABELS, part_labels
from baselines.diffusion.latent_diffusion import Denoiser, LatentDiffusion
from baselines.diffusion.process import Seen, draw_seen
from baselines.diffusion.settings import PoCoLDSettings
from baselines.diffusion.texture_unet import SourceEncoder, TextureUNet, heads_of
from xinggan.data.batch import PosePair
from xinggan.data.poses import JOINTS, heatmaps
from xinggan.data.settings import PoseMap


def latent_joint_maps(poses: Tensor, factor: int, grid: tuple[int, int], kind: PoseMap, sigma: float) -> Tensor:
    """poses: [B, 18, 3] and sigma in pixels of the image; grid: h and w of the latents. Returns [B, 18, h, w]."""
    places = (poses[..., :2].float() + 0.5) / factor - 0.5
    return heatmaps(torch.cat([places, poses[..., 2:].float()], dim=-1), *grid, sigma / factor, kind.value)


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
    N S. The penalty is the mean of A squared where positions are of different parts, 0 elsewhere.
    """

    def __init__(self, channels: int, filters: int):
        super().__init__()
        self.heads = heads_of(channels)
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.gathering = nn.Parameter(torch.randn(self.heads, filters, channels // self.heads))  # [heads, K, c]
        self.distributing = nn.Parameter(torch.randn(self.heads, filters, channels // self.heads))
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, texture: Texture) -> Tensor:
        """x: [B, C, h, w], N = h w. Returns [B, C, h, w]: x plus the attended source features."""
        source = self.norm(texture.features)
        query = self._heads(self.query(x.flatten(2).transpose(1, 2)))  # [B, heads, N, c]
        key, value = self._heads(self.key(source)), self._heads(self.value(source))  # [B, heads, S, c]
        scale = query.shape[-1] ** -0.5
        distributed = torch.softmax(scale * query @ self.distributing.mT, dim=-1)  # [B, heads, N, K]
        gathered = torch.softmax(scale * self.gathering @ key.mT, dim=-1)  # [B, heads, K, S]
        taken = distributed @ (gathered @ value)  # [B, heads, N, c]
        if texture.elsewhere is not None and texture.penalties is not None:
            attention = (distributed @ gathered).float()  # [B, heads, N, S]
            texture.penalties.append((attention.square() * texture.elsewhere[:, None]).mean())
        result = self.out(taken.transpose(1, 2).flatten(2)) * texture.seen[:, None, None]  # [B, N, C]
        return x + result.transpose(1, 2).unflatten(2, x.shape[-2:])

    def _heads(self, tokens: Tensor) -> Tensor:
        """[B, N, C] -> [B, heads, N, c]."""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


class PoCoLDDenoiser(Denoiser):
    """The U-Net and the encoder of the source's latents."""

    def __init__(self, settings: PoCoLDSettings, channels: int, factor: int):
        super().__init__(settings, channels, factor)
        s = settings
        self.source_encoder = SourceEncoder(s, channels)
        self.pose = nn.Conv2d(len(JOINTS) + LABELS, channels, 1)
        self.unet = TextureUNet(s, 2 * channels, channels, lambda c, place: PoseConstrainedAttention(c, s.filters))

    def conditions(self, source: Tensor, target_pose: Tensor) -> list[Tensor]:
        """The pose beside the noised latents [B, C, h, w], then the source's features [B, S, C] of each level."""
        grid = (source.shape[2], source.shape[3])
        joints = latent_joint_maps(target_pose, self.factor, grid, self.settings.pose_map, self.settings.pose_sigma)
        parts = nn.functional.one_hot(part_labels(target_pose, self.factor, grid), LABELS)  # [B, h, w, 11]
        pose = self.pose(torch.cat([joints, parts.permute(0, 3, 1, 2).float()], dim=1))
        return [pose, *self.source_encoder(source)]

    def forward(
        self,
        noised: Tensor,
        timesteps: Tensor,
        conditions: list[Tensor],
        seen: Seen,
        elsewhere: list[Tensor] | None = None,
        penalties: list[Tensor] | None = None,
    ) -> Tensor:
        """See `Denoiser`. With masks `elsewhere`, one a level, every attention appends its penalty to `penalties`."""
        pose, *features = conditions
        masks: list = elsewhere or [None] * len(features)
        textures = [Texture(level, seen.source, mask, penalties) for level, mask in zip(features, masks, strict=True)]
        return self.unet(noised, timesteps, pose * seen.pose.view(-1, 1, 1, 1), textures)

    def elsewhere(self, source_pose: Tensor, target_pose: Tensor, grid: tuple[int, int], levels: int) -> list[Tensor]:
        """For each level, which source position is of another part than which target position: bool [B, N, S].

        A level's labels are every second of the level above, from the first.
        """
        target, source = (part_labels(pose, self.factor, grid) for pose in (target_pose, source_pose))  # [B, h, w]
        masks = []
        for _ in range(levels):
            masks.append(target.flatten(1)[:, :, None] != source.flatten(1)[:, None])
            target, source = target[:, ::2, ::2], source[:, ::2, ::2]
        return masks


class PoCoLD(LatentDiffusion):
    """PoCoLD in its own training."""

    settings: PoCoLDSettings
    denoiser: PoCoLDDenoiser

    def __init__(self, settings: PoCoLDSettings | None = None):
        super().__init__(settings or PoCoLDSettings(), PoCoLDDenoiser)

    def denoising_terms(self, batch: PosePair, source: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The error of the predicted noise, and the attention to other parts where pose and source are both seen."""
        seen = draw_seen(target, self.settings.condition_dropout)
        conditions = self.denoiser.conditions(source, batch.target_pose)
        masks: list[Tensor] = []
        penalties: list[Tensor] = []
        if self.settings.constraint:
            grid = (target.shape[2], target.shape[3])
            both = (seen.source & seen.pose)[:, None, None]
            found = self.denoiser.elsewhere(batch.source_pose, batch.target_pose, grid, len(conditions) - 1)
            masks = [mask & both for mask in found]

        def network(noised: Tensor, timesteps: Tensor) -> Tensor:
            return self.denoiser(noised, timesteps, conditions, seen, masks, penalties)

        terms = {"denoising": self.process.loss(network, target)}
        if penalties:
            terms["constraint"] = self.settings.constraint * torch.stack(penalties).sum()
        return terms
