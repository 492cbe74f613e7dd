"""Counts that need no stopwatch: parameters, network evaluations and multiply-accumulates of one image."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from xinggan.model.method import Method


def outermost_networks(method: Method, run: Callable[[], object]) -> dict[nn.Module, int]:
    """The networks that `run` calls directly rather than as parts of other networks, with the rows each was given.

    Every module gets a hook, and runs eagerly: hooks would change what was compiled.
    """
    found: dict[nn.Module, int] = {}
    inside: list[nn.Module] = []

    def enter(module: nn.Module, inputs: tuple, named: dict) -> None:
        if not inside:
            rows = next((len(x) for x in (*inputs, *named.values()) if isinstance(x, Tensor)), 1)
            found[module] = found.get(module, 0) + rows
        inside.append(module)

    def leave(module: nn.Module, inputs: tuple, output: object) -> None:
        inside.pop()

    with eagerly(method), ExitStack() as hooks:
        for module in method.modules():
            if module is not method:
                hooks.enter_context(module.register_forward_pre_hook(enter, with_kwargs=True))
                hooks.enter_context(module.register_forward_hook(leave, always_call=True))
        run()
    return found


def evaluations(method: Method, generate: Callable[[], object], images: int) -> float:
    """Evaluations per image of the network that is evaluated most; 0 for a method without networks.

    Guidance and solvers of higher order evaluate more than once a sampling step. An evaluation that serves several
    branches of guidance counts once for each.
    """
    return max(outermost_networks(method, generate).values(), default=0) / images


def attention_kernels(method: Method, run: Callable[[], object]) -> list[str]:
    """The attention operations that `run` really dispatches to, such as `_scaled_dot_product_efficient_attention`.

    Those of the math fallback hold all weights at once. Empty for a method that calls none.
    """
    from torch.profiler import ProfilerActivity, profile

    with eagerly(method), profile(activities=[ProfilerActivity.CPU]) as seen:
        run()
    names = {event.key.removeprefix("aten::") for event in seen.key_averages()}
    return sorted(name for name in names if name.startswith("_scaled_dot_product"))


def parameters(method: Method) -> int:
    """Number of parameters of the networks that `generate` uses."""
    return sum(weights.numel() for part in method.averaged for weights in getattr(method, part).parameters())


def multiply_accumulates(method: Method, generate_one: Callable[[], object]) -> int | None:
    """Multiply-accumulates of `generate_one`, which generates a single image; None where none are counted."""
    learnt = [weights for weights in method.parameters() if weights.requires_grad]
    try:
        for weights in learnt:  # the counter fails on a module that is given a parameter that wants a gradient
            weights.requires_grad_(False)
        return operations(method, generate_one) // 2 or None
    finally:
        for weights in learnt:
            weights.requires_grad_(True)


def operations(method: Method, run: Callable[[], object]) -> int:
    """Floating-point operations of `run`, by PyTorch's counter, which knows convolutions and matrix products.

    Attention is computed plainly meanwhile: the counter does not know the fused kernels of CPUs, nor the fused
    inference of nn.MultiheadAttention.
    """
    from torch.utils.flop_counter import FlopCounterMode

    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with eagerly(method), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            run()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return counter.get_total_flops()


def eagerly(method: Method) -> AbstractContextManager:
    """A context in which compiled networks of the method run as if they were not compiled."""
    if any(module._compiled_call_impl is not None for module in method.modules()):
        return torch.compiler.set_stance("force_eager")
    return nullcontext()  # the compiler takes a second to import
