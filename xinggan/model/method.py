"""`Method`, the interface between ways to generate a person in a pose and the trainer, the metrics and the timing.

A new method is a subclass in one Python file and one yaml file that names it; `xinggan.model.adversarial` is the
fullest example, `baselines.trivial` the shortest.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xinggan.data.batch import PosePair
from xinggan.data.poses import pose_maps
from xinggan.distributed import Processes

if TYPE_CHECKING:
    from xinggan.data.packed import PackedSplit


class Method(nn.Module):
    """A method is a module with its own training step and a `generate` that is deterministic in eval mode.

    `optimisers` (name -> optimiser) belong to the method, their learning rates follow the trainer's schedule.
    `averaged` names the submodules that `generate` uses: their exponential moving average is what is evaluated.
    `checkpointed` names the kinds of module whose activations `checkpoint_activations` computes again.
    """

    averaged: tuple[str, ...] = ()
    added_steps: int = 0  # that training takes on top of the planned ones, for a stage that is not part of these
    checkpointed: tuple[type[nn.Module], ...] = ()
    compared_images: int = 1  # so many of a batch are seen together, so a process has a multiple of them

    def __init__(self) -> None:
        super().__init__()
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self.frozen: list[Any] = []  # networks that losses look through: no submodules, so not in checkpoints
        self.networks: dict[str, str] = {}  # those of them with weights from a file: their SHA-256
        self.planned_steps = 0  # set by the trainer, for methods that train in stages
        self.train_split: PackedSplit | None = None  # set by the trainer, also when training is resumed
        self.precision = "fp32"
        self.settings: Any = None  # those of a method that draws poses have pose_map and pose_sigma

    def _apply(self, change, recurse: bool = True):
        for network in self.frozen:
            network._apply(change)  # moves with the method
        return super()._apply(change, recurse)

    @property
    def processes(self) -> Processes:
        """The processes that train together, of which this is one."""
        return Processes.current

    def begin(self, train: "PackedSplit") -> None:
        """Learn from the training split as a whole; called once before the first step."""

    def training_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """Forward, backward and optimiser updates for a batch on the device.

        Returns losses and gradient norms by name, detached scalars.
        """
        raise NotImplementedError(f"{type(self).__name__} is not trained")

    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """source: uint8 [B, 3, H, W]; poses: [B, 18, 3]; seeds: int64 [B], one an image.

        Returns float [B, 3, H, W] in [-1, 1]; an image depends on its own row and seed, not on its batch.
        """
        raise NotImplementedError

    def generate_pairs(self, batch: PosePair, seeds: Tensor) -> Tensor:
        """`generate` for a batch; overridden by a reference such as the ground truth, which needs more of the batch."""
        return self.generate(batch.source_image, batch.source_pose, batch.target_pose, seeds)

    def pose_maps(self, poses: Tensor, image: Tensor) -> Tensor:
        """Maps [B, 18, H, W] of poses [B, 18, 3], drawn as the settings say, in the size of images [B, 3, H, W]."""
        return pose_maps(poses, image, self.settings.pose_map, self.settings.pose_sigma)

    def autocast(self) -> AbstractContextManager:
        """The context in which forward passes run: bfloat16 where that is the precision, else nothing."""
        device = next((p.device.type for p in self.parameters()), "cpu")
        return torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16")

    def update(self, optimiser: str, loss: Tensor) -> Tensor:
        """One step of the named optimiser down `loss`, whose gradient is averaged over all processes.

        Returns the gradient's norm, [] on the device, so that the trainer notices one that is not finite.
        """
        chosen = self.optimisers[optimiser]
        chosen.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for group in chosen.param_groups for p in group["params"] if p.grad is not None]
        self.processes.average_gradients(parameters)
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
        chosen.step()
        chosen.zero_grad(set_to_none=True)  # frees the gradients' memory
        return norm

    def checkpoint_activations(self) -> None:
        """Keep no activations inside modules of the `checkpointed` kinds in training: backward computes them again.

        Losses, gradients, random numbers and BatchNorm statistics stay what they are. Of kinds within one another
        only the outermost counts. Raises ValueError for a method that names none.
        """
        if not self.checkpointed:
            raise ValueError(f"training.checkpoint_activations: {type(self).__name__} has no modules that allow it")
        inside: set[nn.Module] = set()
        for module in self.modules():
            if isinstance(module, self.checkpointed) and module not in inside:
                inside.update(module.modules())
                module.forward = partial(_checkpointed_forward, module, module.forward)

    def scale_learning_rates(self, factor: float) -> None:
        """Set every learning rate to its initial value times `factor`."""
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def training_state(self) -> dict:
        """State to save beside the weights so that training continues exactly: the optimisers' moments."""
        return {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}

    def load_training_state(self, state: dict) -> None:
        """Restore `training_state()`."""
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state[name])


def _checkpointed_forward(module: nn.Module, forward, *inputs, **named):
    """forward(*inputs), whose activations are dropped and computed again for the gradient."""
    if not (module.training and torch.is_grad_enabled()):
        return forward(*inputs, **named)
    contexts = lambda: (nullcontext(), _frozen_statistics(module))  # noqa: E731  # of the first and the second time
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts, **named)


@contextmanager
def _frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Context in which BatchNorm normalises as in training, but does not update its running statistics."""
    norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, norm.num_batches_tracked.clone()  # type: ignore[union-attr]
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def adam(parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Adam:
    """Adam with the betas (0.5, 0.999) that GANs are trained with here, fused into one kernel a step."""
    return torch.optim.Adam(parameters, lr=learning_rate, betas=(0.5, 0.999), fused=True)
