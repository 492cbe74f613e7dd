"""CFLD's networks (Lu et al., CVPR 2024, sections 3.2 and 3.3), in the order in which a source image meets them.

A Swin encodes the source; the perception-refined decoder makes a prompt of its coarsest features for every
cross-attention of the U-Net; finer features are added to the queries of the cross-attentions on the way up, the pose
adapter's at each level's end on the way down. The U-Net is Stable Diffusion 1.5's, diffusers' UNet2DConditionModel.
"""

import re
from math import gcd
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.diffusion import import_diffusers
from baselines.diffusion.latent_settings import CFLDSettings
from baselines.diffusion.process import Seen
from baselines.geometry import resized
from xinggan.data.poses import JOINTS
from xinggan.model.blocks import StochasticDepth, use_exact_norms
from xinggan.model.published import load_named, read_published
from xinggan.torchvision_operators import import_torchvision

SKELETON = 3  # channels of the drawn skeleton beside the joint maps


def transformer_block(channels: int, **options: Any) -> Any:
    """diffusers' transformer block of tokens [B, N, C]: two attentions and a feed-forward, each after a norm."""
    heads = heads_of(channels)
    return import_diffusers("models.attention").BasicTransformerBlock(channels, heads, channels // heads, **options)


def heads_of(channels: int) -> int:
    """Attention heads of 32 channels, as published; one head of fewer channels."""
    return max(1, channels // 32)


class BiasedQueries:
    """An attention processor of diffusers: softmax attention, to whose projected queries a bias may be added."""

    def __init__(self, number: int | None = None):
        """number: of this attention's bias in `biases`; None: it takes none."""
        self.number = number

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        biases: list[Tensor] | None = None,
    ) -> Tensor:
        """hidden_states: [B, N, C]; encoder_hidden_states: [B, S, D]; biases: [B, N, C] each. Returns [B, N, C]."""
        seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.to_q(hidden_states)
        if self.number is not None and biases is not None:
            query = query + biases[self.number]
        tokens = (query, attn.to_k(seen), attn.to_v(seen))
        query, key, value = (t.unflatten(2, (attn.heads, -1)).transpose(1, 2) for t in tokens)  # [B, heads, N or S, c]
        result = F.scaled_dot_product_attention(query, key, value)  # [B, heads, N, c]
        return attn.to_out[0](result.transpose(1, 2).flatten(2))


class SwinEncoder(nn.Module):
    """Source image -> the features of each stage of torchvision's Swin (Liu et al., ICCV 2021), without last norms."""

    def __init__(self, settings: CFLDSettings):
        super().__init__()
        s = settings
        swin = import_torchvision().models.swin_transformer.SwinTransformer
        heads = [heads_of(s.swin_width * 2**stage) for stage in range(len(s.swin_blocks))]
        window = [s.swin_window] * 2
        self.stages = swin(
            [4, 4], s.swin_width, [*s.swin_blocks], heads, window, stochastic_depth_prob=s.drop_path
        ).features
        for module in self.stages.modules():  # torchvision's is drawn for the rows of one process
            if hasattr(module, "stochastic_depth"):
                module.stochastic_depth = StochasticDepth(module.stochastic_depth.p)

    def forward(self, image: Tensor) -> list[Tensor]:
        """image: [B, 3, 4 h, 4 w] in [-1, 1]. Returns [B, C, h, w], [B, 2 C, h / 2, w / 2], ..."""
        features, x = [], image
        for number, stage in enumerate(self.stages):  # patches, blocks, merging, blocks, ...
            x = stage(x)  # [B, h, w, C]
            if number % 2:
                features.append(x.permute(0, 3, 1, 2))
        return features

    def load(self, file: Path) -> None:
        """Take the weights of a published checkpoint, of the authors' code or torchvision's, safely read.

        Tables of position biases of another window are interpolated. Raises PublishedMismatch for what does not fit.
        """
        own, found = self.state_dict(), {}
        for name, tensor in read_published(file).items():
            name = _torchvision_name(name)
            if name.endswith("relative_position_bias_table") and name in own and tensor.shape != own[name].shape:
                side, wanted = (round(len(table) ** 0.5) for table in (tensor, own[name]))
                square = tensor.T.unflatten(1, (side, side))[None]  # [1, heads, side, side]
                tensor = F.interpolate(square, (wanted, wanted), mode="bicubic")[0].flatten(1).T
            if name in own and not name.endswith("relative_position_index"):
                found[name] = tensor
        kept = {name: tensor for name, tensor in own.items() if name.endswith("relative_position_index")}
        load_named(self, found | kept, f"swin={file}: does not fit the Swin of these settings")


def _torchvision_name(name: str) -> str:
    """A tensor's name in Swin's published code, or in torchvision's -> its name in `SwinEncoder`."""
    name = name.removeprefix("features.") if name.startswith("features.") else name
    name = re.sub(r"^patch_embed\.proj", "0.0", re.sub(r"^patch_embed\.norm", "0.2", name))
    name = re.sub(r"^layers\.(\d+)\.blocks", lambda m: str(2 * int(m[1]) + 1), name)
    name = re.sub(r"^layers\.(\d+)\.downsample", lambda m: str(2 * int(m[1]) + 2), name)
    return "stages." + name.replace(".mlp.fc1.", ".mlp.0.").replace(".mlp.fc2.", ".mlp.3.")


class PoseAdapter(nn.Module):
    """Pose maps -> what is added at the end of each level but the last on the way down."""

    def __init__(self, channels: tuple[int, ...], factor: int, groups: int):
        super().__init__()
        resnet = import_diffusers("models.resnet")
        self.factor = factor
        self.stem = nn.Conv2d((SKELETON + len(JOINTS)) * factor**2, channels[0], 1)
        befores = (channels[0], *channels)
        options = {"temb_channels": None, "groups": groups}
        self.blocks = nn.ModuleList(
            resnet.ResnetBlock2D(in_channels=before, out_channels=after, **options)
            for before, after in zip(befores, channels, strict=False)
        )
        use_exact_norms(self)

    def forward(self, maps: Tensor) -> list[Tensor]:
        """maps: [B, 21, H, W], in `factor` times the latents' size. Returns [B, C, h, w] for each level."""
        x, features = self.stem(F.pixel_unshuffle(maps, self.factor)), []
        for number, block in enumerate(self.blocks):
            x = block(F.avg_pool2d(x, 2, ceil_mode=True) if number else x, None)
            features.append(x)
        return features


class PerceptionRefinedDecoder(nn.Module):
    """Learnt queries attend to the source's coarsest features, block by block; the result is the source's prompt."""

    def __init__(self, queries: int, channels: int, blocks: int, source_channels: int):
        super().__init__()
        self.queries = nn.Parameter(0.02 * torch.randn(1, queries, channels))
        self.places = nn.Parameter(0.02 * torch.randn(1, queries, channels))  # added again before every attention
        self.source_places = nn.Parameter(0.02 * torch.randn(1, source_channels, 8, 8))
        self.blocks = nn.ModuleList(RefiningBlock(channels, source_channels) for _ in range(blocks))

    def forward(self, source: Tensor) -> Tensor:
        """source: [B, C, h, w]. Returns the prompt [B, Q, D]."""
        tokens = (source + resized(self.source_places, (source.shape[2], source.shape[3]))).flatten(2).transpose(1, 2)
        prompt = self.queries.expand(len(source), -1, -1)
        for block in self.blocks:
            prompt = block(prompt, self.places, tokens)
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
    """A stage of the source's features as a bias of an attention's queries on the same grid; 0 before training."""

    def __init__(self, source_channels: int, channels: int, blocks: int):
        super().__init__()
        inner = max(4, source_channels // 2)
        self.narrow, self.widen = nn.Linear(source_channels, inner), nn.Linear(inner, channels)
        self.blocks = nn.Sequential(*(transformer_block(inner, double_self_attention=True) for _ in range(blocks)))
        for layer in (self.narrow, self.widen):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, source: Tensor) -> Tensor:
        """source: [B, C, h, w]. Returns [B, N, channels]."""
        return self.widen(self.blocks(self.narrow(source.flatten(2).transpose(1, 2))))


class CFLDDenoiser(nn.Module):
    """U-Net, source encoder, perception-refined decoder, fine features and pose adapter."""

    def __init__(self, settings: CFLDSettings, channels: int, unet: Any = None):
        """channels: of the latents; unet: a U-Net that was loaded, None: a new one."""
        super().__init__()
        s = settings
        self.unet = self.new_unet(s, channels) if unet is None else unet
        widths, levels = tuple(self.unet.config.block_out_channels), len(self.unet.config.block_out_channels)
        groups = self.unet.config.norm_num_groups
        self.source_encoder = SwinEncoder(s)
        self.pose_adapter = PoseAdapter(widths[:-1], 4, groups)
        self.decoder = PerceptionRefinedDecoder(
            s.prompt_queries, s.prompt_channels, s.prompt_blocks, s.swin_width * 2 ** (levels - 1)
        )
        self.no_source = nn.Parameter(torch.randn(1, s.prompt_queries, s.prompt_channels))  # prompt without a source
        names = [name for name in self.unet.attn_processors if name.startswith("up_blocks") and ".attn2." in name]
        self.unet.set_attn_processor(
            {name: BiasedQueries(names.index(name) if name in names else None) for name in self.unet.attn_processors}
        )
        # up_blocks.k stands at level levels - 1 - k
        self.fine_levels = [levels - 1 - int(name.split(".")[1]) for name in names]
        self.fine = nn.ModuleList(
            FineFeatures(s.swin_width * 2**level, widths[level], s.fine_blocks) for level in self.fine_levels
        )

    @staticmethod
    def new_unet(settings: CFLDSettings, channels: int) -> Any:
        """A U-Net of Stable Diffusion 1.5's kind in the settings' size: the smallest level has no attention."""
        s, attending = settings, len(settings.channels) - 1
        return import_diffusers().UNet2DConditionModel(
            in_channels=channels,
            out_channels=channels,
            block_out_channels=s.channels,
            layers_per_block=s.level_blocks,
            down_block_types=[*["CrossAttnDownBlock2D"] * attending, "DownBlock2D"],
            up_block_types=["UpBlock2D", *["CrossAttnUpBlock2D"] * attending],
            norm_num_groups=gcd(32, s.width // 2),
            attention_head_dim=[gcd(8, max(1, c // 4)) for c in s.channels],  # the number of heads
            cross_attention_dim=s.prompt_channels,
        )

    def conditions(self, source: Tensor, pose_maps: Tensor) -> list[Tensor]:
        """source: [B, 3, 4 h, 4 w]; pose_maps: [B, 21, 4 h, 4 w]. Returns the prompt [B, Q, D], the fine features
        [B, N, C] of each attention on the way up, and the pose's features [B, C, h, w] of each level but the last.
        """
        features = self.source_encoder(source)
        fine = [encoder(features[level]) for encoder, level in zip(self.fine, self.fine_levels, strict=True)]
        return [self.decoder(features[-1]), *fine, *self.pose_adapter(pose_maps)]

    def forward(
        self, noised: Tensor, timesteps: Tensor, conditions: list[Tensor], seen: Seen, prompted: Tensor | None = None
    ) -> Tensor:
        """noised: [B, C, h, w]; timesteps: int64 [B]. Returns the prediction [B, C, h, w].

        prompted: the rows that see the prompt, bool [B]; None: those that see the source.
        """
        prompt, count = conditions[0], 1 + len(self.fine)
        prompted = seen.source if prompted is None else prompted
        prompt = torch.where(prompted[:, None, None], prompt, self.no_source.to(prompt.dtype))
        fine = [level * seen.source[:, None, None] for level in conditions[1:count]]
        pose = [level * seen.pose[:, None, None, None] for level in conditions[count:]]
        options = {"cross_attention_kwargs": {"biases": fine}, "down_intrablock_additional_residuals": pose}
        return self.unet(noised, timesteps, prompt, return_dict=False, **options)[0]
