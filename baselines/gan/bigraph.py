"""BiGraphGAN: "Bipartite Graph Reasoning GANs for Person Image Generation" (Tang et al., BMVC 2020).

Implemented: the graph generator, which is PATN's with bipartite graph reasoning (BGR) in every block, and the
attention-based image fusion. Encoders, convolution blocks, decoder, discriminators and training are PATN's.

Where paper and published code differ, this is the published code. The paper's figure has a code for each pose; here
both poses share PATN's shape code, whose two halves (128 channels at full width) are the two sides of the graph of 64
nodes each, and projections, extension and norm serve both directions. The unit's norm is BatchNorm with an epsilon of
1e-4 for both data sets. The two fusion maps have no softmax, so [-1, 1] does not bound the fused image in training;
the code for DeepFashion has no fusion (`image_fusion=false`). Departures: `generate` clamps the image to [-1, 1];
discriminators and losses have XingGAN's switches.
"""

import torch
from torch import Tensor, nn

from baselines.gan.patn import MODULES, PatnGenerator, TransferBlock
from baselines.gan.settings import BiGraphSettings
from xinggan.data.settings import PoseMap
from xinggan.model.adversarial import PoseTransferGAN
from xinggan.model.fusion import weighted_sum
from xinggan.model.published import PublishedGenerator, fill, norm_of
from xinggan.model.switches import Norm, TransferSettings


class GraphConvolution(nn.Module):
    """Nodes exchange their states, then each state is updated: [B, D, K] of K nodes with states of D numbers."""

    def __init__(self, states: int, nodes: int):
        super().__init__()
        self.adjacency = nn.Linear(nodes, nodes)  # learnt, beside the identity
        self.update = nn.Linear(states, states, bias=False)

    def forward(self, graph: Tensor) -> Tensor:
        """graph: [B, D, K]. Returns [B, D, K]."""
        exchanged = torch.relu(graph + self.adjacency(graph))
        return self.update(exchanged.transpose(1, 2)).transpose(1, 2)


class BipartiteGraphReasoning(nn.Module):
    """Each half of a code is projected to nodes that the other half spans, convolved there and projected back."""

    def __init__(self, channels: int, nodes: int):
        """channels: of a half, and numbers in a node's state."""
        super().__init__()
        self.state = nn.Conv2d(channels, channels, 1)
        self.project = nn.Conv2d(channels, nodes, 1)
        self.reasoning = nn.ModuleList(GraphConvolution(channels, nodes) for _ in range(2))
        self.extend = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels, eps=1e-4)

    def forward(self, code: Tensor) -> Tensor:
        """code: [B, 2C, h, w]. Returns the same shape."""
        first, second = code.chunk(2, dim=1)  # [B, C, h, w] each
        halves = [(first, second, self.reasoning[0]), (second, first, self.reasoning[1])]
        return torch.cat([self._reasoned(*half) for half in halves], dim=1)

    def _reasoned(self, half: Tensor, other: Tensor, reasoning: nn.Module) -> Tensor:
        """half, other: [B, C, h, w] of N positions. Returns the half after reasoning, [B, C, h, w]."""
        projection = self.project(other).flatten(2)  # [B, K, N]
        states = self.state(half).flatten(2)  # [B, C, N]
        graph = states @ projection.mT  # [B, C, K]: every node sums over all positions
        returned = reasoning(graph) @ projection  # [B, C, N]
        return half + self.norm(self.extend(returned.unflatten(2, half.shape[2:])))


class GraphBlock(TransferBlock):
    """BGR on the shape code, then interaction and aggregation with the appearance code, as in PATN's blocks."""

    def __init__(self, settings: TransferSettings, first: bool):
        super().__init__(settings, first)
        self.graph = BipartiteGraphReasoning(2 * settings.width, settings.width)

    def attention_logits(self, code: Tensor) -> Tensor:
        """The convolved shape code [B, C, h, w] after graph reasoning."""
        return self.graph(code)


class FusionMaps(nn.Sequential):
    """Code [B, 4 * width, h, w] -> weights of generated and source image [B, 2, 4h, 4w], not bounded."""

    def __init__(self, width: int, norm: str):
        bias = norm == Norm.instance
        super().__init__(
            nn.ConvTranspose2d(4 * width, 2 * width, 3, stride=2, padding=1, output_padding=1, bias=bias),
            nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1, bias=bias),
            nn.ConvTranspose2d(width, 2, 1, bias=bias),
        )


class GraphGenerator(PatnGenerator):
    """Generates the person of the source image in the target pose."""

    block = GraphBlock

    def __init__(self, settings: BiGraphSettings):
        super().__init__(settings)
        self.fusion = FusionMaps(settings.width, settings.norm) if settings.image_fusion else None

    def forward(self, source: Tensor, source_pose_maps: Tensor, target_pose_maps: Tensor) -> Tensor:
        """See `PatnGenerator`. With image fusion the result [B, 3, H, W] may leave [-1, 1]."""
        appearance = self.appearance_code(source, source_pose_maps, target_pose_maps)  # [B, C, H/4, W/4]
        image = self.decoder(appearance)
        return image if self.fusion is None else weighted_sum(image, source, self.fusion(appearance))


class BiGraph(PoseTransferGAN):
    """BiGraphGAN in its published training."""

    checkpointed = (*PoseTransferGAN.checkpointed, GraphBlock)

    def __init__(self, settings: BiGraphSettings | None = None):
        settings = settings or BiGraphSettings()
        super().__init__(GraphGenerator(settings), settings)

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. The seeds change nothing."""
        return super().generate(source, source_pose, target_pose, seeds).clamp(-1, 1)


GRAPH_MODULES = MODULES | {  # published module names -> ours
    r"att\.(\d+)\.gcn\.conv_state": r"blocks.\1.graph.state",
    r"att\.(\d+)\.gcn\.conv_proj": r"blocks.\1.graph.project",
    r"att\.(\d+)\.gcn\.conv_extend": r"blocks.\1.graph.extend",
    r"att\.(\d+)\.gcn\.blocker": r"blocks.\1.graph.norm",
    r"att\.(\d+)\.gcn\.gcn1\.conv1": r"blocks.\1.graph.reasoning.0.adjacency",
    r"att\.(\d+)\.gcn\.gcn1\.conv2": r"blocks.\1.graph.reasoning.0.update",
    r"att\.(\d+)\.gcn\.gcn2\.conv1": r"blocks.\1.graph.reasoning.1.adjacency",
    r"att\.(\d+)\.gcn\.gcn2\.conv2": r"blocks.\1.graph.reasoning.1.update",
    r"conv_att1": "fusion.0",
    r"conv_att2": "fusion.1",
    r"conv_att3": "fusion.2",
}


def from_published(state: dict[str, Tensor], origin: str = "state dict") -> GraphGenerator:
    """The generator of a published BiGraphGAN state dict, in eval mode. Raises PublishedMismatch, naming `origin`."""
    fused = any("conv_att" in name for name in state)
    generator = GraphGenerator(BiGraphSettings(norm=norm_of(state), image_fusion=fused))
    state = {name: value.squeeze(2) if value.dim() == 3 else value for name, value in state.items()}  # Conv1d of size 1
    return fill(generator, state, GRAPH_MODULES, origin)


class PublishedBiGraph(PublishedGenerator):
    """A published checkpoint of BiGraphGAN."""

    from_state = staticmethod(from_published)

    def trained_on(self) -> tuple[str, PoseMap]:
        """Its graph units have BatchNorm on both data sets; only Market-1501's generator has image fusion."""
        fused = self.generator.fusion is not None
        return ("market1501", PoseMap.gaussian) if fused else ("deepfashion", PoseMap.onehot)
