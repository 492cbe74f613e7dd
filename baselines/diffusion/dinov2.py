"""DINOv2 (Oquab et al., TMLR 2024), the vision transformers that X-MDPT sees the source and the target pose through.

Modules have the names of the published code, so its files (`dinov2_vitb14_pretrain.pth`, `dinov2_vitg14_pretrain.pth`)
load as they are. A smaller transformer of the same kind is trained where there is no file.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xinggan.files import sha256_of

PATCH, GRID = 14, 37  # pixels along a patch, patches along the images of the published training


class SelfAttention(nn.Module):
    """Softmax attention of tokens to one another."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, N, C]. Returns [B, N, C]."""
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [B, heads, N, c]
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    """Two linear layers, four times as wide between them, with GELU."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, N, C]. Returns [B, N, C]."""
        return self.fc2(F.gelu(self.fc1(x)))


class GatedPerceptron(nn.Module):
    """SwiGLU, which ViT-g has in place of `Perceptron`, with about as many weights."""

    def __init__(self, width: int):
        super().__init__()
        inner = (4 * width * 2 // 3 + 7) // 8 * 8
        self.w12, self.w3 = nn.Linear(width, 2 * inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, N, C]. Returns [B, N, C]."""
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * value)


class LayerScale(nn.Module):
    """A learnt factor for each channel."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, N, C]. Returns [B, N, C]."""
        return x * self.gamma


class Block(nn.Module):
    """A transformer block with norms first."""

    def __init__(self, width: int, heads: int, gated: bool):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = SelfAttention(width, heads), GatedPerceptron(width) if gated else Perceptron(width)
        self.ls1, self.ls2 = LayerScale(width), LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, N, C]. Returns [B, N, C]."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class VisionTransformer(nn.Module):
    """Images -> the normed tokens of the last layer: the class token, then the patches, row by row."""

    def __init__(self, width: int, depth: int, heads: int, gated: bool = False, patch: int = PATCH, grid: int = GRID):
        super().__init__()
        self.width, self.patch = width, patch
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + grid**2, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, stride=patch)})
        self.blocks = nn.ModuleList(Block(width, heads, gated) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W], H and W multiples of the patch. Returns [B, 1 + N, C]."""
        patches = self.patch_embed["proj"](images)  # [B, C, h, w]
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        x = x + self._places(patches.shape[2], patches.shape[3])
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def _places(self, height: int, width: int) -> Tensor:
        """The position embedding [1, 1 + h w, C], for another grid interpolated with the published scale factors."""
        own, places = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        grid = round(places.shape[1] ** 0.5)
        if (height, width) == (grid, grid):
            return self.pos_embed
        square = places.transpose(1, 2).unflatten(2, (grid, grid))  # [1, C, grid, grid]
        scale = ((height + 0.1) / grid, (width + 0.1) / grid)
        square = F.interpolate(square.float(), scale_factor=scale, mode="bicubic")
        return torch.cat([own, square.flatten(2).transpose(1, 2)], dim=1)


def load_dinov2(file: Path, key: str) -> tuple[VisionTransformer, str]:
    """A published DINOv2 of any size, frozen, and its file's SHA-256.

    Raises ValueError, which names the setting `key`, for a file that is none.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        width, depth = (
            state["cls_token"].shape[-1],
            1 + max(int(n.split(".")[1]) for n in state if n.startswith("blocks.")),
        )
        grid = round((state["pos_embed"].shape[1] - 1) ** 0.5)
        patch = state["patch_embed.proj.weight"].shape[-1]
        encoder = VisionTransformer(width, depth, width // 64, "blocks.0.mlp.w12.weight" in state, patch, grid)
        encoder.load_state_dict({name: tensor.float() for name, tensor in state.items() if name != "mask_token"})
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{key}={file}: accepted is a file of DINOv2 such as dinov2_vitb14_pretrain.pth ({reason})"
        ) from error
    return encoder.requires_grad_(False), sha256_of(file)
