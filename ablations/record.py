"""The run record: a directory named by what it computes, whose files appear whole or not at all.

`run_id` names the directory: two experiments have the same run id exactly if their results are the same. `RunRecord`
decides what the same command again has to do (skip, resume, retry), keeps a second process out, and writes what reports
read: config.yaml, environment.json, status.json, metrics.json, per_image.parquet, timing.json, generated/. Importing
this loads neither torch nor numpy.

In generated/: an image a test pair with manifest.json and contact_sheet.png; in generated/examples/: the panels of the
first pairs and, of methods with XingGAN's attention, attention.npz (`xinggan.model.attention_maps` says what is in it).
"""

import json
import os
import platform
import re
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import Timeout

from ablations.config import Budget, Evaluation, Experiment, compose, flat, plain_values
from ablations.environment import environment, other_rounding
from ablations.words import as_word
from xinggan.files import SUITE, locked, sha256_of, user_path, write_atomically
from xinggan.model.from_settings import CLASSES, read_settings, settings_class
from xinggan.model.switches import Attention, Discriminators, Fusion, PerceptualNetwork, PoseMap, Scale

SCHEMA = 2  # raised when what a configuration means changes, so that old runs are not taken for new ones
EMBEDDED = SUITE / "xinggan" / "metrics" / "embedded" / "weights"
SAME_RESULT = ("log_every", "sample_every", "checkpoint_every", "checkpoint_activations")  # keys of a training
MORE_SCORES = ("protocols", "estimator", "proportions")  # of the evaluation; records without them have the defaults
FILES = ("vae", "unet", "swin", "dino_pose", "dino_image")  # keys of a method that may name files: content counts
UNNAMED = (*CLASSES, "seed", "path", "sha256", "code_size")  # keys of a method that do not make its name


def run_id(experiment: Experiment, dataset_digest: str) -> str:
    """`<label>-<hash12>`: readable first, unique by its hash."""
    canonical = json.dumps(identity(experiment, dataset_digest), sort_keys=True)
    return f"{label(experiment)}-{sha256(canonical.encode()).hexdigest()[:12]}"


def identity(experiment: Experiment, dataset_digest: str) -> dict:
    """The computation of a run, as plain values: equal for two experiments exactly if their results are equal.

    Device, folders and the data set's whereabouts are left out (its content's digest stands for it), as is what has
    nothing to act on, such as the pyramid of a single scale. Embedded networks count by their files' content. One
    exception: a pose_map that says what a published checkpoint was trained with anyway makes another run.
    """
    plain = plain_values(experiment)
    method, training = _acting(plain["method"]), plain["training"]
    computed: dict[str, Any] = {"schema": SCHEMA, "data": dataset_digest, "method": method}
    computed["lpips_net"] = plain["evaluation"]["lpips_net"]
    more = {key: plain["evaluation"][key] for key in MORE_SCORES}
    computed |= {key: value for key, value in more.items() if value != getattr(Evaluation, key)}
    if weights := plain["evaluation"]["estimator_weights"]:
        computed["estimator_weights"] = sha256_of(user_path(weights))
    networks = ["attributes", "pose"] if plain["dataset"]["name"] == "synthetic" else []
    if training is not None or plain["published"] is not None:
        computed |= {key: plain[key] for key in ("precision", "compile")}
    if training is not None:
        computed["training"] = {key: value for key, value in training.items() if key not in SAME_RESULT}
        computed["seed"] = plain["seed"]
        if plain["budget"] != Budget.images or plain["amount"] is not None:
            computed["budget"] = [plain["budget"], plain["amount"]]
        if plain["evaluation"]["halvings"]:
            computed["halvings"] = plain["evaluation"]["halvings"]
        if method.get("losses", {}).get("perceptual_network") == PerceptualNetwork.embedded:
            networks.append("perceptual")
    computed["networks"] = {network: sha256_of(EMBEDDED / f"{network}.safetensors") for network in networks}
    return computed


def _acting(method: dict[str, Any]) -> dict[str, Any]:
    """The method's settings, without those that have no effect beside its other settings; files by their content."""
    idle: set[str] = set()
    losses = dict(method.get("losses", {}))
    if method.get("scale") == Scale.single or method.get("attention") == Attention.none:
        idle.add("pyramid")
    if method.get("attention") != Attention.aiatrack:
        idle.add("code_size")
    if method.get("fusion") == Fusion.concat:
        idle.add("candidates")
    if method.get("pose_map") == PoseMap.onehot:
        idle.add("pose_sigma")
    if losses and not losses["perceptual"]:
        del losses["perceptual_network"]
    if losses and (not losses["adversarial"] or method.get("discriminators") == Discriminators.none):
        del losses["adversarial"], losses["adversarial_kind"]
        idle |= {"discriminators", "history"}
    # Keys that came later: the ids of earlier runs stay.
    if method.get("weighting") == "uniform":
        idle.add("weighting")
    if method.get("flip") == 0.5 and "vae" in method:
        idle.add("flip")
    if "sha256" in method:
        idle.add("path")
    acting = {key: value for key, value in method.items() if key not in idle}
    if losses:
        acting["losses"] = losses
    for key in FILES:
        if isinstance(file := method.get(key), str) and file != "trained":
            acting[key] = _content(user_path(file)) or file
    return acting


def _content(path: Path) -> dict[str, str]:
    """Name -> SHA-256 of a file or of a folder's files; empty where there is neither."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path] * path.is_file()
    return {file.name: sha256_of(file) for file in files}


def name(experiment: Experiment) -> str:
    """The run's name in tables, such as `xinggan scale=single`: the method and where it differs from its preset."""
    changes = [f"{key}={as_word(value)}" for key, value in _changes(experiment).items()]
    return titled(" ".join([experiment.method_name, *changes]), experiment)


def titled(title: str, experiment: Experiment) -> str:
    """A title of the experiment, with its method's caveat in parentheses: `GFLA (embedded losses)`."""
    method = experiment.method
    if "_settings_" not in method:
        return title
    settings = {key: value for key, value in method.items() if key not in CLASSES}
    caveat = getattr(read_settings(settings_class(method["_settings_"], "method"), settings, "method"), "caveat", "")
    return f"{title} ({caveat})" if caveat else title


def without_seed(title: str) -> str:
    """What runs are called that differ in nothing but their seed."""
    return re.sub(r" seed=\S+", "", title)


def label(experiment: Experiment) -> str:
    """The readable part of a run's name: method, what differs from the preset, data set, preset, seed."""
    parts = [experiment.method_name]
    for key, value in _changes(experiment).items():
        parts.append(str(value) if isinstance(value, Enum) else f"{key.split('.')[-1]}_{as_word(value)}")
    parts.append(experiment.dataset.name)
    if experiment.training is not None:
        parts += [experiment.preset, f"s{experiment.seed}"]
    return re.sub(r"[^\w.-]+", "_", "-".join(parts))[:120]


def _changes(experiment: Experiment) -> dict[str, Any]:
    """Key -> value of the method's settings, the budget and the scored split where they differ from the preset's."""
    usual = _unchanged(experiment.preset, experiment.dataset.name, experiment.method_name)
    changed = {"published": Path(experiment.published).stem} if experiment.published else {}
    before = dict(flat(usual.method))
    for key, value in flat(experiment.method):
        if key not in UNNAMED and value not in (None, before.get(key)):
            changed[key] = value
    if experiment.training is not None:
        budget: dict[str, Any] = {"budget": experiment.budget, "amount": experiment.amount}
        changed |= {key: value for key, value in budget.items() if value != getattr(usual, key)}
    if experiment.evaluation.split != usual.evaluation.split:
        changed["evaluation.split"] = str(experiment.evaluation.split)
    return changed


@cache
def _unchanged(preset: str, dataset: str, method: str) -> Experiment:
    """The experiment of these three words alone."""
    return compose([f"preset={preset}", f"dataset={dataset}", "dataset.root=.", f"method={method}"])


class RunBusy(OSError):
    """Another living process is working on the run."""


class RunRecord:
    """One run directory. Use as a context manager: within it, this process alone works on the run."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock = ExitStack()
        self._began = time.monotonic()

    def __enter__(self) -> "RunRecord":
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / ".lock"
        try:
            self._lock.enter_context(locked(file, wait_s=0))
        except Timeout as error:
            holder = file.read_text(errors="replace") or "on this machine"
            raise RunBusy(f"{self.folder.name} is being worked on by another process ({holder})") from error
        file.write_text(f"{os.getpid()} on {platform.node()}")
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def read(self, name: str, otherwise: Any) -> Any:
        """The content of a JSON file of the record; `otherwise` where there is none that can be read."""
        try:
            return json.loads((self.folder / name).read_bytes())
        except (FileNotFoundError, ValueError):
            return otherwise

    def write(self, name: str, content: Any) -> None:
        """Write a JSON file of the record."""
        write_atomically(self.folder / name, json.dumps(content, indent=1) + "\n")

    @property
    def status(self) -> dict[str, Any]:
        """The content of status.json; {} before the first attempt."""
        return self.read("status.json", {})

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do. Without its metrics.json a finished run is scored again, not trained again."""
        return self.status.get("state") == "finished" and (self.folder / "metrics.json").exists()

    def begin(self, config_yaml: str, device: str = "cpu", **facts: Any) -> str:
        """Start an attempt on a device; returns what it is: "new", "resumed" (it was interrupted) or "retried" (it had
        failed).

        environment.json describes this attempt; earlier attempts that were made elsewhere stay under "earlier". That a
        training goes on where sums round otherwise is said on standard error.
        """
        before = self.status
        attempt = {None: "new", "failed": "retried"}.get(before.get("state"), "resumed")
        for abandoned in self.folder.rglob(".*.part"):  # half-written when an earlier attempt was killed
            abandoned.unlink()
        write_atomically(self.folder / "config.yaml", config_yaml)
        here, elsewhere = environment(device), self.read("environment.json", {})
        earlier = elsewhere.pop("earlier", [])
        if elsewhere not in ({}, here):
            earlier.append(elsewhere)
        self.write("environment.json", here | ({"earlier": earlier} if earlier else {}))
        if any((self.folder / "checkpoint").glob("*.pt")) and (changes := other_rounding(elsewhere, here)):
            otherwise = "sums round otherwise, so the result is not that of an uninterrupted run, bit for bit"
            print(f"{self.folder.name}: continued with {changes}: {otherwise}", file=sys.stderr)
        self._began = time.monotonic() - before.get("seconds", 0.0)
        own = {"state": "running", "attempts": before.get("attempts", 0) + 1, "started": before.get("started", now())}
        self.note(**own, ended=None, error=None, run_id=self.folder.name, schema=SCHEMA, **facts)
        return attempt

    def note(self, **facts: Any) -> None:
        """Add facts to status.json, or replace them."""
        self.write("status.json", self.status | facts)

    def end(self, state: str, **facts: Any) -> None:
        """Close the attempt as "finished", "preempted" or "failed"."""
        self.note(state=state, ended=now(), seconds=round(time.monotonic() - self._began, 1), **facts)

    def scores(self) -> dict[str, float | None]:
        """Metric -> its value, under the first protocol that stands in metrics.json, which is `clean`."""
        return {entry["metric"]: entry["value"] for entry in reversed(self.read("metrics.json", []))}

    def logged_losses(self) -> list[dict[str, Any]]:
        """The lines of history.jsonl that have losses."""
        lines = [json.loads(line) for line in (self.folder / "history.jsonl").read_bytes().splitlines()]
        return [line for line in lines if "losses" in line]


def list_rows(runs: Path, study: str, rows: list[tuple[str, str]]) -> None:
    """Keep title and run directory's name of every row in <runs>/studies/<study>.json, for the report."""
    listing = [{"title": title, "run": run} for title, run in rows]
    write_atomically(runs / "studies" / f"{study}.json", json.dumps(listing, indent=1) + "\n")


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
