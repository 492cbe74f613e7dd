"""One experiment from configuration to finished run record: prepare, train, generate, score, time."""

import json
import sys
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from ablations.budget import flops_of_parts, flops_until, plan_training
from ablations.config import Experiment, build_method, check_processes, plain_values
from ablations.record import RunRecord, name, run_id
from xinggan.command import reason
from xinggan.data.estimators import Estimator, open_estimator
from xinggan.data.packed import PackedDataset, PackedSplit
from xinggan.data.prepare import prepare
from xinggan.data.settings import proportions_of
from xinggan.distributed import Processes, resolve_device
from xinggan.files import sha256_of, user_path, without_places, write_atomically
from xinggan.metrics.protocol import CLEAN, protocols_for
from xinggan.metrics.score import score
from xinggan.metrics.values import Scores, write_scores
from xinggan.model.attention_maps import FILE_NAME, attention_maps, write_attention
from xinggan.model.method import Method
from xinggan.pictures import contact_sheet, panels, save_png
from xinggan.timing.counts import multiply_accumulates, parameters
from xinggan.timing.device import (
    device_name,
    peak_memory_mb,
    process_peak_memory_mb,
    reset_peak_memory,
    slow_bfloat16,
)
from xinggan.timing.measurement import inference_call, measure_here
from xinggan.timing.scenario import Scenario, Task
from xinggan.training.generation import generate_pairs
from xinggan.training.loop import TrainingResult, train
from xinggan.training.stop import Preempted, StopRequest

EXAMPLES = 12  # pairs whose panels are kept for the report's sample grid
ATTENTION_PAIRS = 3  # of these, the first ones, whose attention maps are kept where the method has any
SHEET = 96  # generated images on the contact sheet


@dataclass(frozen=True)
class Outcome:
    """Result of one experiment; `state` is finished, skipped (it was finished before), preempted or failed."""

    name: str
    state: str
    folder: Path
    error: str = ""


@dataclass(frozen=True)
class Run:
    """One run in this process: the method on its device, the packed data, the record's folder."""

    config: Experiment
    title: str
    method: Method
    data: PackedDataset
    folder: Path
    device: str
    stop: StopRequest
    processes: Processes
    estimator: Estimator | None = None  # of PCKh

    def train(self) -> TrainingResult | None:
        """Train as the configuration and its budget say; None for a method that is not trained."""
        if self.config.training is None:
            self.method.begin(self.data.train)
            return None
        with self.processes.first_goes_first():
            settings = plan_training(self.config, self.data, self.folder, self.device)
        steps, halvings = settings.steps + self.method.added_steps, self.config.evaluation.halvings
        record = RunRecord(self.folder)
        if self.processes.first:
            record.note(steps=steps)
            learning = record.read("learning.json", {"points": []})
            if halvings and "flops_of_parts" not in learning:
                parts = flops_of_parts(self.config, settings, self.data, self.device)
                about: dict[str, Any] = {"batch": settings.batch, "steps": settings.steps}
                about |= {"added_steps": self.method.added_steps, "flops_of_parts": parts}
                record.write("learning.json", about | {"protocols": {}} | learning)
        return train(
            self.method, self.data, settings, self.folder,
            seed=self.config.seed, device=self.device, processes=self.processes, stop=self.stop,
            evaluate=lambda step, seconds: self.learn(step, seconds, self.scored(self.generated())[0]),
            evaluate_at={max(1, round(steps / 2**halving)) for halving in range(1, halvings + 1)},
        )  # fmt: skip

    def learn(self, step: int, seconds: float, scores: Scores) -> None:
        """Add to learning.json what the averaged weights score after a step, in place of that step and later ones.

        Each metric's protocol stands there once: all steps are scored on the same pairs in the same way.
        """
        record = RunRecord(self.folder)
        learning = record.read("learning.json", {})
        scored = [value for value in scores.values if value.value is not None]
        points = [point for point in learning["points"] if point["step"] < step]
        flops = flops_until(step, *(learning[key] for key in ("steps", "added_steps", "flops_of_parts")))
        values = {value.metric: value.value for value in scored}
        points.append({"step": step, "seconds": seconds, "flops": flops, "values": values})
        protocols = {value.metric: value.protocol for value in scored}
        record.write("learning.json", learning | {"protocols": protocols, "points": points})

    def generated(self) -> np.ndarray:
        """The image of every test pair, uint8 [n, H, W, 3]. Raises Preempted where the run is stopped."""
        pairs, batch = np.arange(len(self.data.test)), self.config.evaluation.batch
        return generate_pairs(
            self.method, self.data.test, pairs, seed=self.config.seed, device=self.device, batch=batch, stop=self.stop
        )

    def scored(self, generated: np.ndarray, every_protocol: bool = False) -> list[Scores]:
        """All metrics of these images of all test pairs, under `clean` and then under the protocols asked for."""
        test, evaluation, data = self.data.test, self.config.evaluation, self.config.dataset.name
        known = protocols_for(data)
        names = known if every_protocol and evaluation.protocols == "all" else [CLEAN.name]
        return list(score(
            generated, test, np.arange(len(test)), train_split=self.data.train, lpips_net=evaluation.lpips_net,
            protocols=[known[name] for name in names], estimator=self.estimator,
            device=self.device, synthetic=data == "synthetic",
        ).values())  # fmt: skip

    def compute(self, record: RunRecord) -> None:
        """Train, time, generate and score; raises Preempted where the run is stopped in between."""
        config, method, test, device = self.config, self.method, self.data.test, self.device
        reset_peak_memory(device)
        trained = self.train()
        training_peak_mb = peak_memory_mb(device) or process_peak_memory_mb()
        if trained and not trained.finished:
            raise Preempted
        if trained:
            trained.average.swap()  # from here on the method is what is evaluated

        self.stop.check()
        record.write("timing.json", self.time(training_peak_mb))
        generated, pairs = self.generated(), np.arange(len(test))
        maps = attention_maps(method, test.batch(pairs[:ATTENTION_PAIRS]).to(device))
        if maps is not None:
            write_attention(self.folder / "generated" / "examples" / FILE_NAME, maps)
        write_generated(self.folder / "generated", generated, test, pairs)
        self.stop.check()
        scores = self.scored(generated, every_protocol=True)
        if trained and config.evaluation.halvings:
            self.learn(trained.step, record.logged_losses()[-1]["seconds"], scores[0])
        write_scores(self.folder, scores, test, pairs)

    def time(self, training_peak_mb: float) -> dict:
        """Latency at batch 1 and at the evaluation batch; the training's speed at every line of history.jsonl."""
        config, method, test, device = self.config, self.method, self.data.test, self.device
        mode = "compiled" if config.compile else "eager"
        scenarios = []
        for batch in sorted({1, config.evaluation.batch}):
            task = Task("inference", self.title, {}, "", device, config.precision, batch=batch)
            task = replace(task, height=test.height, width=test.width)
            scenarios.append(replace(measure_here(task, method, self.data), mode=mode))
        if config.training is not None:
            speeds = [line["images_per_second"] for line in RunRecord(self.folder).logged_losses()]
            batch = config.training.batch
            where = (device_name(device), config.precision, batch, test.height, test.width, mode)
            training = Scenario("training", self.title, *where, threads=torch.get_num_threads())
            training.samples_ms = [1000 * batch / speed for speed in speeds[1:] or speeds]  # the first one warms up
            training.peak_memory_mb = training_peak_mb
            scenarios.append(training)
        return {
            "parameters": parameters(method),
            "macs_per_image": multiply_accumulates(method, inference_call(method, test, device, batch=1)),
            "scenarios": [scenario.record() for scenario in scenarios],
        }


def run_experiment(config: Experiment, stop: StopRequest, processes: Processes | None = None) -> Outcome:
    """Compute what `config` says, or what is still missing of it.

    Raises ValueError or OSError for a device, data or weights that cannot be used, before any work, and RunBusy when
    another process works on the same run; whatever goes wrong later is in the outcome and the record.
    """
    processes = processes or Processes()
    device = resolve_device(config.device)
    method = build_method(config, device)
    check_processes(config, processes.count, method)
    with processes.first_goes_first():
        data = prepare(config.dataset, config.cache, progress=processes.first, split=config.evaluation.split)
    folder, title = Path(config.runs) / run_id(config, data.digest), name(config)
    if RunRecord(folder).finished:
        return Outcome(title, "skipped", folder)
    estimator = _estimator(config) if processes.first else None
    run = Run(config, title, method, data, folder, device, stop, processes, estimator)
    if not processes.first:
        trained = run.train()
        return Outcome(title, "finished" if trained and trained.finished else "preempted", folder)

    with RunRecord(folder) as record:
        if record.finished:  # by another process, between the look above and the lock
            return Outcome(title, "skipped", folder)
        content = yaml.safe_dump({"name": title} | plain_values(config), sort_keys=False)
        steps = config.training.steps if config.training is not None else 0
        facts = {"steps": steps, "height": data.test.height, "width": data.test.width}
        attempt = record.begin(
            content, device, name=title, dataset_digest=data.digest, networks=method.networks, **facts
        )
        print(f"{title}: {attempt}, {folder}", flush=True)
        if config.precision == "bf16" and (note := slow_bfloat16(device)):
            print(note, file=sys.stderr)
        try:
            run.compute(record)
        except (Preempted, KeyboardInterrupt):
            record.end("preempted")
            return Outcome(title, "preempted", folder, f"stopped by {stop.signal_name}")
        except Exception as error:  # the record keeps the traceback; a grid goes on with its next run
            record.end("failed", error=without_places("".join(traceback.format_exception(error))))
            return Outcome(title, "failed", folder, f"{type(error).__name__}: {reason(error)}")
        record.end("finished")
    return Outcome(title, "finished", folder)


def _estimator(config: Experiment) -> Estimator | None:
    """The pose estimator of the evaluation, if there is one. Raises ValueError where it cannot be used."""
    chosen = config.evaluation
    if chosen.estimator is None:
        return None
    weights = user_path(chosen.estimator_weights) if chosen.estimator_weights else None
    proportions = proportions_of(chosen.proportions) if chosen.proportions else None
    return open_estimator(chosen.estimator, weights, proportions=proportions)


def write_generated(folder: Path, generated: np.ndarray, test: PackedSplit, pairs: np.ndarray) -> None:
    """Lossless PNGs of all generated images, the panels of the first few pairs, a contact sheet; the manifest last."""
    manifest = []
    for image, pair in zip(generated, map(int, pairs), strict=True):
        file = folder / f"{pair:06d}.png"
        save_png(file, image)
        source, target = (test.names[place] for place in test.pairs[pair])
        facts = {"pair": pair, "pair_id": test.pair_id(pair), "source": source, "target": target, "file": file.name}
        manifest.append(facts | {"sha256": sha256_of(file)})
    shown = pairs[:EXAMPLES]
    batch = test.batch(shown)
    for row in range(len(shown)):
        for panel, image in (panels(batch, row) | {"generated": generated[row]}).items():
            save_png(folder / "examples" / f"{row:02d}_{panel}.png", image)
    save_png(folder / "contact_sheet.png", contact_sheet(generated[:SHEET]))
    write_atomically(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
