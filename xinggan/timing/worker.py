"""A process that measures one scenario and nothing else: told by lines of JSON when it is its turn, it answers by them.

    {"do": "build"}  {"do": "first"}  {"do": "round", "seconds": 0.5, "calls": 10}  {"do": "end"}

after the task in the first line. Between its turns it waits and leaves the device to others. It ends with its input.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import IO, Any

import torch

from xinggan.data.packed import open_packed
from xinggan.model.from_settings import build, check_targets
from xinggan.timing import device as clock
from xinggan.timing.calls import WARM_UP_CALLS, inference_call, training_calls, yardstick_call
from xinggan.timing.counts import (
    NetworkCalls,
    attention_kernels,
    evaluations,
    multiply_accumulates,
    outermost_networks,
    parameters,
)
from xinggan.timing.task import Task

WARM_UP_SECONDS = 10.0  # warming up ends after this long


class Measurement:
    """A task while it is being measured; each of its turns returns plain values."""

    def __init__(self, task: Task):
        self.task = task
        self.calls: list[Callable[[], object]] = []
        self.evaluations: float | None = None

    def build(self) -> dict[str, Any]:
        """Make the method and its batch; nothing is run yet."""
        task = self.task
        if task.device.startswith("cuda"):
            torch.cuda.set_device(task.device)
        torch.backends.cudnn.allow_tf32 = False  # as in `ablations.method`: fp32 means fp32
        self.energy = clock.EnergyCounter(task.device)
        if task.kind == "yardstick":
            self.calls = [yardstick_call(task.device)]
        else:
            self._build_method()
        return {"device_name": clock.device_name(task.device), "threads": torch.get_num_threads()}

    def _build_method(self) -> None:
        task = self.task
        data = open_packed(task.data)
        check_targets(task.method_settings, "method")
        self.method = build(task.method_settings, "method").to(task.device)
        self.method.precision = task.precision
        if task.kind == "training":
            steps, decay = task.training_steps, task.decay_steps
            self.calls = training_calls(self.method, data.train, task.device, task.batch, steps, decay)
        elif task.kind == "inference":
            self.calls = [inference_call(self.method, data.test, task.device, task.batch)]
        self.split = data.test

    def first(self) -> dict[str, Any]:
        """Compile, call for the first time, warm up. For counts, count."""
        task, device = self.task, self.task.device
        if task.kind == "counts":
            macs = multiply_accumulates(self.method, self.split, device)
            return {"parameters": parameters(self.method), "macs_per_image": macs}
        if task.mode != "eager":
            self._compile()
        clock.reset_peak_memory(device)
        first_ms, *_ = self._sample()[0]
        began = time.perf_counter()
        for _ in range(WARM_UP_CALLS):
            self._sample()
            if time.perf_counter() - began > WARM_UP_SECONDS:
                break
        if task.mode == "cudagraph":
            refuse_without_graphs()
        if task.kind == "inference" and self.evaluations is None:
            self.evaluations = evaluations(outermost_networks(self.method, self.calls[0]), task.batch)
        memory = clock.peak_memory_mb(device) or clock.process_peak_memory_mb()
        kernels = attention_kernels(self.method, self.calls[0]) if task.kind == "inference" else None
        clock.release_unused_memory(device)
        return {
            "first_call_ms": first_ms,
            "evaluations": self.evaluations,
            "attention_kernels": kernels,
            "peak_memory_mb": memory,
            "memory_of": "device" if clock.is_cuda(device) else "process",
        }

    def round(self, seconds: float, calls: int) -> dict[str, Any]:
        """Samples for so long, at least one and at most `calls`, after a call that is none: the caches were others'."""
        self._sample()
        samples: list[list[tuple[float, float | None]]] = []
        joules, began = self.energy.joules(), time.perf_counter()
        while len(samples) < calls and (not samples or time.perf_counter() - began < seconds):
            samples.append(self._sample())
        used = self.energy.joules()
        clock.release_unused_memory(self.task.device)
        return {"samples": samples, "joules": None if joules is None or used is None else used - joules}

    def end(self) -> dict[str, Any]:
        """What is left to say."""
        return {"energy_unavailable_because": self.energy.unavailable_because}

    def _sample(self) -> list[tuple[float, float | None]]:
        """Wall and device milliseconds of each of the calls: one, or for training one in each stage."""
        if self.task.mode == "cudagraph":
            torch.compiler.cudagraph_mark_step_begin()  # what the last call returned may be overwritten
        return [clock.timed(call, self.task.device) for call in self.calls]

    def _compile(self) -> None:
        """Compile the outermost networks that the calls use: source encoders, autoencoders, discriminators, all alike.

        What is between them, such as a sampler's loop over its steps, stays Python, in every method.
        """
        networks: dict[torch.nn.Module, NetworkCalls] = {}
        for call in self.calls:
            found = outermost_networks(self.method, call)
            networks |= {network.module: network for network in found}
        if not networks:
            raise ValueError("there is no network in it to compile")
        if self.task.kind == "inference":
            self.evaluations = evaluations(list(networks.values()), self.task.batch)
        for module in networks:
            module.compile(mode="reduce-overhead" if self.task.mode == "cudagraph" else None)


def refuse_without_graphs() -> None:
    """Raise RuntimeError if the compiler left out a CUDA graph, which it does silently."""
    from torch._dynamo.utils import counters

    if skipped := counters["inductor"]["cudagraph_skips"]:
        raise RuntimeError(f"{skipped} compiled pieces of it could not be captured as CUDA graphs")


def main() -> None:
    """Answer each line of standard input by one of standard output; other output goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    measurement = Measurement(Task(**json.loads(sys.stdin.readline())))
    for line in sys.stdin:
        turn = json.loads(line)
        what = turn.pop("do")
        try:
            answer(answers, getattr(measurement, what)(**turn))
        except Exception as error:  # a scenario that cannot be measured is a row with its reason
            answer(answers, {"unavailable_because": reason(error)})
            return
        if what == "end":
            return


def answer(answers: IO[str], values: dict[str, Any]) -> None:
    answers.write(json.dumps(values) + "\n")
    answers.flush()


def reason(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    said = (str(error).strip().splitlines() or [""])[0]
    if clock.is_out_of_memory(error):
        return f"out of memory: {said}"
    return f"{type(error).__name__}: {said}"


if __name__ == "__main__":
    main()
