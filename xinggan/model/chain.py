"""A chain of layers that keeps, for the gradient, little more than what its convolutions return.

Norm, ReLU, dropout and padding cost next to nothing beside a convolution, yet each would keep another map of its size.
Where maps are large, a CPU takes norm, ReLU, dropout, padding and convolution as one operation, and computes all but
the convolution a second time when the gradient needs it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from xinggan.distributed import Processes
from xinggan.model import winograd

aten = torch.ops.aten
LARGE = 2**19  # elements of a map


class ReflectedConvolution(nn.Conv2d):
    """Conv2d of stride 1 that pads by reflection in the precision of what it is given; autocast would pad in float32.

    `as_published`: the sums are the library's, for weights that make much of another rounding.
    """

    as_published = False

    def _conv_forward(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            padded = F.pad(features, self._reversed_padding_repeated_twice, mode="reflect")
        return F.conv2d(padded, weight, bias) if self.as_published else winograd.convolve(padded, weight, bias)


class InstanceNorm(nn.InstanceNorm2d):
    """InstanceNorm2d. On a CPU as a batch norm of each image, which keeps channels last: up to ten times as fast."""

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, C, h, w]."""
        if features.device.type != "cpu":
            return super().forward(features)
        weight, bias = self.weight, self.bias
        normed = [F.batch_norm(one, None, None, weight, bias, True, eps=self.eps) for one in features.split(1)]
        return torch.cat(normed) if len(normed) > 1 else normed[0]


class Dropout(nn.Module):
    """Dropout whose mask is drawn for the whole global batch, of which this process keeps its rows.

    So several processes that seed alike drop what a single process would. A mask costs 16 random bits an element, a
    quarter of what PyTorch's takes on a CPU, so the probability is rounded to a multiple of 2^-16.
    """

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    @property
    def dropped(self) -> int:
        """Of 2^16 elements."""
        return round(self.probability * 2**16)

    @property
    def scale(self) -> float:
        """What is kept is multiplied by it."""
        return 2**16 / (2**16 - self.dropped)

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, C, h, w], B images of this process."""
        if not self.training or self.dropped == 0:
            return features
        return features * self.draw(features) * self.scale

    def draw(self, features: Tensor) -> Tensor:
        """The mask for features [B, C, h, w], of the same shape: whether an element is kept."""
        processes = Processes.current
        count, channels, height, width = features.shape
        shape = (count * processes.count, height, width, channels)
        draws = torch.empty(-(-prod(shape) // 4), dtype=torch.int64, device=features.device).random_(-(2**63), None)
        kept = draws.view(torch.int16)[: prod(shape)] >= self.dropped - 2**15
        return processes.own_rows(kept.view(shape).permute(0, 3, 1, 2))


class Chain(nn.Sequential):
    """nn.Sequential that, in training on a CPU, takes a convolution of large maps with the layers before it as one."""

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, C, h, w]."""
        one_by_one = not (self.training and torch.is_grad_enabled()) or features.device.type != "cpu"
        if one_by_one or torch.compiler.is_compiling():
            return super().forward(features)
        before: list[nn.Module] = []  # norm, ReLU and dropout that a convolution may follow
        for layer in self:
            if isinstance(layer, nn.BatchNorm2d | InstanceNorm | nn.ReLU | Dropout):
                before.append(layer)
                continue
            convolution = isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
            if convolution and features.numel() > LARGE and _is_one_operation(before, layer):
                features = _as_one(before, layer, features)
            else:
                features = layer(_in_turn(before, features))
            before = []
        return _in_turn(before, features)


def _in_turn(layers: Sequence[nn.Module], features: Tensor) -> Tensor:
    for layer in layers:
        features = layer(features)
    return features


def _is_one_operation(before: Sequence[Any], convolution: Any) -> bool:
    """Whether `_AsOne` computes what these layers would; a norm that is not in training has other statistics."""
    if convolution.padding_mode != "zeros":
        return False
    if not before:
        return isinstance(convolution, ReflectedConvolution)  # else there is nothing to spare
    kinds = [type(layer) for layer in before]
    known = kinds[0] in (nn.BatchNorm2d, InstanceNorm) and kinds[1:] in ([nn.ReLU], [nn.ReLU, Dropout])
    return known and before[0].momentum is not None and all(layer.training for layer in before)


def _as_one(before: Sequence[nn.Module], convolution: Any, features: Tensor) -> Tensor:
    """Norm, ReLU, dropout (or none of them) and the convolution."""
    norm: Any = before[0] if before else None
    dropout: Any = before[2] if len(before) == 3 and before[2].dropped else None
    if isinstance(norm, nn.BatchNorm2d) and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    what = _Operation(norm, dropout.scale if dropout else 1.0, convolution)
    low = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if low else features.dtype
    bias = None if convolution.bias is None else convolution.bias.to(dtype)
    affine = (norm.weight, norm.bias) if norm is not None else (None, None)
    mask = dropout.draw(features) if dropout else None
    with torch.autocast("cpu", enabled=False):
        return _AsOne.apply(features.to(dtype), *affine, convolution.weight.to(dtype), bias, mask, what)


@dataclass
class _Operation:
    """What `_AsOne` does beside its tensors."""

    norm: Any  # None: no ReLU either
    scale: float  # of what dropout keeps
    convolution: Any

    def normalised(self, features: Tensor, weight: Tensor | None, bias: Tensor | None, kept: list[Tensor]) -> Tensor:
        """features [B, C, h, w] -> norm and ReLU of it times `scale`, by statistics that are put into `kept`.

        A positive factor may be taken before the ReLU, and so into the weights of the norm.
        """
        weight, bias = self.affine(features, weight, bias)
        norm, results = self.norm, []
        for part in self.parts(features):
            running = (norm.running_mean, norm.running_var)
            result, mean, deviation = torch.native_batch_norm(
                part, weight, bias, *running, True, norm.momentum, norm.eps
            )
            results.append(result)
            kept += [mean, deviation]
        return _joined(results).relu_()

    def again(self, features: Tensor, weight: Tensor | None, bias: Tensor | None, kept: Sequence[Tensor]) -> Tensor:
        """As `normalised`, by the statistics that were kept."""
        weight, bias = self.affine(features, weight, bias)
        results = []
        for part, mean, deviation in zip(self.parts(features), kept[::2], kept[1::2], strict=True):
            variance = deviation**-2  # with eps in it
            results.append(torch.native_batch_norm(part, weight, bias, mean, variance, False, 0.0, 0.0)[0])
        return _joined(results).relu_()

    def affine(self, features: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        if weight is None or bias is None:
            channels = features.shape[1]
            return torch.full([channels], self.scale), torch.zeros(channels)
        return self.scale * weight, self.scale * bias

    def parts(self, features: Tensor) -> Sequence[Tensor]:
        """What has statistics of its own: an image, or the batch."""
        return features.split(1) if isinstance(self.norm, InstanceNorm) else [features]

    @property
    def reflected(self) -> list[int]:
        """Left, right, top, bottom; empty: no reflection."""
        reflects = isinstance(self.convolution, ReflectedConvolution)
        return self.convolution._reversed_padding_repeated_twice if reflects else []

    @property
    def geometry(self) -> tuple:
        """Stride, padding, dilation, transposed, output padding and groups, as PyTorch's convolution takes them."""
        layer = self.convolution
        padding = (0, 0) if self.reflected else layer.padding
        transposed = isinstance(layer, nn.ConvTranspose2d)
        return layer.stride, padding, layer.dilation, transposed, layer.output_padding, layer.groups


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


class _AsOne(torch.autograd.Function):
    """Norm, ReLU, dropout, padding and convolution, of which the input, the mask and statistics are kept."""

    @staticmethod
    def forward(ctx, features, norm_weight, norm_bias, weight, bias, mask, what: _Operation):
        kept: list[Tensor] = []
        given = features if what.norm is None else what.normalised(features, norm_weight, norm_bias, kept)
        if mask is not None:
            given.mul_(mask)
        if what.reflected:
            given = F.pad(given, what.reflected, mode="reflect")
        ctx.save_for_backward(features, norm_weight, norm_bias, weight, mask, *kept)
        ctx.what, ctx.biases = what, None if bias is None else list(bias.shape)
        return torch.convolution(given, weight, bias, *what.geometry)

    @staticmethod
    @once_differentiable
    @torch.autocast("cpu", enabled=False)
    def backward(ctx, gradient):  # type: ignore[override]
        features, norm_weight, norm_bias, weight, mask, *kept = ctx.saved_tensors
        what: _Operation = ctx.what
        given = features if what.norm is None else what.again(features, norm_weight, norm_bias, kept)
        if mask is not None:
            given.mul_(mask)
        padded = F.pad(given, what.reflected, mode="reflect") if what.reflected else given
        needed = [ctx.needs_input_grad[place] for place in (0, 3, 4)]
        needed[0] |= any(ctx.needs_input_grad[1:3])
        of_given, of_weight, of_bias = aten.convolution_backward(
            gradient, padded, weight, ctx.biases, *what.geometry, needed
        )
        del padded
        if of_given is not None and what.reflected:
            of_given = aten.reflection_pad2d_backward(of_given, given, what.reflected)
        if of_given is None or what.norm is None:
            return of_given, None, None, of_weight, of_bias, None, None
        # What the ReLU or dropout made zero passes no gradient on.
        of_normed = aten.threshold_backward(of_given, given, 0)
        scaled, _ = what.affine(features, norm_weight, norm_bias)
        needed = [True, *ctx.needs_input_grad[1:3]]
        found = [
            aten.native_batch_norm_backward(of_part, part, scaled, None, None, mean, deviation, True, 0.0, needed)
            for of_part, part, mean, deviation in zip(
                what.parts(of_normed), what.parts(features), kept[::2], kept[1::2], strict=True
            )
        ]
        of_features = _joined([one[0] for one in found])
        affine = [what.scale * sum(one[place] for one in found) if needed[place] else None for place in (1, 2)]
        return of_features, *affine, of_weight, of_bias, None, None
