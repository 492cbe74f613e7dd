"""CFLD's attention (Lu et al., CVPR 2024, sections 3.2 and 3.3): a source image as prompt and as finer features.

Put together from diffusers' Attention, FeedForward and BasicTransformerBlock. Tokens are [B, N, C].
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.diffusion.library import import_diffusers
from baselines.diffusion.texture_unet import heads_of


def attention(channels: int, context: int | None = None) -> nn.Module:
    """diffusers' attention of tokens to themselves or to others of `context` channels; its queries may get a bias."""
    heads = heads_of(channels)
    return import_diffusers("models.attention_processor").Attention(
        query_dim=channels,
        cross_attention_dim=context,
        heads=heads,
        dim_head=channels // heads,
        processor=BiasedQueries(),
    )


class BiasedQueries:
    """diffusers' protocol for how attention is computed: as usual, `query_bias` added to the projected queries."""

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        query_bias: Tensor | None = None,
    ) -> Tensor:
        """hidden_states: [B, N, C]; encoder_hidden_states: [B, S, D]; query_bias: [B, N, C]. Returns [B, N, C]."""
        seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.to_q(hidden_states)  # type: ignore[operator]
        if query_bias is not None:
            query = query + query_bias
        tokens = (query, attn.to_k(seen), attn.to_v(seen))  # type: ignore[operator]
        query, key, value = (t.unflatten(2, (attn.heads, -1)).transpose(1, 2) for t in tokens)
        result = F.scaled_dot_product_attention(query, key, value)  # [B, heads, N, c]
        return attn.to_out[0](result.transpose(1, 2).flatten(2))  # type: ignore[index,operator]


class PromptedAttention(nn.Module):
    """A transformer block over the positions of a feature map: attention to itself, to the prompt, a feed-forward."""

    def __init__(self, channels: int, prompt_channels: int):
        super().__init__()
        self.to_itself, self.to_prompt = attention(channels), attention(channels, prompt_channels)
        self.forwards = import_diffusers("models.attention").FeedForward(channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, prompt: Tensor, query_bias: Tensor | None) -> Tensor:
        """x: [B, C, h, w]; prompt: [B, Q, D]; query_bias: [B, h w, C]. Returns [B, C, h, w]."""
        tokens = x.flatten(2).transpose(1, 2)  # [B, N, C]
        tokens = tokens + self.to_itself(self.norms[0](tokens))
        tokens = tokens + self.to_prompt(self.norms[1](tokens), encoder_hidden_states=prompt, query_bias=query_bias)
        tokens = tokens + self.forwards(self.norms[2](tokens))
        return x + self.out(tokens).transpose(1, 2).unflatten(2, x.shape[-2:])


class PerceptionRefinedDecoder(nn.Module):
    """Learnt queries that look at the source's coarsest features, block by block, until they are its prompt."""

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
        self.to_source, self.to_itself = attention(channels, source_channels), attention(channels)
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
    """A level of the source's features as a bias of the queries that stand on the same grid; 0 in the beginning."""

    def __init__(self, channels: int, blocks: int):
        super().__init__()
        inner = max(4, channels // 8 * 4)  # about half the channels, as published
        block = import_diffusers("models.attention").BasicTransformerBlock
        heads = heads_of(inner)
        self.narrow, self.widen = nn.Linear(channels, inner), nn.Linear(inner, channels)
        self.blocks = nn.Sequential(
            *(block(inner, heads, inner // heads, double_self_attention=True) for _ in range(blocks))
        )
        nn.init.zeros_(self.widen.weight)
        nn.init.zeros_(self.widen.bias)

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, N, C]. Returns [B, N, C]."""
        return self.widen(self.blocks(self.narrow(features)))
