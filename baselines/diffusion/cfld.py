"""CFLD: "Coarse-to-Fine Latent Diffusion for Pose-Guided Person Image Synthesis" (Lu et al., CVPR 2024).

Implemented: the perception-refined decoder, whose learnt queries become a coarse prompt of the source for every
cross-attention (section 3.2); hybrid-granularity attention, which adds finer features of the source to the queries of
the cross-attentions on the way up (3.3); the light pose adapter, added at each level's end on the way down; the loss
with the source's reconstruction from itself and cubic sampling of timesteps (3.4); guidance by the pose, then by the
source.

Departures. The paper starts from Stable Diffusion and an ImageNet Swin; here U-Net and source encoder are PIDM's blocks
and everything is learnt, so `condition_dropout` leaves out the pose too, and fine features together with the prompt.
At its published widths that makes 1.45 G parameters, the U-Net's 1.04 G among them (Stable Diffusion's has 0.86 G): the
smallest level attends too, and a timestep scales features besides shifting them.
The encoder takes patches of `vae_factor` pixels, which puts its levels on the U-Net's grids. Positions in the source
are sinusoids, for any resolution. One fine-feature encoder a level serves all its attentions. Rates have no warm-up.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.diffusion import import_diffusers
from baselines.diffusion.latent_diffusion import Denoiser, LatentDiffusion
from baselines.diffusion.process import Seen, draw_noise, draw_seen
from baselines.diffusion.settings import TIMESTEPS, CFLDSettings
from baselines.diffusion.texture_unet import Place, SourceEncoder, TextureUNet, heads_of
from xinggan.data.batch import PosePair, images_to_float
from xinggan.data.poses import JOINTS, heatmaps
from xinggan.distributed import Processes
from xinggan.model.blocks import pad_to_multiple


def transformer_block(channels: int, **options) -> Any:
    """diffusers' transformer block of tokens [B, N, C]: two attentions and a feed-forward, each after a norm."""
    heads = heads_of(channels)
    return import_diffusers("models.attention").BasicTransformerBlock(channels, heads, channels // heads, **options)


class BiasedQueries:
    """An attention processor of diffusers: softmax attention, in which `query_bias` is added to cross-attention's
    projected queries.
    """

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        query_bias: Tensor | None = None,
    ) -> Tensor:
        """hidden_states: [B, N, C]; encoder_hidden_states: [B, S, D]; query_bias: [B, N, C]. Returns [B, N, C]."""
        seen, query = hidden_states, attn.to_q(hidden_states)  # type: ignore[operator]
        if encoder_hidden_states is not None:
            seen, query = encoder_hidden_states, query if query_bias is None else query + query_bias
        tokens = (query, attn.to_k(seen), attn.to_v(seen))  # type: ignore[operator]
        query, key, value = (t.unflatten(2, (attn.heads, -1)).transpose(1, 2) for t in tokens)  # [B, heads, N or S, c]
        result = F.scaled_dot_product_attention(query, key, value)  # [B, heads, N, c]
        return attn.to_out[0](result.transpose(1, 2).flatten(2))  # type: ignore[index,operator]


@dataclass(frozen=True)
class Guides:
    """Inputs of a level's attentions."""

    prompt: Tensor  # [B, Q, D]
    pose: Tensor  # [B, N, C]: added at the level's end on the way down
    fine: Tensor  # [B, N, C]: added to the queries of cross-attention on the way up


class GuidedAttention(nn.Module):
    """A transformer block over the positions of a feature map: attention to itself, to the prompt, a feed-forward.

    The block takes of a level's guides what belongs to its place in the U-Net.
    """

    def __init__(self, channels: int, prompt_channels: int, place: Place):
        super().__init__()
        self.place = place
        self.block = transformer_block(channels, cross_attention_dim=prompt_channels)
        for attention in (self.block.attn1, self.block.attn2):
            attention.set_processor(BiasedQueries())
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, guides: Guides) -> Tensor:
        """x: [B, C, h, w]. Returns [B, C, h, w]."""
        bias = {"query_bias": guides.fine} if self.place == Place.up else {}
        tokens = x.flatten(2).transpose(1, 2)  # [B, N, C]
        tokens = self.out(self.block(tokens, encoder_hidden_states=guides.prompt, cross_attention_kwargs=bias))
        x = x + tokens.transpose(1, 2).unflatten(2, x.shape[-2:])
        if self.place == Place.level_end:
            x = x + guides.pose.transpose(1, 2).unflatten(2, x.shape[-2:])
        return x


class PerceptionRefinedDecoder(nn.Module):
    """Learnt queries attend to the source's coarsest features, block by block; the result is the source's prompt."""

    def __init__(self, queries: int, channels: int, blocks: int, source_channels: int):
        super().__init__()
        self.queries = nn.Parameter(0.02 * torch.randn(1, queries, channels))
        self.places = nn.Parameter(0.02 * torch.randn(1, queries, channels))  # added again before every attention
        self.blocks = nn.ModuleList(RefiningBlock(channels, source_channels) for _ in range(blocks))

    def forward(self, source: Tensor, grid: tuple[int, int]) -> Tensor:
        """source: [B, S, C], the positions of `grid` = (h, w). Returns the prompt [B, Q, D]."""
        embed = import_diffusers("models.embeddings").get_2d_sincos_pos_embed
        source = source + embed(source.shape[-1], grid, device=source.device).to(source.dtype)  # [B, S, C]
        prompt = self.queries.expand(len(source), -1, -1)
        for block in self.blocks:
            prompt = block(prompt, self.places, source)
        return prompt


class RefiningBlock(nn.Module):
    """Attention to the source first, then to the other queries, then a feed-forward."""

    def __init__(self, channels: int, source_channels: int):
        super().__init__()
        attention, heads = import_diffusers("models.attention_processor").Attention, heads_of(channels)
        self.to_source = attention(channels, source_channels, heads, dim_head=channels // heads)
        self.to_itself = attention(channels, None, heads, dim_head=channels // heads)
        self.forwards = import_diffusers("models.attention").FeedForward(channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))

    def forward(self, prompt: Tensor, places: Tensor, source: Tensor) -> Tensor:
        """prompt: [B, Q, D]; places: [1, Q, D]; source: [B, S, C]. Returns [B, Q, D]."""
        prompt = prompt + places
        prompt = prompt + self.to_source(self.norms[0](prompt), encoder_hidden_states=source)
        prompt = prompt + places
        prompt = prompt + self.to_itself(self.norms[1](prompt))
        return prompt + self.forwards(self.norms[2](prompt))


class FineFeatures(nn.Module):
    """A level of the source's features as a bias of the queries on the same grid; 0 before training."""

    def __init__(self, channels: int, blocks: int):
        super().__init__()
        inner = max(4, channels // 8 * 4)  # about half the channels, as published
        self.narrow, self.widen = nn.Linear(channels, inner), nn.Linear(inner, channels)
        self.blocks = nn.Sequential(*(transformer_block(inner, double_self_attention=True) for _ in range(blocks)))
        nn.init.zeros_(self.widen.weight)
        nn.init.zeros_(self.widen.bias)

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, N, C]. Returns [B, N, C]."""
        return self.widen(self.blocks(self.narrow(features)))


class CFLDDenoiser(Denoiser):
    """Source encoder, perception-refined decoder, fine features, pose adapter and U-Net."""

    sees_latents = False

    def __init__(self, settings: CFLDSettings, channels: int, factor: int):
        super().__init__(settings, channels, factor)
        s = settings
        self.source_encoder = SourceEncoder(s, 3 * factor**2)
        self.pose_adapter = SourceEncoder(replace(s, level_blocks=1), len(JOINTS) * factor**2)
        self.decoder = PerceptionRefinedDecoder(s.prompt_queries, s.prompt_channels, s.prompt_blocks, s.channels[-1])
        self.no_source = nn.Parameter(torch.randn(1, s.prompt_queries, s.prompt_channels))  # prompt without a source
        self.fine = nn.ModuleList(FineFeatures(level, s.fine_blocks) for level in s.channels)
        self.unet = TextureUNet(s, channels, channels, lambda c, place: GuidedAttention(c, s.prompt_channels, place))

    def conditions(self, source: Tensor, target_pose: Tensor) -> list[Tensor]:
        """The prompt [B, Q, D], then the pose's and the source's fine features of each level, [B, N, C]."""
        patches = F.pixel_unshuffle(pad_to_multiple(source, self.factor), self.factor)  # [B, 3 f f, h, w]
        features = self.source_encoder(patches)
        height, width = patches.shape[-2:]
        for _ in range(len(self.fine) - 1):
            height, width = -(-height // 2), -(-width // 2)
        prompt = self.decoder(features[-1], (height, width))
        fine = [encoder(level) for encoder, level in zip(self.fine, features, strict=True)]
        return [prompt, *self.pose_features(target_pose, (source.shape[2], source.shape[3])), *fine]

    def pose_features(self, pose: Tensor, size: tuple[int, int]) -> list[Tensor]:
        """pose: [B, 18, 3]; size: H and W in pixels. Returns the adapter's features [B, N, C] of each level."""
        maps = pad_to_multiple(heatmaps(pose, *size, self.settings.pose_sigma, self.settings.pose_map), self.factor)
        return self.pose_adapter(F.pixel_unshuffle(maps, self.factor))

    def forward(self, noised: Tensor, timesteps: Tensor, conditions: list[Tensor], seen: Seen) -> Tensor:
        """See `Denoiser`."""
        prompt, levels = conditions[0], len(self.fine)
        source, pose = seen.source[:, None, None], seen.pose[:, None, None]
        prompt = torch.where(source, prompt, self.no_source.to(prompt.dtype))
        guides = [
            Guides(prompt, pose_level * pose, fine_level * source)
            for pose_level, fine_level in zip(conditions[1 : 1 + levels], conditions[1 + levels :], strict=True)
        ]
        nothing = noised[:, :0]  # the pose goes in at the levels' ends, not beside the noised latents
        return self.unet(noised, timesteps, nothing, guides)


class CFLD(LatentDiffusion):
    """CFLD in its own training."""

    settings: CFLDSettings
    denoiser: CFLDDenoiser

    def __init__(self, settings: CFLDSettings | None = None):
        super().__init__(settings or CFLDSettings(), CFLDDenoiser)

    def denoising_terms(self, batch: PosePair, source: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The errors of the noise predicted in the target's and in the source's latents, in one evaluation."""
        weight, denoiser = self.settings.reconstruction, self.denoiser
        image = images_to_float(batch.source_image)
        conditions = [denoiser.conditions(image, batch.target_pose)]
        latents = [target]
        if weight:
            prompt, *levels = conditions[0]
            own_pose = denoiser.pose_features(batch.source_pose, (image.shape[2], image.shape[3]))
            conditions.append([prompt, *own_pose, *levels[len(own_pose) :]])
            latents.append(source)
        seen, noised, timesteps, wanted = zip(*(self._drawn(clean) for clean in latents), strict=True)
        predicted = denoiser(
            torch.cat(noised),
            torch.cat(timesteps),
            [torch.cat(both) for both in zip(*conditions, strict=True)],
            Seen(torch.cat([rows.source for rows in seen]), torch.cat([rows.pose for rows in seen])),
        ).float()
        errors = [F.mse_loss(a, b) for a, b in zip(predicted.chunk(len(latents)), wanted, strict=True)]
        terms = {"denoising": errors[0]}
        if weight:
            terms["reconstruction"] = weight * errors[1]
        return terms

    def _drawn(self, clean: Tensor) -> tuple[Seen, Tensor, Tensor, Tensor]:
        """Seen conditions, noised latents, timesteps [B] and the network's target, for clean latents [B, C, h, w]."""
        seen = draw_seen(clean, self.settings.condition_dropout)
        noise, timesteps = draw_noise(clean), cubic_timesteps(clean)
        noised = self.process.noised(clean, noise, timesteps)
        return seen, noised, timesteps, self.process.target(clean, noise, timesteps)


def cubic_timesteps(batch: Tensor) -> Tensor:
    """Timesteps floor((1 - u^3) T), int64 [B], u uniform in [0, 1), for a training batch [B, ...]: often noisy ones.

    Drawn for the whole global batch, of which a process keeps its rows.
    """
    processes = Processes.current
    u = processes.own_rows(torch.rand(len(batch) * processes.count, device=batch.device))
    return ((1 - u**3) * TIMESTEPS).long().clamp(max=TIMESTEPS - 1)
