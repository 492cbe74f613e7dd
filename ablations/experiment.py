"""One experiment from configuration to finished run record: prepare, train, generate, score, time."""

import json
import sys
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import yaml

from ablations.budget import plan_training
from ablations.config import Experiment, build_method, plain_values
from ablations.record import RunRecord, name, run_id
from xinggan.data.packed import PackedDataset
from xinggan.data.prepare import prepare
from xinggan.distributed import Processes, resolve_device
from xinggan.files import write_atomically
from xinggan.metrics.score import score
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
    """What became of one experiment; `state` is finished, skipped (it was finished before), preempted or failed."""

    name: str
    state: str
    folder: Path
    error: str = ""


def run_experiment(config: Experiment, stop: StopRequest, processes: Processes | None = None) -> Outcome:
    """Compute what `config` says, or what is still missing of it.

    Raises ValueError or OSError for a device, data or weights that cannot be used, before any work, and RunBusy when
    another process works on the same run; whatever goes wrong later is in the outcome and the record.
    """
    processes = processes or Processes()
    device = resolve_device(config.device)
    method = build_method(config, device)
    _check_processes(config, method, processes)
    with processes.first_goes_first():
        data = prepare(config.dataset, config.cache, progress=processes.first)
    folder = Path(config.runs) / run_id(config, data.digest)
    title = name(config)
    if RunRecord(folder).finished:
        return Outcome(title, "skipped", folder)
    if not processes.first:
        result = _train(config, method, data, folder, device, stop, processes)
        return Outcome(title, "finished" if result and result.finished else "preempted", folder)

    with RunRecord(folder) as record:
        if record.finished:  # by another process, between the look above and the lock
            return Outcome(title, "skipped", folder)
        content = yaml.safe_dump({"name": title} | plain_values(config), sort_keys=False)
        steps = config.training.steps if config.training is not None else 0
        size = {"height": data.test.height, "width": data.test.width}
        facts = {"dataset_digest": data.digest, "networks": method.networks, "steps": steps, **size}
        attempt = record.begin(content, name=title, **facts)
        print(f"{title}: {attempt}, {folder}", flush=True)
        if config.precision == "bf16" and (note := slow_bfloat16(device)):
            print(note, file=sys.stderr)
        try:
            _compute(config, method, data, record, device, stop, processes)
        except (Preempted, KeyboardInterrupt):
            record.end("preempted")
            return Outcome(title, "preempted", folder, f"stopped by {stop.signal_name}")
        except Exception as error:  # the record keeps the traceback; a grid goes on with its next run
            record.fail(error)
            return Outcome(title, "failed", folder, f"{type(error).__name__}: {error}")
        record.end("finished")
    return Outcome(title, "finished", folder)


def _check_processes(config: Experiment, method: Method, processes: Processes) -> None:
    """Refuse what several processes would compute differently from one."""
    if processes.count == 1 or config.training is None:
        return
    if config.training.batch % processes.count:
        raise ValueError(f"training.batch={config.training.batch} does not divide among {processes.count} processes")
    if any(isinstance(module, torch.nn.BatchNorm2d) for module in method.modules()):
        raise ValueError(
            f"norm=batch sees only its part of a batch in each of {processes.count} processes: norm=instance"
        )


def _compute(
    config: Experiment,
    method: Method,
    data: PackedDataset,
    record: RunRecord,
    device: str,
    stop: StopRequest,
    processes: Processes,
) -> None:
    reset_peak_memory(device)
    trained = _train(config, method, data, record.folder, device, stop, processes)
    training_peak_mb = peak_memory_mb(device) or process_peak_memory_mb()
    if trained and not trained.finished:
        raise Preempted
    if trained:
        trained.average.swap()  # from here on the method is what is evaluated

    stop.check()
    record.write_timing(measure_timing(config, method, data, record.folder, device, training_peak_mb))
    pairs = np.arange(len(data.test))
    generated = generate_pairs(
        method, data.test, pairs, seed=config.seed, device=device, batch=config.evaluation.batch, stop=stop
    )
    maps = attention_maps(method, data.test.batch(pairs[:ATTENTION_PAIRS]).to(device))
    if maps is not None:
        write_attention(record.folder / "generated" / "examples" / FILE_NAME, maps)
    write_generated(record.folder / "generated", generated, data, pairs)
    stop.check()
    scores = score(
        generated,
        data.test,
        pairs,
        train_split=data.train,
        lpips_net=config.evaluation.lpips_net,
        device=device,
        synthetic=config.dataset.name == "synthetic",
    )["clean"]
    record.write_metrics([asdict(value) for value in scores.values], scores.per_image, pairs, data.test)


def _train(
    config: Experiment,
    method: Method,
    data: PackedDataset,
    folder: Path,
    device: str,
    stop: StopRequest,
    processes: Processes,
) -> TrainingResult | None:
    if config.training is None:
        method.begin(data.train)
        return None
    with processes.first_goes_first():
        settings = plan_training(config, data, folder, device)
    if processes.first:
        RunRecord(folder).note(steps=settings.steps)
    return train(method, data, settings, folder, seed=config.seed, device=device, processes=processes, stop=stop)


def write_generated(folder: Path, generated: np.ndarray, data: PackedDataset, pairs: np.ndarray) -> None:
    """Lossless PNGs of all generated images, the panels of the first few pairs, a contact sheet; the manifest last."""
    manifest = []
    for image, pair in zip(generated, pairs, strict=True):
        file = folder / f"{pair:06d}.png"
        save_png(file, image)
        source, target = data.test.pairs[pair]
        manifest.append(
            {
                "pair": int(pair),
                "pair_id": data.test.pair_id(int(pair)),
                "source": data.test.names[source],
                "target": data.test.names[target],
                "file": file.name,
                "sha256": sha256(file.read_bytes()).hexdigest(),
            }
        )
    shown = pairs[:EXAMPLES]
    batch = data.test.batch(shown)
    for row in range(len(shown)):
        for panel, image in (panels(batch, row) | {"generated": generated[row]}).items():
            save_png(folder / "examples" / f"{row:02d}_{panel}.png", image)
    save_png(folder / "contact_sheet.png", contact_sheet(generated[:SHEET]))
    write_atomically(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")


def measure_timing(
    config: Experiment, method: Method, data: PackedDataset, folder: Path, device: str, training_peak_mb: float
) -> dict:
    """Latency at batch 1 and at the evaluation batch; the training's speed at every line of history.jsonl."""
    title = name(config)
    batches = sorted({1, int(config.evaluation.batch)})
    height, width = data.test.height, data.test.width
    mode = "compiled" if config.compile else "eager"
    scenarios = []
    for batch in batches:
        task = Task("inference", title, {}, "", device, config.precision, batch=batch, height=height, width=width)
        scenarios.append(replace(measure_here(task, method, data), mode=mode))
    if config.training is not None:
        lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        speeds = [line["images_per_second"] for line in lines if "losses" in line]
        batch = config.training.batch
        training = Scenario("training", title, device_name(device), config.precision, batch, height, width, mode=mode)
        training.threads = torch.get_num_threads()
        training.samples_ms = [1000 * batch / speed for speed in speeds[1:] or speeds]  # the first interval warms up
        training.peak_memory_mb = training_peak_mb
        scenarios.append(training)
    return {
        "parameters": parameters(method),
        "macs_per_image": multiply_accumulates(method, inference_call(method, data.test, device, batch=1)),
        "scenarios": [scenario.record() for scenario in scenarios],
    }
