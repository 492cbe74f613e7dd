"""XingGAN against its published formulation, and XingGAN++ against XingGAN: ratios of one run.

    python tests/benchmarks/published_xinggan.py
    python tests/benchmarks/published_xinggan.py --quick --size 128x64

Generating, and a training step of generator and both discriminators without perceptual loss, at 128x64 with batch 8 and
BatchNorm (Market-1501) and at 256x176 with batch 1 and InstanceNorm (DeepFashion). The variants take turns, so that a
machine that slows down slows all alike. Memory is the peak of a process of its own over two training steps.
"""

import argparse
import statistics
import subprocess
import sys
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn

from xinggan.data.batch import PosePair
from xinggan.model.attention import CrossAttention
from xinggan.model.blocks import InstanceNorm
from xinggan.model.generator import CrossingBlock, XingGAN
from xinggan.model.switches import LossWeights, Norm, Scale, XingGANSettings, xinggan
from xinggan.timing.device import peak_memory_mb, process_peak_memory_mb, timed

SIZES = {"128x64": (8, 128, 64, Norm.batch), "256x176": (1, 256, 176, Norm.instance)}
PUBLISHED, BASE, PLUS, SINGLE = "published", "XingGAN", "XingGAN++", "XingGAN++ scale=single"
VARIANTS = (PUBLISHED, BASE, f"{BASE} bf16", PLUS, f"{PLUS} bf16")


class PublishedAttention(nn.Module):
    """SA or AS over all positions as the published code has it: 1x1 convolutions and batched products of flat maps."""

    def __init__(self, attention: CrossAttention):
        super().__init__()
        self.query, self.key, self.value = map(as_convolution, (attention.query, attention.key, attention.value))
        self.gamma = attention.gamma

    def forward(self, updated: Tensor, _: Tensor, guide_tokens: Tensor, __: object) -> Tensor:
        """updated: [B, C, h, w]; guide_tokens: [B, N, C]. Returns the updated code, [B, C, h, w]."""
        guide = guide_tokens.transpose(1, 2).unflatten(2, updated.shape[2:])
        queries = self.query(updated).flatten(2).transpose(1, 2)  # [B, N, c]
        weights = torch.softmax(torch.bmm(queries, self.key(guide).flatten(2)), dim=-1)  # [B, N, N]
        attended = torch.bmm(self.value(updated).flatten(2), weights.transpose(1, 2))  # [B, C, N]
        return self.gamma * attended.view_as(updated) + updated


def as_convolution(layer: nn.Linear) -> nn.Conv2d:
    """The 1x1 convolution with the weights of a linear layer."""
    convolution = nn.Conv2d(layer.in_features, layer.out_features, 1)
    convolution.weight.data, convolution.bias.data = layer.weight.data[:, :, None, None], layer.bias.data
    return convolution


def published_copy(method: XingGAN) -> XingGAN:
    """A copy with the same weights in PyTorch's default memory format, its layers and training step as published."""
    method = deepcopy(method).to(memory_format=torch.contiguous_format)
    for module in method.modules():
        if isinstance(module, CrossingBlock):
            module.shape_guided = PublishedAttention(module.shape_guided)
        if isinstance(module, InstanceNorm):
            module.__class__ = nn.InstanceNorm2d  # of which it is a subclass without anything of its own but forward
    for network in (method.generator, *method.discriminators.values()):
        network.register_forward_pre_hook(lambda _, inputs: tuple(maps.contiguous() for maps in inputs))
    method.discriminators.requires_grad_ = lambda flag: None  # the generator's update computed their gradients too
    for name, network in {"generator": method.generator, **method.discriminators}.items():
        adam = torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999), foreach=False)
        method.optimisers[name] = adam
    return method


def method_of(variant: str, size: str, options: argparse.Namespace) -> XingGAN:
    """The variant on the device, in training mode."""
    kind = variant.removesuffix(" bf16")
    settings = {"norm": SIZES[size][3], "history": 0, "losses": LossWeights(perceptual=0)}
    settings |= {"blocks": 3} if options.quick else {}
    scale = {"scale": Scale.single} if kind == SINGLE else {}
    method = XingGAN(xinggan(**settings) if kind in (PUBLISHED, BASE) else XingGANSettings(**settings, **scale))
    for module in method.modules():
        if isinstance(module, CrossAttention):
            module.gamma.data.fill_(0.5)  # not 0, with which the attention would not matter
    method.precision = "bf16" if variant.endswith("bf16") else "fp32"
    return (published_copy(method) if kind == PUBLISHED else method).to(options.device)


def random_batch(size: str, device: str) -> PosePair:
    """Noise in place of people; joints anywhere, all seen."""
    count, height, width, _ = SIZES[size]
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, count, height, width, 3), generator=random, dtype=torch.uint8)
    source, target = images.permute(0, 1, 4, 2, 3)
    places = torch.rand(2, count, 18, 2, generator=random) * torch.tensor([width, height])
    poses = torch.cat([places, torch.ones(2, count, 18, 1)], dim=-1)
    mask, numbers = torch.ones(count, 1, height, width, dtype=torch.bool), torch.arange(count)
    return PosePair(source, poses[0], target, poses[1], mask, numbers, numbers).to(device)


@torch.no_grad()
def generate(method: XingGAN, batch: PosePair) -> Tensor:
    return method.generate_pairs(batch, batch.pair)


def compare(size: str, kind: str, options: argparse.Namespace) -> None:
    """Print the median of every variant in turns, and the ratios."""
    batch = random_batch(size, options.device)
    methods = {variant: method_of(variant, size, options) for variant in VARIANTS}
    if kind == "generating":
        calls = {name: partial(generate, method.eval(), batch) for name, method in methods.items()}
        torch.testing.assert_close(calls[BASE](), calls[PUBLISHED](), atol=1e-3, rtol=0)
    else:
        calls = {name: partial(method.training_step, batch, 0) for name, method in methods.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range((2 if options.quick else options.rounds) + 1):
        for name, call in calls.items():
            wall_ms, _ = timed(call, options.device)
            samples[name] += [wall_ms] if turn else []  # the first warms up
    medians = {name: statistics.median(values) for name, values in samples.items()}
    print(f"\n{kind} at {size}, batch {len(batch)}")
    for name, median_ms in medians.items():
        print(f"  {name:<22} {median_ms:9.0f} ms   {medians[PUBLISHED] / median_ms:5.2f} times as fast as published")
    for precision in ("", " bf16"):
        ratio = medians[PLUS + precision] / medians[BASE + precision]
        print(f"  XingGAN++{precision} takes {ratio:.2f} times XingGAN's time", flush=True)


def compare_memory(size: str, options: argparse.Namespace) -> None:
    """Print each variant's peak memory of training beside the published one's, and multi- beside single-scale."""
    print(f"\npeak memory of training at {size}, above a process that only imports")
    peaks: dict[str, float] = {}
    for variant in ("nothing", *VARIANTS, SINGLE, f"{SINGLE} bf16"):
        words = ["--size", size, "--device", options.device, *(["--quick"] if options.quick else [])]
        command = [sys.executable, __file__, *words, "--peak", variant]
        peaks[variant] = float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        if variant != "nothing":
            peaks[variant] -= peaks["nothing"]
            print(
                f"  {variant:<28} {peaks[variant]:7.0f} MB   {peaks[variant] / peaks[PUBLISHED]:5.2f} of the published"
            )
    for precision in ("", " bf16"):
        share = peaks[PLUS + precision] / peaks[SINGLE + precision]
        print(f"  XingGAN++{precision} takes {share:.2f} of its memory on a single scale", flush=True)


def peak_mb(variant: str, size: str, options: argparse.Namespace) -> float:
    """Peak memory of this process after two training steps of the variant."""
    if variant != "nothing":
        method, batch = method_of(variant, size, options), random_batch(size, options.device)
        for step in range(2):
            method.training_step(batch, step)
    on_device = peak_memory_mb(options.device)
    return process_peak_memory_mb() if on_device is None else on_device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["generating", "training", "memory"])
    parser.add_argument("--size", choices=SIZES)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each variant (default: 5)")
    parser.add_argument("--quick", action="store_true", help="three blocks and two rounds: not numbers to quote")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--peak", metavar="VARIANT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print(peak_mb(options.peak, options.size, options))
        return
    print(f"{options.device}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}")
    for size in [options.size] if options.size else SIZES:
        if options.only in (None, "generating"):
            compare(size, "generating", options)
        if options.only in (None, "training"):
            compare(size, "training", options)
        if options.only in (None, "memory"):
            compare_memory(size, options)


if __name__ == "__main__":
    main()
