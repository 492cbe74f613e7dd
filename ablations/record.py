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
import subprocess
import time
import traceback
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ablations.config import Budget, Experiment, as_word, compose, flat, plain_values
from xinggan.files import sha256_of, write_atomically
from xinggan.model.from_settings import CLASSES
from xinggan.model.switches import Attention, Discriminators, Fusion, PerceptualNetwork, PoseMap, Scale

SCHEMA = 2  # raised when what a configuration means changes, so that old runs are not taken for new ones
EMBEDDED = Path(__file__).parents[1] / "xinggan" / "metrics" / "embedded" / "weights"
PACKAGES = ("torch", "torchvision", "numpy", "scikit-image", "lpips", "torch-fidelity", "hydra-core", "accelerate")
SAME_RESULT = ("log_every", "sample_every", "checkpoint_every", "checkpoint_activations")  # keys of a training
UNNAMED = (*CLASSES, "seed", "path", "sha256")  # keys of a method that do not make its name


def run_id(experiment: Experiment, dataset_digest: str) -> str:
    """`<label>-<hash12>`: readable first, unique by its hash."""
    canonical = json.dumps(identity(experiment, dataset_digest), sort_keys=True)
    return f"{label(experiment)}-{sha256(canonical.encode()).hexdigest()[:12]}"


def identity(experiment: Experiment, dataset_digest: str) -> dict:
    """What a run computes, as plain values: equal for two experiments exactly if their results are.

    Device, folders and the data set's whereabouts are left out (its content's digest stands for it), as is what has
    nothing to act on, such as the pyramid of a single scale. Embedded networks count by their files' content. One
    exception: a pose_map that says what a published checkpoint was trained with anyway makes another run.
    """
    plain = plain_values(experiment)
    method, training = _acting(plain["method"]), plain["training"]
    computed: dict[str, Any] = {"schema": SCHEMA, "data": dataset_digest, "method": method}
    computed["lpips_net"] = plain["evaluation"]["lpips_net"]
    networks = ["attributes", "pose"] if plain["dataset"]["name"] == "synthetic" else []
    if training is not None or plain["published"] is not None:
        computed |= {key: plain[key] for key in ("precision", "compile")}
    if training is not None:
        computed["training"] = {key: value for key, value in training.items() if key not in SAME_RESULT}
        computed["seed"] = plain["seed"]
        if plain["budget"] != Budget.images or plain["amount"] is not None:
            computed["budget"] = [plain["budget"], plain["amount"]]
        if method.get("losses", {}).get("perceptual_network") == PerceptualNetwork.embedded:
            networks.append("perceptual")
    computed["networks"] = {network: sha256_of(EMBEDDED / f"{network}.safetensors") for network in networks}
    return computed


def _acting(method: dict[str, Any]) -> dict[str, Any]:
    """The method's settings without those that its other settings leave nothing to act on; files by their content."""
    idle: set[str] = set()
    losses = dict(method.get("losses", {}))
    if method.get("scale") == Scale.single or method.get("attention") == Attention.none:
        idle.add("pyramid")
    if method.get("fusion") == Fusion.concat:
        idle.add("candidates")
    if method.get("pose_map") == PoseMap.onehot:
        idle.add("pose_sigma")
    if losses and not losses["perceptual"]:
        del losses["perceptual_network"]
    if losses and (not losses["adversarial"] or method.get("discriminators") == Discriminators.none):
        del losses["adversarial"], losses["adversarial_kind"]
        idle |= {"discriminators", "history"}
    if "sha256" in method:
        idle.add("path")
    acting = {key: value for key, value in method.items() if key not in idle}
    if losses:
        acting["losses"] = losses
    if method.get("vae", "trained") != "trained":
        acting["vae"] = _content(Path(method["vae"]).expanduser())
    return acting


def _content(path: Path) -> dict[str, str]:
    """Name -> SHA-256 of a file or of a folder's files; empty where there is neither, which the method refuses."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path] * path.is_file()
    return {file.name: sha256_of(file) for file in files}


def name(experiment: Experiment) -> str:
    """What a table calls the run, such as `xinggan scale=single`: the method and what of it differs from the preset."""
    return " ".join(
        [experiment.method_name, *(f"{key}={as_word(value)}" for key, value in _changes(experiment).items())]
    )


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
    """Key -> value of what was set on the method, beyond what data set, preset and its own file say."""
    usual = _preset_alone(experiment.preset, experiment.dataset.name, experiment.method_name)
    changed = {"published": Path(experiment.published).stem} if experiment.published else {}
    before = dict(flat(usual.method))
    for key, value in flat(experiment.method):
        if key not in UNNAMED and value not in (None, before.get(key)):
            changed[key] = value
    if experiment.training is not None:
        same = {key: getattr(usual, key) for key in ("budget", "amount")}
        changed |= {key: getattr(experiment, key) for key in same if getattr(experiment, key) != same[key]}
    return changed


@cache
def _preset_alone(preset: str, dataset: str, method: str) -> Experiment:
    return compose([f"preset={preset}", f"dataset={dataset}", "dataset.root=.", f"method={method}"])


class RunBusy(RuntimeError):
    """Another living process is working on the run."""


class RunRecord:
    """One run directory. Use as a context manager: within it, this process alone works on the run."""

    def __init__(self, folder: Path):
        self.folder = folder
        # The kernel drops the lock with the process, however it dies, so none is ever left behind.
        self._lock = FileLock(folder / ".lock", timeout=0, thread_local=False)
        self._began = time.monotonic()

    def __enter__(self) -> "RunRecord":
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout as error:
            holder = (self.folder / ".lock").read_text() or "on this machine"
            raise RunBusy(f"{self.folder.name} is being worked on by another process ({holder})") from error
        (self.folder / ".lock").write_text(f"{os.getpid()} on {platform.node()}")
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @property
    def status(self) -> dict[str, Any]:
        """The content of status.json; {} before the first attempt."""
        try:
            return json.loads((self.folder / "status.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do. Without its metrics.json a finished run is scored again, not trained again."""
        return self.status.get("state") == "finished" and (self.folder / "metrics.json").exists()

    def begin(self, config_yaml: str, **facts: Any) -> str:
        """Start an attempt; returns what it is: "new", "resumed" (it was interrupted) or "retried" (it had failed)."""
        before = self.status
        attempt = {None: "new", "failed": "retried"}.get(before.get("state"), "resumed")
        for abandoned in self.folder.rglob(".*.part"):  # half-written when an earlier attempt was killed
            abandoned.unlink()
        write_atomically(self.folder / "config.yaml", config_yaml)
        self._write_environment()
        self._began = time.monotonic() - before.get("seconds", 0.0)
        self._update(
            state="running",
            attempts=before.get("attempts", 0) + 1,
            started=before.get("started", _now()),
            ended=None,
            error=None,
            run_id=self.folder.name,
            schema=SCHEMA,
            **facts,
        )
        return attempt

    def note(self, **facts: Any) -> None:
        """Add to status.json what became known during the attempt."""
        self._update(**facts)

    def end(self, state: str, **facts: Any) -> None:
        """Close the attempt as "finished", "preempted" or "failed"."""
        self._update(state=state, ended=_now(), seconds=round(time.monotonic() - self._began, 1), **facts)

    def fail(self, error: BaseException) -> None:
        """Close the attempt as failed, with the traceback."""
        self.end("failed", error="".join(traceback.format_exception(error)))

    def write_metrics(self, values: list[dict], per_image: dict[str, Any], pairs: Any, split: Any) -> None:
        """metrics.json and per_image.parquet. `values`: {metric, value, protocol, n, unavailable_because};
        `per_image`: metric -> one value a pair; `pairs`: indices into `split`."""
        from xinggan.metrics.values import per_image_table

        self._write_json("metrics.json", values)
        content = per_image_table(per_image, split, pairs).to_parquet(index=False)
        write_atomically(self.folder / "per_image.parquet", content)

    def write_timing(self, timing: dict) -> None:
        """timing.json, raw samples included."""
        self._write_json("timing.json", timing)

    def _write_environment(self) -> None:
        """environment.json: this attempt's, with those of earlier attempts that were made elsewhere under "earlier"."""
        now, path = environment(), self.folder / "environment.json"
        before = json.loads(path.read_text()) if path.exists() else {}
        earlier = before.pop("earlier", [])
        if before and before != now:
            earlier.append(before)
        self._write_json("environment.json", now | ({"earlier": earlier} if earlier else {}))

    def _update(self, **changes: Any) -> None:
        self._write_json("status.json", self.status | changes)

    def _write_json(self, name: str, content: Any) -> None:
        write_atomically(self.folder / name, json.dumps(content, indent=1) + "\n")


def list_rows(runs: Path, study: str, rows: list[tuple[str, str]]) -> None:
    """Keep title and run directory's name of every row in <runs>/studies/<study>.json, for the report."""
    listing = [{"title": title, "run": run} for title, run in rows]
    write_atomically(runs / "studies" / f"{study}.json", json.dumps(listing, indent=1) + "\n")


def environment() -> dict[str, Any]:
    """What a run was computed with: commit, packages, Python, CPU, threads, devices."""
    import torch

    root = Path(__file__).resolve().parents[1]
    cuda = torch.cuda.is_available()
    return {
        "commit": _git(root, "rev-parse", "HEAD"),
        "dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no")),
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "driver": torch.version.cuda if cuda else None,
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _git(root: Path, *words: str) -> str | None:
    try:
        answer = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None  # installed without its history
    return answer.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
