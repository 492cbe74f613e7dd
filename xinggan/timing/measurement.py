"""Measurement of one scenario: the calls, the first one, rounds of samples. `turns` gives each scenario a process.

    python -m xinggan.timing.measurement

reads a `Task` as a line of JSON and then lines such as {"turn": "round", "seconds": 0.5, "calls": 10}; each is answered
by a line with the `Scenario` so far. Between its turns the process waits and leaves the device to others.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from statistics import fmean

import numpy as np
import torch

from xinggan.data.packed import PackedDataset, PackedSplit, open_packed
from xinggan.model import from_settings
from xinggan.model.method import Method
from xinggan.model.switches import PerceptualNetwork
from xinggan.timing import counts
from xinggan.timing import device as clock
from xinggan.timing.scenario import Scenario, Task
from xinggan.training.generation import image_seeds
from xinggan.training.schedule import batch_indices, learning_rate_factor, step_seed

STAGES = 4  # a method may train in stages of different cost: a step is looked at in the middle of each quarter
WARM_UP_CALLS = 3
WARM_UP_SECONDS = 10.0  # warming up ends after this long
LONG_CALL_MS = 5000.0  # a call of this length fills the caches in a small part of it: none is made before a round


def inference_call(method: Method, split: PackedSplit, device: str, batch: int) -> Callable[[], object]:
    """`generate` on a batch that lies on the device already: bytes and keypoints in, images out, heatmaps included.

    So are source encoders and autoencoders, which every image needs anew.
    """
    rows = np.arange(batch) % len(split)
    pairs, seeds = split.batch(rows).to(device), torch.from_numpy(image_seeds(0, rows)).to(device)
    method.eval()

    def call() -> None:
        with torch.no_grad():
            method.generate_pairs(pairs, seeds)

    return call


def training_calls(
    method: Method, split: PackedSplit, device: str, batch: int, steps: int, decay_steps: int, stages: int = STAGES
) -> list[Callable[[], object]]:
    """A training step in the middle of each of `stages` parts of a training of so many steps, as the trainer takes it.

    Steps that a method adds come first, and are left out. From the packed data to the updated weights: batch to the
    device, heatmaps, losses, optimisers. Evaluation points, checkpoints and the moving average are not in it.
    Afterwards the weights are of no more use. Few pairs are enough: a latent method first encodes the images of all.
    """
    split = replace(split, pairs=split.pairs[: stages * batch])
    method.planned_steps, method.train_split = steps, split
    method.begin(split)
    method.train()

    def call(step: int) -> None:
        torch.manual_seed(step_seed(0, step))
        pairs = split.batch(batch_indices(0, step, batch, len(split))).to(device)
        method.scale_learning_rates(learning_rate_factor(step, steps + added, decay_steps))
        method.training_step(pairs, step)

    added = method.added_steps
    return [partial(call, added + (2 * stage + 1) * steps // (2 * stages)) for stage in range(stages)]


def control_call(device: str) -> Callable[[], object]:
    """The control workload: a large convolution, and many small ones that cost what it costs to start them.

    Always the same, so its time tells how fast the machine is at the moment. A machine may become slower in one of the
    two alone: small operations double where a second core has to be woken for each.
    """
    random = torch.Generator().manual_seed(0)
    large = torch.randn(1, 128, 64, 32, generator=random).to(device, memory_format=torch.channels_last)
    small = torch.randn(1, 16, 16, 8, generator=random).to(device, memory_format=torch.channels_last)
    weights = [torch.randn(c, c, 3, 3, generator=random).div(3 * c**0.5).to(device) for c in (128, 16)]

    def call() -> None:
        with torch.no_grad():
            torch.nn.functional.conv2d(large, weights[0], padding=1).relu_().add_(large)
            maps = small
            for _ in range(50):
                maps = torch.nn.functional.conv2d(maps, weights[1], padding=1).relu_()

    return call


class Measurement:
    """A task while it is measured, turn by turn. `scenario` is what is known of it so far."""

    method: Method
    data: PackedDataset

    def __init__(self, task: Task):
        self.task, self.scenario = task, Scenario.of(task)
        self.calls: list[Callable[[], object]] = []  # a sample is one of each
        self._joules = 0.0

    def build(self, method: Method | None = None, data: PackedDataset | None = None) -> None:
        """Make the method and its batch; nothing is run yet. A `method` that is given is measured as it stands."""
        task, self.alone = self.task, method is None
        if clock.is_cuda(task.device) and torch.device(task.device).index is not None:  # "cuda" is the current one
            torch.cuda.set_device(task.device)
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32, as in a run
        self._energy = clock.EnergyCounter(task.device)
        self.scenario.energy_unavailable_because = self._energy.unavailable_because
        self.scenario.device, self.scenario.threads = clock.device_name(task.device), torch.get_num_threads()
        if task.kind == "control":
            self.calls = [control_call(task.device)]
            return
        self.data = open_packed(task.data) if data is None else data
        if method is None:
            losses_of = PerceptualNetwork.untrained if task.kind == "training" else PerceptualNetwork.embedded
            settings = from_settings.without_training_weights(task.method_settings, instead=losses_of)
            method = from_settings.build(settings).to(task.device)  # with fresh weights, those of losses too
            method.precision = task.precision
        self.method = method
        if task.kind == "training":
            planned = task.training_steps, task.decay_steps
            self.calls = training_calls(self.method, self.data.train, task.device, task.batch, *planned)
        elif task.kind == "inference":
            self.calls = [inference_call(self.method, self.data.test, task.device, task.batch)]

    def first(self) -> None:
        """Compile, call for the first time, warm up, read the memory, count evaluations. For counts, only count."""
        task, device, scenario = self.task, self.task.device, self.scenario
        if task.kind == "counts":
            one = inference_call(self.method, self.data.test, device, batch=1)
            macs = counts.multiply_accumulates(self.method, one)
            scenario.counts = {"parameters": counts.parameters(self.method), "macs_per_image": macs}
            return
        if task.mode != "eager":
            self._compile()
        clock.reset_peak_memory(device)
        began = time.perf_counter()
        (scenario.first_call_ms, *_), _ = self._sample()
        if task.mode != "eager":
            began = time.perf_counter()  # compiling warms nothing up
        for _ in range(WARM_UP_CALLS):
            if time.perf_counter() - began < WARM_UP_SECONDS:
                self._sample()
        if task.mode == "cudagraph":
            from torch._dynamo.utils import counters as compiled

            if skipped := compiled["inductor"]["cudagraph_skips"]:  # the compiler leaves out graphs silently
                raise RuntimeError(f"{skipped} compiled pieces of it could not be captured as CUDA graphs")
        if clock.is_cuda(device):
            scenario.peak_memory_mb, scenario.memory_of = clock.peak_memory_mb(device), "device"
        elif self.alone:
            scenario.peak_memory_mb, scenario.memory_of = clock.process_peak_memory_mb(), "process"
        if task.kind == "inference":

            def count() -> None:
                scenario.evaluations = counts.evaluations(self.method, self.calls[0], task.batch)

            if self.alone:
                scenario.attention_kernels = counts.attention_kernels(self.method, count)  # one call for both
            else:
                count()
        torch.cuda.empty_cache()  # a waiting process leaves the memory to the others

    def round(self, seconds: float, calls: int, least: int = 1) -> None:
        """Samples for so long, from `least` to `calls`, after a short call that is none: the caches were others'."""
        scenario, task = self.scenario, self.task
        first_ms = scenario.first_call_ms if task.mode == "eager" else None  # else it compiles too
        if (scenario.samples_ms or [first_ms or 0])[-1] < LONG_CALL_MS:
            self._sample()
        done, joules, began = 0, self._energy.joules(), time.perf_counter()
        while done < calls and (done < least or time.perf_counter() - began < seconds):
            walls_ms, devices_ms = self._sample()
            scenario.samples_ms.append(fmean(walls_ms))
            scenario.device_ms += [fmean(devices_ms)] if devices_ms else []
            scenario.stage_ms += [walls_ms] if task.kind == "training" else []
            done += 1
        used = self._energy.joules()
        scenario.rounds.append(done)
        if joules is not None and used is not None:
            self._joules += used - joules
            scenario.joules_per_image = self._joules / (sum(scenario.rounds) * len(self.calls) * task.batch)
        torch.cuda.empty_cache()

    def _sample(self) -> tuple[list[float], list[float]]:
        """Milliseconds of each of the calls, one or for training one in each stage: wall clock, and on CUDA devices."""
        if self.task.mode == "cudagraph":
            torch.compiler.cudagraph_mark_step_begin()  # what the last call returned may be overwritten
        timed = [clock.timed(call, self.task.device) for call in self.calls]
        return [wall_ms for wall_ms, _ in timed], [device_ms for _, device_ms in timed if device_ms is not None]

    def _compile(self) -> None:
        """Compile the outermost networks that the calls use: source encoders, autoencoders, discriminators, all alike.

        What is between them, such as a sampler's loop over its steps, stays Python, in every method.
        """
        found = [counts.outermost_networks(self.method, call) for call in self.calls]
        networks = dict.fromkeys(network for rows in found for network in rows)
        if not networks:
            raise ValueError("there is no network in it to compile")
        for network in networks:
            network.compile(mode="reduce-overhead" if self.task.mode == "cudagraph" else None)


def measure_here(
    task: Task, method: Method, data: PackedDataset, seconds: float = 5.0, calls: int = 20, least: int = 5
) -> Scenario:
    """The scenario of a method as it stands, in the process that holds it: one round, for a run's own timing."""
    measurement = Measurement(task)
    measurement.build(method, data)
    measurement.first()
    measurement.round(seconds, calls, least)
    return measurement.scenario


def main() -> None:
    """Answer each line of standard input by one of standard output; other output goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    measurement = Measurement(Task(**json.loads(sys.stdin.readline())))
    for line in sys.stdin:
        turn = json.loads(line)
        try:
            getattr(measurement, turn.pop("turn"))(**turn)
        except Exception as error:  # a scenario that cannot be measured is a row with its reason
            measurement.scenario.unavailable_because = reason(error)
        answers.write(json.dumps(asdict(measurement.scenario)) + "\n")
        answers.flush()


def reason(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    said = (str(error).strip().splitlines() or [""])[0]
    if clock.is_out_of_memory(error):
        return f"out of memory: {said}"
    return f"{type(error).__name__}: {said}"


if __name__ == "__main__":
    main()
