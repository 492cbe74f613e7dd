"""The generator of GFLA (Ren et al., CVPR 2020): flow estimator, and renderer with local attention.

A flow field [B, 2, h, w] says for each place of the target how many features further right (channel 0) and down (1) its
source lies. Sampling is one `grid_sample` for all places, where the published code has extensions in CUDA.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.gan.blocks import DecoderBlock, EncoderBlock, ResidualBlock, reflected
from xinggan.data.poses import JOINTS
from xinggan.model.blocks import check_resolution

PADDED = (64, 32)  # height and width are padded to multiples: the flow estimator's deepest map has two places or more
FINEST = 2  # halvings of the resolution at the finest attention

Flows = list[tuple[Tensor, Tensor]]  # flow [B, 2, h, w] and mask [B, 1, h, w] at 1/4, then 1/8 of the resolution


def sources(flow: Tensor) -> Tensor:
    """flow: [B, 2, h, w] -> the places [B, h, w, 2] that it points to, x and y counted in features."""
    height, width = flow.shape[-2:]
    columns, rows = (torch.arange(size, device=flow.device) for size in (width, height))
    here = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)  # [h, w, 2]
    return here + flow.float().permute(0, 2, 3, 1)


def local_patches(features: Tensor, flow: Tensor, size: int) -> Tensor:
    """The size x size patches of the features [B, C, h, w] around where the flow points: [B, C, size * size, h, w].

    Bilinear; beyond the border the nearest feature is taken.
    """
    height, width = features.shape[-2:]
    reach = torch.arange(size, device=flow.device) - size // 2
    offsets = torch.stack(torch.meshgrid(reach, reach, indexing="xy"), dim=-1).view(1, -1, 1, 1, 2)  # row by row
    places = (sources(flow)[:, None] + offsets).flatten(1, 2)  # [B, n * n * h, w, 2]
    last = torch.tensor([width - 1, height - 1], device=features.device).clamp(min=1)
    grid = 2 * places / last - 1
    sampled = F.grid_sample(features.float(), grid, padding_mode="border", align_corners=True)
    return sampled.unflatten(2, (size * size, -1))


class LocalAttention(nn.Module):
    """Content-aware sampling: a softmax kernel for each place weighs the patch that the flow points to.

    The kernel is predicted from the target's own patch and that patch. The first layer is linear in both, so it is
    computed as a sum, which spares a copy of the target's patches. The weighted patch is averaged, as published.
    """

    def __init__(self, channels: int, size: int, hidden: int = 128):
        super().__init__()
        self.size = size
        self.patches = nn.Conv2d(2 * channels, hidden, size)  # of target and source side by side
        self.kernel = nn.Sequential(nn.LeakyReLU(0.1), nn.Conv2d(hidden, size**2, 1), nn.Softmax(dim=1))

    def forward(self, source: Tensor, target: Tensor, flow: Tensor) -> Tensor:
        """source, target: features [B, C, h, w]; flow: [B, 2, h, w]. Returns [B, C, h, w]."""
        patches = local_patches(source, flow, self.size)  # [B, C, n * n, h, w]
        on_target, on_source = self.patches.weight.chunk(2, dim=1)  # [hidden, C, n, n] each
        padded = F.pad(target, (self.size // 2,) * 4, mode="replicate")
        hidden = F.conv2d(padded, on_target, self.patches.bias)
        hidden = hidden + F.conv2d(patches.flatten(1, 2), on_source.flatten(1)[..., None, None])
        return (patches * self.kernel(hidden)[:, None]).mean(dim=2)


class FlowEstimator(nn.Module):
    """Source image and both poses' maps [B, 39, H, W] -> `attentions` flow fields with masks, the finest first."""

    def __init__(self, width: int = 32, attentions: int = 2):
        super().__init__()
        self.attentions = attentions
        down = [3 + 2 * len(JOINTS), *(multiple * width for multiple in (1, 2, 4, 8, 8))]
        self.encoder = nn.ModuleList(EncoderBlock(*pair) for pair in pairwise(down))
        up = [8 * width, 8 * width, 4 * width, 2 * width]  # at 1/32, 1/16, 1/8, 1/4 of the resolution
        self.decoder = nn.ModuleList(DecoderBlock(a, b, b) for a, b in pairwise(up))
        self.skips = nn.ModuleList(reflected(b, b) for b in up[1:])
        fine = up[: -1 - attentions : -1]
        self.flow = nn.ModuleList(nn.Conv2d(channels, 2, 3, padding=1) for channels in fine)
        self.mask = nn.ModuleList(nn.Conv2d(channels, 1, 3, padding=1) for channels in fine)

    def forward(self, inputs: Tensor) -> Flows:
        encoded = []
        for encode in self.encoder:
            inputs = encode(inputs)
            encoded.append(inputs)  # from 1/2 to 1/32 of the resolution
        decoded, features = [], encoded[-1]
        for decode, skip, earlier in zip(self.decoder, self.skips, encoded[-2::-1], strict=False):
            features = decode(features) + skip(earlier)
            decoded.append(features)  # 1/16, 1/8, 1/4
        finest_first = decoded[: -1 - self.attentions : -1]
        heads = zip(self.flow, self.mask, finest_first, strict=True)
        return [(flow(features), torch.sigmoid(mask(features))) for flow, mask, features in heads]


class GflaGenerator(nn.Module):
    """Generates the person of the source image in the target pose. `patches`: sides at 1/4 and 1/8, or at 1/4 alone."""

    def __init__(self, width: int = 64, patches: Sequence[int] = (5, 3)):
        super().__init__()
        self.flow = FlowEstimator(width // 2, len(patches))
        channels = [width, 2 * width, 4 * width]  # at 1/2, 1/4, 1/8 of the resolution
        steps = list(pairwise(channels))
        self.source = nn.ModuleList([EncoderBlock(3, width), *(EncoderBlock(*step) for step in steps)])
        self.target = nn.Sequential(EncoderBlock(len(JOINTS), width), *(EncoderBlock(*step) for step in steps))
        self.attention = nn.ModuleList(
            LocalAttention(channels[FINEST - 1 + level], size, 2 * width) for level, size in enumerate(patches)
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(ResidualBlock(inputs), DecoderBlock(inputs, inputs, outputs))
            for inputs, outputs in ((4 * width, 2 * width), (2 * width, width), (width, width))
        )
        self.image = nn.Sequential(*reflected(width, 3), nn.Tanh())

    def forward(self, source: Tensor, source_pose_maps: Tensor, target_pose_maps: Tensor) -> tuple[Tensor, Flows]:
        """source: [B, 3, H, W] in [-1, 1]; pose maps: [B, 18, H, W]. Returns [B, 3, H, W] in [-1, 1] and the flows.

        Raises ValueError unless H and W are divisible by 4 and at least 16.
        """
        height, width = source.shape[-2:]
        flows = self.flow_fields(source, source_pose_maps, target_pose_maps)
        features, encoded = _padded(source), []
        for encode in self.source:
            features = encode(features)
            encoded.append(features)
        out = self.target(_padded(target_pose_maps))  # [B, 4 * width, H/8, W/8]
        for halvings, decode in zip((3, 2, 1), self.decoder, strict=True):
            level = halvings - FINEST
            if 0 <= level < len(flows):
                flow, mask = flows[level]
                sampled = self.attention[level](encoded[halvings - 1], out, flow)
                out = out * (1 - mask) + sampled * mask
            out = decode(out)
        return self.image(out)[..., :height, :width], flows

    def flow_fields(self, source: Tensor, source_pose_maps: Tensor, target_pose_maps: Tensor) -> Flows:
        """The flows of the padded image; arguments as of `forward`."""
        check_resolution(source)
        return self.flow(_padded(torch.cat([source, source_pose_maps, target_pose_maps], dim=1)))


def _padded(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % PADDED[1], 0, -height % PADDED[0]), mode="replicate")
