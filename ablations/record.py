"""The run record: a directory named by what it computes, whose files appear whole or not at all.

`RunRecord` decides what the same command again has to do (skip, resume, retry), keeps a second process out, and writes
what reports read: config.yaml, environment.json, status.json, metrics.json, per_image.parquet, timing.json, generated/.

In generated/: an image a test pair with manifest.json and contact_sheet.png; in generated/examples/: the panels of the
first pairs and, of methods with XingGAN's attention, attention.npz (`xinggan.model.attention_maps` says what is in it).
"""

import fcntl
import json
import os
import platform
import subprocess
import time
import traceback
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from xinggan.files import write_atomically

SCHEMA = 1
PACKAGES = ("torch", "torchvision", "numpy", "scikit-image", "lpips", "torch-fidelity", "hydra-core", "accelerate")


class RunBusy(RuntimeError):
    """Another living process is working on the run."""


class RunRecord:
    """One run directory. Use as a context manager: within it, this process alone works on the run."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock: IO | None = None
        self._began = time.monotonic()

    def __enter__(self) -> "RunRecord":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / ".lock").open("a+")
        try:
            # The kernel drops the lock with the process, however it dies, so none is ever left behind.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise RunBusy(f"{self.folder.name} is being worked on by another process on this machine") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock:
            self._lock.close()

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
        import pandas

        self._write_json("metrics.json", values)
        frames = [
            pandas.DataFrame(
                {
                    "pair": pairs,
                    "pair_id": [split.pair_id(int(pair)) for pair in pairs],
                    "identity": split.identities[split.pairs[pairs, 0]],
                    "metric": metric,
                    "value": column,
                }
            )
            for metric, column in per_image.items()
        ]
        content = pandas.concat(frames) if frames else pandas.DataFrame()
        write_atomically(self.folder / "per_image.parquet", content.to_parquet(index=False))

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
