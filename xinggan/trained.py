"""Methods as they were trained: rebuilt from a run record or a published checkpoint, with the weights that are scored.

Files from elsewhere are data: a run's configuration names methods and settings of this suite and nothing else, and
checkpoints are read without pickled code, those of runs only when they match the checksum in their name.
"""

import json
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from xinggan.model.from_settings import build, check_targets, without_training_weights
from xinggan.model.switches import PublishedSettings

if TYPE_CHECKING:
    from xinggan.model.method import Method


@dataclass(frozen=True)
class RunFacts:
    """A run as its folder describes it, before anything is loaded."""

    folder: Path
    config: dict[str, Any]
    state: str  # of status.json: running | finished | failed | preempted
    steps: int  # of training that it is to have in the end; 0: not trained, or not known
    height: int  # pixels of the images it was trained on
    width: int


@dataclass(frozen=True)
class Trained:
    """A method in evaluation mode with the weights that it is scored with."""

    method: "Method"
    height: int  # pixels of the images it was trained on
    width: int
    step: int | None = None  # training steps done; None: not known
    note: str = ""  # what a person should know about the weights


def read_run(folder: Path) -> RunFacts:
    """Read a run's configuration and status. Raises ValueError for a folder that is no run of this suite."""
    import yaml

    if not (folder / "config.yaml").is_file():
        below = sorted(path.parent.name for path in folder.glob("*/config.yaml"))
        hint = f"; it has runs in it, name one of them: {', '.join(below[:6])}" if below else ""
        raise ValueError(f"{folder} is no run: it has no config.yaml{hint}")
    try:
        config = yaml.safe_load((folder / "config.yaml").read_bytes())
        status = json.loads((folder / "status.json").read_bytes()) if (folder / "status.json").is_file() else {}
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{folder}: config.yaml or status.json cannot be read: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("method"), dict) or not isinstance(status, dict):
        raise ValueError(f"{folder}/config.yaml is not the configuration of a run: it names no method")
    training = config.get("training")
    if training is not None and not (isinstance(training, dict) and {"steps", "ema"} <= training.keys()):
        raise ValueError(f"{folder}/config.yaml: training is neither null nor settings with steps and ema")
    dataset = config["dataset"] if isinstance(config.get("dataset"), dict) else {}
    height, width = (status.get(key) or dataset.get(key) for key in ("height", "width"))
    if not isinstance(height, int) or not isinstance(width, int):
        raise ValueError(f"{folder}: neither status.json nor config.yaml says the height and width of its images")
    check_targets(config["method"], f"{folder}/config.yaml: method")
    steps = status.get("steps") or (training or {}).get("steps") or 0
    steps = steps if isinstance(steps, int) else 0
    return RunFacts(folder, config, str(status.get("state", "unknown")), steps, height, width)


def load_trained(run: RunFacts, device: str) -> Trained:
    """The run's method with its newest intact checkpoint, averaged weights in place, as it is when it is scored.

    Raises ValueError for a run without a checkpoint, and for one whose checkpoint or configuration does not fit.
    """
    import torch

    from xinggan.model.method import Method
    from xinggan.training.checkpoint import load_checkpoint
    from xinggan.training.ema import MovingAverage

    method = build(without_training_weights(run.config["method"]), f"{run.folder}/config.yaml: method")
    if not isinstance(method, Method) or type(method).generate is Method.generate:
        raise ValueError(f"{run.folder}: {type(method).__name__} cannot generate from a source image and a pose alone")
    method.precision = run.config.get("precision", "fp32")
    torch.backends.cudnn.allow_tf32 = False  # as in training: fp32 means fp32
    method.to(device)
    if not run.config.get("training"):
        if type(method).begin is not Method.begin:
            raise ValueError(f"{run.folder}: {type(method).__name__} is made from the training images, not from a file")
        return Trained(method.eval(), run.height, run.width)

    try:
        found = load_checkpoint(run.folder / "checkpoint", device)
    except (UnpicklingError, EOFError, RuntimeError, ValueError, KeyError) as error:
        what = f"the newest checkpoint is not plain data that can be loaded ({type(error).__name__})"
        raise ValueError(f"{run.folder}/checkpoint: {what}") from error
    if found is None:
        what = f"no intact checkpoint in {run.folder}/checkpoint (status: {run.state})"
        raise ValueError(f"{what}: repeat the command that made the run, it continues until there is one")
    step, state = found
    try:
        method.load_state_dict(state["method"])
        average = MovingAverage([getattr(method, name) for name in method.averaged], run.config["training"]["ema"])
        average.load_state(state["average"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{run.folder}: the checkpoint of step {step} does not fit config.yaml: {error}") from error
    average.swap()
    note = ""
    if step < run.steps:
        what = f"the run is not trained to its end ({run.state}): weights of step {step} of {run.steps}"
        note = f"{run.folder}: {what}"
    return Trained(method.eval(), run.height, run.width, step, note)


def published_methods() -> dict[str, str]:
    """Methods whose published checkpoints can be read -> the class that reads them, as `module.Class`.

    They are the package's entry points of the group "xinggan.published" (pyproject.toml).
    """
    return {point.name: point.value.replace(":", ".") for point in entry_points(group="xinggan.published")}


def load_published_method(path: Path, name: str) -> Trained:
    """A published checkpoint of one of the `published_methods`, on the CPU.

    Raises PublishedMismatch, a ValueError, for a file that is none.
    """
    module, _, kind = published_methods()[name].rpartition(".")
    method = getattr(import_module(module), kind)(PublishedSettings(path=str(path)))
    height, width = method.size
    return Trained(method.eval(), height, width)
