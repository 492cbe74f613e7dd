"""X-MDPT's network (Pham et al., ICML 2024, section 3): a diffusion transformer on patches of latents.

Blocks are conditioned by adaLN-Zero (Peebles and Xie, ICCV 2023) on one vector: the timestep's embedding plus what is
pooled from the tokens of source and target pose. diffusers supplies the modulated norms, the feed-forwards and the
timestep's embedding; attention has a learnt bias for each relative position, for which diffusers has no place. The
masked pass of training (section 3.3) is `forward` with `masking`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.diffusion import import_diffusers
from baselines.diffusion.process import Seen

PATCH = 2  # latents along a patch
DECODING = 2  # last blocks, which see all tokens also in a masked pass


class RelativePositionBias(nn.Module):
    """A learnt number for each head and offset between two positions of a square grid."""

    index: Tensor  # int64 [N, N]

    def __init__(self, grid: int, heads: int):
        super().__init__()
        self.table = nn.Parameter(torch.empty((2 * grid - 1) ** 2 + 3, heads))  # the last three rows are never read
        nn.init.trunc_normal_(self.table, std=0.02)
        rows, columns = (
            places.flatten() for places in torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
        )
        down, across = (p[:, None] - p[None] + grid - 1 for p in (rows, columns))  # [N, N], from 0 to 2 grid - 2
        self.register_buffer("index", (2 * grid - 1) * down + across, persistent=False)

    def forward(self, kept: Tensor | None = None) -> Tensor:
        """kept: the tokens of each item, int64 [B, n]; None: all N. Returns [heads, N, N] or [B, heads, n, n]."""
        index = self.index if kept is None else self.index[kept[:, :, None], kept[:, None]]
        return self.table[index].movedim(-1, -3)


class TokenAttention(nn.Module):
    """Softmax attention of tokens to others, biased by their relative position."""

    def __init__(self, width: int, heads: int, grid: int):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out, self.bias = nn.Linear(width, width), RelativePositionBias(grid, heads)

    def forward(self, x: Tensor, context: Tensor, kept: Tensor | None) -> Tensor:
        """x: [B, n, C]; context: [B, n, C], x itself or the source's tokens. Returns [B, n, C]."""
        tokens = (self.to_q(x), *self.to_kv(context).chunk(2, dim=-1))
        query, key, value = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in tokens)  # [B, heads, n, c]
        bias = self.bias(kept).to(query.dtype)
        return self.out(F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each shifted, scaled and gated by the condition."""

    def __init__(self, width: int, heads: int, grid: int):
        super().__init__()
        self.modulation = import_diffusers("models.normalization").AdaLayerNormZero(width)
        self.attention = TokenAttention(width, heads, grid)
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.forwards = import_diffusers("models.attention").FeedForward(width, activation_fn="gelu-approximate")

    def forward(
        self, x: Tensor, condition: Tensor, kept: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        """x: [B, n, C]; condition: [B, C]; kept: the places of x, int64 [B, n]; context: tokens [B, N, C] that are
        attended to in place of x, without a norm. Returns [B, n, C].
        """
        normed, gate, shift, scale, forward_gate = self.modulation(x, emb=condition)
        x = x + gate[:, None] * self.attention(normed, normed if context is None else context, kept)
        normed = self.norm(x) * (1 + scale[:, None]) + shift[:, None]
        return x + forward_gate[:, None] * self.forwards(normed)


def projection(inputs: int, width: int) -> nn.Sequential:
    """Linear layer, GELU, LayerNorm."""
    return nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.LayerNorm(width, eps=1e-12))


def pooling(tokens: int, width: int) -> nn.Sequential:
    """Tokens [B, N, C] -> their learnt weighted sum [B, 1, C], GELU, LayerNorm."""
    return nn.Sequential(nn.Conv1d(tokens, 1, 1), nn.GELU(), nn.LayerNorm(width, eps=1e-12))


class XMDPTTransformer(nn.Module):
    """Predicts noise and variance in latents, given the source's latents and the tokens of source and target pose.

    channels: of the latents; grid: patches along a side; pose_tokens, image_tokens: number and channels of the tokens.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        grid: int = 16,
        channels: int = 4,
        pose_tokens: tuple[int, int] = (257, 768),
        image_tokens: tuple[int, int] = (257, 1536),
    ):
        super().__init__()
        embeddings, places = import_diffusers("models.embeddings"), grid**2
        self.grid, self.channels = grid, channels
        self.patches = nn.Conv2d(channels, width, PATCH, stride=PATCH)
        sinusoids = embeddings.get_2d_sincos_pos_embed(width, grid, output_type="pt").float()[None]  # [1, N, C]
        self.places, self.decoding_places = nn.Parameter(sinusoids), nn.Parameter(sinusoids.clone())
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.time_features = embeddings.Timesteps(256, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = embeddings.TimestepEmbedding(256, width)
        self.pose_projection, self.image_projection = (
            projection(pose_tokens[1], width),
            projection(image_tokens[1], width),
        )
        self.pose_pooling, self.image_pooling = pooling(pose_tokens[0], width), pooling(image_tokens[0], width)
        self.latent_pooling, self.fusion = pooling(places, width), projection(width, width)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, grid) for _ in range(depth))
        self.side_block = TransformerBlock(width, heads, grid)
        self.side_cross_block = TransformerBlock(width, heads, grid)
        self.last_norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.last_modulation = nn.Linear(width, 2 * width)
        self.last = nn.Linear(width, PATCH**2 * 2 * channels)
        self._initialise()

    def _initialise(self) -> None:
        """The published initialisation; what starts at zero, the blocks' modulation and the last layers, is kept."""
        pooled = (self.time, self.pose_projection, self.image_projection, self.pose_pooling, self.image_pooling)
        narrow = {layer for module in (*pooled, self.latent_pooling, self.fusion) for layer in module.modules()}
        zeros = {block.modulation.linear for block in (*self.blocks, self.side_block, self.side_cross_block)}
        zeros |= {self.last_modulation, self.last}
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
                if not isinstance(layer, nn.Conv1d):
                    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
                if layer in zeros:
                    nn.init.zeros_(layer.weight)
                elif layer in narrow:
                    nn.init.normal_(layer.weight, std=0.02)
                else:
                    nn.init.xavier_uniform_(layer.weight.view(len(layer.weight), -1))

    def tokens(self, latents: Tensor) -> Tensor:
        """latents: [B, channels, 2 grid, 2 grid] -> [B, N, C]."""
        return self.patches(latents).flatten(2).transpose(1, 2) + self.places

    def condition(self, source: Tensor, pose_tokens: Tensor, image_tokens: Tensor) -> Tensor:
        """Source latents [B, channels, 2 grid, 2 grid] and both kinds of tokens [B, ...] -> one vector [B, C]."""
        pose = self.pose_pooling(self.pose_projection(pose_tokens))  # [B, 1, C]
        image = self.image_pooling(self.image_projection(image_tokens))
        return self.fusion(pose + image + self.latent_pooling(self.tokens(source)))[:, 0]

    def forward(
        self,
        noised: Tensor,
        timesteps: Tensor,
        conditions: list[Tensor],
        seen: Seen,
        kept: Tensor | None = None,
        source: Tensor | None = None,
    ) -> Tensor:
        """noised: [B, channels, 2 grid, 2 grid]; timesteps: int64 [B]; conditions: the vector of `condition`, which a
        row sees that sees the source. Returns [B, 2 channels, 2 grid, 2 grid]: noise, then variance.

        A masked pass has kept, the places of the tokens that are not masked, int64 [B, n], and the source's latents.
        """
        x = self.tokens(noised)  # [B, N, C]
        condition = (
            self.time(self.time_features(timesteps).to(x.dtype)) + conditions[0] * seen.source[:, None]
        )  # [B, C]
        early, late = self.blocks[:-DECODING], self.blocks[-DECODING:]
        if kept is None or source is None:
            for block in early:
                x = block(x, condition)
            x = x + self.decoding_places
        else:
            x = self._masked(x, condition, kept, self.tokens(source).detach(), early)
        for block in late:
            x = block(x, condition)
        shift, scale = self.last_modulation(F.silu(condition))[:, None].chunk(2, dim=-1)  # [B, 1, C]
        x = self.last(self.last_norm(x) * (1 + scale) + shift)  # [B, N, 2 2 2 channels]
        x = x.unflatten(2, (PATCH, PATCH, -1)).unflatten(1, (self.grid, self.grid))  # [B, rows, columns, 2, 2, c]
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)

    def _masked(self, x: Tensor, condition: Tensor, kept: Tensor, source: Tensor, blocks: nn.ModuleList) -> Tensor:
        """The tokens [B, N, C] before the last blocks: those kept went through `blocks`, the masked ones are predicted
        from them and from the source's tokens [B, N, C], which took the same way without a gradient.
        """
        places = kept[:, :, None].expand(-1, -1, x.shape[2])  # [B, n, C]
        visible = x.gather(1, places)
        for block in blocks:
            visible = block(visible, condition, kept)
            with torch.no_grad():
                source = block(source, condition)
        x = self.mask_token.to(visible.dtype).expand_as(x).scatter(1, places, visible) + self.decoding_places
        predicted = self.side_cross_block(self.side_block(x, condition), condition, context=source)
        masked = torch.ones_like(x[:, :, :1], dtype=torch.bool).scatter(1, kept[:, :, None], False)  # [B, N, 1]
        return torch.where(masked, predicted, x)
