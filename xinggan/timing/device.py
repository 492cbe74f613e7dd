"""Clocks and counters of the device that is measured: time, memory and, on NVIDIA devices, energy."""

import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pynvml
import torch


def device_name(device: str) -> str:
    """The accelerator's name, or `cpu`."""
    return torch.cuda.get_device_name(device) if is_cuda(device) else str(device)


def is_cuda(device: str) -> bool:
    """Whether the device is an NVIDIA (or ROCm) accelerator."""
    return str(device).startswith("cuda")


def synchronise(device: str) -> None:
    """Wait until the device has done what it was asked."""
    if is_cuda(device):
        torch.cuda.synchronize(device)
    elif str(device).startswith("mps"):
        torch.mps.synchronize()


def timed(call: Callable[[], object], device: str) -> tuple[float, float | None]:
    """Milliseconds of one call: wall clock with the device synchronised, and between CUDA events where there are any.

    The events are of the current stream of the current device, which is to be `device`.
    """
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if is_cuda(device) else []
    synchronise(device)
    began = time.perf_counter()
    if events:
        events[0].record()
    call()
    if events:
        events[1].record()
    synchronise(device)
    wall_ms = 1000 * (time.perf_counter() - began)
    return wall_ms, events[0].elapsed_time(events[1]) if events else None


def reset_peak_memory(device: str) -> None:
    """Forget the peak so far, where the device can."""
    if is_cuda(device):
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mb(device: str) -> float | None:
    """Peak memory of the device's allocator since the last reset; None on a CPU, which keeps no such count."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if is_cuda(device) else None


def process_peak_memory_mb() -> float:
    """Peak memory of this process since it began, libraries included.

    Linux's `ru_maxrss` is at least what the process that started this one held then, so the kernel's own mark is read.
    """
    try:
        marks = Path("/proc/self/status").read_text().split()
        return int(marks[marks.index("VmHWM:") + 1]) / 2**10
    except (OSError, ValueError):  # another system, without such a mark
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)


def slow_bfloat16(device: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """A warning about precision=bf16 on an x86 processor without instructions for it; None on all other devices."""
    try:
        flags = re.search(r"^flags\s*:(.*)", cpuinfo.read_text(), re.MULTILINE)
    except OSError:
        return None
    if not str(device).startswith("cpu") or flags is None or {"amx_bf16", "avx512_bf16"} & {*flags[1].split()}:
        return None
    told = "precision=bf16: this CPU has no bfloat16 instructions (AMX, avx512_bf16), so bf16 is slower than fp32 here"
    return f"{told} (measured on such CPUs: 1.2 to 8 times)"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the memory of the device or of the computer did not suffice."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


class EnergyCounter:
    """An NVIDIA device's own count of the energy it has used, by NVML; elsewhere `unavailable_because` says why not.

    The device counts for all processes that use it, so the difference is a call's own only where there is no other.
    """

    def __init__(self, device: str):
        self.unavailable_because: str | None = None
        if not is_cuda(device):
            self.unavailable_because = f"energy is read from NVIDIA devices, and this is {device_name(device)}"
            return
        try:
            pynvml.nvmlInit()
            uuid = torch.cuda.get_device_properties(device).uuid  # NVML does not heed CUDA_VISIBLE_DEVICES
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())
            self.joules()
        except pynvml.NVMLError as error:
            self.unavailable_because = f"NVML: {error}"

    def joules(self) -> float | None:
        """Joules since the driver was loaded; None where there is no such count."""
        if self.unavailable_because:
            return None
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1000
