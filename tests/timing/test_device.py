"""What a device does not measure is said, not made up."""

import subprocess
import sys

import pytest
import torch

from xinggan.timing.device import EnergyCounter, is_out_of_memory, process_peak_memory_mb, slow_bfloat16, timed


def test_a_cpu_has_wall_times_alone_and_says_why_it_has_no_energy():
    calls = []
    wall_ms, device_ms = timed(lambda: calls.append(1), "cpu")
    assert wall_ms > 0 and device_ms is None and calls == [1]
    counter = EnergyCounter("cpu")
    assert counter.joules() is None
    assert counter.unavailable_because == "energy is read from NVIDIA devices, and this is cpu"


def test_memory_errors_of_devices_and_of_the_computer_are_recognised():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 1 TB"))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))


def test_the_peak_memory_of_a_process_is_its_own_and_not_that_of_the_one_that_started_it():
    held = bytearray(b"x") * 2**31  # 2 GiB, all of it written
    code = "from xinggan.timing.device import process_peak_memory_mb as peak; print(peak())"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert len(held) / 2**20 < process_peak_memory_mb()
    assert 10 < float(answer.stdout) < 2**10


@pytest.mark.parametrize(
    ("device", "cpuinfo", "slow"),
    [
        ("cpu", "flags\t\t: fpu avx2 avx512f\n", True),
        ("cpu", "flags\t\t: fpu avx512_bf16\n", False),
        ("cpu", "flags\t\t: fpu amx_bf16 amx_tile\n", False),
        ("cpu", "Features\t: fp asimd\n", False),  # another kind of processor: not known
        ("cpu", None, False),  # another system
        ("cuda", "flags\t\t: fpu avx2\n", False),
    ],
)
def test_bf16_is_warned_of_on_a_cpu_without_instructions_for_it(tmp_path, device, cpuinfo, slow):
    file = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        file.write_text(f"processor\t: 0\n{cpuinfo}bugs\t\t:\n")
    told = slow_bfloat16(device, file)
    assert ("slower than fp32" in told) if slow else told is None
