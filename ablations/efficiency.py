"""The study `efficiency`: what generating and training cost, every method under the same circumstances.

    python -m ablations.study efficiency preset=smoke timing.batches=1,2

Each method has a run record of its own, with timing.json and no scores; weights are fresh, since they do not change the
cost. What a record holds already is not measured again. `timing.*` are the keys of `xinggan.timing.plan.Plan`.
"""

import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xinggan.timing.plan import Ladders, Plan, Subject, grid, plan_of
from xinggan.training.stop import Preempted, StopRequest

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ablations.record import RunRecord
    from xinggan.timing.task import Task
    from xinggan.timing.turns import Measured

TAKEN = ("method", "precision", "compile", "budget", "amount", "published")  # the study's own, or of no effect


@dataclass
class Row:
    """A method of the study with its record and what the record holds."""

    title: str  # in the study; the subject's is that of its runs
    subject: Subject
    config: "DictConfig"
    schedule: dict[str, Any] | None  # of the published training
    record: "RunRecord"
    timing: dict[str, Any] = field(default_factory=dict)

    def has(self, task: "Task") -> bool:
        """Whether a task was measured before, or found impossible."""
        if task.kind == "counts":
            return "macs_per_image" in self.timing
        return task.circumstances in {circumstances(scenario) for scenario in self.timing.get("scenarios", ())}

    def add(self, measured: list["Measured"]) -> None:
        """Put what came of tasks into timing.json."""
        from xinggan.timing.scenario import noise_verdict

        scenarios = self.timing.setdefault("scenarios", [])
        for one in measured:
            if one.task.kind == "counts":
                nothing = {"macs_per_image": None, "counts_unavailable_because": one.scenario.unavailable_because}
                self.timing.update(one.counts or nothing)
                continue
            scenario = one.scenario.record()
            if one.task.kind == "training" and self.schedule and scenario["images_per_second"]:
                seconds = self.schedule["steps"] * self.schedule["batch"] / scenario["images_per_second"]
                scenario["schedule"] = self.schedule | {"hours": seconds / 3600}
            scenarios.append(scenario)
        self.record.write_timing(self.timing | {"noise": noise_verdict(scenarios)})


def circumstances(scenario: dict[str, Any]) -> tuple:
    """As `Task.circumstances`, of a scenario in timing.json."""
    return tuple(scenario.get(key) for key in ("kind", "precision", "mode", "batch", "sampler", "sampling_steps"))


def run_efficiency(rows: list[tuple[str, list[str]]], words: list[str], report: bool) -> int:
    """Measure every method of `rows` (title, overrides) with further `words`; the exit status as `ablations.run`."""
    from ablations.record import RunBusy
    from xinggan.timing.table import print_timing

    try:
        plan, subjects = prepare_rows(rows, words)
    except (ValueError, OSError) as error:
        print(f"ablations.study: {error}", file=sys.stderr)
        return 2
    with ExitStack() as locks, StopRequest() as stop:
        try:
            for row in subjects:
                locks.enter_context(row.record)
        except RunBusy as error:
            print(f"ablations.study: {error}", file=sys.stderr)
            return 2
        try:
            measure(subjects, plan, stop)
        except (Preempted, KeyboardInterrupt):
            for row in subjects:
                row.record.end("preempted")
            print("stopped. The same command measures what is missing", file=sys.stderr)
            return 75
    print_timing([(row.subject.title, row.timing) for row in subjects])
    return finish_study(subjects, report)


def prepare_rows(rows: list[tuple[str, list[str]]], words: list[str]) -> tuple[Plan, list[Row]]:
    """The plan, and each method ready to be measured, with its data packed. Raises ValueError or OSError."""
    from ablations.config import ConfigurationError, compose
    from ablations.settings import key_of

    own = [word for word in words if word.startswith("timing.")]
    shared = [word for word in words if word not in own]
    if taken := sorted({key_of(word) for word in shared} & {*TAKEN}):
        raise ConfigurationError(f"{', '.join(taken)}: not a setting of this study; see the keys timing.*")
    preset = next((word.split("=", 1)[1] for word in shared if key_of(word) == "preset"), "small")
    plan = plan_of(preset, own)
    methods = {word.split("=", 1)[1] for _, overrides in rows for word in overrides if key_of(word) == "method"}
    if unknown := sorted({*plan.methods} - methods):
        raise ConfigurationError(f"timing.methods={','.join(unknown)}: accepted are {', '.join(sorted(methods))}")
    chosen = [row for row in rows if not plan.methods or {f"method={method}" for method in plan.methods} & {*row[1]}]
    configs = [compose([*overrides, *shared]) for _, overrides in chosen]  # every mistake is found before any work
    return plan, [prepare_row(*row, config) for row, config in zip(chosen, configs, strict=True)]


def prepare_row(title: str, overrides: list[str], config: "DictConfig") -> Row:
    """One method of the study: its data, packed, and its record folder. `overrides`: what makes it this method."""
    from omegaconf import OmegaConf

    from ablations.config import plain_values
    from ablations.identity import label, name
    from ablations.record import RunRecord, environment
    from xinggan.data.prepare import prepare
    from xinggan.data.settings import DatasetSettings
    from xinggan.distributed import resolve_device

    settings: DatasetSettings = OmegaConf.to_object(config.dataset)  # type: ignore[assignment]
    data, device = prepare(settings, config.cache), resolve_device(config.device)
    method, trained = plain_values(config)["method"], config.training
    subject = Subject(
        name(config), method, str(data.directory.absolute()), device, data.test.height, data.test.width,
        *((trained.steps, trained.decay_steps, trained.batch) if trained is not None else ()),
    )  # fmt: skip
    here = environment()  # other code or another machine costs something else
    machine = {key: here[key] for key in ("commit", "device", "cpu", "cores", "threads", "packages")}
    what = [data.digest, method, device, machine]
    digest = sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]
    record = RunRecord(Path(config.runs) / f"timing-{label(config)}-{digest}")
    try:
        timing = json.loads((record.folder / "timing.json").read_text())
    except (OSError, ValueError):
        timing = {}
    schedule = published_schedule(overrides, config.dataset.name) if trained is not None else None
    return Row(title, subject, config, schedule, record, timing | {"dataset_digest": data.digest})


def published_schedule(overrides: list[str], dataset: str) -> dict[str, Any] | None:
    """Steps and batch of the method's training in the preset `paper` on this data set."""
    from ablations.config import compose

    training = compose([*overrides, "preset=paper", f"dataset={dataset}", "dataset.root=."]).training
    return {"preset": "paper", "steps": training.steps, "batch": training.batch} if training is not None else None


def measure(rows: list[Row], plan: Plan, stop: StopRequest) -> None:
    """Measure what the records lack, group by group; each group is in the records before the next begins."""
    from xinggan.progress import Progress
    from xinggan.timing.turns import Measured, measure_together, scenario_of

    by_title = {row.subject.title: row for row in rows}
    ladders = Ladders(plan.slow_s)
    groups = grid([row.subject for row in rows], plan)
    total = sum(map(len, groups))
    lacking = [[task for task in group if not by_title[task.method].has(task)] for group in groups]
    for row in rows:
        begin(row)
        for scenario in row.timing.get("scenarios", ()):
            ladders.note(row.subject.title, scenario)
    with Progress("timing", total, "scenarios", done=total - sum(map(len, lacking))) as shown:
        for group in filter(None, lacking):
            reasons = [(task, ladders.left_out(task)) for task in group]
            possible = [task for task, because in reasons if not because]
            found = measure_together(possible, plan.pace, stop.check, partial(shown.update, 0))
            found += [Measured(task, scenario_of(task, because), {}) for task, because in reasons if because]
            for title, row in by_title.items():
                own = [one for one in found if one.task.method == title]
                if own:
                    row.add(own)
                for one in own:
                    ladders.note(title, one.scenario.record())
            shown.update(len(group))
    for row in rows:
        row.record.end("finished")


def begin(row: Row) -> None:
    """Open the record's attempt, or leave the one that is finished as it is until something new is in it."""
    import yaml

    from ablations.config import plain_values

    size = {"height": row.subject.height, "width": row.subject.width}
    content = {"name": row.subject.title, "measures": "timing"} | plain_values(row.config) | {"training": None}
    facts = {"measures": "timing", "dataset_digest": row.timing["dataset_digest"], "steps": 0, **size}
    row.record.begin(yaml.safe_dump(content, sort_keys=False), name=row.subject.title, **facts)


def finish_study(rows: list[Row], report: bool) -> int:
    """Write the study's list of records and build its report; the exit status."""
    from ablations.record import list_rows
    from ablations.run import build

    folders = [row.record.folder for row in rows]
    runs = folders[0].parent
    list_rows(runs, "efficiency", [(row.title, row.record.folder.name) for row in rows])
    return build(folders, runs.parent / "report" / "efficiency") if report else 0
