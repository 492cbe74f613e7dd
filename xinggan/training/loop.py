"""The training loop, for any `Method`: set up, resume, train, save. Running it again continues where it was left."""

import json
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xinggan.data.packed import PackedDataset, PackedSplit
from xinggan.distributed import Processes
from xinggan.files import write_atomically
from xinggan.metrics.similarity import l1, ssim
from xinggan.model.method import Method
from xinggan.pictures import comparison_grid, save_png
from xinggan.progress import Progress
from xinggan.training.checkpoint import load_checkpoint, save_checkpoint
from xinggan.training.ema import MovingAverage
from xinggan.training.generation import generate_pairs
from xinggan.training.schedule import batch_indices, learning_rate_factor, step_seed
from xinggan.training.settings import TrainingSettings
from xinggan.training.stop import StopRequest

SAMPLES = 8  # test pairs in a sample grid and evaluation point


class Divergence(RuntimeError):
    """A loss or gradient norm stopped being finite; the message has the step, its name and the batch's pair ids."""


@dataclass(frozen=True)
class TrainingResult:
    step: int  # steps done in all
    finished: bool  # False: asked to stop
    average: MovingAverage  # what to evaluate with


def train(
    method: Method,
    data: PackedDataset,
    settings: TrainingSettings,
    folder: Path,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    processes: Processes | None = None,
    stop: StopRequest | None = None,
    evaluate: Callable[[int, float], None] | None = None,
    evaluate_at: Collection[int] = (),
) -> TrainingResult:
    """Train `method` (already on `device`) on the pairs of `data.train`, writing into the run directory `folder`.

    Writes `checkpoint/`, `history.jsonl` and `samples/`. After each step of `evaluate_at`, `evaluate(step, seconds of
    training so far)` is called while the method has the averaged weights; a training that is resumed at such a step
    calls it again. Raises `Divergence` at a non-finite loss, before anything of that step is saved.
    """
    processes, stop = processes or Processes(), stop or StopRequest()
    method.planned_steps, method.train_split = settings.steps, data.train
    steps = settings.steps + method.added_steps
    average = MovingAverage([getattr(method, name) for name in method.averaged], settings.ema)

    start = 0
    if (found := load_checkpoint(folder / "checkpoint", device)) is not None:
        start, state = found
        method.load_state_dict(state["method"])
        method.load_training_state(state["training"])
        average.load_state(state["average"])
    else:
        with processes.active():
            method.begin(data.train)
    history = History(folder / "history.jsonl", start)

    def evaluation_point(done: int) -> None:
        if evaluate is not None and done in evaluate_at and processes.first:
            with history.paused(), average.applied():
                evaluate(done, history.seconds)

    recent: list[dict[str, Tensor]] = []  # losses since the last log line, still on the device
    method.train()
    began = time.perf_counter()
    bar = Progress("training", steps, "steps", done=start, enabled=processes.first)
    with bar as progress, processes.active():
        evaluation_point(start)
        for step in range(start, steps):
            torch.manual_seed(step_seed(seed, step))
            indices = batch_indices(seed, step, settings.batch, len(data.train))
            batch = data.train.batch(processes.own_rows(torch.from_numpy(indices)).numpy()).to(device)
            method.scale_learning_rates(learning_rate_factor(step, steps, settings.decay_steps))
            recent.append(method.training_step(batch, step))
            average.update(step)
            done = step + 1

            # Losses are looked at only now and then, so that an accelerator is not held up every step.
            stopping = processes.any(stop.signal_name is not None)
            last = done == steps
            save_now = last or stopping or done % settings.checkpoint_every == 0 or done in evaluate_at
            if save_now or done % settings.log_every == 0:
                losses = _mean_losses(recent, done, seed, settings.batch, data, processes)  # waits for the device
                speed = settings.batch * len(recent) / (time.perf_counter() - began)
                if processes.first:
                    history.add(done, images_per_second=float(f"{speed:.4g}"), losses=losses)
                shown = [f"{name} {value:.2f}" for name, value in losses.items() if not name.startswith("gradient")]
                progress.update(len(recent), f"{speed:.1f} images/s  {'  '.join(shown)}")
                recent.clear()
            if settings.sample_every and (done % settings.sample_every == 0 or last) and processes.first:
                picture = folder / "samples" / f"step-{done:06d}.png"
                with history.paused(), average.applied():
                    few = range(min(SAMPLES, len(data.test)))
                    means = sample(method, data.test, few, picture, seed, device)
                history.add(done, evaluation=means)
            if save_now and processes.first:
                history.flush()
                state = {"method": method.state_dict(), "training": method.training_state(), "average": average.state()}
                with history.paused():
                    save_checkpoint(folder / "checkpoint", done, state)
                evaluation_point(done)
            if stopping and not last:
                return TrainingResult(done, False, average)
            if not recent:
                began = time.perf_counter()  # samples and checkpoints are not part of a step
    return TrainingResult(steps, True, average)


def _mean_losses(
    recent: list[dict[str, Tensor]], done: int, seed: int, batch: int, data: PackedDataset, processes: Processes
) -> dict[str, float]:
    """Mean of each loss over all processes and the recent steps that have it (a stage may have losses of its own).

    Raises `Divergence` if one of them is not finite.
    """
    names = list(dict.fromkeys(name for losses in recent for name in losses))
    if not names:
        return {}
    missing = torch.zeros_like(next(value for losses in recent for value in losses.values()))
    rows = [torch.stack([losses.get(name, missing).float() for name in names]) for losses in recent]
    table = processes.mean(torch.stack(rows)).cpu()  # [steps, losses]
    bad = (~table.isfinite()).nonzero()  # [k, 2]: step, loss
    if len(bad):
        step = done - len(recent) + int(bad[0, 0])
        ids = [data.train.pair_id(int(i)) for i in batch_indices(seed, step, batch, len(data.train))]
        name, value = names[int(bad[0, 1])], float(table[tuple(bad[0])])
        raise Divergence(f"step {step}: {name} is {value}. The batch's pairs: {', '.join(ids)}")
    counts = torch.tensor([sum(name in losses for losses in recent) for name in names])
    return dict(zip(names, (table.sum(0) / counts).tolist(), strict=True))


def sample(
    method: Method, split: PackedSplit, pairs: range, picture: Path, seed: int, device: torch.device | str
) -> dict[str, float]:
    """Write the grid of these pairs' images; return their mean SSIM and L1."""
    generated = generate_pairs(method, split, pairs, seed=seed, device=device, batch=SAMPLES, progress=False)
    batch = split.batch(pairs)
    save_png(picture, comparison_grid(batch, generated))
    images = torch.from_numpy(generated).permute(0, 3, 1, 2)
    return {"ssim": float(ssim(images, batch.target_image).mean()), "l1": float(l1(images, batch.target_image).mean())}


class History:
    """`history.jsonl`: one JSON object a line. Lines beyond the step that a run resumes from are dropped."""

    def __init__(self, path: Path, step: int):
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.lines = [line for line in lines if _step_of(line) <= step]
        self._began = time.monotonic() - (json.loads(self.lines[-1]).get("seconds", 0.0) if self.lines else 0.0)

    @property
    def seconds(self) -> float:
        """Training time so far over all attempts, without samples, evaluations and checkpoints."""
        return round(time.monotonic() - self._began, 3)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Context whose time is not training time."""
        stopped = time.monotonic()
        try:
            yield
        finally:
            self._began += time.monotonic() - stopped

    def add(self, step: int, **what: Any) -> None:
        """A line of what is known after `step`, with the training time so far."""
        self.lines.append(json.dumps({"step": step, "seconds": self.seconds, **what}))
        if len(self.lines) % 10 == 0:
            self.flush()

    def flush(self) -> None:
        """Write the file."""
        write_atomically(self.path, "\n".join(self.lines) + "\n")


def _step_of(line: str) -> float:
    """The step of a line; infinite for one that was cut short."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return float("inf")
