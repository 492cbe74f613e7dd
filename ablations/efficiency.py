"""The study `efficiency`: what generating and training cost, every method under the same circumstances.

    python -m ablations.study efficiency preset=smoke timing.batches=1,2
    python -m ablations.study efficiency timing.plan=quick only=xinggan:blocks=3,pidm --no-report

Each method has a run record of its own, with timing.json and no scores; weights are fresh, since they do not change the
cost. What a record holds already is not measured again. `timing.*` are the keys of `xinggan.timing.plan.Plan`;
`timing.plan` is one of the plans there (that of the preset; `quick`: a look of about a minute at a few methods).
"""

import json
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from ablations.config import Experiment, compose, plain_values, published_for
from ablations.record import RunRecord, environment, label, list_rows, name, titled
from ablations.run import PREEMPTED, build
from ablations.words import key_of
from baselines.diffusion.settings import Sampler
from xinggan.progress import Progress
from xinggan.timing.plan import Plan, grid, left_out, plan_of
from xinggan.timing.scenario import Scenario, Task, circumstances, noise_verdict, print_timing
from xinggan.timing.turns import measure_together
from xinggan.training.stop import Preempted, StopRequest

# Keys that are the study's own, or of no effect.
TAKEN = ("method", "precision", "compile", "budget", "amount", "published", "evaluation.split")


@dataclass
class Row:
    """A method of the study with its record and what the record holds."""

    title: str  # in the study
    task: Task  # a training step of the method; its `method` is the name of the method's runs
    config: Experiment
    schedule: dict[str, Any] | None  # of the published training
    record: RunRecord
    timing: dict[str, Any] = field(default_factory=dict)

    def has(self, task: Task) -> bool:
        """Whether a task was measured before, or found impossible."""
        if task.kind == "counts":
            return "macs_per_image" in self.timing
        return circumstances(asdict(task)) in map(circumstances, self.timing.get("scenarios", ()))

    def add(self, measured: Scenario) -> None:
        """Put what was measured into timing.json."""
        scenarios = self.timing.setdefault("scenarios", [])
        if measured.kind == "counts":
            nothing = {"macs_per_image": None, "counts_unavailable_because": measured.unavailable_because}
            self.timing.update(measured.counts or nothing)
        else:
            scenario = measured.record()
            if measured.kind == "training" and self.schedule and scenario["images_per_second"]:
                seconds = self.schedule["steps"] * self.schedule["batch"] / scenario["images_per_second"]
                scenario["schedule"] = self.schedule | {"hours": seconds / 3600}
            scenarios.append(scenario)
        self.record.write("timing.json", self.timing | {"noise": noise_verdict(scenarios)})


def run_efficiency(rows: list[tuple[str, list[str]]], words: list[str], report: bool) -> int:
    """Measure every method of `rows` (title, overrides) with further `words`; the exit status as `ablations.run`.

    Raises ValueError or OSError for what cannot be used, before any work.
    """
    from xinggan.timing.device import slow_bfloat16  # imports torch

    with ExitStack() as locks, StopRequest() as stop:
        plan, methods = prepare_rows(rows, words)
        for row in methods:
            locks.enter_context(row.record)
        if "bf16" in plan.precisions and (note := slow_bfloat16(methods[0].task.device)):
            print(note, file=sys.stderr)
        try:
            measure(methods, plan, stop)
        except (Preempted, KeyboardInterrupt):
            for row in methods:
                row.record.end("preempted")
            print("stopped. The same command measures what is missing", file=sys.stderr)
            return PREEMPTED
    print_timing({row.task.method: row.timing for row in methods})
    folders = [row.record.folder for row in methods]
    runs = folders[0].parent
    list_rows(runs, "efficiency", listing(runs, methods))
    if report:
        build(folders, runs.parent / "report" / "efficiency")
    return 0


def listing(runs: Path, methods: list[Row]) -> list[tuple[str, str]]:
    """Title and run of every row, and of those of the last table on the same data: some may be run after others."""
    rows = {row.title: row.record.folder.name for row in methods}
    before = {row["title"]: row["run"] for row in RunRecord(runs).read("studies/efficiency.json", [])}
    data = methods[0].timing["dataset_digest"]
    alike = {run for run in before.values() if RunRecord(runs / run).status.get("dataset_digest") == data}
    kept = {title: run for title, run in before.items() if title in rows or run in alike - {*rows.values()}}
    return [*(kept | rows).items()]


def prepare_rows(rows: list[tuple[str, list[str]]], words: list[str]) -> tuple[Plan, list[Row]]:
    """The plan, and each method ready to be measured, with its data packed. Raises ValueError or OSError."""
    own = [word for word in words if word.startswith("timing.")]
    shared = [word for word in words if word not in own]
    if taken := sorted({key_of(word) for word in shared} & {*TAKEN}):
        raise ValueError(f"{', '.join(taken)}: not a setting of this study; see the keys timing.*")
    preset = next((word.split("=", 1)[1] for word in shared if key_of(word) == "preset"), "small")
    plan = plan_of(preset, own, samplers=tuple(Sampler))
    configs = [compose([*overrides, *shared]) for _, overrides in rows]  # every mistake is found before any work
    found = [prepare_row(*row, config, plan) for row, config in zip(rows, configs, strict=True)]
    once: dict[str, Row] = {}
    for row in found:
        if once.setdefault(row.task.method, row).task != row.task:
            raise ValueError(f"{row.title}: its measurements and those of another row would have the same name")
    return plan, list(once.values())  # each once, however it was asked for


def prepare_row(title: str, overrides: list[str], config: Experiment, plan: Plan) -> Row:
    """One method of the study: its data, packed, and its record folder. `overrides`: what makes it this method."""
    from xinggan.data.prepare import prepare
    from xinggan.distributed import resolve_device

    data, device = prepare(config.dataset, config.cache), resolve_device(config.device)
    method, trained = plain_values(config)["method"], config.training
    task = Task("training", name(config), method, str(data.directory.absolute()), device)
    task = replace(task, height=data.test.height, width=data.test.width)
    if trained is not None:
        task = replace(task, batch=trained.batch, training_steps=trained.steps, decay_steps=trained.decay_steps)
    here = environment(device)  # other code or another machine costs something else
    machine = {key: here[key] for key in ("commit", "device", "cpu", "cores", "threads", "packages")}
    what = [data.digest, method, device, machine, asdict(plan.pace)]
    digest = sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]
    record = RunRecord(Path(config.runs) / f"timing-{label(config)}-{digest}")
    timing = record.read("timing.json", {}) | {"dataset_digest": data.digest}
    return Row(titled(title, config), task, config, published_schedule(config, overrides), record, timing)


def published_schedule(config: Experiment, overrides: list[str]) -> dict[str, Any] | None:
    """Steps and batch of the training that was published for DeepFashion, whatever the data at hand.

    Nearly every method was published for it, so that ratios compare trainings on the same data, as the paper's do.
    None for what is not trained. `overrides`: what makes it this method.
    """
    dataset = "deepfashion"
    training = compose([*overrides, "preset=paper", f"dataset={dataset}", "dataset.root=."]).training
    if training is None:
        return None
    schedule = {"preset": "paper", "dataset": dataset, "steps": training.steps, "batch": training.batch}
    return schedule | {"published": dataset in published_for(config.method_name)}


def measure(rows: list[Row], plan: Plan, stop: StopRequest) -> None:
    """Measure what the records lack, group by group; each group is in the records before the next begins."""
    row_of = {row.task.method: row for row in rows}
    groups = grid([row.task for row in rows], plan)
    lacking = [[task for task in group if not row_of[task.method].has(task)] for group in groups]
    for row in rows:
        facts: dict[str, Any] = {"name": row.task.method, "measures": "timing"}
        content = facts | plain_values(row.config) | {"training": None}
        facts |= {"dataset_digest": row.timing["dataset_digest"], "height": row.task.height, "width": row.task.width}
        row.record.begin(yaml.safe_dump(content, sort_keys=False), row.task.device, steps=0, **facts)
    total, left = sum(map(len, groups)), sum(map(len, lacking))
    with Progress("timing", total, "scenarios", done=total - left) as shown:
        for group in filter(None, lacking):
            tried = []
            for task in group:
                row = row_of[task.method]
                if because := left_out(task, row.timing.get("scenarios", ()), plan.slow_s):
                    row.add(Scenario.of(task, because))
                else:
                    tried.append(task)
            for scenario in measure_together(tried, plan.pace, stop.check, partial(shown.update, 0)):
                row_of[scenario.method].add(scenario)
            shown.update(len(group))
    for row in rows:
        row.record.end("finished")
