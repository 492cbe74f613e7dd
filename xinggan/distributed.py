"""One process or several: what a step needs of the others. A single process makes no call to torch.distributed.

Several processes that seed alike and hold equal parts of a batch compute what a single one would: what is drawn at
random is drawn for the global batch (see `Dropout`), gradients are averaged, and history pools see all images.
"""

import atexit
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, nn

PATIENCE = timedelta(days=7)  # of processes that wait while the first one packs data, draws samples or scores


class Processes:
    """The place of a process among `count` equal ones, each of which holds its rows of the global batch."""

    current: "Processes"  # what layers that draw random numbers ask; set for the time of a training

    def __init__(self, index: int = 0, count: int = 1, device: str = "cpu"):
        self.index, self.count, self.device = index, count, device

    @property
    def first(self) -> bool:
        """True in the one process that writes files and prints."""
        return self.index == 0

    @contextmanager
    def active(self) -> Iterator[None]:
        """Context in which `Processes.current` is this object."""
        before, Processes.current = Processes.current, self
        try:
            yield
        finally:
            Processes.current = before

    @contextmanager
    def first_goes_first(self) -> Iterator[None]:
        """The first process runs the block before all others, which then find what it prepared."""
        if self.count > 1 and not self.first:
            torch.distributed.barrier()
        yield
        if self.count > 1 and self.first:
            torch.distributed.barrier()

    def gather(self, rows: Tensor) -> Tensor:
        """rows: [b, ...] of this process -> [b * count, ...] in the order of the processes, detached."""
        if self.count == 1:
            return rows.detach()
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(self.count)]
        torch.distributed.all_gather(parts, rows.detach().contiguous())
        return torch.cat(parts)

    def own_rows(self, rows: Tensor) -> Tensor:
        """The part of a global batch that this process works on."""
        if len(rows) % self.count:
            raise ValueError(f"a batch of {len(rows)} does not divide among {self.count} processes")
        return rows.chunk(self.count)[self.index]

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes, in one exchange."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
        means = flat.split([gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))

    def mean(self, values: Tensor) -> Tensor:
        """Mean of a tensor over the processes."""
        if self.count == 1:
            return values
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total / self.count

    def any(self, flag: bool) -> bool:
        """True everywhere if true anywhere: so that all processes leave the loop at the same step."""
        return bool(self.mean(torch.tensor(float(flag), device=self.device)) > 0) if self.count > 1 else flag


Processes.current = Processes()


def connect(device: str = "auto") -> tuple[Processes, str]:
    """The place of this process among those of its launcher (`torchrun`, `accelerate launch`, SLURM), and its device.

    Only the launcher's WORLD_SIZE, RANK, LOCAL_RANK, MASTER_ADDR and MASTER_PORT count, no settings of accelerate.
    Without a launcher: a single process and `device` as it is. NCCL between GPUs, gloo between CPUs, which are taken
    where no GPU can be used.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        if {"ACCELERATE_MIXED_PRECISION", "MASTER_PORT"} <= os.environ.keys() and "RANK" not in os.environ:
            note = (
                "accelerate launch has started one process, as it does where there is no GPU; torchrun starts several"
            )
            print(note, file=sys.stderr)
        return Processes(), device
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if device == "cpu" or accelerator is None or accelerator.type == "mps":  # gloo knows tensors of CPUs alone
        device, kind = "cpu", "cpu"
    else:
        kind = accelerator.type
        device = f"{kind}:{int(os.environ['LOCAL_RANK']) % torch.accelerator.device_count()}"
        torch.accelerator.set_device_index(torch.device(device).index)
    backend = torch.distributed.get_default_backend_for_device(kind)
    torch.distributed.init_process_group(backend, timeout=PATIENCE)
    atexit.register(torch.distributed.destroy_process_group)
    return Processes(torch.distributed.get_rank(), torch.distributed.get_world_size(), device), device


def resolve_device(device: str) -> str:
    """The device to compute on: `auto` is CUDA where it is available, else the CPU. Raises ValueError for one that this
    machine lacks."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].split(":")[0]
        what = f"device={device} is not usable on this machine ({reason}); accepted are auto, cpu, cuda, cuda:N, mps"
        raise ValueError(what) from error
    return device
