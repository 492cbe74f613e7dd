"""XingGAN's generator and training step written as the published code forms them: the slow, obvious version.

Same layers and weights as the suite's, but in PyTorch's default memory format, with explicit batched matrix products
and softmax over all N x N positions, one projection a call, and a training step that also computes the gradients of the
discriminators' weights that the generator's update throws away. What is fast is held against it.
"""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xinggan.model.adversarial import PoseTransferGAN
from xinggan.model.attention import Pyramid
from xinggan.model.blocks import CrossingBlock
from xinggan.model.chain import Chain, Dropout, InstanceNorm, ReflectedConvolution
from xinggan.model.generator import XingGenerator
from xinggan.model.losses import adversarial_loss


def plain_generator(generator: XingGenerator) -> XingGenerator:
    """A copy of a single-scale generator without EA whose blocks compute as published."""
    plain = deepcopy(generator).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for name, block in plain.blocks.named_children():
        plain.blocks.add_module(name, PlainBlock(block))
    return library_layers(plain)


def library_layers(module: nn.Module) -> Any:
    """The module with PyTorch's chains, reflecting convolutions, instance norms and dropout in place of the suite's."""
    for name, child in list(module.named_children()):
        library_layers(child)
        if isinstance(child, InstanceNorm):
            module.add_module(name, nn.InstanceNorm2d(child.num_features))
        elif isinstance(child, Dropout):
            module.add_module(name, nn.Dropout(child.probability).train(child.training))
        elif isinstance(child, ReflectedConvolution):
            module.add_module(name, reflecting(child))
        elif isinstance(child, Chain):
            module.add_module(name, nn.Sequential(*child))
    return module


def reflecting(layer: nn.Conv2d) -> nn.Conv2d:
    """The same weights in PyTorch's own layer."""
    sizes = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding)
    plain = nn.Conv2d(*sizes, bias=layer.bias is not None, padding_mode="reflect", device="meta")  # type: ignore[arg-type]
    plain.weight, plain.bias = layer.weight, layer.bias
    return plain


class PlainBlock(nn.Module):
    """SA and AS of a crossing block, tied or not: 1x1 convolutions and batched products over flattened maps."""

    def __init__(self, block: CrossingBlock):
        super().__init__()
        self.appearance, self.shape = block.appearance, block.shape
        self.shape_guided = block.shape_guided
        self.appearance_guided = block.shape_guided if block.tied else block.appearance_guided

    def forward(self, appearance: Tensor, shape: Tensor, _: Pyramid) -> tuple[Tensor, Tensor]:
        """appearance: [B, C, h, w]; shape: [B, C or 2C, h, w]. Returns F_I [B, C, h, w] and F_P [B, 2C, h, w]."""
        x, y = self.appearance(appearance), self.shape(shape)
        x_new, y_new = attend(self.shape_guided, x, y), attend(self.appearance_guided, y, x)
        return x_new, torch.cat((x_new, y_new), dim=1)


def attend(attention: nn.Module, query: Tensor, key: Tensor) -> Tensor:
    """query + gamma v(query) softmax(q(query)^T k(key))^T, for codes [B, C, h, w]."""

    weights = attention_weights(attention, query, key)
    out = torch.bmm(project(attention.value, query), weights.permute(0, 2, 1)).view_as(query)
    return attention.gamma * out + query


def attention_weights(attention: nn.Module, query: Tensor, key: Tensor) -> Tensor:
    """softmax(q(query)^T k(key)), for codes [B, C, h, w]: [B, N, N]."""
    energy = torch.bmm(project(attention.query, query).permute(0, 2, 1), project(attention.key, key))
    return torch.softmax(energy, dim=-1)


def project(layer: nn.Conv2d, code: Tensor) -> Tensor:
    return layer(code).flatten(2)  # [B, c, N]


class PlainTraining:
    """The published training step of a method's generator and discriminators, each with its own unfused Adam."""

    def __init__(self, method: PoseTransferGAN):
        self.weights, self.perceptual = method.losses, deepcopy(method._perceptual)
        self.generator = plain_generator(method.generator)  # type: ignore[arg-type]
        self.judges = library_layers(deepcopy(method.judges).to(memory_format=torch.contiguous_format))
        rate = method.optimisers["generator"].param_groups[0]["lr"]
        self.optimisers = {
            name: torch.optim.Adam(module.parameters(), lr=rate, betas=(0.5, 0.999), foreach=False)
            for name, module in {"generator": self.generator, **self.judges}.items()
        }

    def step(self, source: Tensor, source_maps: Tensor, target_maps: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, H, W] in [-1, 1] and pose maps [B, 18, H, W] -> the losses, [] each."""
        weights, conditions = self.weights, {"appearance": source, "shape": target_maps}
        generated, losses = self.generator(source, source_maps, target_maps), {}
        losses["l1"] = weights.l1 * F.l1_loss(generated, target)
        for perceptual in self.perceptual:
            losses["perceptual"] = weights.perceptual * perceptual(generated, target)
        for name, judge in self.judges.items():
            scores = judge(torch.cat([generated, conditions[name]], dim=1))
            fooled = adversarial_loss(scores, True, weights.adversarial_kind)
            losses[f"adversarial_{name}"] = weights.adversarial * fooled / len(self.judges)
        self._update("generator", torch.stack(list(losses.values())).sum())
        for name, judge in self.judges.items():
            real = judge(torch.cat([target, conditions[name]], dim=1))
            fake = judge(torch.cat([generated.detach(), conditions[name]], dim=1))
            wrong = sum(adversarial_loss(s, r, weights.adversarial_kind) for s, r in ((real, True), (fake, False)))
            losses[f"discriminator_{name}"] = weights.adversarial * wrong / 2
            self._update(name, losses[f"discriminator_{name}"])
        return {name: loss.detach() for name, loss in losses.items()}

    def _update(self, name: str, loss: Tensor) -> None:
        self.optimisers[name].zero_grad()
        loss.backward()
        self.optimisers[name].step()
