"""BiGraphGAN: "Bipartite Graph Reasoning GANs for Person Image Generation" (Tang et al., BMVC 2020).

Implemented: the graph generator with its bipartite graph reasoning (BGR) and interaction-and-aggregation blocks and the
attention-based image fusion, trained as PATN is. Encoders, convolution blocks, decoder and training are PATN's.

The paper's figure has a code for each pose. Where it and the published code differ, this is the published code: both
poses share PATN's shape code, and its two halves (128 channels at full width) are the two sides of the graph of 64
nodes each; projections, extension and norm serve both directions. Departures: the unit's norm follows `norm` (there
always BatchNorm) and its epsilon is the library's; the two fusion maps go through a softmax, so that the image stays
in [-1, 1] (there they are not bounded, and on DeepFashion there is no fusion: `method.image_fusion=false`).
"""

import torch
from torch import Tensor, nn

from baselines.refusals import refuse
from xinggan.data.poses import JOINTS
from xinggan.data.settings import PoseMap
from xinggan.model.adversarial import PoseTransferGAN
from xinggan.model.blocks import ConvBlock, Encoder, normalisation
from xinggan.model.fusion import ImageDecoder, weighted_sum
from xinggan.model.generator import check_resolution
from xinggan.model.switches import Discriminators, LossWeights, Norm, TransferSettings


class GraphConvolution(nn.Module):
    """Nodes pass on their states, then each state is updated: [B, D, K] of K nodes with states of D numbers."""

    def __init__(self, states: int, nodes: int):
        super().__init__()
        self.adjacency = nn.Linear(nodes, nodes)  # learnt, beside the identity
        self.update = nn.Linear(states, states, bias=False)

    def forward(self, graph: Tensor) -> Tensor:
        """graph: [B, D, K]. Returns [B, D, K]."""
        passed = torch.relu(graph + self.adjacency(graph))
        return self.update(passed.transpose(1, 2)).transpose(1, 2)


class BipartiteGraphReasoning(nn.Module):
    """Each half of a code is projected to nodes that the other half spans, reasoned about there and projected back."""

    def __init__(self, channels: int, nodes: int, norm: str):
        """channels: of a half, and numbers in a node's state."""
        super().__init__()
        self.state = nn.Conv2d(channels, channels, 1)
        self.project = nn.Conv2d(channels, nodes, 1)
        self.reasoning = nn.ModuleList(GraphConvolution(channels, nodes) for _ in range(2))
        self.extend = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = normalisation(norm, channels)

    def forward(self, code: Tensor) -> Tensor:
        """code: [B, 2C, h, w]. Returns the same shape."""
        first, second = code.chunk(2, dim=1)  # [B, C, h, w] each
        to_second, to_first = self.project(second).flatten(2), self.project(first).flatten(2)  # [B, K, N] each
        return torch.cat(
            [
                self._reasoned(first, to_second, self.reasoning[0]),
                self._reasoned(second, to_first, self.reasoning[1]),
            ],
            dim=1,
        )

    def _reasoned(self, half: Tensor, projection: Tensor, reasoning: nn.Module) -> Tensor:
        states = self.state(half).flatten(2)  # [B, C, N]
        graph = states @ projection.transpose(1, 2)  # [B, C, K]: every node gathers from all positions
        returned = reasoning(graph) @ projection  # [B, C, N]
        return half + self.norm(self.extend(returned.unflatten(2, half.shape[2:])))


class GraphBlock(nn.Module):
    """BGR on the shape code, then interaction and aggregation with the appearance code, as PATN's blocks do it."""

    def __init__(self, channels: int, norm: str, dropout: float, first: bool):
        super().__init__()
        self.appearance = ConvBlock(channels, channels, norm, dropout, last_norm=True)
        self.shape = ConvBlock(channels if first else 2 * channels, channels, norm, dropout, last_norm=False)
        self.graph = BipartiteGraphReasoning(channels // 2, channels // 4, norm)

    def forward(self, appearance: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
        """appearance: [B, C, h, w]; shape: [B, C or 2C, h, w]. Returns the next codes [B, C, h, w], [B, 2C, h, w]."""
        y = self.graph(self.shape(shape))  # [B, C, h, w]
        appearance = appearance + self.appearance(appearance) * torch.sigmoid(y)
        return appearance, torch.cat([y, appearance], dim=1)


class FusionMaps(nn.Sequential):
    """Code [B, inputs, h, w] -> weights of generated and source image [B, 2, 4h, 4w], summing to 1 at each pixel."""

    def __init__(self, inputs: int, width: int, norm: str):
        bias = norm == Norm.instance
        super().__init__(
            nn.ConvTranspose2d(inputs, 2 * width, 3, stride=2, padding=1, output_padding=1, bias=bias),
            nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1, bias=bias),
            nn.Conv2d(width, 2, 1, bias=bias),
            nn.Softmax(dim=1),
        )


class GraphGenerator(nn.Module):
    """Generates the person of the source image in the target pose. ValueError for numbers out of range."""

    def __init__(
        self,
        width: int = 64,
        blocks: int = 9,
        norm: Norm = Norm.batch,
        dropout: float = 0.5,
        image_fusion: bool = True,
    ):
        super().__init__()
        reasons: list[str] = []
        if not isinstance(image_fusion, bool):
            reasons.append(f"method.image_fusion={image_fusion}: accepted are true and false")
        refuse(reasons, width=width, blocks=blocks, norm=norm, dropout=dropout)
        code = 4 * width
        self.appearance_encoder = Encoder(3, width, norm)
        self.shape_encoder = Encoder(2 * len(JOINTS), width, norm)
        self.blocks = nn.ModuleList(GraphBlock(code, norm, dropout, first=i == 0) for i in range(blocks))
        self.decoder = ImageDecoder(code, width, norm, candidates=1)
        self.fusion = FusionMaps(code, width, norm) if image_fusion else None

    def forward(self, source: Tensor, source_pose_maps: Tensor, target_pose_maps: Tensor) -> Tensor:
        """source: [B, 3, H, W] in [-1, 1]; pose maps: [B, 18, H, W]. Returns [B, 3, H, W] in [-1, 1].

        Raises ValueError unless H and W are divisible by 4 and at least 16.
        """
        check_resolution(source)
        appearance = self.appearance_encoder(source)  # [B, C, H/4, W/4]
        shape = self.shape_encoder(torch.cat([source_pose_maps, target_pose_maps], dim=1))  # [B, C, H/4, W/4]
        for block in self.blocks:
            appearance, shape = block(appearance, shape)  # [B, C, H/4, W/4], [B, 2C, H/4, W/4]
        image = self.decoder(appearance)
        return image if self.fusion is None else weighted_sum(image, source, self.fusion(appearance))


class BiGraph(PoseTransferGAN):
    """BiGraphGAN in the training that it published. Default losses: its weights, the same for both data sets."""

    def __init__(
        self,
        width: int = 64,
        blocks: int = 9,
        image_fusion: bool = True,
        norm: Norm = Norm.batch,
        dropout: float = 0.5,
        losses: LossWeights | None = None,
        discriminators: str = Discriminators.both,
        learning_rate: float = 2e-4,
        history: int = 50,
        pose_map: PoseMap = PoseMap.gaussian,
        pose_sigma: float = 6.0,
        seed: int = 0,
    ):
        super().__init__(
            GraphGenerator(width, blocks, norm, dropout, image_fusion),
            TransferSettings(
                losses=losses or LossWeights(adversarial=5, l1=10, perceptual=10),
                discriminators=Discriminators(discriminators),
                width=width,
                norm=norm,
                dropout=dropout,
                learning_rate=learning_rate,
                history=history,
                pose_map=pose_map,
                pose_sigma=pose_sigma,
                seed=seed,
            ),
        )
